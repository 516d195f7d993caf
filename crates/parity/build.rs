//! Compiles the kernels' sources for the host, with the rounding of the images.

use std::path::Path;

fn main() {
    let kernels = Path::new("../../kernels");
    println!("cargo::rerun-if-changed={}", kernels.display());
    println!("cargo::rerun-if-changed=src/host_kernels.cpp");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("src/host_kernels.cpp")
        .include(kernels)
        .include(kernels.join("include"))
        .define("GPU_HOST", None)
        // One rounding per operation, as the images have it: no fused multiply-add, no reassociation.
        .flag("-ffp-contract=off")
        .flag("-fno-fast-math")
        // Kernels load words, whatever was stored there.
        .flag("-fno-strict-aliasing")
        .flag_if_supported("-Wno-class-memaccess")
        // Fibers jump between stacks, which fortified functions take for an error.
        .flag("-U_FORTIFY_SOURCE")
        .opt_level(2)
        .warnings(true)
        .compile("gyre_host_kernels");
}
