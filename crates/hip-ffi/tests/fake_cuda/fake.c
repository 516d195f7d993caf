/* A CUDA driver of host memory, with two devices. -DcuInit=absent takes a function away. Handles are addresses of what is
   here, so that one given in another's place is noticed. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, UNSUPPORTED_PTX = 222, NOT_FOUND = 500, NOT_READY = 600 };
enum { DEVICES = 2 };

static int contexts[DEVICES];
static _Thread_local int *current;
static int stream, module, function, graph, ready;
static int queries;

int cuInit(unsigned flags) { return flags == 0 ? 0 : INVALID_VALUE; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuGetErrorString(int code, const char **text) {
    *text = code == UNSUPPORTED_PTX ? "the provided PTX was compiled with an unsupported toolchain." :
            code == INVALID_DEVICE ? "invalid device ordinal" : code == INVALID_VALUE ? "invalid argument" : NULL;
    return *text ? 0 : INVALID_VALUE;
}
int cuDeviceGetCount(int *count) { *count = DEVICES; return 0; }
/* Devices are not numbered as they are asked for. */
int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal + 40;
    return ordinal >= 0 && ordinal < DEVICES ? 0 : INVALID_DEVICE;
}
int cuDeviceGetName(char *name, int room, int device) { snprintf(name, room, "card %d", device); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute * 100 + device;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    contexts[device - 40] += 1;
    *context = &contexts[device - 40];
    return 0;
}
int cuCtxSetCurrent(void *context) { current = context; return 0; }
/* How often the context of this thread was retained, and which it is. */
int cuMemGetInfo_v2(size_t *available, size_t *total) {
    if (!current) return INVALID_CONTEXT;
    *available = *current;
    *total = current - contexts;
    return 0;
}
int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    if (!current) return INVALID_CONTEXT;
    *address = (uint64_t)malloc(bytes);
    return 0;
}
int cuMemFree_v2(uint64_t address) { free((void *)address); return 0; }
/* What of the copies has a direction leaves it behind the bytes. */
static int copied(char *to, const char *from, size_t bytes, void *on, char direction) {
    if (on != &stream || bytes < 2) return INVALID_VALUE;
    memcpy(to, from, bytes - 1);
    to[bytes - 1] = direction;
    return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *on) { return copied((char *)to, from, bytes, on, 'u'); }
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *on) { return copied(to, (char *)from, bytes, on, 'd'); }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *on) { return copied((char *)to, (char *)from, bytes, on, 'o'); }
int cuMemcpyAsync(uint64_t to, uint64_t from, size_t bytes, void *on) { return copied((char *)to, (char *)from, bytes, on, 'a'); }
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *on) {
    memset((void *)to, value, bytes);
    return on == &stream ? 0 : INVALID_VALUE;
}
int cuStreamCreate(void **created, unsigned flags) { *created = &stream; return flags == 1 ? 0 : INVALID_VALUE; }
int cuStreamDestroy_v2(void *on) { return on == &stream ? 0 : INVALID_VALUE; }
int cuStreamSynchronize(void *on) { return on == &stream ? 0 : INVALID_VALUE; }
int cuStreamQuery(void *on) { return on != &stream ? INVALID_VALUE : queries++ ? 0 : NOT_READY; }
int cuModuleLoadData(void **loaded, const void *image) {
    *loaded = &module;
    return strcmp(image, ".version 7.0") == 0 ? 0 : UNSUPPORTED_PTX;
}
int cuModuleUnload(void *loaded) { return loaded == &module ? 0 : INVALID_VALUE; }
int cuModuleGetFunction(void **found, void *loaded, const char *name) {
    *found = &function;
    return loaded != &module ? INVALID_VALUE : strcmp(name, "twice") == 0 ? 0 : NOT_FOUND;
}
/* twice(float *target, float value) */
int cuLaunchKernel(void *launched, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared, void *on, void **parameters, void **extra) {
    if (grid_x != 1 || grid_y != 2 || grid_z != 3 || block_x != 4 || block_y != 5 || block_z != 6) return INVALID_VALUE;
    if (launched != &function || shared != 7 || on != &stream) return INVALID_VALUE;
    struct { float *target; float value; } arguments;
    if (extra) {
        if (parameters || extra[0] != (void *)1 || extra[2] != (void *)2 || extra[4] != (void *)0) return INVALID_VALUE;
        if (*(size_t *)extra[3] != 12) return INVALID_VALUE;
        memcpy(&arguments, extra[1], 12);
    } else {
        arguments.target = *(float **)parameters[0];
        arguments.value = *(float *)parameters[1];
    }
    *arguments.target = 2 * arguments.value;
    return 0;
}
int cuStreamBeginCapture_v2(void *on, int mode) { return on == &stream && mode == 1 ? 0 : INVALID_VALUE; }
int cuStreamEndCapture(void *on, void **recorded) { *recorded = &graph; return on == &stream ? 0 : INVALID_VALUE; }
int cuGraphInstantiateWithFlags(void **made, void *recorded, unsigned long long flags) {
    *made = &ready;
    return recorded == &graph && flags == 0 ? 0 : INVALID_VALUE;
}
int cuGraphLaunch(void *launched, void *on) { return launched == &ready && on == &stream ? 0 : INVALID_VALUE; }
int cuGraphExecDestroy(void *ended) { return ended == &ready ? 0 : INVALID_VALUE; }
int cuGraphDestroy(void *ended) { return ended == &graph ? 0 : INVALID_VALUE; }
