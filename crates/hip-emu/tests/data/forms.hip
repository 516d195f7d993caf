// Forms of instructions that ordinary kernels rarely have.
#define GLOBAL extern "C" __attribute__((global, amdgpu_flat_work_group_size(1, 128)))

// The second half of the waves ends before the barrier that the first one waits at.
GLOBAL void early_end(int *y) {
    if (__builtin_amdgcn_workitem_id_x() >= 64) return;
    __builtin_amdgcn_s_barrier();
    y[__builtin_amdgcn_workitem_id_x()] = 1;
}

// Words through a descriptor of `records` bytes, read and written beyond its range too.
GLOBAL void through_descriptor(int *y, int *x, int records) {
    int item = __builtin_amdgcn_workitem_id_x();
    auto source = __builtin_amdgcn_make_buffer_rsrc(x, 0, records, 0x31004000);
    auto target = __builtin_amdgcn_make_buffer_rsrc(y, 0, records, 0x31004000);
    int word = __builtin_amdgcn_raw_buffer_load_b32(source, item * 4, 0, 0);
    int byte = __builtin_amdgcn_raw_buffer_load_b8(source, item, 0, 0) & 255;
    __builtin_amdgcn_raw_buffer_store_b32(word + 1000 * byte + 1000000, target, item * 4, 0, 0);
}
