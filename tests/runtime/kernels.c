/* Kernels with the C ABI of Program's CPU targets, for tests that need real native code. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define ARG(type, i) (*(type *)args[i])

/* y[i] = a * x[i] + y[i]; one work item per 256 elements. */
void saxpy(void *const *args, int64_t begin, int64_t end) {
    float a = ARG(float, 0);
    const float *x = ARG(const float *, 1);
    float *y = ARG(float *, 2);
    int64_t n = ARG(int64_t, 3);
    for (int64_t item = begin; item < end; item++)
        for (int64_t i = item * 256; i < n && i < item * 256 + 256; i++)
            y[i] = a * x[i] + y[i];
}

/* One row per work item: y = softmax(x). */
void softmax(void *const *args, int64_t begin, int64_t end) {
    const float *x = ARG(const float *, 0);
    float *y = ARG(float *, 1);
    int64_t columns = ARG(int64_t, 2);
    for (int64_t row = begin; row < end; row++) {
        const float *in = x + row * columns;
        float *out = y + row * columns, top = -INFINITY, sum = 0;
        for (int64_t i = 0; i < columns; i++) top = fmaxf(top, in[i]);
        for (int64_t i = 0; i < columns; i++) sum += out[i] = expf(in[i] - top);
        for (int64_t i = 0; i < columns; i++) out[i] /= sum;
    }
}

/* One row per work item: y = max(x + bias, 0). */
void bias_relu(void *const *args, int64_t begin, int64_t end) {
    const float *x = ARG(const float *, 0), *bias = ARG(const float *, 1);
    float *y = ARG(float *, 2);
    int32_t columns = ARG(int32_t, 3);
    for (int64_t row = begin; row < end; row++)
        for (int64_t i = 0; i < columns; i++) {
            float value = x[row * columns + i] + bias[i];
            y[row * columns + i] = value > 0 ? value : 0;
        }
}

/* One element per work item: bf16 to f32. */
void widen(void *const *args, int64_t begin, int64_t end) {
    const uint16_t *x = ARG(const uint16_t *, 0);
    uint32_t *y = ARG(uint32_t *, 1);
    for (int64_t i = begin; i < end; i++) y[i] = (uint32_t)x[i] << 16;
}

/* One element per work item: f32 to bf16, cut off. */
void narrow(void *const *args, int64_t begin, int64_t end) {
    const uint32_t *x = ARG(const uint32_t *, 0);
    uint16_t *y = ARG(uint16_t *, 1);
    for (int64_t i = begin; i < end; i++) y[i] = (uint16_t)(x[i] >> 16);
}
