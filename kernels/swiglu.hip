// out = silu(gate) * up for rows [gate; up] of gate_up [tokens, 2 * ff] (Shazeer). Blocks take tokens along y and columns
// along x in turn.
#include "include/quads.h"
#include "include/silu.h"

extern "C" __global__ void __launch_bounds__(256)
    swiglu_f32(const float *gate_up, float *out, uint64_t tokens, uint64_t ff) {
    const bool in_quads = ff % QUAD == 0 && has_quads(gate_up) && has_quads(out);
    const uint64_t step = threads_of_launch();
    for (uint64_t token = blockIdx.y; token < tokens; token += gridDim.y) {
        const float *gate = gate_up + token * 2 * ff;
        const float *up = gate + ff;
        float *out_row = out + token * ff;
        if (in_quads) {
            for (uint64_t column = place_in_launch() * QUAD; column < ff; column += step * QUAD) {
                float gates[QUAD], ups[QUAD];
                load_quad(gate + column, gates);
                load_quad(up + column, ups);
                for (uint32_t i = 0; i < QUAD; ++i) gates[i] = silu(gates[i]) * ups[i];
                store_quad(gates, out_row + column);
            }
        } else {
            for (uint64_t column = place_in_launch(); column < ff; column += step) {
                out_row[column] = silu(gate[column]) * up[column];
            }
        }
    }
}
