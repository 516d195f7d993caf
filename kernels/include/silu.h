// The gate of SwiGLU (Shazeer): silu(x) = x / (1 + e^-x).
#pragma once

#include "exp.h"

// With the exponential taken of -|x|, so that it never overflows.
__device__ static inline float silu(float x) {
    const float e = exp_nonpositive(x < 0.0f ? x : -x);
    const float numerator = x < 0.0f ? x * e : x;
    return numerator / (1.0f + e);
}
