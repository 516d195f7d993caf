// y[i] = 3 * x[i] + 1, with the multiplication and the store in inlined functions.
#define INLINE __attribute__((device, always_inline)) static inline

INLINE float triple(float value) {
    return 3.0f * value;
}

INLINE void put(float *place, float value) {
    *place = value + 1.0f;
}

extern "C" __attribute__((global, amdgpu_flat_work_group_size(1, 256)))
void lines(float *y, const float *x) {
    unsigned i = __builtin_amdgcn_workitem_id_x();
    float value = x[i];
    put(y + i, triple(value));
}
