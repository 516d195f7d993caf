// Draws a token for each row of logits [rows, width], as the host's sampler does, in whole numbers, whose sums depend on no
// order: the rules are in the documentation of `Sampler`. Blocks of 1024 threads take rows in turn.
//
//   x      = (logit / 2 - largest / 2) * scale           each operation rounded once
//   weight = floor(2^40 e^x)                             a candidate's is at least 1
//   rank   = (logits from above, index)                  smaller for the more likely candidate
//
// Top-k, top-p and the draw ask the same: at which candidate does a sum over the candidates, in the order of their ranks,
// reach a limit? `reach` answers. Bins of x hold the number and the weight of their candidates; the bin where the limit is
// reached is cut by rank until its candidates fit a list, and each candidate of the list adds up what ranks before it. Where
// all candidates up to that bin are few, the list has them all, and serves the next limit, which is no greater.
#include "include/exp.h"
#include "include/logits.h"
#include "include/philox.h"

namespace sampling {

// Bins of a histogram. Of x, candidates lie in the first 888 of width 1/32: 2^-40 is e^-27.73.
constexpr uint32_t BINS = 1024;
constexpr uint32_t BIN_BITS = 10;
constexpr float BINS_PER_UNIT = 32.0f;
// Bins are added up in groups first.
constexpr uint32_t GROUPS = 32;
constexpr uint32_t GROUP_BINS = BINS / GROUPS;
constexpr uint32_t LIST = 1024;
// At most so many candidates are listed from the first bin on.
constexpr uint32_t FEW = 256;
static_assert(LOGIT_THREADS == BINS && LOGIT_THREADS == LIST, "each has a thread of its own");

// Number and weight of candidates.
struct Sums {
    uint64_t mass;
    uint32_t count;

    __device__ void add(Sums more) {
        mass += more.mass;
        count += more.count;
    }
};

struct Histogram {
    uint64_t mass[BINS];
    uint32_t count[BINS];
    uint64_t group_mass[GROUPS];
    uint32_t group_count[GROUPS];
};

// Candidates in no order; behind them nothing, which ranks last.
struct List {
    uint64_t rank[LIST];
    uint64_t mass[LIST];
    uint32_t length;
    // Where the limit is reached.
    uint64_t found_rank;
    uint64_t found_mass;
};

// A block's shared memory.
struct Room {
    Histogram of_x;
    Histogram of_rank;
    List list;
};

struct Row {
    const float *logits;
    uint32_t width;
    float half_largest;
    float scale;
};

// A limit on the number or on the weight of candidates.
struct Limit {
    uint64_t value;
    bool of_count;

    __device__ bool exceeds(Sums sums) const { return (of_count ? sums.count : sums.mass) < value; }
};

// The candidate at which a limit is reached, and the weight of all candidates up to it.
struct Reached {
    uint64_t rank;
    uint64_t mass;
};

__device__ static inline float scaled(const Row &row, float logit) {
    return (0.5f * logit - row.half_largest) * row.scale;
}

// The bin of a candidate.
__device__ static inline uint32_t bin_of(float x) { return (uint32_t)(x * -BINS_PER_UNIT); }

// floor(2^40 e^x), from the bits of e^x, which is at most 1.
__device__ static inline uint64_t weight_of(float x) {
    const float share = exp_nonpositive(x);
    uint32_t bits;
    __builtin_memcpy(&bits, &share, sizeof bits);
    const uint64_t significand = (bits & 0x7fffffu) | 0x800000u;
    // The significand of 1 goes up from bit 23 to bit 40, and down by the exponent.
    const uint32_t down = 127 - (bits >> 23);
    return (significand << 17) >> (down < 63 ? down : 63);
}

__device__ static inline uint64_t rank_of(float logit, uint32_t index) {
    return ((uint64_t)~ordered(logit) << 32) | index;
}

// The upper 64 bits of a * b + c.
__device__ static inline uint64_t product_high(uint64_t a, uint64_t b, uint64_t c) {
    return (uint64_t)(((unsigned __int128)a * b + c) >> 64);
}

// Empties the histogram. Threads may still read it.
__device__ static inline void clear(Histogram &histogram) {
    __syncthreads();
    histogram.mass[threadIdx.x] = 0;
    histogram.count[threadIdx.x] = 0;
    __syncthreads();
}

__device__ static inline void add_to_bin(Histogram &histogram, uint32_t bin, uint64_t weight) {
    add_shared(&histogram.mass[bin], weight);
    add_shared(&histogram.count[bin], 1u);
}

// Adds the bins up in groups, once every thread has added its candidates.
__device__ static inline void add_groups(Histogram &histogram) {
    __syncthreads();
    if (threadIdx.x < GROUPS) {
        Sums sums = {0, 0};
        GPU_UNROLL(8)
        for (uint32_t i = 0; i < GROUP_BINS; ++i) {
            // Each thread starts at another bin of its group, so that they read from different banks.
            const uint32_t bin = threadIdx.x * GROUP_BINS + (i + threadIdx.x) % GROUP_BINS;
            sums.add({histogram.mass[bin], histogram.count[bin]});
        }
        histogram.group_mass[threadIdx.x] = sums.mass;
        histogram.group_count[threadIdx.x] = sums.count;
    }
    __syncthreads();
}

__device__ static inline Sums total(const Histogram &histogram) {
    Sums sums = {0, 0};
    GPU_UNROLL(8)
    for (uint32_t i = 0; i < GROUPS; ++i) sums.add({histogram.group_mass[i], histogram.group_count[i]});
    return sums;
}

// The first of LENGTH entries at which `before` and the sum from the first entry on reach the limit, which they do; what
// comes before the entry is added to `before`.
template <uint32_t LENGTH>
__device__ static inline uint32_t first_reaching(const uint64_t *mass, const uint32_t *count, Limit limit, Sums &before) {
    Sums sums = before;
    uint32_t at = 0;
    GPU_UNROLL(8)
    for (uint32_t i = 0; i < LENGTH; ++i) {
        sums.add({mass[i], count[i]});
        if (limit.exceeds(sums)) {
            before = sums;
            at = i + 1;
        }
    }
    return at;
}

// The bin at which the limit is reached.
__device__ static inline uint32_t bin_reaching(const Histogram &histogram, Limit limit, Sums &before) {
    const uint32_t group = first_reaching<GROUPS>(histogram.group_mass, histogram.group_count, limit, before);
    const uint32_t first = group * GROUP_BINS;
    return first + first_reaching<GROUP_BINS>(histogram.mass + first, histogram.count + first, limit, before);
}

// Candidates whose x is above `x_above` and at most `x_most`, and whose ranks are `low` to `low + span`.
struct Range {
    float x_most;
    float x_above;
    uint64_t low;
    uint64_t span;
};

// All candidates of some bins; the bounds are exact.
__device__ static inline Range range_of_bins(uint32_t first, uint32_t last) {
    return {(float)first / -BINS_PER_UNIT, (float)(last + 1) / -BINS_PER_UNIT, 0, ~(uint64_t)0};
}

// Calls body(rank, weight) for the candidates of a range.
template <typename Body>
__device__ static inline void for_each_candidate(const Row &row, Range range, Body body) {
    for_each_turn(row.logits, row.width, [&](const auto &turn) {
        uint32_t hits = 0;
        for (uint32_t i = 0; i < turn.COUNT; ++i) {
            const float x = scaled(row, turn.logits[i]);
            hits |= (uint32_t)(x <= range.x_most && x > range.x_above) << i;
        }
        // Hits are few.
        for (; hits != 0; hits &= hits - 1) {
            const uint32_t index = (uint32_t)turn.index(__builtin_ctz(hits));
            const float logit = row.logits[index];
            const uint64_t rank = rank_of(logit, index);
            const uint64_t weight = weight_of(scaled(row, logit));
            if (rank - range.low <= range.span && weight != 0) body(rank, weight);
        }
    });
}

// Lists the candidates of a range, which fit.
__device__ static inline void list_candidates(const Row &row, Range range, List &list) {
    // Threads may still read the list.
    __syncthreads();
    list.rank[threadIdx.x] = ~(uint64_t)0;
    list.mass[threadIdx.x] = 0;
    if (threadIdx.x == 0) list.length = 0;
    __syncthreads();
    for_each_candidate(row, range, [&](uint64_t rank, uint64_t weight) {
        const uint32_t at = add_shared(&list.length, 1u);
        list.rank[at] = rank;
        list.mass[at] = weight;
    });
}

// The listed candidate at which the limit is reached, once every thread has listed its candidates; `before` is what ranks
// before all of them.
__device__ static inline Reached find(List &list, Sums before, Limit limit) {
    __syncthreads();
    const uint32_t length = list.length;
    if (threadIdx.x < length) {
        const uint64_t rank = list.rank[threadIdx.x];
        // In fours, whose loads do not wait for each other; behind the last candidate ranks are greater than any.
        for (uint32_t first = 0; first < length; first += 4) {
            for (uint32_t i = first; i < first + 4; ++i) {
                const bool precedes = list.rank[i] < rank;
                before.add({precedes ? list.mass[i] : 0, precedes});
            }
        }
        Sums sums = before;
        sums.add({list.mass[threadIdx.x], 1});
        if (limit.exceeds(before) && !limit.exceeds(sums)) {
            list.found_rank = rank;
            list.found_mass = sums.mass;
        }
    }
    __syncthreads();
    return {list.found_rank, list.found_mass};
}

// The candidate at which the sum over the candidates, from the most likely one on, reaches the limit, which is at least 1
// and at most the sum of all; in every thread of the block. The list holds all candidates of the first `listed_bins` bins.
__device__ static inline Reached reach(const Row &row, Room &room, uint32_t &listed_bins, Limit limit) {
    Sums before = {0, 0};
    const uint32_t bin = uniform(bin_reaching(room.of_x, limit, before));
    uint32_t members = uniform(room.of_x.count[bin]);
    const bool few = uniform(before.count + members) <= FEW;
    Range range = range_of_bins(few ? 0 : bin, bin);
    if (few) before = {0, 0};
    for (uint32_t shift = 64 - BIN_BITS; members > LIST; shift -= BIN_BITS) {
        clear(room.of_rank);
        for_each_candidate(row, range, [&](uint64_t rank, uint64_t weight) {
            add_to_bin(room.of_rank, (uint32_t)((rank - range.low) >> shift), weight);
        });
        add_groups(room.of_rank);
        const uint32_t part = uniform(bin_reaching(room.of_rank, limit, before));
        members = uniform(room.of_rank.count[part]);
        range.low += (uint64_t)part << shift;
        range.span = ((uint64_t)1 << shift) - 1;
    }
    if (bin >= listed_bins) {
        list_candidates(row, range, room.list);
        listed_bins = few ? bin + 1 : 0;
    }
    return find(room.list, before, limit);
}

// The token that `random`, uniform in 0 to 2^64 - 1, chooses from a row whose largest logit is known.
__device__ static inline uint32_t draw(const Row &row, uint32_t top_k, uint64_t share, uint64_t random) {
    __shared__ Room room;
    clear(room.of_x);
    for_each_turn(row.logits, row.width, [&](const auto &turn) {
        for (uint32_t i = 0; i < turn.COUNT; ++i) {
            const float x = scaled(row, turn.logits[i]);
            const uint64_t weight = weight_of(x);
            if (weight != 0) add_to_bin(room.of_x, bin_of(x), weight);
        }
    });
    add_groups(room.of_x);
    const Sums all = total(room.of_x);

    // One loop for the three limits, so that the code of `reach` is there once.
    enum { TOP_K, TOP_P, DRAW };
    Reached reached = {0, all.mass};
    uint32_t listed_bins = 0;
    for (uint32_t step = TOP_K; step <= DRAW; ++step) {
        Limit limit = {top_k, true};
        if (step == TOP_K && top_k >= all.count) continue;
        if (step == TOP_P) {
            if (share == ~(uint64_t)0) continue;
            const uint64_t mass = product_high(reached.mass, share, ~(uint64_t)0);
            limit = {mass == 0 ? 1 : mass, false};
        }
        if (step == DRAW) limit = {product_high(reached.mass, random, 0) + 1, false};
        reached = reach(row, room, listed_bins, limit);
    }
    return (uint32_t)reached.rank;
}

// Draws a row's token, in every thread of the block: the random number is that of the seed and the step in `state`.
__device__ static inline uint32_t sample(const float *logits, uint32_t width, float scale, uint32_t top_k, uint64_t share,
                                         const uint32_t *state) {
    const uint32_t likeliest = uniform(first_maximum(logits, width));
    if (likeliest == NO_TOKEN) return NO_TOKEN;
    uint32_t words[4] = {state[2], state[3], 0, 0};
    philox4x32(words, state[0], state[1]);
    const uint64_t random = ((uint64_t)words[1] << 32) | words[0];
    return draw({logits, width, 0.5f * logits[likeliest], scale}, top_k, share, random);
}

}  // namespace sampling

// draws [rows, 4] holds the low and the high word of each row's seed and then of its step. A row that gives a token goes on
// by a step; one without a token to choose gives NO_TOKEN.
extern "C" __global__ void __launch_bounds__(LOGIT_THREADS)
    sample_f32(const float *logits, uint32_t *draws, uint32_t *tokens, uint64_t rows, uint32_t width, uint32_t top_k,
               uint64_t share, float scale) {
    for (uint64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        uint32_t *state = draws + row * 4;
        const uint32_t token = sampling::sample(logits + row * width, width, scale, top_k, share, state);
        if (threadIdx.x == 0) {
            tokens[row] = token;
            // All threads read the state before the last barrier.
            if (token != NO_TOKEN && ++state[2] == 0) ++state[3];
        }
    }
}
