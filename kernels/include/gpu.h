// What a kernel may use, from compiler builtins alone: no HIP or CUDA headers, no device library.
//
//   clang++ -x hip  --offload-device-only -nogpuinc -nogpulib    AMD code object
//   clang++ -x cuda --cuda-device-only -nocudainc -nocudalib     PTX
//   c++ -DGPU_HOST                                               function of the host, see gpu_host.h
//
// Each of them gives __global__, __device__, __shared__, __launch_bounds__(threads, blocks), threadIdx, blockIdx, blockDim,
// gridDim, __syncthreads(), the fixed-width integers, and
//
//   lane_xor<MASK>(value)    what `value` is in the lane whose index differs by MASK. Lanes are the threads of a
//                            one-dimensional block in groups of 32, whatever the size of a wave; all 32 must take part,
//                            on the host all threads of the block.
//   add_shared(sum, value)   adds to a number of the block's shared memory, whoever else adds to it, and gives what it
//                            was.
//   uniform(value)           a value that is the same in all threads of a wave, whether of 32 or of 64, said to the compiler.
//   per_thread(pointer)      the same pointer, of which each thread keeps a copy: a block has fewer registers for what its
//                            threads have in common.
//   load_words(pointer)      16 bytes of global memory, whose address is a multiple of 16, at once.
//   ask_ahead(pointer)       asks for what is there in global memory, where a card can, before it is loaded.
//   GPU_GLOBAL               what is pointed to is in global memory; for pointers that are kept in shared memory, of which
//                            the compiler could not see it.
//   global_pointer<T>(bits)  a pointer to global memory from its bits, such as a block keeps in its shared memory: from there
//                            the compiler would not know what it points to.
//   anew(offset)             an offset of which the compiler forgets what it knows: what is computed from it in a loop is
//                            computed in each turn, and takes no registers between them.
//   opaque(word)             the same word, of which the compiler forgets what it knows.
//   stay_behind(offset)      the same offset: what is loaded with it is not loaded before, where it would take registers.
//   shift_pair(high, low, bits)  the low word of high and low, shifted right by 0 to 31 bits.
//   count_up(counter)        adds 1 to a counter that several blocks share, and gives what it was.
//   sync_wave()              what lanes of a group wrote to shared memory before is seen by the group's others after it; on the
//                            host all threads of the block must take part.
//   publish(), observe()     a thread's writes before publish() are seen by whoever learns of it, through a counter, and
//                            then calls observe().
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

// In front of a loop: how often a device's code repeats its body to save jumps.
#if defined(GPU_HOST)
#define GPU_UNROLL(COUNT)
#else
#define GPU_PRAGMA(TEXT) _Pragma(#TEXT)
#define GPU_UNROLL(COUNT) GPU_PRAGMA(unroll COUNT)
#endif

template <typename T>
__device__ static inline T add_shared(T *sum, T value) {
    return __atomic_fetch_add(sum, value, __ATOMIC_RELAXED);
}

__device__ static inline uint64_t uniform(uint64_t value) {
    const uint32_t low = uniform((uint32_t)value);
    const uint32_t high = uniform((uint32_t)(value >> 32));
    return ((uint64_t)high << 32) | low;
}

template <uint32_t MASK>
__device__ static inline float lane_xor(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    bits = lane_xor<MASK>(bits);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

template <uint32_t MASK>
__device__ static inline uint64_t lane_xor(uint64_t value) {
    const uint32_t low = lane_xor<MASK>((uint32_t)value);
    const uint32_t high = lane_xor<MASK>((uint32_t)(value >> 32));
    return ((uint64_t)high << 32) | low;
}

template <uint32_t MASK>
__device__ static inline double lane_xor(double value) {
    uint64_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    bits = lane_xor<MASK>(bits);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
