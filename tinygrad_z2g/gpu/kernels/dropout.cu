// z = a mask and the mask, which backward needs: 0 with probability p, else `kept` = 1 / (1 - p). See common.cu.
// In a captured step `key_at` says where each replay finds its key.
extern "C" __global__ void dropout(
    const real* a, real* z, real* mask, unsigned int key, const unsigned int* key_at, unsigned int threshold,
    accurate kept, long long n) {
    if (key_at) key = *key_at;
    FOR_EACH(i, n) {
        accurate m = dropped_or_kept(i, key, threshold, kept);
        mask[i] = m;
        z[i] = a[i] * m;
    }
}
