// Norms each row of x [rows, width]; the formula and its order are in include/rms_norm.h. Blocks take rows in turn. out may
// be x: a thread reads no element that another one writes.
#include "include/rms_norm.h"

template <uint32_t TURNS>
__device__ static inline void norm_row(const float *x, const float *weight, float *out, uint64_t width,
                                       double inverse_width, float eps) {
    Held<TURNS> values, weights;
    values.load(x);
    // They come while the sum is added up.
    weights.load(weight);
    double squares = 0.0;
    for_each_held<TURNS>([&](uint32_t turn, uint32_t) { squares = add_square(squares, values[turn]); });
    for_each_other<TURNS>(width, [&](uint64_t i) { squares = add_square(squares, x[i]); });
    const float scale = norm_scale(sum_of_lanes(squares), inverse_width, eps);
    for_each_held<TURNS>(
        [&](uint32_t turn, uint32_t base) { (out + base)[threadIdx.x] = values[turn] * scale * weights[turn]; });
    for_each_other<TURNS>(width, [&](uint64_t i) { out[i] = x[i] * scale * weight[i]; });
}

extern "C" __global__ void __launch_bounds__(NORM_LANES, 4)
    rms_norm_f32(const float *x, const float *weight, float *out, uint64_t rows, uint64_t width, double inverse_width,
                 float eps) {
    for (uint64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *x_row = x + row * width;
        float *out_row = out + row * width;
        if (width < NORM_HELD) {
            norm_row<0>(x_row, weight, out_row, width, inverse_width, eps);
        } else {
            norm_row<NORM_TURNS>(x_row, weight, out_row, width, inverse_width, eps);
        }
    }
}
