/* libnvidia-ml.so.1 of a machine that the environment describes; behind the real Python bindings.
 *
 * STUB_GPUS=n       how many (1)
 * STUB_INIT=code    nvmlInit fails so
 * STUB_LOST=i:n     GPU i is lost after n questions about its utilization
 * STUB_BACK=n       ... and back after n more
 * STUB_DENY=1       processes may not be listed
 * STUB_MIG=1        MIG is on, two instances each
 * STUB_THROTTLE=b   bits of the throttle reasons
 * STUB_ECC=n        uncorrected memory errors
 * STUB_LANES=n      PCIe lanes in use
 * STUB_SLOW_US=n    each question takes so long
 * OLD_DRIVER        (compiled in) no field values, no version 2 memory, no version 3 processes
 */
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15 };
typedef struct { int gpu, part; } device_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory2_t;
typedef struct { unsigned int gpu, memory; } rates_t;
typedef struct { unsigned int pid; unsigned long long memory; unsigned int gi, ci; } process_t;
typedef struct {
    unsigned int field, scope; long long when, latency; unsigned int type, status;
    union { double d; unsigned int u; unsigned long long ull; } value;
} field_t;
typedef struct {
    char legacy[16]; unsigned int domain, bus, device, id, subsystem; char bus_id[32];
} pci_t;

static device_t devices[64];
static int asked[64];
static int open_count;

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

static int lost(const device_t *d) {
    const char *text = getenv("STUB_LOST");
    int gpu, after;
    if (number("STUB_SLOW_US", 0)) usleep(number("STUB_SLOW_US", 0));
    if (!text || sscanf(text, "%d:%d", &gpu, &after) != 2 || gpu != d->gpu) return 0;
    if (asked[gpu] <= after) return 0;
    int back = number("STUB_BACK", -1);
    return back < 0 || asked[gpu] <= after + back;
}
#define ALIVE(d) do { if (lost((device_t *)(d))) return LOST; } while (0)
#define GPU(d) (((device_t *)(d))->gpu)

int nvmlInitWithFlags(unsigned int flags) { (void)flags; open_count++; return number("STUB_INIT", OK); }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { open_count--; return OK; }
int stub_open_count(void) { return open_count; }
const char *nvmlErrorString(int code) { (void)code; return "stub error"; }
int nvmlSystemGetDriverVersion(char *t, unsigned int n) { strncpy(t, "580.82.07", n); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }
int nvmlSystemGetProcessName(unsigned int pid, char *t, unsigned int n) {
    if (pid == 4243) return NOT_FOUND;
    strncpy(t, "/usr/bin/python3 --token=hunter2", n);
    return OK;
}
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = number("STUB_GPUS", 1); return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    devices[index] = (device_t){(int)index, -1};
    *handle = &devices[index];
    return OK;
}
int nvmlDeviceGetName(void *d, char *t, unsigned int n) {
    strncpy(t, ((device_t *)d)->part < 0 ? "NVIDIA H200" : "NVIDIA H200 MIG 3g.71gb", n);
    return OK;
}
int nvmlDeviceGetUUID(void *d, char *t, unsigned int n) { snprintf(t, n, "GPU-%04d", GPU(d)); return OK; }
int nvmlDeviceGetPciInfo_v3(void *d, pci_t *p) {
    memset(p, 0, sizeof *p);
    snprintf(p->bus_id, sizeof p->bus_id, "00000000:%02X:00.0", GPU(d) + 1);
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) {
    (void)d; *major = 9; *minor = 0; return OK;
}
int nvmlDeviceGetMaxClockInfo(void *d, int kind, unsigned int *mhz) {
    (void)d; (void)kind; *mhz = 1980; return OK;
}
int nvmlDeviceGetMaxPcieLinkGeneration(void *d, unsigned int *v) { (void)d; *v = 5; return OK; }
int nvmlDeviceGetMaxPcieLinkWidth(void *d, unsigned int *v) { (void)d; *v = 16; return OK; }

int nvmlDeviceGetUtilizationRates(void *d, rates_t *r) {
    int gpu = GPU(d);
    asked[gpu]++;
    ALIVE(d);
    if (number("STUB_MIG", 0)) return NOT_SUPPORTED;
    r->gpu = (unsigned)(asked[gpu] * 7 + gpu * 13) % 101;
    r->memory = r->gpu / 2;
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *d, memory_t *m) {
    ALIVE(d);
    int part = ((device_t *)d)->part >= 0;
    m->total = (part ? 70ull : 141ull) << 30;
    m->used = (part ? 1ull : 3ull) << 30;
    m->free = m->total - m->used;
    return OK;
}
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned int *c) {
    ALIVE(d); (void)sensor; *c = 40 + GPU(d); return OK;
}
int nvmlDeviceGetClockInfo(void *d, int kind, unsigned int *mhz) {
    ALIVE(d); *mhz = kind == 2 ? 3201 : 1755; return OK;
}
int nvmlDeviceGetPerformanceState(void *d, unsigned int *s) { ALIVE(d); *s = 0; return OK; }
int nvmlDeviceGetCurrPcieLinkGeneration(void *d, unsigned int *v) { ALIVE(d); *v = 5; return OK; }
int nvmlDeviceGetCurrPcieLinkWidth(void *d, unsigned int *v) {
    ALIVE(d); *v = (unsigned)number("STUB_LANES", 16); return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned int *mw) { ALIVE(d); *mw = 700000; return OK; }
int nvmlDeviceGetFanSpeed(void *d, unsigned int *percent) { (void)d; (void)percent; return NOT_SUPPORTED; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, unsigned long long *bits) {
    ALIVE(d); *bits = (unsigned long long)number("STUB_THROTTLE", 4); return OK;
}
int nvmlDeviceGetPowerUsage(void *d, unsigned int *mw) { ALIVE(d); *mw = 333000; return OK; }
int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *mj) { ALIVE(d); *mj = 777; return OK; }
int nvmlDeviceGetTotalEccErrors(void *d, int kind, int counter, unsigned long long *n) {
    ALIVE(d); (void)counter; *n = kind ? 0 : 5; return OK;
}
int nvmlDeviceGetPcieReplayCounter(void *d, unsigned int *n) { ALIVE(d); *n = 1; return OK; }

int nvmlDeviceGetMigMode(void *d, unsigned int *now, unsigned int *later) {
    (void)d; *now = *later = (unsigned)number("STUB_MIG", 0); return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned int *n) { ALIVE(d); *n = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned int index, void **part) {
    ALIVE(d);
    if (index > 1) return NOT_FOUND;
    device_t *place = &devices[32 + GPU(d) * 2 + (int)index];
    *place = (device_t){GPU(d), (int)index};
    *part = place;
    return OK;
}
int nvmlDeviceGetGpuInstanceId(void *d, unsigned int *id) {
    *id = (unsigned)((device_t *)d)->part + 1; return OK;
}

static int processes(void *d, unsigned int *count, process_t *out) {
    ALIVE(d);
    if (number("STUB_DENY", 0)) return NO_PERMISSION;
    int part = ((device_t *)d)->part;
    if (!out) { *count = 2; return TOO_SMALL; }
    unsigned int gi = part < 0 ? 0xFFFFFFFFu : (unsigned)part + 1;
    out[0] = (process_t){(unsigned)(4242 + (part > 0) * 100), 1ull << 30, gi, 0xFFFFFFFFu};
    out[1] = (process_t){(unsigned)(4243 + (part > 0) * 100), ~0ull, gi, 0xFFFFFFFFu};
    *count = 2;
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v2(void *d, unsigned int *n, process_t *p) { return processes(d, n, p); }
int nvmlDeviceGetGraphicsRunningProcesses_v2(void *d, unsigned int *n, process_t *p) {
    (void)d; (void)p; *n = 0; return OK;
}

#ifndef OLD_DRIVER
static unsigned long long bytes_moved(void) { /* 50 GB/s: around 32 bits in 86 ms, as on real links */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long long)now.tv_sec * 50000000000ull + (unsigned long long)now.tv_nsec * 50ull;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned int *n, process_t *p) { return processes(d, n, p); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, unsigned int *n, process_t *p) {
    (void)d; (void)p; *n = 0; return OK;
}
int nvmlDeviceGetMemoryInfo_v2(void *d, memory2_t *m) {
    ALIVE(d);
    m->total = 141ull << 30; m->used = 2ull << 30; m->reserved = 1ull << 30; m->free = 138ull << 30;
    return OK;
}
int nvmlDeviceGetFieldValues(void *d, int count, field_t *fields) {
    ALIVE(d);
    for (int i = 0; i < count; i++) {
        field_t *f = &fields[i];
        f->status = OK;
        f->type = 3;
        switch (f->field) {
        case 186: f->type = 1; f->value.u = 200000u + (unsigned)asked[GPU(d)] * 1000u; break;
        case 83: f->value.ull = 1000000ull + (unsigned)asked[GPU(d)] * 20000ull; break;
        case 197: f->type = 1; f->value.u = (unsigned int)(bytes_moved() / 4); break;
        case 198: f->type = 1; f->value.u = (unsigned int)bytes_moved(); break;
        case 138: case 139:
            if (f->scope != 0xFFFFFFFFu) f->status = INVALID;
            f->value.ull = (unsigned)asked[GPU(d)] * 1024ull;
            break;
        case 82: f->type = 1; f->value.u = 51; break;
        case 94: f->type = 1; f->value.u = 0; break;
        case 3: f->value.ull = 2; break;
        case 4: f->value.ull = (unsigned)number("STUB_ECC", 0); break;
        default: f->status = NOT_SUPPORTED;
        }
    }
    return OK;
}
#endif
