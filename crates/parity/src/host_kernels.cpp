// The kernels' sources as host functions, by the symbols that the images have.
#include "rope.hip"
#include "position_embeddings.hip"

namespace {

struct Entry {
    const char *symbol;
    gpu_host::Launcher launch;
};

#define ENTRY(KERNEL) {#KERNEL, gpu_host::launch<KERNEL>}
const Entry ENTRIES[] = {
    ENTRY(rope_f32),
    ENTRY(rope_f16),
    ENTRY(rope_bf16),
    ENTRY(position_embeddings_f32),
    ENTRY(position_embeddings_f16),
    ENTRY(position_embeddings_bf16),
};
#undef ENTRY

}  // namespace

// The launcher of a symbol, or null.
extern "C" gpu_host::Launcher gyre_host_kernel(const char *symbol) {
    for (const Entry &entry : ENTRIES) {
        if (strcmp(entry.symbol, symbol) == 0) return entry.launch;
    }
    return nullptr;
}
