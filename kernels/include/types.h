// The data types of activations and caches. Arithmetic is in f32: widen is exact; narrow rounds once, to nearest even,
// and keeps a NaN a (quiet) NaN.
#pragma once

typedef _Float16 f16_t;

// A struct, since not every compiler has a bf16 type on every target.
struct bf16_t {
    uint16_t bits;
};

__device__ static inline float widen(float value) { return value; }

__device__ static inline float widen(f16_t value) { return (float)value; }

__device__ static inline float widen(bf16_t value) {
    const uint32_t bits = (uint32_t)value.bits << 16;
    float wide;
    __builtin_memcpy(&wide, &bits, sizeof wide);
    return wide;
}

template <typename T>
__device__ inline T narrow(float value) {
    return (T)value;
}

template <>
__device__ inline bf16_t narrow<bf16_t>(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    // Adding just under half of the last kept bit, or exactly half if that bit is odd, carries iff rounding is up.
    const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    bf16_t result;
    result.bits = (uint16_t)(nan ? (bits >> 16) | 0x40u : rounded >> 16);
    return result;
}
