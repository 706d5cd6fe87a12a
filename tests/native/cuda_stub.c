/* A libcuda.so.1 without a GPU: device memory is host memory, and the kernels are those below.
 *
 * A "cubin" is any bytes that begin with "stub"; a kernel is found by its name. What is launched is
 * written to standard error, and `stub_live` says what was not given back. STUB_CC is the compute
 * capability (86 by default), STUB_GPUS the number of GPUs, STUB_FAIL the function that fails.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int live, current_token;
static void *current;

int stub_live(void) { return live; }
void *stub_context(void) { return current; }

static int setting(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

static int failing(const char *function) {
    const char *text = getenv("STUB_FAIL");
    return text && !strcmp(text, function) ? 719 : 0;
}

int cuInit(unsigned flags) { return flags ? 1 : failing("cuInit"); }
int cuDeviceGetCount(int *count) { return *count = setting("STUB_GPUS", 1), 0; }
int cuDeviceGet(int *device, int index) { return *device = index, 0; }
int cuDeviceGetName(char *name, int size, int device) {
    snprintf(name, (size_t)size, "Stub GPU %d", device);
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int cc = setting("STUB_CC", 86);
    (void)device;
    *value = attribute == 75 ? cc / 10 : attribute == 76 ? cc % 10 : attribute == 97 ? 101376 : 0;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    (void)device;
    return ++live, *context = &current_token, 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, --live, 0; }
int cuCtxGetCurrent(void **context) { return *context = current, 0; }
int cuCtxSetCurrent(void *context) { return current = context, 0; }

int cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *options, void **values) {
    if (strncmp(image, "stub", 4)) {
        for (unsigned i = 0; i < count; i++)
            if (options[i] == 5) strcpy(values[i], "line 1: this is no stub");
        return 218;
    }
    fprintf(stderr, "load %s\n", (const char *)image);
    return ++live, *module = &live, 0;
}
int cuModuleUnload(void *module) { return (void)module, --live, 0; }

typedef void kernel(const unsigned *grid, const unsigned *block, void **args);
#define ARG(type, i) (*(type *)args[i])

static void saxpy(const unsigned *grid, const unsigned *block, void **args) {
    float a = ARG(float, 0), *x = ARG(float *, 1), *y = ARG(float *, 2);
    int64_t n = ARG(int64_t, 3);
    for (int64_t i = 0; i < (int64_t)grid[0] * block[0] && i < n; i++) y[i] += a * x[i];
}
static void scale(const unsigned *grid, const unsigned *block, void **args) {
    const float *from = ARG(const float *, 0), *by = ARG(const float *, 1);
    float *to = ARG(float *, 2);
    for (unsigned i = 0; i < grid[0] * block[0]; i++) to[i] = from[i] * by[0];
}

static const struct { const char *name; kernel *run; } kernels[] = {{"saxpy", saxpy}, {"scale", scale}};

int cuModuleGetFunction(void **function, void *module, const char *name) {
    (void)module;
    for (unsigned i = 0; i < 2; i++)
        if (!strcmp(name, kernels[i].name)) return *function = (void *)&kernels[i], 0;
    return 500;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    (void)function;
    fprintf(stderr, "attribute %d = %d\n", attribute, value);
    return 0;
}
int cuMemAlloc_v2(uint64_t *pointer, size_t size) {
    if (!current) return 201;
    if (size > ((size_t)1 << 32)) return 2;
    *pointer = (uint64_t)(uintptr_t)aligned_alloc(256, (size + 255) / 256 * 256);
    return ++live, 0;
}
int cuMemFree_v2(uint64_t pointer) { return free((void *)(uintptr_t)pointer), --live, current ? 0 : 201; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    return (void)stream, memcpy((void *)(uintptr_t)to, from, size), 0;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    return (void)stream, memcpy(to, (void *)(uintptr_t)from, size), 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) {
    return (void)stream, memcpy((void *)(uintptr_t)to, (void *)(uintptr_t)from, size), 0;
}
int cuStreamCreate(void **stream, unsigned flags) { return (void)flags, ++live, *stream = &live, 0; }
int cuStreamSynchronize(void *stream) { return (void)stream, failing("cuStreamSynchronize"); }
int cuStreamDestroy_v2(void *stream) { return (void)stream, --live, 0; }
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **args, void **extra) {
    const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    (void)stream, (void)extra;
    fprintf(stderr, "launch %s grid %u %u %u block %u shared %u\n", *(const char **)function, gx, gy, gz, bx, shared);
    if (failing("cuLaunchKernel")) return 719;
    (*(kernel **)((char *)function + sizeof(char *)))(grid, block, args);
    return 0;
}
struct config { unsigned grid[3], block[3], shared; void *stream; const unsigned *attributes; unsigned count; };
int cuLaunchKernelEx(const struct config *c, void *function, void **args, void **extra) {
    fprintf(stderr, "cluster %u: %u %u %u\n", c->attributes[0], c->attributes[2], c->attributes[3], c->attributes[4]);
    return cuLaunchKernel(function, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2],
                          c->shared, c->stream, args, extra);
}
int cuGetErrorName(int error, const char **name) { return (void)error, *name = "CUDA_ERROR_STUB", 0; }
int cuGetErrorString(int error, const char **text) { return (void)error, *text = "the stub says so", 0; }
