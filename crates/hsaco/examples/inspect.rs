//! Prints what a code object or PTX holds: `cargo run -p hsaco --example inspect -- FILE.hsaco [CARD]`.

use std::error::Error;

use hsaco::{CodeObject, KernelInfo, Ptx};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path =
        args.next().ok_or("usage: inspect FILE.hsaco [CARD], where CARD chooses the entry of a bundle")?;
    let bytes = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
    if path.ends_with(".ptx") {
        let ptx = Ptx::parse(&bytes)?;
        let (major, minor) = ptx.version();
        println!("{path}: {} and later, PTX {major}.{minor}, {} bytes", ptx.target(), bytes.len());
        ptx.kernels().iter().for_each(print);
        return Ok(());
    }
    let object = match args.next() {
        Some(card) => CodeObject::parse_for(&bytes, &card.parse()?)?,
        None => CodeObject::parse(&bytes)?,
    };
    println!(
        "{path}: {}, code object version {}, {} bytes",
        object.target(),
        object.version(),
        object.elf().len()
    );
    object.kernels().iter().for_each(print);
    Ok(())
}

fn print(kernel: &KernelInfo) {
    println!(
        "{}: {} scalar, {} vector registers, {} bytes LDS, waves of {}, blocks to {}",
        kernel.name, kernel.sgprs, kernel.vgprs, kernel.lds, kernel.wavefront_size, kernel.max_block
    );
    for arg in kernel.explicit_args() {
        println!("    {arg}");
    }
}
