// A 32-bit hash in which each input bit flips each output bit with probability close to 1/2; see random.py.
__device__ unsigned int mix(unsigned int x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

// z = a mask and the mask, which backward needs: 0 with probability p, else `kept` = 1 / (1 - p). Element i is dropped
// where its 32 random bits, a pure function of (key, i), lie below threshold = p 2³². The same bits as on the CPU.
extern "C" __global__ void dropout(
    const real* a, real* z, real* mask, unsigned int key, unsigned int threshold, accurate kept, long long n) {
    FOR_EACH(i, n) {
        accurate m = mix(mix((unsigned int)i) ^ key) < threshold ? 0 : kept;
        mask[i] = m;
        z[i] = a[i] * m;
    }
}
