// What numbers of 8 bits need of a card:
//
//   clamped(value, low, high)    the value within both; `low` for NaN
//   dot4(a, b, sum)              the sum and the products of the signed bytes of two words
//
// gfx9 and gfx10 have dot4 in some cards, gfx11 and gfx12 in all; generic images are for cards without it too.
#pragma once

#include "gpu.h"

#if defined(GPU_HOST)

inline float clamped(float value, float low, float high) {
    const float above = value > low ? value : low;
    return above < high ? above : high;
}

#elif defined(__CUDA__) && !defined(__HIP__)

__device__ static inline float clamped(float value, float low, float high) {
    return __nvvm_fmin_f(__nvvm_fmax_f(value, low), high);
}

#else

__device__ static inline float clamped(float value, float low, float high) {
    return __builtin_amdgcn_fmed3f(value, low, high);
}

#endif

__device__ static inline int32_t dot4(uint32_t a, uint32_t b, int32_t sum) {
#if defined(__GFX11__) || defined(__GFX12__)
    return __builtin_amdgcn_sudot4(true, (int)a, true, (int)b, sum, false);
#elif defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx9_4_generic__) || defined(__gfx1030__) ||                \
    defined(__gfx10_3_generic__)
    return __builtin_amdgcn_sdot4((int)a, (int)b, sum, false);
#elif defined(__CUDA__) && !defined(__HIP__)
    int32_t result;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
#else
    // Of a word that many others are multiplied with, bytes would take four registers for one.
    a = anew(a);
    for (uint32_t at = 0; at < 32; at += 8) sum += (int32_t)(int8_t)(a >> at) * (int32_t)(int8_t)(b >> at);
    return sum;
#endif
}
