// The residual connection and the norm after it: x += branch, out = norm(x), for rows [rows, width]. With a branch_weight
// the branch is normed first: x += norm(branch). Bits are those of the parts; formula and order are in include/rms_norm.h.
// Blocks take rows in turn.
#include "include/rms_norm.h"

// The factor that norms a row.
__device__ static inline float scale_of(const float *row, uint64_t width, double inverse_width, float eps) {
    double squares = 0.0;
    for (uint64_t i = threadIdx.x; i < width; i += NORM_LANES) squares += (double)row[i] * (double)row[i];
    return norm_scale(sum_of_lanes(squares), inverse_width, eps);
}

extern "C" __global__ void __launch_bounds__(NORM_LANES)
    add_rms_norm_f32(float *x, const float *branch, const float *branch_weight, const float *weight, float *out,
                     uint64_t rows, uint64_t width, double inverse_width, float branch_eps, float eps) {
    __shared__ float kept[NORM_KEPT];
    for (uint64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        float *x_row = x + row * width;
        const float *branch_row = branch + row * width;
        float *out_row = out + row * width;
        float branch_scale = 1.0f;
        if (branch_weight) branch_scale = scale_of(branch_row, width, inverse_width, branch_eps);
        double squares = 0.0;
        for (uint64_t i = threadIdx.x; i < width; i += NORM_LANES) {
            const float added = branch_weight ? branch_row[i] * branch_scale * branch_weight[i] : branch_row[i];
            const float value = x_row[i] + added;
            x_row[i] = value;
            if (i < NORM_KEPT) kept[i] = value;
            squares += (double)value * (double)value;
        }
        const float scale = norm_scale(sum_of_lanes(squares), inverse_width, eps);
        for (uint64_t i = threadIdx.x; i < width; i += NORM_LANES) {
            const float value = i < NORM_KEPT ? kept[i] : x_row[i];
            out_row[i] = value * scale * weight[i];
        }
    }
}
