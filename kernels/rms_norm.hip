// Norms each row of x [rows, width]; the formula and its order are in include/rms_norm.h. Blocks take rows in turn. out may
// be x: a thread reads no element that another one writes.
#include "include/rms_norm.h"

extern "C" __global__ void __launch_bounds__(NORM_LANES)
    rms_norm_f32(const float *x, const float *weight, float *out, uint64_t rows, uint64_t width, double inverse_width,
                 float eps) {
    __shared__ float kept[NORM_KEPT];
    for (uint64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const float *x_row = x + row * width;
        float *out_row = out + row * width;
        double squares = 0.0;
        for (uint64_t i = threadIdx.x; i < width; i += NORM_LANES) {
            const float value = x_row[i];
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
