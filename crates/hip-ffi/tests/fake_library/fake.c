/* A HIP runtime of host memory. -DR0600 adds HIP 6's properties function, -DDEVICES=n sets the devices, and
   -DhipInit=absent takes a function away. The offsets are those of HIP's headers. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#ifndef DEVICES
#define DEVICES 1
#endif

enum { INVALID_VALUE = 1, NO_DEVICE = 100, NOT_READY = 600 };

static int pending;
static int stream;
static int queries;

int hipInit(unsigned flags) { return flags == 0 ? 0 : INVALID_VALUE; }
int hipRuntimeGetVersion(int *version) { *version = 50221153; return 0; }
int hipDriverGetVersion(int *version) { *version = 50221154; return 0; }
const char *hipGetErrorName(int code) {
    return code == NO_DEVICE ? "hipErrorNoDevice" : code == INVALID_VALUE ? "hipErrorInvalidValue" : NULL;
}
const char *hipGetErrorString(int code) { return code == NO_DEVICE ? "no device is detected" : NULL; }
int hipGetLastError(void) { int last = pending; pending = 0; return last; }
int hipGetDeviceCount(int *count) { *count = DEVICES; return DEVICES ? 0 : NO_DEVICE; }
int hipSetDevice(int ordinal) { return pending = ordinal < DEVICES ? 0 : INVALID_VALUE; }
int hipDeviceGetAttribute(int *value, int attribute, int ordinal) { *value = attribute * 10 + ordinal; return 0; }
int hipMemGetInfo(size_t *available, size_t *total) { *available = 3; *total = 4; return 0; }
int hipMalloc(void **pointer, size_t bytes) { *pointer = malloc(bytes); return 0; }
int hipFree(void *pointer) { free(pointer); return 0; }
int hipMemcpyAsync(void *target, const void *source, size_t bytes, int kind, void *on) {
    if (kind < 1 || kind > 3 || on != &stream) return INVALID_VALUE;
    memcpy(target, source, bytes);
    return 0;
}
int hipMemsetAsync(void *target, int value, size_t bytes, void *on) {
    memset(target, value, bytes);
    return on == &stream ? 0 : INVALID_VALUE;
}
int hipStreamCreateWithFlags(void **created, unsigned flags) { *created = &stream; return flags == 1 ? 0 : INVALID_VALUE; }
int hipStreamDestroy(void *on) { return on == &stream ? 0 : INVALID_VALUE; }
int hipStreamSynchronize(void *on) { return on == &stream ? 0 : INVALID_VALUE; }
int hipStreamQuery(void *on) { return on != &stream ? INVALID_VALUE : queries++ ? 0 : NOT_READY; }
int hipModuleLoadData(void **module, const void *image) { *module = (void *)image; return 0; }
int hipModuleUnload(void *module) { return module ? 0 : INVALID_VALUE; }
int hipModuleGetFunction(void **function, void *module, const char *name) {
    *function = module;
    return strcmp(name, "twice") == 0 ? 0 : 500;
}
int hipModuleLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared, void *on, void **parameters, void **extra) {
    if (grid_x != 1 || grid_y != 2 || grid_z != 3 || block_x != 4 || block_y != 5 || block_z != 6) return INVALID_VALUE;
    if (!function || shared != 0 || on != &stream || extra) return INVALID_VALUE;
    **(float **)parameters[0] = 2 * *(float *)parameters[1];
    return 0;
}

/* Graphs: the handles are the addresses of what they are made from. */
static int graph;
int hipStreamBeginCapture(void *on, int mode) { return on == &stream && mode == 1 ? 0 : INVALID_VALUE; }
int hipStreamEndCapture(void *on, void **recorded) { *recorded = &graph; return on == &stream ? 0 : INVALID_VALUE; }
int hipGraphInstantiate(void **ready, void *recorded, void **node, char *log, size_t room) {
    *ready = &graph + 1;
    return recorded == &graph && !node && !log && room == 0 ? 0 : INVALID_VALUE;
}
int hipGraphLaunch(void *ready, void *on) { return ready == &graph + 1 && on == &stream ? 0 : INVALID_VALUE; }
int hipGraphExecDestroy(void *ready) { return ready == &graph + 1 ? 0 : INVALID_VALUE; }
int hipGraphDestroy(void *recorded) { return recorded == &graph ? 0 : INVALID_VALUE; }

/* The old layout: 792 bytes, gcnArchName at 396. HIP 6 and 7 still export it. */
int hipGetDeviceProperties(char *properties, int ordinal) {
    memset(properties, 0x55, 792);
    strcpy(properties, "old card");
    strcpy(properties + 396, "gfx90a:sramecc+:xnack-");
    return ordinal < DEVICES ? 0 : INVALID_VALUE;
}

#ifdef R0600
/* 1472 bytes, gcnArchName at 1160. */
int hipGetDevicePropertiesR0600(char *properties, int ordinal) {
    memset(properties, 0x55, 1472);
    strcpy(properties, "new card");
    strcpy(properties + 1160, "gfx1100");
    return ordinal < DEVICES ? 0 : INVALID_VALUE;
}
#endif
