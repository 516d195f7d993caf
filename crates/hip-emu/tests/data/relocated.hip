// Addresses in data, which a loader must relocate: of a variable by its symbol, and of a part of another.
#define DEVICE __attribute__((device))

extern "C" DEVICE __attribute__((used, visibility("default"))) int numbers[4] = {10, 20, 30, 40};
DEVICE static int hidden[4] = {1, 2, 3, 4};
extern "C" DEVICE __attribute__((used)) int *volatile parts[2] = {&numbers[1], &hidden[2]};

extern "C" __attribute__((global, amdgpu_flat_work_group_size(1, 64))) void through_parts(int *y) {
    y[0] = *parts[0] + 1000 * *parts[1];
}
