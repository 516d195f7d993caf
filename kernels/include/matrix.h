// Matrix units: products of 16 rows with 16 rows of bf16, STEP elements at a time, added to 16 x 16 sums in f32.
//
// A wave holds the sums, and of each side a fragment. Both sides lay out their fragments alike, so it does not matter which
// elements of its row a lane holds; what differs between cards is how many, and which sums are a lane's:
//
//   lanes of gfx11 hold all elements of row lane % 16, and of column lane % 16 the rows 2 i + lane / 16
//   lanes of gfx12 hold half of them, and the rows 8 (lane / 16) + i
//   the 64 lanes of gfx90a and gfx942 hold a quarter of them, and the rows 4 (lane / 16) + i
//   lanes of sm_80 hold a quarter of them, of the rows lane / 4 and lane / 4 + 8, and have these rows of four columns
//
// No manual says in which order a unit adds the 16 products of an instruction, or how it rounds. The host does as the
// emulator: in the order of the elements, each product added with one rounding.
//
// GPU_MATRIX is defined where there are such units.
#pragma once

#include "gpu.h"

#if defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx9_4_generic__)
#define GPU_MATRIX_CDNA
#endif
#if defined(__GFX11__) || defined(__GFX12__) || defined(GPU_MATRIX_CDNA) || defined(__NVPTX__) || defined(GPU_HOST)
#define GPU_MATRIX

namespace matrix {

// Rows of each side.
constexpr uint32_t SIDE = 16;
// Elements that are loaded at a time, 16 bytes.
constexpr uint32_t UNIT = 8;
// Elements of a row that are multiplied at a time.
constexpr uint32_t STEP = 4 * UNIT;

#if defined(GPU_MATRIX_CDNA)
constexpr uint32_t LANES = 64;
#else
constexpr uint32_t LANES = 32;
#endif
// Whether two lanes hold the same, so that a fragment takes twice the registers.
#if defined(__GFX11__)
constexpr bool TWICE = true;
#else
constexpr bool TWICE = false;
#endif
// Whether a wave that keeps many sums has registers for few fragments more.
#if defined(__GFX11__) || defined(__GFX12__)
constexpr bool FEW_REGISTERS = true;
#else
constexpr bool FEW_REGISTERS = false;
#endif
// Sums of a lane: those of so many rows of the first side, of each of so many rows of the second side, the columns.
#if defined(__NVPTX__)
constexpr uint32_t COLUMNS = 4;
#else
constexpr uint32_t COLUMNS = 1;
#endif
constexpr uint32_t ROWS = SIDE * SIDE / LANES / COLUMNS;

struct Sums {
    float at[COLUMNS][ROWS];
};

// The row that a lane's sums at[..][i] belong to.
__device__ static inline uint32_t row_of(uint32_t lane, uint32_t i) {
#if defined(GPU_MATRIX_CDNA) || defined(__GFX12__)
    return lane / SIDE * ROWS + i;
#elif defined(__NVPTX__)
    return lane / 4 + 8 * i;
#else
    return 2 * i + lane / SIDE;
#endif
}

// Where a row of the first side comes if those of each lane's sums are put side by side.
__device__ static inline uint32_t place_of_row(uint32_t row) {
#if defined(GPU_MATRIX_CDNA) || defined(__GFX12__)
    return row;
#elif defined(__NVPTX__)
    return row % 8 * 2 + row / 8;
#else
    return row % 2 * 8 + row / 2;
#endif
}

// The column that a lane's sums at[i] belong to.
__device__ static inline uint32_t column_of(uint32_t lane, [[maybe_unused]] uint32_t i) {
#if defined(__NVPTX__)
    return i / 2 * 8 + lane % 4 * 2 + i % 2;
#else
    return lane % SIDE;
#endif
}

#if defined(GPU_MATRIX_CDNA)
// What `value` is in the lane whose index differs by 32.
__device__ static inline float other_half(uint32_t lane, float value) {
    int bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    bits = __builtin_amdgcn_ds_bpermute((int)((lane ^ 32u) * 4), bits);
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}
#endif

#if defined(GPU_HOST)

// All rows, since no lane sees the registers of another.
struct Fragment {
    bf16_t values[SIDE][STEP];
};

// Units of a lane's fragment, each of a row of its own.
constexpr uint32_t SLOTS = SIDE * STEP / UNIT;

__device__ static inline uint32_t row_of_slot(uint32_t, uint32_t slot) { return slot / (STEP / UNIT); }
__device__ static inline uint32_t unit_of_slot(uint32_t, uint32_t slot) { return slot % (STEP / UNIT); }

inline void multiply_add(const Fragment &a, const Fragment &b, uint32_t lane, Sums &sums) {
    const bf16_t *column = b.values[column_of(lane, 0)];
    for (uint32_t i = 0; i < ROWS; ++i) {
        const bf16_t *row = a.values[row_of(lane, i)];
        float &sum = sums.at[0][i];
        for (uint32_t k = 0; k < STEP; ++k) sum = __builtin_fmaf(widen(row[k]), widen(column[k]), sum);
    }
}

#elif defined(__NVPTX__)

// Of rows lane / 4 and lane / 4 + 8 the unit lane % 4, in words of two elements.
struct Fragment {
    uint32_t words[2][4];
};

constexpr uint32_t SLOTS = 2;

__device__ static inline uint32_t row_of_slot(uint32_t lane, uint32_t slot) { return lane / 4 + 8 * slot; }
__device__ static inline uint32_t unit_of_slot(uint32_t lane, uint32_t) { return lane % 4; }

__device__ static inline void multiply_add(const Fragment &a, const Fragment &b, uint32_t, Sums &sums) {
    // An instruction takes 16 elements of a row, and 8 columns.
    for (uint32_t word = 0; word < 4; word += 2) {
        for (uint32_t half = 0; half < 2; ++half) {
            float(&left)[ROWS] = sums.at[2 * half];
            float(&right)[ROWS] = sums.at[2 * half + 1];
            asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                "{%0, %1, %2, %3};"
                : "+f"(left[0]), "+f"(right[0]), "+f"(left[1]), "+f"(right[1])
                : "r"(a.words[0][word]), "r"(a.words[1][word]), "r"(a.words[0][word + 1]), "r"(a.words[1][word + 1]),
                  "r"(b.words[half][word]), "r"(b.words[half][word + 1]));
        }
    }
}

#else

// Elements of an instruction.
constexpr uint32_t DEPTH = 16;
constexpr uint32_t CALLS = STEP / DEPTH;
constexpr uint32_t SHARE = TWICE ? STEP : STEP * SIDE / LANES;

typedef short Operand __attribute__((ext_vector_type(SHARE / CALLS)));
typedef float Accumulator __attribute__((ext_vector_type(ROWS)));

struct Fragment {
    Operand values[CALLS];
};

constexpr uint32_t SLOTS = SHARE / UNIT;

__device__ static inline uint32_t row_of_slot(uint32_t lane, uint32_t) { return lane % SIDE; }
__device__ static inline uint32_t unit_of_slot(uint32_t lane, uint32_t slot) {
    return lane / SIDE * SLOTS % (STEP / UNIT) + slot;
}

__device__ static inline void multiply_add(const Fragment &a, const Fragment &b, uint32_t, Sums &sums) {
    Accumulator accumulator;
    __builtin_memcpy(&accumulator, &sums, sizeof sums);
    for (uint32_t i = 0; i < CALLS; ++i) {
#if defined(__GFX11__)
        accumulator = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(a.values[i], b.values[i], accumulator);
#elif defined(__GFX12__)
        accumulator = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(a.values[i], b.values[i], accumulator);
#else
        accumulator = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a.values[i], b.values[i], accumulator, 0, 0, 0);
#endif
    }
    __builtin_memcpy(&sums, &accumulator, sizeof sums);
}

#endif

// Eight elements of 16 bits, of whatever type.
struct __attribute__((may_alias, aligned(16))) Unit {
    uint32_t words[UNIT / 2];
};

static_assert(sizeof(Fragment) == SLOTS * sizeof(Unit), "a fragment is its units");

// The fragment of rows whose units are unit_of(row, unit).
template <typename UnitOf>
__device__ static inline Fragment gather(uint32_t lane, UnitOf unit_of) {
    Unit units[SLOTS];
    for (uint32_t slot = 0; slot < SLOTS; ++slot) units[slot] = unit_of(row_of_slot(lane, slot), unit_of_slot(lane, slot));
    Fragment fragment;
    __builtin_memcpy(&fragment, units, sizeof fragment);
    return fragment;
}

// The fragment of rows whose units are at unit_at(row, unit).
template <typename UnitAt>
__device__ static inline Fragment load(uint32_t lane, UnitAt unit_at) {
    return gather(lane, [&](uint32_t row, uint32_t unit) { return *(const Unit *)unit_at(row, unit); });
}

// Elements of a row whose columns a lane takes at once: a unit, or half of one where registers are few.
#if defined(__GFX11__) || defined(__GFX12__)
constexpr uint32_t OWN_COLUMNS = UNIT / 2;
#else
constexpr uint32_t OWN_COLUMNS = UNIT;
#endif

// What a lane has of STEP rows, of each of which it takes neighbouring columns: what `columns` makes fragments of.
struct Columns {
    uint32_t words[SLOTS][UNIT][OWN_COLUMNS / 2];
};

// `load_own(row, own, to)` loads OWN_COLUMNS elements of a row from element OWN_COLUMNS * own on.
template <typename LoadOwn>
__device__ static inline Columns gather_columns(uint32_t lane, LoadOwn load_own) {
    Columns gathered;
    for (uint32_t slot = 0; slot < SLOTS; ++slot) {
        for (uint32_t k = 0; k < UNIT; ++k) {
            load_own(unit_of_slot(lane, slot) * UNIT + k, row_of_slot(lane, slot), gathered.words[slot][k]);
        }
    }
    return gathered;
}

// The fragment whose row r is the column OWN_COLUMNS * r + at of those rows.
__device__ static inline Fragment columns(const Columns &gathered, uint32_t at) {
    Unit units[SLOTS];
    for (uint32_t slot = 0; slot < SLOTS; ++slot) {
        for (uint32_t k = 0; k < UNIT; k += 2) {
            const uint32_t first = gathered.words[slot][k][at / 2];
            const uint32_t second = gathered.words[slot][k + 1][at / 2];
            units[slot].words[k / 2] =
                at % 2 == 0 ? (first & 0xffffu) | second << 16 : first >> 16 | (second & 0xffff0000u);
        }
    }
    Fragment fragment;
    __builtin_memcpy(&fragment, units, sizeof fragment);
    return fragment;
}

#if defined(__NVPTX__)
// To the nearest, of two the even one. The instruction for two values is the fast one.
__device__ static inline bf16_t round_to_bf16(float value) {
    uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(0.0f), "f"(value));
    return {(uint16_t)both};
}
#endif

template <bool FINITE = false>
__device__ static inline void split(bf16_t value, bf16_t (&pieces)[1]) {
    pieces[0] = value;
}

// A value in pieces, each the nearest to what is left, of two the one of greater magnitude: of two pieces
// |value - high - rest| <= 2^-17 |value|. What is not finite has no rest; FINITE says that there is no such value.
template <bool FINITE = false>
__device__ static inline void split(float value, bf16_t (&pieces)[2]) {
#if defined(__NVPTX__)
    pieces[0] = round_to_bf16(value);
    const float rest = value - widen(pieces[0]);
    pieces[1] = round_to_bf16(FINITE || rest == rest ? rest : 0.0f);
#else
    constexpr uint32_t HALF = 0x8000u, EXPONENT = 0x7f800000u;
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    const bool finite = FINITE || (bits & EXPONENT) != EXPONENT;
    bits = finite ? bits + HALF : bits;
    pieces[0].bits = (uint16_t)(bits >> 16);
    const float rest = value - widen(pieces[0]);
    __builtin_memcpy(&bits, &rest, sizeof bits);
    pieces[1].bits = finite ? (uint16_t)((bits + HALF) >> 16) : 0;
#endif
}

template <bool FINITE = false>
__device__ static inline void split(f16_t value, bf16_t (&pieces)[2]) {
    split<FINITE>(widen(value), pieces);
}

// Folds what the lanes have of each of their columns, so that all lanes of a column have the same.
template <typename Fold>
__device__ static inline void fold_columns([[maybe_unused]] uint32_t lane, float (&values)[COLUMNS], Fold fold) {
    for (uint32_t c = 0; c < COLUMNS; ++c) {
        float &value = values[c];
        value = fold(value, lane_xor<16>(value));
#if defined(__NVPTX__)
        value = fold(value, lane_xor<8>(value));
        value = fold(value, lane_xor<4>(value));
#elif defined(GPU_MATRIX_CDNA)
        value = fold(value, other_half(lane, value));
#endif
    }
}

}  // namespace matrix

#endif
