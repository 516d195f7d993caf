// x += y. The sums of f32 are rounded once, those of u32 wrap.
#include "include/gpu.h"

template <typename T>
__device__ static inline void add_all(T *x, const T *y, uint64_t len) {
    const uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < len; i += step) x[i] += y[i];
}

extern "C" __global__ void __launch_bounds__(256) add_f32(float *x, const float *y, uint64_t len) { add_all(x, y, len); }

extern "C" __global__ void __launch_bounds__(256) add_u32(uint32_t *x, const uint32_t *y, uint64_t len) {
    add_all(x, y, len);
}
