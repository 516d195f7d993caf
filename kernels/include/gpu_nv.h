// NVIDIA: attributes and indices from clang's nvvm builtins.
#pragma once

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))

typedef __INT8_TYPE__ int8_t;
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __INT32_TYPE__ int32_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define GPU_INDEX(NAME, REGISTER)                                                                                      \
    static const __device__ struct NAME##_t {                                                                          \
        __declspec(property(get = get_x)) uint32_t x;                                                                  \
        __declspec(property(get = get_y)) uint32_t y;                                                                  \
        __declspec(property(get = get_z)) uint32_t z;                                                                  \
        __device__ uint32_t get_x() const { return __nvvm_read_ptx_sreg_##REGISTER##_x(); }                            \
        __device__ uint32_t get_y() const { return __nvvm_read_ptx_sreg_##REGISTER##_y(); }                            \
        __device__ uint32_t get_z() const { return __nvvm_read_ptx_sreg_##REGISTER##_z(); }                            \
    } NAME

GPU_INDEX(threadIdx, tid);
GPU_INDEX(blockIdx, ctaid);
GPU_INDEX(blockDim, ntid);
GPU_INDEX(gridDim, nctaid);
#undef GPU_INDEX

__device__ static inline void sync_wave() { __nvvm_bar_warp_sync(~0u); }

template <uint32_t MASK>
__device__ static inline uint32_t lane_xor(uint32_t value) {
    static_assert(MASK < 32, "lanes are counted in groups of 32");
    return (uint32_t)__nvvm_shfl_sync_bfly_i32(~0u, (int)value, MASK, 31);
}

__device__ static inline uint32_t uniform(uint32_t value) { return value; }

template <typename T>
__device__ static inline T *per_thread(T *pointer) {
    return pointer;
}

// Pointers to global memory say so, also where they were kept in shared memory.
#define GPU_GLOBAL __attribute__((address_space(1)))

typedef uint32_t words_t __attribute__((ext_vector_type(4)));

__device__ static inline words_t load_words(const void *pointer) {
    return *(const GPU_GLOBAL words_t *)pointer;
}

__device__ static inline void ask_ahead(const void *pointer) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"((const GPU_GLOBAL void *)pointer));
}

template <typename T>
__device__ static inline T *global_pointer(uint64_t bits) {
    return (T *)(GPU_GLOBAL T *)bits;
}

__device__ static inline uint32_t anew(uint32_t offset) {
    asm volatile("" : "+r"(offset));
    return offset;
}

__device__ static inline uint32_t opaque(uint32_t word) {
    asm("" : "+r"(word));
    return word;
}

__device__ static inline uint32_t stay_behind(uint32_t offset) { return anew(offset); }

__device__ static inline uint32_t shift_pair(uint32_t high, uint32_t low, uint32_t bits) {
    return (uint32_t)((((uint64_t)high << 32) | low) >> bits);
}

__device__ static inline uint32_t count_up(uint32_t *counter) {
    return (uint32_t)__nvvm_atom_add_gen_i((int *)counter, 1);
}

__device__ static inline void publish() { __nvvm_membar_gl(); }

__device__ static inline void observe() { __nvvm_membar_gl(); }
