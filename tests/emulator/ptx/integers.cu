// Integer intrinsics: dot products of bytes, permutations, funnel shifts, fields, wide products.
extern "C" __global__ void integers(const unsigned *x, unsigned *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned a = x[i], b = x[(i + 1) % n], c = x[(i + 2) % n], *out = y + 16 * i;
    out[0] = __dp4a((int)a, (int)b, (int)c);
    out[1] = __dp4a(a, b, c);
    out[2] = __byte_perm(a, b, c & 0x7777);
    out[3] = __funnelshift_l(a, b, c);
    out[4] = __funnelshift_rc(a, b, c & 63);
    out[5] = __umulhi(a, b);
    out[6] = __mulhi((int)a, (int)b);
    out[7] = __popc(a) + 100 * __clz(b) + 10000 * __ffs(c);
    out[8] = __usad(a, b, c);
    out[9] = __umul24(a, b);
    out[10] = __vabsdiffu4(a, b);
    out[11] = __vadd2(a, b);
    unsigned long long wide = (unsigned long long)a * b + c;
    out[12] = (unsigned)(__umul64hi(wide, wide));
    out[13] = __uhadd(a, b);
    out[14] = __vcmpgtu4(a, b);
    out[15] = (unsigned)(wide % 1000003ull);
}
