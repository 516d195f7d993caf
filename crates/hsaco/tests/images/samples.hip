// The sources of the images beside this file, which the tests read. Made with clang++-22 and
//   -x hip --offload-device-only --no-gpu-bundle-output -nogpuinc -nogpulib -fuse-cuid=none -fhip-kernel-arg-name -O3
//   scale.gfx1100.elf            --offload-arch=gfx1100 -mcode-object-version=5
//   scale.gfx11-generic.elf      --offload-arch=gfx11-generic -mcode-object-version=6
//   scale.gfx90a.elf             --offload-arch=gfx90a:xnack- -mcode-object-version=5
//   scratch.gfx1100.elf          --offload-arch=gfx1100 -mcode-object-version=5 -DSCRATCH
//   unnamed.gfx1100.elf          as the first, without -fhip-kernel-arg-name
// scale.v2.ccob and scale.v3.ccob bundle the first two, with COMPRESSED_BUNDLE_FORMAT_VERSION=2 and =3, by
//   clang-offload-bundler-22 -type=o -bundle-align=4096 -compress -input=/dev/null -input=scale.gfx1100.elf
//   -input=scale.gfx11-generic.elf -output=scale.v2.ccob
//   -targets=host-x86_64-unknown-linux--,hipv4-amdgcn-amd-amdhsa--gfx1100,hipv4-amdgcn-amd-amdhsa--gfx11-generic
#define KERNEL(threads) extern "C" __attribute__((global, amdgpu_flat_work_group_size(1, threads)))

#ifndef SCRATCH
KERNEL(256) void scale(float *y, const float *x, float factor, unsigned long length) {
    const unsigned long at = __builtin_amdgcn_workgroup_id_x() * 256ul + __builtin_amdgcn_workitem_id_x();
    if (at < length) y[at] = x[at] * factor;
}

KERNEL(64) void reverse(float *x) {
    __attribute__((shared)) static float row[64];
    const unsigned at = __builtin_amdgcn_workitem_id_x();
    row[at] = x[at];
    __builtin_amdgcn_s_barrier();
    x[at] = row[63 - at];
}
#else
// An array that is indexed by data lives in scratch memory.
KERNEL(256) void scale(float *y, const float *x, float factor, unsigned long length) {
    float row[64];
    for (int at = 0; at < 64; ++at) row[(unsigned)x[at] % 64] = x[at] * factor;
    y[0] = row[(unsigned)length % 64];
}
#endif
