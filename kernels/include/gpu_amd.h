// AMD: attributes and indices from clang's amdgcn builtins.
#pragma once

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
// The AMD back end ignores launch_bounds and would budget registers for 1024 threads.
#define __launch_bounds__(threads, ...) __attribute__((amdgpu_flat_work_group_size(1, threads)))

typedef __INT8_TYPE__ int8_t;
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __INT32_TYPE__ int32_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define GPU_INDEX(NAME, X, Y, Z)                                                                                       \
    static const __device__ struct NAME##_t {                                                                          \
        __declspec(property(get = get_x)) uint32_t x;                                                                  \
        __declspec(property(get = get_y)) uint32_t y;                                                                  \
        __declspec(property(get = get_z)) uint32_t z;                                                                  \
        __device__ uint32_t get_x() const { return X; }                                                                \
        __device__ uint32_t get_y() const { return Y; }                                                                \
        __device__ uint32_t get_z() const { return Z; }                                                                \
    } NAME

GPU_INDEX(threadIdx, __builtin_amdgcn_workitem_id_x(), __builtin_amdgcn_workitem_id_y(),
          __builtin_amdgcn_workitem_id_z());
GPU_INDEX(blockIdx, __builtin_amdgcn_workgroup_id_x(), __builtin_amdgcn_workgroup_id_y(),
          __builtin_amdgcn_workgroup_id_z());
GPU_INDEX(blockDim, __builtin_amdgcn_workgroup_size_x(), __builtin_amdgcn_workgroup_size_y(),
          __builtin_amdgcn_workgroup_size_z());
// The hardware counts a grid in threads.
GPU_INDEX(gridDim, __builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x(),
          __builtin_amdgcn_grid_size_y() / __builtin_amdgcn_workgroup_size_y(),
          __builtin_amdgcn_grid_size_z() / __builtin_amdgcn_workgroup_size_z());
#undef GPU_INDEX

__device__ static inline void __syncthreads() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

__device__ static inline void sync_wave() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
    __builtin_amdgcn_wave_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}

// ds_swizzle in its mask mode stays within 32 lanes, in waves of 64 too.
template <uint32_t MASK>
__device__ static inline uint32_t lane_xor(uint32_t value) {
    static_assert(MASK < 32, "lanes are counted in groups of 32");
    return (uint32_t)__builtin_amdgcn_ds_swizzle((int)value, (MASK << 10) | 0x1f);
}

__device__ static inline uint32_t uniform(uint32_t value) {
    return (uint32_t)__builtin_amdgcn_readfirstlane((int)value);
}

template <typename T>
__device__ static inline T *per_thread(T *pointer) {
    auto in_memory = (__attribute__((address_space(1))) T *)pointer;
    asm volatile("" : "+v"(in_memory));
    return (T *)in_memory;
}

// Pointers to global memory say so, also where they were kept in shared memory.
#define GPU_GLOBAL __attribute__((address_space(1)))

typedef uint32_t words_t __attribute__((ext_vector_type(4)));

__device__ static inline words_t load_words(const void *pointer) {
    return *(const GPU_GLOBAL words_t *)pointer;
}

// Not every card has an instruction for it.
__device__ static inline void ask_ahead(const void *) {}

template <typename T>
__device__ static inline T *global_pointer(uint64_t bits) {
    return (T *)(__attribute__((address_space(1))) T *)bits;
}

__device__ static inline uint32_t anew(uint32_t offset) {
    asm volatile("" : "+v"(offset));
    return offset;
}

__device__ static inline uint32_t opaque(uint32_t word) {
    asm("" : "+v"(word));
    return word;
}

__device__ static inline uint32_t stay_behind(uint32_t offset) {
    __builtin_amdgcn_sched_barrier(0);
    return anew(offset);
}

__device__ static inline uint32_t shift_pair(uint32_t high, uint32_t low, uint32_t bits) {
    return __builtin_amdgcn_alignbit(high, low, bits);
}

__device__ static inline uint32_t count_up(uint32_t *counter) {
    return __hip_atomic_fetch_add(counter, 1u, __ATOMIC_ACQ_REL, __HIP_MEMORY_SCOPE_AGENT);
}

__device__ static inline void publish() { __builtin_amdgcn_fence(__ATOMIC_RELEASE, "agent"); }

__device__ static inline void observe() { __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "agent"); }
