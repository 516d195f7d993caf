// The host: a kernel is a plain function, run once per thread of the grid, one thread after another.
//
// Include the kernels in one C++17 file, compiled with -DGPU_HOST -ffp-contract=off and this folder on the include
// path, and take launchers from it:
//
//     #include "../../kernels/rope.hip"
//
//     struct Entry { const char *symbol; gpu_host::Launcher launch; };
//     static const Entry ENTRIES[] = {{"rope_f32", gpu_host::launch<rope_f32>}, {"rope_f16", gpu_host::launch<rope_f16>}};
//
//     uint32_t grid[3] = {blocks, 1, 1}, block[3] = {256, 1, 1};
//     ENTRIES[0].launch(grid, block, kernel_params);
//
// kernel_params is the array of hipModuleLaunchKernel: for each parameter, the address of its value. Values are copied
// byte by byte, so they need no alignment. Each launching thread has indices of its own: launches may run at the same
// time.
//
// A kernel that calls __syncthreads or lane_xor needs gpu_host::launch_with_barriers<kernel>, which gives each thread of a
// block a stack and switches between them at every barrier. Launched without it, such a kernel ends the process.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <tuple>
#include <utility>

#define __global__
#define __device__
// Blocks run one after another in their launching thread.
#define __shared__ static thread_local
#define __launch_bounds__(...)

namespace gpu_host {

struct Index {
    uint32_t x, y, z;
};

}  // namespace gpu_host

inline thread_local gpu_host::Index threadIdx, blockIdx, blockDim, gridDim;

#include "gpu_host_fibers.h"

inline void __syncthreads() { gpu_host::Fibers::wait(); }

inline void sync_wave() { __syncthreads(); }

template <uint32_t MASK>
uint32_t lane_xor(uint32_t value) {
    static_assert(MASK < 32, "lanes are counted in groups of 32");
    return gpu_host::Fibers::exchange(value, threadIdx.x ^ MASK);
}

inline uint32_t uniform(uint32_t value) { return value; }

template <typename T>
T *per_thread(T *pointer) {
    return pointer;
}

#define GPU_GLOBAL

struct alignas(16) words_t {
    uint32_t words[4];
};

inline words_t load_words(const void *pointer) {
    words_t words;
    memcpy(&words, pointer, sizeof words);
    return words;
}

inline void ask_ahead(const void *) {}

template <typename T>
T *global_pointer(uint64_t bits) {
    return (T *)bits;
}

inline uint32_t anew(uint32_t offset) { return offset; }

inline uint32_t opaque(uint32_t word) { return word; }

inline uint32_t stay_behind(uint32_t offset) { return offset; }

inline uint32_t shift_pair(uint32_t high, uint32_t low, uint32_t bits) {
    return (uint32_t)((((uint64_t)high << 32) | low) >> bits);
}

// Blocks run one after another, so there is nothing to order.
inline uint32_t count_up(uint32_t *counter) { return (*counter)++; }

inline void publish() {}

inline void observe() {}

namespace gpu_host {

// Runs a kernel over a whole grid.
using Launcher = void (*)(const uint32_t grid[3], const uint32_t block[3], void *const *kernel_params);

template <typename Body>
void for_each_index(const uint32_t size[3], Index &index, Body body) {
    for (index.z = 0; index.z < size[2]; ++index.z) {
        for (index.y = 0; index.y < size[1]; ++index.y) {
            for (index.x = 0; index.x < size[0]; ++index.x) body();
        }
    }
}

template <typename T>
T read_param(const void *address) {
    T value;
    memcpy(&value, address, sizeof value);
    return value;
}

template <typename... Params, size_t... At>
std::tuple<Params...> read_params(void (*)(Params...), void *const *kernel_params, std::index_sequence<At...>) {
    return std::tuple<Params...>(read_param<Params>(kernel_params[At])...);
}

template <typename... Params>
std::tuple<Params...> read_params(void (*kernel)(Params...), void *const *kernel_params) {
    return read_params(kernel, kernel_params, std::index_sequence_for<Params...>());
}

template <auto kernel>
void launch(const uint32_t grid[3], const uint32_t block[3], void *const *kernel_params) {
    const auto params = read_params(kernel, kernel_params);
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for_each_index(grid, blockIdx, [&] {
        for_each_index(block, threadIdx, [&] { std::apply(kernel, params); });
    });
}

template <auto kernel>
void launch_with_barriers(const uint32_t grid[3], const uint32_t block[3], void *const *kernel_params) {
    const auto params = read_params(kernel, kernel_params);
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    Fibers fibers([&] { std::apply(kernel, params); });
    for_each_index(grid, blockIdx, [&] { fibers.run_block(); });
}

}  // namespace gpu_host
