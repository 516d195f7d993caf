// What a kernel may use, from compiler builtins alone: no HIP or CUDA headers, no device library.
//
//   clang++ -x hip  --offload-device-only -nogpuinc -nogpulib    AMD code object
//   clang++ -x cuda --cuda-device-only -nocudainc -nocudalib     PTX
//   c++ -DGPU_HOST                                               function of the host, see gpu_host.h
//
// Each of them gives __global__, __device__, __launch_bounds__(threads), threadIdx, blockIdx, blockDim, gridDim and
// the fixed-width integers.
#pragma once

#if defined(GPU_HOST)
#include "gpu_host.h"
#elif defined(__HIP__)
#include "gpu_amd.h"
#elif defined(__CUDA__)
#include "gpu_nv.h"
#else
#error "compile with clang -x hip, with clang -x cuda, or with -DGPU_HOST"
#endif

#include "types.h"
