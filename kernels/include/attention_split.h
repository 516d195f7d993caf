// A tile's spans shared out among blocks: each attends one span, and the block that is the last to come to the tile puts its
// sums together with those of the others. No block waits for another.
#pragma once

#include "attention_block.h"
#include "attention_waves.h"

namespace attention {

template <typename T, typename Fresh>
struct Split : Block<T, Fresh> {
    using Base = Block<T, Fresh>;
    using Base::Base;
    using Base::call, Base::shared, Base::fresh, Base::rows, Base::end;
    using Base::mean_row, Base::mean_rows, Base::mean_element;

    // Where spans are put together side by side: what a thread loads at once of a row, how far apart such pieces are, and how
    // many it has.
    static constexpr uint32_t PIECE_OF_SUMS = 4;
    static constexpr uint32_t PIECE_STEP = PIECE_OF_SUMS * LANES;
    static constexpr uint32_t PIECES = 2;

    // Where a span's softmax of a row is.
    __device__ GPU_GLOBAL float *softmax_of(uint32_t span, uint32_t row) const {
        return shared.results.softmaxes + (row * shared.results.spans + span) * PARTIAL_SOFTMAX;
    }

    __device__ Softmax softmax_at(uint32_t span, uint32_t row) const {
        const GPU_GLOBAL uint64_t *from = (const GPU_GLOBAL uint64_t *)softmax_of(span, row);
        const uint64_t words = *from;
        Softmax softmax;
        __builtin_memcpy(&softmax, &words, sizeof softmax);
        return softmax;
    }

    // Where a span's sums of a row are, [row_len].
    __device__ GPU_GLOBAL float *sums_of(uint32_t span, uint32_t row) const {
        return shared.results.sums + (uint64_t)(span * ROWS + row) * call.cache.row_len;
    }

    // One span, and the rest where this block is the tile's last. A span that no row sees is nothing.
    __device__ void attend_split(uint32_t span) {
        const bool by_waves = waves_serve(call);
        const uint32_t keys_of_span = span_of(call, end);
        const uint32_t spans = (end - 1) / keys_of_span + 1;
        if (span >= spans) return;
        const uint32_t first = span * keys_of_span;
        const uint32_t last = first + at_most(end - first, keys_of_span);
        if (!by_waves || !attend_by_waves(first, last, span, spans)) {
            Softmax softmax;
            Means means;
            this->attend_span(first, last, softmax, means);
            if (spans == 1) {
                this->write(means);
                return;
            }
            write_partial(span, softmax, means);
        }
        if (spans == 1) return;
        // Each thread publishes what it wrote; then the counter says that all of the block's threads did.
        publish();
        __syncthreads();
        if (threadIdx.x == 0) shared.turn = count_up((uint32_t *)shared.results.counter);
        __syncthreads();
        if (shared.turn + 1 != spans) return;
        observe();
        // For the next launch.
        if (threadIdx.x == 0) *shared.results.counter = 0;
        if (by_waves) {
            combine_side_by_side(spans);
        } else {
            combine();
        }
    }

    __device__ void write_partial(uint32_t span, const Softmax &softmax, const Means &means) const {
        if (threadIdx.x % LANES == 0) {
            GPU_GLOBAL float *to = softmax_of(span, threadIdx.x / LANES);
            to[0] = softmax.max;
            to[1] = softmax.sum;
        }
        for (uint32_t r = 0; r < MEAN_ROWS; ++r) {
            if (r >= mean_rows || mean_row + r >= rows) continue;
            GPU_GLOBAL float *to = sums_of(span, mean_row + r);
            for (uint32_t pair = 0; pair < PAIRS; ++pair) {
                const uint32_t element = mean_element + pair * PAIR_STEP;
                if (element >= call.cache.row_len) continue;
                for (uint32_t i = 0; i < PAIR; ++i) to[element + i] = means.of[r][pair][i];
            }
        }
    }

    // Whether waves attend by themselves, as attention_waves.h says.
    __device__ static bool waves_serve(const Call<T> &call) {
#if defined(GPU_MATRIX)
        if constexpr (__is_same(T, bf16_t)) return Waves<Fresh>::serve(call);
#endif
        (void)call;
        return false;
    }

    // Keys of a span of a token that sees the keys up to `end`.
    __device__ static uint32_t span_of(const Call<T> &call, uint32_t end) {
        if (!waves_serve(call)) return SPAN;
        const uint32_t shift = CHUNK_SHIFT + most_spans_shift(call);
        return (((end - 1) >> shift) + 1) << CHUNK_SHIFT;
    }

    // The most spans that waves cut a sequence into, as a power of two: with the tiles of a token's heads they are enough blocks
    // for a card, and more would wait for those and leave more sums.
    __device__ static uint32_t most_spans_shift(const Call<T> &call) {
        const uint32_t tiles = call.kv_heads * ((call.group + ROWS - 1) / ROWS);
        uint32_t shift = MOST_SPANS_SHIFT;
        while (shift > LEAST_SPANS_SHIFT && tiles << shift > ENOUGH_BLOCKS) --shift;
        return shift;
    }

    // False where sums are not finite: then nothing is written.
    __device__ bool attend_by_waves(uint32_t first, uint32_t last, uint32_t span, uint32_t spans) {
#if defined(GPU_MATRIX)
        if constexpr (__is_same(T, bf16_t)) {
            if (fresh.in_memory(0, end) == 0) return false;
            Waves<Fresh> waves(call, shared, fresh, end);
            if (!waves.attend(first, last, rows)) return false;
            if (spans == 1) {
                waves.for_each_own([&](uint32_t row, uint32_t element, const auto &sums) {
                    if (row >= rows) return;
                    GPU_GLOBAL float *to = shared.results.out + shared.offset[row] + element;
                    for (float sum : sums) *to++ = sum / shared.waves.all_sum[row];
                });
                return true;
            }
            waves.for_each_own([&](uint32_t row, uint32_t element, const auto &sums) {
                if (row >= rows) return;
                GPU_GLOBAL float *to = sums_of(span, row) + element;
                __builtin_memcpy(__builtin_assume_aligned((float *)to, 16), sums, sizeof sums);
            });
            if (threadIdx.x < rows) {
                GPU_GLOBAL float *to = softmax_of(span, threadIdx.x);
                to[0] = shared.waves.all_max[threadIdx.x];
                to[1] = shared.waves.all_sum[threadIdx.x];
            }
            return true;
        }
#endif
        (void)first, (void)last, (void)span, (void)spans;
        return false;
    }

    // Puts spans of rows of 128 elements together, each thread two pieces of a row, from all spans' softmax at once.
    __device__ void combine_side_by_side(uint32_t spans) {
#if defined(GPU_MATRIX)
        const uint32_t row = threadIdx.x / LANES;
        const uint32_t own = threadIdx.x % LANES;
        const uint32_t read = at_most(row, rows - 1);
        float *factors = shared.span_factors[row];
        // All of a lane's spans are asked for at once.
        Softmax of_span[MOST_SPANS / LANES];
        float max = NO_SCORE;
        for (uint32_t i = 0; i < MOST_SPANS / LANES; ++i) {
            const uint32_t span = i * LANES + own;
            if (i * LANES >= spans) break;
            if (span < spans) of_span[i] = softmax_at(span, read);
            max = of_span[i].max > max ? of_span[i].max : max;
        }
        const auto keep_larger = [&](float other) { max = other > max ? other : max; };
        keep_larger(lane_xor<8>(max));
        keep_larger(lane_xor<4>(max));
        keep_larger(lane_xor<2>(max));
        keep_larger(lane_xor<1>(max));
        const float base = base_of(max);
        float weights = 0.0f;
        for (uint32_t i = 0; i < MOST_SPANS / LANES; ++i) {
            if (i * LANES >= spans) break;
            const float factor = exp_nonpositive(of_span[i].max - base);
            factors[i * LANES + own] = factor;
            weights = __builtin_fmaf(of_span[i].sum, factor, weights);
        }
        weights += lane_xor<8>(weights);
        weights += lane_xor<4>(weights);
        weights += lane_xor<2>(weights);
        weights += lane_xor<1>(weights);
        __syncthreads();
        if (row >= rows) return;
        float sums[PIECES][PIECE_OF_SUMS] = {};
        GPU_UNROLL(8)
        for (uint32_t span = 0; span < spans; ++span) {
            const GPU_GLOBAL float *from = sums_of(span, row) + own * PIECE_OF_SUMS;
            const float factor = factors[span];
            for (uint32_t piece = 0; piece < PIECES; ++piece) {
                float of_piece[PIECE_OF_SUMS];
                const words_t words = load_words((const float *)from + piece * PIECE_STEP);
                __builtin_memcpy(of_piece, &words, sizeof of_piece);
                for (uint32_t i = 0; i < PIECE_OF_SUMS; ++i) {
                    sums[piece][i] = __builtin_fmaf(of_piece[i], factor, sums[piece][i]);
                }
            }
        }
        for (uint32_t piece = 0; piece < PIECES; ++piece) {
            GPU_GLOBAL float *to = shared.results.out + shared.offset[row] + own * PIECE_OF_SUMS + piece * PIECE_STEP;
            for (uint32_t i = 0; i < PIECE_OF_SUMS; ++i) to[i] = sums[piece][i] / weights;
        }
#else
        (void)spans;
#endif
    }

    // Puts the spans together.
    __device__ void combine() const {
        GPU_UNROLL(1)
        for (uint32_t row = mean_row; row < at_most(mean_row + mean_rows, rows); ++row) {
            const uint32_t spans = (shared.visible[row] - 1) / SPAN + 1;
            GPU_UNROLL(1)
            for (uint32_t element = mean_element; element < call.cache.row_len; element += PAIR_STEP) {
                Softmax softmax = softmax_at(0, row);
                float sums[PAIR];
                for (uint32_t i = 0; i < PAIR; ++i) sums[i] = sums_of(0, row)[element + i];
                GPU_UNROLL(4)
                for (uint32_t span = 1; span < spans; ++span) {
                    const Factors factors = absorb(softmax, softmax_at(span, row));
                    for (uint32_t i = 0; i < PAIR; ++i) absorb(sums[i], factors, sums_of(span, row)[element + i]);
                }
                this->write_pair(row, element, sums, softmax.sum);
            }
        }
    }
};

}  // namespace attention
