// The residual connection and the norm after it: x += branch, out = norm(x), for rows [rows, width]. With a branch_weight
// the branch is normed first: x += norm(branch). Bits are those of the parts; formula and order are in include/rms_norm.h.
// Blocks take rows in turn.
#include "include/rms_norm.h"

// Rows that a block adds and norms.
struct AddedRow {
    float *x;
    const float *branch;
    const float *branch_weight;
    const float *weight;
    float *out;
    uint64_t width;
    double inverse_width;
    float branch_eps;
    float eps;
};

template <uint32_t TURNS>
__device__ static inline void add_and_norm(const AddedRow &row) {
    Held<TURNS> values, added, weights;
    added.load(row.branch);
    values.load(row.x);
    float branch_scale = 1.0f;
    if (row.branch_weight) {
        weights.load(row.branch_weight);
        double squares = 0.0;
        for_each_held<TURNS>([&](uint32_t turn, uint32_t) { squares = add_square(squares, added[turn]); });
        for_each_other<TURNS>(row.width, [&](uint64_t i) { squares = add_square(squares, row.branch[i]); });
        branch_scale = norm_scale(sum_of_lanes(squares), row.inverse_width, row.branch_eps);
        for_each_held<TURNS>(
            [&](uint32_t turn, uint32_t) { added[turn] = added[turn] * branch_scale * weights[turn]; });
    }
    weights.load(row.weight);
    double squares = 0.0;
    for_each_held<TURNS>([&](uint32_t turn, uint32_t base) {
        values[turn] += added[turn];
        (row.x + base)[threadIdx.x] = values[turn];
        squares = add_square(squares, values[turn]);
    });
    for_each_other<TURNS>(row.width, [&](uint64_t i) {
        const float more = row.branch_weight ? row.branch[i] * branch_scale * row.branch_weight[i] : row.branch[i];
        const float value = row.x[i] + more;
        row.x[i] = value;
        squares = add_square(squares, value);
    });
    const float scale = norm_scale(sum_of_lanes(squares), row.inverse_width, row.eps);
    for_each_held<TURNS>(
        [&](uint32_t turn, uint32_t base) { (row.out + base)[threadIdx.x] = values[turn] * scale * weights[turn]; });
    for_each_other<TURNS>(row.width, [&](uint64_t i) { row.out[i] = row.x[i] * scale * row.weight[i]; });
}

extern "C" __global__ void __launch_bounds__(NORM_LANES, 3)
    add_rms_norm_f32(float *x, const float *branch, const float *branch_weight, const float *weight, float *out,
                     uint64_t rows, uint64_t width, double inverse_width, float branch_eps, float eps) {
    for (uint64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const AddedRow added = {x + row * width, branch + row * width, branch_weight, weight, out + row * width, width,
                                inverse_width,   branch_eps,           eps};
        if (width < NORM_HELD) {
            add_and_norm<0>(added);
        } else {
            add_and_norm<NORM_TURNS>(added);
        }
    }
}
