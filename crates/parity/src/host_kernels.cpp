// The kernels' sources as host functions, by the symbols that the images have.
#include "rope.hip"
#include "position_embeddings.hip"
#include "append_kv.hip"

#include "attention.hip"
#include "attention_tiled.hip"
#include "decode_attention.hip"

#include "add.hip"
#include "add_rms_norm.hip"
#include "argmax.hip"
#include "embedding.hip"
#include "linear.hip"
#include "linear_blocks.hip"
#include "linear_tiled.hip"
#include "norm_linear.hip"
#include "rms_norm.hip"
#include "sample.hip"
#include "swiglu.hip"

namespace {

struct Entry {
    const char *symbol;
    gpu_host::Launcher launch;
};

#define ENTRY(KERNEL) {#KERNEL, gpu_host::launch<KERNEL>}
#define ENTRY_WITH_BARRIERS(KERNEL) {#KERNEL, gpu_host::launch_with_barriers<KERNEL>}
const Entry ENTRIES[] = {
    ENTRY(rope_f32),
    ENTRY(rope_f16),
    ENTRY(rope_bf16),
    ENTRY(position_embeddings_f32),
    ENTRY(position_embeddings_f16),
    ENTRY(position_embeddings_bf16),
    ENTRY(position_embeddings_f32_f16),
    ENTRY(position_embeddings_f32_bf16),
    ENTRY(append_kv_f32),
    ENTRY(append_kv_f16),
    ENTRY(append_kv_bf16),
    ENTRY_WITH_BARRIERS(attend_f32),
    ENTRY_WITH_BARRIERS(attend_f16),
    ENTRY_WITH_BARRIERS(attend_bf16),
    ENTRY_WITH_BARRIERS(attend_split_f32),
    ENTRY_WITH_BARRIERS(attend_split_f16),
    ENTRY_WITH_BARRIERS(attend_split_bf16),
    ENTRY_WITH_BARRIERS(attend_tiled_f16),
    ENTRY_WITH_BARRIERS(attend_tiled_bf16),
    ENTRY_WITH_BARRIERS(decode_attention_f32),
    ENTRY_WITH_BARRIERS(decode_attention_f16),
    ENTRY_WITH_BARRIERS(decode_attention_bf16),
    ENTRY(embed_f32),
    ENTRY(embed_f16),
    ENTRY(embed_bf16),
    ENTRY(embed_q8_0),
    ENTRY(embed_q4_0),
    ENTRY(embed_q5_0),
    ENTRY(embed_q5_1),
    ENTRY(embed_q4_k),
    ENTRY(embed_q5_k),
    ENTRY(embed_q6_k),
    ENTRY(add_f32),
    ENTRY(add_u32),
    ENTRY(swiglu_f32),
    ENTRY_WITH_BARRIERS(rms_norm_f32),
    ENTRY_WITH_BARRIERS(add_rms_norm_f32),
    ENTRY_WITH_BARRIERS(argmax_f32),
    ENTRY_WITH_BARRIERS(sample_f32),
    ENTRY_WITH_BARRIERS(linear_f32_any),
    ENTRY_WITH_BARRIERS(linear_f32_1),
    ENTRY_WITH_BARRIERS(linear_f32_4),
    ENTRY_WITH_BARRIERS(linear_f32_8),
    ENTRY_WITH_BARRIERS(linear_f16_any),
    ENTRY_WITH_BARRIERS(linear_f16_1),
    ENTRY_WITH_BARRIERS(linear_f16_4),
    ENTRY_WITH_BARRIERS(linear_f16_8),
    ENTRY_WITH_BARRIERS(linear_bf16_any),
    ENTRY_WITH_BARRIERS(linear_bf16_1),
    ENTRY_WITH_BARRIERS(linear_bf16_4),
    ENTRY_WITH_BARRIERS(linear_bf16_8),
    ENTRY_WITH_BARRIERS(linear_q8_0_1),
    ENTRY_WITH_BARRIERS(linear_q8_0_8),
    ENTRY_WITH_BARRIERS(linear_q4_0_1),
    ENTRY_WITH_BARRIERS(linear_q4_0_8),
    ENTRY_WITH_BARRIERS(linear_q5_0_1),
    ENTRY_WITH_BARRIERS(linear_q5_0_8),
    ENTRY_WITH_BARRIERS(linear_q5_1_1),
    ENTRY_WITH_BARRIERS(linear_q5_1_8),
    ENTRY_WITH_BARRIERS(linear_q4_k_1),
    ENTRY_WITH_BARRIERS(linear_q4_k_8),
    ENTRY_WITH_BARRIERS(linear_q5_k_1),
    ENTRY_WITH_BARRIERS(linear_q5_k_8),
    ENTRY_WITH_BARRIERS(linear_q6_k_1),
    ENTRY_WITH_BARRIERS(linear_q6_k_8),
    ENTRY_WITH_BARRIERS(linear_f32_tiled),
    ENTRY_WITH_BARRIERS(linear_f16_tiled),
    ENTRY_WITH_BARRIERS(linear_bf16_tiled),
    ENTRY_WITH_BARRIERS(norm_linear_f32_any),
    ENTRY_WITH_BARRIERS(norm_linear_f32),
    ENTRY_WITH_BARRIERS(norm_linear_f16_any),
    ENTRY_WITH_BARRIERS(norm_linear_f16),
    ENTRY_WITH_BARRIERS(norm_linear_bf16_any),
    ENTRY_WITH_BARRIERS(norm_linear_bf16),
    ENTRY_WITH_BARRIERS(norm_swiglu_f32_any),
    ENTRY_WITH_BARRIERS(norm_swiglu_f32),
    ENTRY_WITH_BARRIERS(norm_swiglu_f16_any),
    ENTRY_WITH_BARRIERS(norm_swiglu_f16),
    ENTRY_WITH_BARRIERS(norm_swiglu_bf16_any),
    ENTRY_WITH_BARRIERS(norm_swiglu_bf16),
    ENTRY_WITH_BARRIERS(norm_linear_q8_0),
    ENTRY_WITH_BARRIERS(norm_linear_q4_0),
    ENTRY_WITH_BARRIERS(norm_linear_q5_0),
    ENTRY_WITH_BARRIERS(norm_linear_q5_1),
    ENTRY_WITH_BARRIERS(norm_linear_q4_k),
    ENTRY_WITH_BARRIERS(norm_linear_q5_k),
    ENTRY_WITH_BARRIERS(norm_linear_q6_k),
};
#undef ENTRY
#undef ENTRY_WITH_BARRIERS

}  // namespace

// The launcher of a symbol, or null.
extern "C" gpu_host::Launcher gyre_host_kernel(const char *symbol) {
    for (const Entry &entry : ENTRIES) {
        if (strcmp(entry.symbol, symbol) == 0) return entry.launch;
    }
    return nullptr;
}
