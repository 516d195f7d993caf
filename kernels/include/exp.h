// e^x, operation by operation: sums, products and bit shifts of f32, each rounded once, as on the CPU. Sources that use it
// are compiled with -ffp-contract=off.
#pragma once

#include "gpu.h"

// e^x for x <= 0, within 2 units of 2^-24 of itself; 0 below -87.33, where it would be subnormal; NaN for NaN.
//
// x = k ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite); e^r is its Taylor polynomial of degree 7, which is within 2^-27
// there.
__device__ static inline float exp_nonpositive(float x) {
    // Adding 1.5 * 2^23 rounds to a whole number, which the low bits of the sum then hold.
    const float round = 12582912.0f;
    const float shifted = x * 1.44269504088896340736f + round;
    const float k = shifted - round;
    // ln 2 in two parts; the products of the first with whole numbers up to 2^9 are exact.
    const float r = (x - k * (355.0f / 512.0f)) - k * -2.1219444e-4f;
    float tail = 1.0f / 5040.0f;
    tail = tail * r + 1.0f / 720.0f;
    tail = tail * r + 1.0f / 120.0f;
    tail = tail * r + 1.0f / 24.0f;
    tail = tail * r + 1.0f / 6.0f;
    tail = tail * r + 0.5f;
    const float e_r = 1.0f + (r + r * r * tail);
    // 127 + k is the biased exponent of 2^k.
    uint32_t bits;
    __builtin_memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + (127u << 23);
    float power;
    __builtin_memcpy(&power, &bits, sizeof power);
    return x < -87.33654f ? 0.0f : e_r * power;
}
