// The same faults in CUDA C++.

extern "C" __global__ void turn(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y;
    y[i * n + j] = x[j * n + i];  // fault: uncoalesced-stores
}

extern "C" __global__ void turn_good(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y;
    y[j * n + i] = 2.0f * x[j * n + i];
}

extern "C" __global__ void aliased(float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int k = 0; k < 32; k++)
        y[k * n + i] = x[i] * float(k);  // fault: invariant-loads
}

extern "C" __global__ void aliased_good(const float *__restrict__ x, float *__restrict__ y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int k = 0; k < 32; k++)
        y[k * n + i] = x[i] * float(k);
}

extern "C" __global__ void powers(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = exp(x[i] * 0.5);  // fault: float64-function
}

extern "C" __global__ void powers_good(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = expf(x[i] * 0.5f);
}

extern "C" __global__ void literal(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = x[i] * 0.1;  // fault: float64
}

extern "C" __global__ void literal_good(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = x[i] * 0.1f;
}

extern "C" __global__ void pairs(const float *x, float *y, int n) {
    int i = 2 * (blockIdx.x * blockDim.x + threadIdx.x);
    float a = x[i], b = x[i + 1];  // fault: scalar-loads
    reinterpret_cast<float2 *>(y)[i / 2] = make_float2(b, a);
}

extern "C" __global__ void pairs_good(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float2 v = reinterpret_cast<const float2 *>(x)[i];
    reinterpret_cast<float2 *>(y)[i] = make_float2(v.y, v.x);
}

extern "C" __global__ void banks(const float *x, float *y, int n) {
    __shared__ float tile[32 * 32];
    int i = blockIdx.x * 1024 + threadIdx.x, t = threadIdx.x;
    for (int k = 0; k < 1024; k += 256)
        tile[t + k] = x[i + k];
    __syncthreads();
    for (int k = 0; k < 1024; k += 256)
        y[i + k] = tile[(t + k) % 32 * 32 + (t + k) / 32];  // fault: bank-conflict-loads
}

extern "C" __global__ void banks_good(const float *x, float *y, int n) {
    __shared__ float tile[32 * 33];
    int i = blockIdx.x * 1024 + threadIdx.x, t = threadIdx.x;
    for (int k = 0; k < 1024; k += 256)
        tile[(t + k) / 32 * 33 + (t + k) % 32] = x[i + k];
    __syncthreads();
    for (int k = 0; k < 1024; k += 256)
        y[i + k] = tile[(t + k) % 32 * 33 + (t + k) / 32];
}
