// The sources of the images beside this file, which the tests read. Made with clang++-22 and
//   -x hip --offload-device-only --no-gpu-bundle-output -nogpuinc -nogpulib -fuse-cuid=none -fhip-kernel-arg-name -O3
//   scale.gfx1100.elf            --offload-arch=gfx1100 -mcode-object-version=5
//   scale.gfx11-generic.elf      --offload-arch=gfx11-generic -mcode-object-version=6
//   scale.gfx90a.elf             --offload-arch=gfx90a:xnack- -mcode-object-version=5
//   scratch.gfx1100.elf          --offload-arch=gfx1100 -mcode-object-version=5 -DSCRATCH
//   unnamed.gfx1100.elf          as the first, without -fhip-kernel-arg-name
// scale.sm_80.ptx with
//   -x cuda --cuda-device-only -S --cuda-gpu-arch=sm_80 --cuda-feature=+ptx70 -nogpuinc -nogpulib -ffp-contract=off -O3
// scale.v2.ccob and scale.v3.ccob bundle the first two, with COMPRESSED_BUNDLE_FORMAT_VERSION=2 and =3, by
//   clang-offload-bundler-22 -type=o -bundle-align=4096 -compress -input=/dev/null -input=scale.gfx1100.elf
//   -input=scale.gfx11-generic.elf -output=scale.v2.ccob
//   -targets=host-x86_64-unknown-linux--,hipv4-amdgcn-amd-amdhsa--gfx1100,hipv4-amdgcn-amd-amdhsa--gfx11-generic
#ifdef __CUDA__
#define KERNEL(threads) extern "C" __attribute__((global, launch_bounds(threads)))
#define BLOCK __nvvm_read_ptx_sreg_ctaid_x()
#define THREAD __nvvm_read_ptx_sreg_tid_x()
#define BARRIER __syncthreads
#else
#define KERNEL(threads) extern "C" __attribute__((global, amdgpu_flat_work_group_size(1, threads)))
#define BLOCK __builtin_amdgcn_workgroup_id_x()
#define THREAD __builtin_amdgcn_workitem_id_x()
#define BARRIER __builtin_amdgcn_s_barrier
#endif

#ifndef SCRATCH
KERNEL(256) void scale(float *y, const float *x, float factor, unsigned long length) {
    const unsigned long at = BLOCK * 256ul + THREAD;
    if (at < length) y[at] = x[at] * factor;
}

KERNEL(64) void reverse(float *x) {
    __attribute__((shared)) static float row[64];
    const unsigned at = THREAD;
    row[at] = x[at];
    BARRIER();
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
