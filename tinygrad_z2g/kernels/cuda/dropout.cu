// z = a mask and the mask, which backward needs: 0 with probability p, else `kept` = 1 / (1 - p). See common.cu.
extern "C" __global__ void dropout(
    const real* a, real* z, real* mask, unsigned int key, unsigned int threshold, accurate kept, long long n) {
    FOR_EACH(i, n) {
        accurate m = dropped_or_kept(i, key, threshold, kept);
        mask[i] = m;
        z[i] = a[i] * m;
    }
}
