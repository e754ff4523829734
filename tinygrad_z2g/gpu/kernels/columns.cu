// What is done column by column: the gradients of biases and of layer norm's weight, and their use.

// out[c, j] = Σ a[i, j] b[i, j] over the rows i of chunk c, which holds `chunk` rows; without b (null): Σ a[i, j].
// What is summed is written to product (N, C) too, if there is one.
//
// A block has 32 x 8 threads: 32 neighbouring columns, of which thread y adds the rows y, y + 8, y + 16, ...; then the
// eight sums of a column are added. With one chunk, out is the result; with more, the kernel is run again on out.
extern "C" __global__ void column_sums(
    const real* a, const real* b, real* product, accurate* out, long long N, int C, int chunk
) {
    int j = blockIdx.x * 32 + threadIdx.x;
    long long first = (long long)blockIdx.y * chunk, last = first + chunk < N ? first + chunk : N;
    accurate sum = 0;
    if (j < C)
        for (long long i = first + threadIdx.y; i < last; i += 8) {
            accurate x = a[i * C + j];
            if (b) x *= (accurate)b[i * C + j];
            if (product) product[i * C + j] = x;
            sum += x;
        }
    __shared__ accurate sums[8][32];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || j >= C) return;
    for (int y = 1; y < 8; y++) sum += sums[y][threadIdx.x];
    out[(long long)blockIdx.y * C + j] = sum;
}

// z = a w + b, w and b the same for every row; without one of them (null) it is left out.   a, z (N, C), w, b (C,)
extern "C" __global__ void scale_shift(const real* a, const real* w, const real* b, real* z, int C, long long n) {
    FOR_EACH(i, n) {
        int j = i % C;
        accurate x = a[i];
        if (w) x *= (accurate)w[j];
        if (b) x += (accurate)b[j];
        z[i] = x;
    }
}
