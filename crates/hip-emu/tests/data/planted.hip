// Kernels with a mistake each, and the same without it. One work-group has 256 items, eight waves.
#define DEVICE __attribute__((device))
#define SHARED __attribute__((shared))
#define GLOBAL extern "C" __attribute__((global, amdgpu_flat_work_group_size(1, 256)))

constexpr unsigned ITEMS = 256;

DEVICE static unsigned item() {
    return __builtin_amdgcn_workitem_id_x();
}

DEVICE static unsigned group() {
    return __builtin_amdgcn_workgroup_id_x();
}

DEVICE static void meet() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

// Orders memory for the compiler, but no wave waits for another.
DEVICE static void pass() {
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "workgroup");
}

// y = x in reverse, through LDS.
template <bool CLEAN>
DEVICE static void reverse_in_lds(float *y, const float *x) {
    static SHARED float tile[ITEMS];
    tile[item()] = x[item()];
    CLEAN ? meet() : pass();
    y[item()] = tile[ITEMS - 1 - item()];
}

GLOBAL void reverse_in_lds(float *y, const float *x) { reverse_in_lds<true>(y, x); }
GLOBAL void reverse_in_lds_races(float *y, const float *x) { reverse_in_lds<false>(y, x); }

// The same through memory.
template <bool CLEAN>
DEVICE static void reverse_in_memory(float *y, const float *x, float *between) {
    between[item()] = x[item()];
    CLEAN ? meet() : pass();
    y[item()] = between[ITEMS - 1 - item()];
}

GLOBAL void reverse_in_memory(float *y, const float *x, float *between) { reverse_in_memory<true>(y, x, between); }
GLOBAL void reverse_in_memory_races(float *y, const float *x, float *between) {
    reverse_in_memory<false>(y, x, between);
}

// y[0] is the sum of what each group wrote; the last group adds, or else the first one without asking who is done.
template <bool CLEAN>
DEVICE static void sum_of_groups(float *y, float *parts, unsigned *done, unsigned groups) {
    if (item() != 0) return;
    parts[group()] = 1.0f + group();
    bool adds = group() == 0;
    if (CLEAN) {
        __builtin_amdgcn_fence(__ATOMIC_RELEASE, "agent");
        adds = __hip_atomic_fetch_add(done, 1, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT) == groups - 1;
        __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "agent");
    }
    if (!adds) return;
    float sum = 0;
    for (unsigned i = 0; i < groups; ++i) sum += parts[i];
    y[0] = sum;
}

GLOBAL void sum_of_groups(float *y, float *parts, unsigned *done, unsigned groups) {
    sum_of_groups<true>(y, parts, done, groups);
}
GLOBAL void sum_of_groups_races(float *y, float *parts, unsigned *done, unsigned groups) {
    sum_of_groups<false>(y, parts, done, groups);
}

// Each group fills its part of y, and one element more.
template <bool CLEAN>
DEVICE static void fill_parts(float *y) {
    unsigned start = group() * ITEMS;
    y[start + item()] = 2.0f;
    if (!CLEAN && item() == 0) y[start + ITEMS] = 2.0f;
}

GLOBAL void fill_parts(float *y) { fill_parts<true>(y); }
GLOBAL void fill_parts_races(float *y) { fill_parts<false>(y); }

// Half of the items leave LDS as it was.
template <bool CLEAN>
DEVICE static void half_of_lds(float *y, const float *x) {
    static SHARED float tile[ITEMS];
    if (CLEAN || item() < ITEMS / 2) tile[item()] = x[item()];
    meet();
    y[item()] = tile[ITEMS - 1 - item()];
}

GLOBAL void half_of_lds(float *y, const float *x) { half_of_lds<true>(y, x); }
GLOBAL void half_of_lds_unwritten(float *y, const float *x) { half_of_lds<false>(y, x); }

// The second half of an item's own memory stays as it was.
template <bool CLEAN>
DEVICE static void half_of_scratch(float *y, const unsigned *index) {
    volatile float own[8];
    for (unsigned i = 0; i < (CLEAN ? 8 : 4); ++i) own[i] = i;
    y[item()] = own[index[item()] % 8];
}

GLOBAL void half_of_scratch(float *y, const unsigned *index) { half_of_scratch<true>(y, index); }
GLOBAL void half_of_scratch_unwritten(float *y, const unsigned *index) { half_of_scratch<false>(y, index); }

// What the host leaves unwritten decides an address, a branch, or a value.
GLOBAL void gather(float *y, const float *x, const unsigned *index) { y[item()] = x[index[item()] % ITEMS]; }
GLOBAL void choose(float *y, const float *x) {
    if (__builtin_amdgcn_readfirstlane((int)(x[0] > 0.5f))) {
        y[item()] = 1.0f;
        pass();
        y[item() + ITEMS] = 1.0f;
    } else {
        y[item()] = 0.0f;
    }
}
GLOBAL void choose_lanes(float *y, const float *x) {
    if (x[item()] > 0.5f) y[item()] = 1.0f;
}
GLOBAL void twice(float *y, const float *x) { y[item()] = 2.0f * x[item()]; }

// Half of what a load brings is never written, and not used.
GLOBAL void low_halves(unsigned *y, const unsigned *x) { y[item()] = (x[item()] & 0xffff) + 1; }

// A wave ends before the barrier that the others wait at.
template <bool CLEAN>
DEVICE static void early_end(float *y) {
    if (!CLEAN && item() >= ITEMS - __builtin_amdgcn_wavefrontsize()) return;
    __builtin_amdgcn_s_barrier();
    y[item()] = 3.0f;
}

GLOBAL void early_end(float *y) { early_end<true>(y); }
GLOBAL void early_end_diverges(float *y) { early_end<false>(y); }

// Sums through LDS with a barrier at each step, and a prefetch that is waited for late.
GLOBAL void row_sums(float *y, const float *x, unsigned rows) {
    static SHARED float sums[ITEMS];
    float next = x[item()];
    for (unsigned row = 0; row < rows; ++row) {
        sums[item()] = next;
        next = row + 1 < rows ? x[(row + 1) * ITEMS + item()] : 0.0f;
        for (unsigned distance = ITEMS / 2; distance >= 32; distance /= 2) {
            meet();
            if (item() < distance) sums[item()] += sums[item() + distance];
        }
        meet();
        if (item() == ITEMS - 1) {
            float sum = 0;
            for (unsigned i = 0; i < 32; ++i) sum += sums[i];
            y[row] = sum;
        }
        meet();
    }
}
