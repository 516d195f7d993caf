// A program of the usual kind, launched with <<<>>>: y = scale * x + y + offset, against what the host computes.
// It needs HIP's host header only; the few names that HIP's device headers would give stand here.
#include <hip/hip_runtime_api.h>

#include <cmath>
#include <cstdio>
#include <vector>

#define DEVICE __attribute__((device))
#define KERNEL __attribute__((global))

DEVICE float offset = 0.5f;

KERNEL void saxpy(float *y, const float *x, float scale, unsigned length) {
    unsigned i = __builtin_amdgcn_workgroup_id_x() * __builtin_amdgcn_workgroup_size_x() +
                 __builtin_amdgcn_workitem_id_x();
    if (i < length) y[i] = __builtin_fmaf(scale, x[i], y[i]) + offset;
}

#define EXPECT(condition)                                                     \
    do {                                                                      \
        if (!(condition)) {                                                   \
            std::printf("line %d: %s does not hold\n", __LINE__, #condition); \
            return 1;                                                         \
        }                                                                     \
    } while (0)
#define CALL(call) EXPECT((call) == hipSuccess)

int main() {
    const unsigned length = 1000;
    const size_t bytes = length * sizeof(float);

    hipDeviceProp_t properties;
    CALL(hipGetDeviceProperties(&properties, 0));
    EXPECT(properties.warpSize == 32 && properties.major == 11 && properties.maxThreadsPerBlock == 1024);
    EXPECT(hipGetDeviceProperties(&properties, 1) == hipErrorInvalidDevice);
    EXPECT(hipGetLastError() == hipErrorInvalidDevice && hipGetLastError() == hipSuccess);

    std::vector<float> x(length), y(length), result(length);
    for (unsigned i = 0; i < length; i++) x[i] = 0.37f * i - 5.0f, y[i] = 1.0f / (i + 1.0f);
    float *device_x = nullptr, *device_y = nullptr;
    CALL(hipMalloc(reinterpret_cast<void **>(&device_x), bytes));
    CALL(hipMalloc(reinterpret_cast<void **>(&device_y), bytes));
    CALL(hipMemcpy(device_x, x.data(), bytes, hipMemcpyHostToDevice));
    CALL(hipMemcpy(device_y, y.data(), bytes, hipMemcpyDefault));

    float shift = 0.0f;
    CALL(hipMemcpyFromSymbol(&shift, offset, sizeof shift, 0, hipMemcpyDeviceToHost));
    EXPECT(shift == 0.5f);
    shift = 0.25f;
    CALL(hipMemcpyToSymbol(offset, &shift, sizeof shift, 0, hipMemcpyHostToDevice));
    EXPECT(hipMemcpyToSymbol(offset, &shift, sizeof shift, 1, hipMemcpyHostToDevice) == hipErrorInvalidValue);
    EXPECT(hipMemcpyToSymbol(shift, &shift, sizeof shift, 0, hipMemcpyHostToDevice) == hipErrorInvalidSymbol);
    EXPECT(hipGetLastError() == hipErrorInvalidSymbol);

    hipStream_t stream;
    hipEvent_t before, after;
    CALL(hipStreamCreate(&stream));
    CALL(hipEventCreate(&before));
    CALL(hipEventCreate(&after));
    CALL(hipEventRecord(before, stream));
    saxpy<<<(length + 63) / 64, 64, 0, stream>>>(device_y, device_x, 0.75f, length);
    CALL(hipGetLastError());
    CALL(hipEventRecord(after, stream));
    CALL(hipStreamSynchronize(stream));
    float milliseconds = -1.0f;
    CALL(hipEventElapsedTime(&milliseconds, before, after));
    EXPECT(milliseconds > 0.0f);

    CALL(hipMemcpy(result.data(), device_y, bytes, hipMemcpyDeviceToHost));
    for (unsigned i = 0; i < length; i++) EXPECT(result[i] == std::fmaf(0.75f, x[i], y[i]) + shift);

    saxpy<<<1, 2048>>>(device_y, device_x, 0.75f, length);
    EXPECT(hipGetLastError() == hipErrorInvalidConfiguration);
    saxpy<<<(length + 63) / 64, 64>>>(device_y, device_x, 0.75f, length + 1);
    EXPECT(hipGetLastError() == hipErrorIllegalAddress);

    CALL(hipEventDestroy(before));
    CALL(hipStreamDestroy(stream));
    EXPECT(hipStreamSynchronize(stream) == hipErrorInvalidHandle);
    CALL(hipFree(device_x));
    EXPECT(hipFree(device_x) != hipSuccess);
    CALL(hipFree(device_y));
    std::puts("as on the host");
}
