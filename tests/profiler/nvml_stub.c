/* libnvidia-ml.so.1 of a machine with two GPUs: just enough for the real Python bindings. */
#include <string.h>

typedef struct { unsigned long long total, free, used; } memory_t;
static int devices[2] = {0, 1};

int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned int flags) { (void)flags; return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { (void)code; return "stub error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned int size) { strncpy(text, "580.82.07", size); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) { *handle = &devices[index]; return 0; }
int nvmlDeviceGetName(void *handle, char *name, unsigned int size) {
    strncpy(name, *(int *)handle ? "NVIDIA Old GPU" : "NVIDIA H200", size);
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    *major = *(int *)handle ? 6 : 9;
    *minor = *(int *)handle ? 1 : 0;
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    if (*(int *)handle) return 3; /* not supported */
    memory->total = 141ull << 30;
    memory->free = 140ull << 30;
    memory->used = 1ull << 30;
    return 0;
}
