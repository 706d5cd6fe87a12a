/* Runs the kernels of a case file on the first GPU and writes their outputs: see record.py for the format.
   Build: cc launch_cases.c -I$CUDA_HOME/include -lcuda -o launch_cases */
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(call) do { CUresult code = (call); \
    if (code) { fprintf(stderr, "%s: error %d\n", #call, code); return 1; } } while (0)

int main(int count, char **names) {
    FILE *in = fopen(names[1], "rb"), *out = count > 2 ? fopen(names[2], "wb") : NULL;
    unsigned cases, threads;
    if (!in || !out || !fread(&cases, 4, 1, in) || !fread(&threads, 4, 1, in)) return 1;
    size_t bytes = threads * 32u;
    char *words = malloc(bytes);
    if (fread(words, 1, bytes, in) != bytes) return 1;
    CUdevice device;
    CUcontext context;
    CUdeviceptr inputs, outputs;
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuMemAlloc(&inputs, bytes));
    CHECK(cuMemAlloc(&outputs, bytes));
    char *found = malloc(bytes);
    for (unsigned i = 0; i < cases; i++) {
        unsigned size;
        if (!fread(&size, 4, 1, in)) return 1;
        char *image = malloc(size);
        if (fread(image, 1, size, in) != size) return 1;
        CUmodule module;
        CUfunction kernel;
        CHECK(cuModuleLoadData(&module, image));
        CHECK(cuModuleGetFunction(&kernel, module, "k"));
        CHECK(cuMemcpyHtoD(inputs, words, bytes));
        void *arguments[] = {&inputs, &outputs};
        CHECK(cuLaunchKernel(kernel, 1, 1, 1, threads, 1, 1, 0, 0, arguments, 0));
        CHECK(cuCtxSynchronize());
        CHECK(cuMemcpyDtoH(found, outputs, bytes));
        fwrite(found, 1, bytes, out);
        CHECK(cuModuleUnload(module));
        free(image);
    }
    return fclose(out);
}
