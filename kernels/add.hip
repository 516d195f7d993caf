// x += y. The sums of f32 are rounded once, those of u32 wrap.
#include "include/quads.h"

extern "C" __global__ void __launch_bounds__(256) add_f32(float *x, const float *y, uint64_t len) {
    const uint64_t place = place_in_launch();
    const uint64_t step = threads_of_launch();
    const uint64_t in_quads = has_quads(x) && has_quads(y) ? len / QUAD * QUAD : 0;
    for (uint64_t i = place * QUAD; i < in_quads; i += step * QUAD) {
        float sums[QUAD], more[QUAD];
        load_quad(x + i, sums);
        load_quad(y + i, more);
        for (uint32_t at = 0; at < QUAD; ++at) sums[at] += more[at];
        store_quad(sums, x + i);
    }
    for (uint64_t i = in_quads + place; i < len; i += step) x[i] += y[i];
}

extern "C" __global__ void __launch_bounds__(256) add_u32(uint32_t *x, const uint32_t *y, uint64_t len) {
    const uint64_t step = threads_of_launch();
    for (uint64_t i = place_in_launch(); i < len; i += step) x[i] += y[i];
}
