// The index of the first maximum of each row of logits [rows, width]; NO_TOKEN for a row that holds NaN or +infinity, or
// nothing above -infinity. Zeros of either sign are equal. Blocks take rows in turn.
#include "include/logits.h"

extern "C" __global__ void __launch_bounds__(LOGIT_THREADS)
    argmax_f32(const float *logits, uint32_t *tokens, uint64_t rows, uint32_t width) {
    for (uint64_t row = blockIdx.x; row < rows; row += gridDim.x) {
        const uint32_t token = first_maximum(logits + row * width, width);
        if (threadIdx.x == 0) tokens[row] = token;
    }
}
