// What the sample kernels use of HIP's device side, so that they compile without ROCm's headers and device libraries
// (-nogpuinc -nogpulib). Function names, widths and edge cases are HIP's; the mathematics is ours, and where a
// reduction matters it is done in double precision, so that its error stays far below one float's rounding.
#pragma once
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __launch_bounds__(N) __attribute__((amdgpu_flat_work_group_size(1, N)))
#define HIP_DEVICE static inline __attribute__((device))
#define INFINITY __builtin_inff()
#if defined(__GFX9__)
#define warpSize 64
#else
#define warpSize 32
#endif

typedef __SIZE_TYPE__ size_t;
typedef float float4 __attribute__((ext_vector_type(4)));
typedef unsigned char uchar4 __attribute__((ext_vector_type(4)));

// ---- coordinates
#define HIP_COORDINATE(AXIS, VALUE)             \
  __declspec(property(get = get_##AXIS)) unsigned AXIS; \
  __device__ unsigned get_##AXIS() const { return VALUE; }
struct hip_thread_index {
  HIP_COORDINATE(x, __builtin_amdgcn_workitem_id_x())
  HIP_COORDINATE(y, __builtin_amdgcn_workitem_id_y())
  HIP_COORDINATE(z, __builtin_amdgcn_workitem_id_z())
};
struct hip_block_index {
  HIP_COORDINATE(x, __builtin_amdgcn_workgroup_id_x())
  HIP_COORDINATE(y, __builtin_amdgcn_workgroup_id_y())
  HIP_COORDINATE(z, __builtin_amdgcn_workgroup_id_z())
};
struct hip_block_size {
  HIP_COORDINATE(x, __builtin_amdgcn_workgroup_size_x())
  HIP_COORDINATE(y, __builtin_amdgcn_workgroup_size_y())
  HIP_COORDINATE(z, __builtin_amdgcn_workgroup_size_z())
};
struct hip_grid_size {
  HIP_COORDINATE(x, __builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x())
  HIP_COORDINATE(y, __builtin_amdgcn_grid_size_y() / __builtin_amdgcn_workgroup_size_y())
  HIP_COORDINATE(z, __builtin_amdgcn_grid_size_z() / __builtin_amdgcn_workgroup_size_z())
};
static const __device__ hip_thread_index threadIdx;
static const __device__ hip_block_index blockIdx;
static const __device__ hip_block_size blockDim;
static const __device__ hip_grid_size gridDim;

// ---- order
HIP_DEVICE __attribute__((convergent)) void __syncthreads() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
HIP_DEVICE void __threadfence() { __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "agent"); }
HIP_DEVICE long long clock64() { return (long long)__builtin_readcyclecounter(); }

// ---- bits
HIP_DEVICE float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
HIP_DEVICE unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
HIP_DEVICE int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
HIP_DEVICE int min(int a, int b) { return a < b ? a : b; }

// ---- lanes
HIP_DEVICE int hip_lane() { return (int)__builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0)); }
HIP_DEVICE int hip_read_lane(int value, int lane) { return __builtin_amdgcn_ds_bpermute(lane << 2, value); }
HIP_DEVICE int __shfl(int value, int source, int width = warpSize) {
  return hip_read_lane(value, (source & (width - 1)) + (hip_lane() & ~(width - 1)));
}
HIP_DEVICE int __shfl_up(int value, unsigned delta, int width = warpSize) {
  int self = hip_lane(), source = self - (int)delta;
  return hip_read_lane(value, source < (self & ~(width - 1)) ? self : source);
}
HIP_DEVICE int __shfl_down(int value, unsigned delta, int width = warpSize) {
  int self = hip_lane(), source = self + (int)delta;
  return hip_read_lane(value, (self & (width - 1)) + (int)delta >= width ? self : source);
}
HIP_DEVICE int __shfl_xor(int value, int mask, int width = warpSize) {
  int self = hip_lane(), source = self ^ mask;
  return hip_read_lane(value, source >= ((self + width) & ~(width - 1)) ? self : source);
}
HIP_DEVICE float __shfl_xor(float value, int mask, int width = warpSize) {
  return __builtin_bit_cast(float, __shfl_xor(__builtin_bit_cast(int, value), mask, width));
}
HIP_DEVICE unsigned long long __shfl_xor(unsigned long long value, int mask, int width = warpSize) {
  unsigned low = (unsigned)__shfl_xor((int)value, mask, width);
  unsigned high = (unsigned)__shfl_xor((int)(value >> 32), mask, width);
  return (unsigned long long)high << 32 | low;
}
#if defined(__GFX9__)
HIP_DEVICE unsigned long long __ballot(int predicate) { return __builtin_amdgcn_ballot_w64(predicate != 0); }
#else
HIP_DEVICE unsigned long long __ballot(int predicate) { return __builtin_amdgcn_ballot_w32(predicate != 0); }
#endif
HIP_DEVICE int __all(int predicate) { return __ballot(predicate == 0) == 0; }
HIP_DEVICE int __any(int predicate) { return __ballot(predicate != 0) != 0; }

// ---- atomics: relaxed, at the scope of the card
template <typename T> HIP_DEVICE T atomicAdd(T *address, T value) {
  return __hip_atomic_fetch_add(address, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
HIP_DEVICE int atomicAdd(int *address, int value) { return atomicAdd<int>(address, value); }
HIP_DEVICE double atomicAdd(double *address, double value) { return atomicAdd<double>(address, value); }
HIP_DEVICE float unsafeAtomicAdd(float *address, float value) { return atomicAdd<float>(address, value); }
template <typename T> HIP_DEVICE T atomicMax(T *address, T value) {
  return __hip_atomic_fetch_max(address, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
HIP_DEVICE int atomicExch(int *address, int value) {
  return __hip_atomic_exchange(address, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
HIP_DEVICE int atomicCAS(int *address, int expected, int value) {
  __hip_atomic_compare_exchange_strong(address, &expected, value, __ATOMIC_RELAXED, __ATOMIC_RELAXED,
                                       __HIP_MEMORY_SCOPE_AGENT);
  return expected;
}

// ---- mathematics
HIP_DEVICE float fmaxf(float a, float b) { return __builtin_fmaxf(a, b); }
HIP_DEVICE float fabsf(float x) { return __builtin_fabsf(x); }
HIP_DEVICE float roundf(float x) { return __builtin_roundf(x); }
HIP_DEVICE float ldexpf(float x, int exponent) { return __builtin_ldexpf(x, exponent); }
HIP_DEVICE float sqrtf(float x) { return __builtin_sqrtf(x); }
HIP_DEVICE double sqrt(double x) { return __builtin_sqrt(x); }
HIP_DEVICE float rsqrtf(float x) { return __builtin_amdgcn_rsqf(x); }
HIP_DEVICE float expf(float x) { return __builtin_expf(x); }
HIP_DEVICE float logf(float x) { return __builtin_logf(x); }
HIP_DEVICE float __expf(float x) { return __builtin_amdgcn_exp2f(x * 1.4426950408889634f); }
HIP_DEVICE float tanhf(float x) {
  float decay = expf(-2.0f * fabsf(x));
  return __builtin_copysignf((1.0f - decay) / (1.0f + decay), x);
}
// Horner's rule for the series sum of x^i / (first+1)...(first+step*i), the factorial series of exp, sin and cos.
HIP_DEVICE double hip_factorial_series(double x, int first, int step, int terms) {
  double sum = 1.0;
  for (int i = terms; i > 0; --i) {
    int last = first + step * i;
    sum = 1.0 + sum * x / (double)(step == 2 ? last * (last - 1) : last);
  }
  return sum;
}
// x > 0; the mantissa m in [1/2, 1): log m = 2 atanh((m - 1) / (m + 1)).
HIP_DEVICE double hip_log2(double x) {
  int exponent = __builtin_amdgcn_frexp_exp(x);
  double mantissa = __builtin_amdgcn_frexp_mant(x);
  double ratio = (mantissa - 1.0) / (mantissa + 1.0), square = ratio * ratio, sum = 0.0;
  for (int i = 33; i > 0; i -= 2) sum = sum * square + 1.0 / (double)i;
  return (double)exponent + 2.0 * ratio * sum * 1.4426950408889634;
}
HIP_DEVICE float powf(float base, float power) {
  double exponent = (double)power * hip_log2((double)base), whole = __builtin_rint(exponent);
  double part = hip_factorial_series((exponent - whole) * 0.6931471805599453, 0, 1, 14);
  return (float)__builtin_ldexp(part, (int)whole);
}
HIP_DEVICE void sincosf(float angle, float *sine, float *cosine) {
  double turns = __builtin_rint((double)angle * 0.6366197723675814);
  double rest = __builtin_fma(-turns, 6.123233995736766e-17, __builtin_fma(-turns, 1.5707963267948966, (double)angle));
  double square = -rest * rest;
  float s = (float)(rest * hip_factorial_series(square, 1, 2, 8));
  float c = (float)hip_factorial_series(square, 0, 2, 9);
  int quadrant = (int)turns & 3;
  float first = quadrant & 1 ? c : s, second = quadrant & 1 ? s : c;
  *sine = quadrant & 2 ? -first : first;
  *cosine = (quadrant + 1) & 2 ? -second : second;
}
