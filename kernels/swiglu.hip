// out = silu(gate) * up for rows [gate; up] of gate_up [tokens, 2 * ff] (Shazeer). Blocks take tokens along y and columns
// along x in turn.
#include "include/silu.h"

extern "C" __global__ void __launch_bounds__(256)
    swiglu_f32(const float *gate_up, float *out, uint64_t tokens, uint64_t ff) {
    const uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t token = blockIdx.y; token < tokens; token += gridDim.y) {
        const float *gate = gate_up + token * 2 * ff;
        const float *up = gate + ff;
        float *out_row = out + token * ff;
        for (uint64_t column = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; column < ff; column += step) {
            out_row[column] = silu(gate[column]) * up[column];
        }
    }
}
