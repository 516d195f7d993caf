// y[i] += scale * x[i], in binary32 and in binary16.
#define GLOBAL extern "C" __attribute__((global, amdgpu_flat_work_group_size(1, 256)))

__attribute__((device)) static unsigned index_of_item() {
    return __builtin_amdgcn_workgroup_id_x() * 256 + __builtin_amdgcn_workitem_id_x();
}

GLOBAL void axpy_f32(float *y, const float *x, float scale, unsigned length) {
    unsigned i = index_of_item();
    if (i < length) y[i] = __builtin_fmaf(scale, x[i], y[i]);
}

GLOBAL void axpy_f16(_Float16 *y, const _Float16 *x, _Float16 scale, unsigned length) {
    for (unsigned i = index_of_item(); i < length; i += 65536) y[i] += scale * x[i];
}
