// Rows with mean 0 and variance 1: n = (a - mean) r,  r = 1 / √(var + eps).   a, n (N, C), r (N,)
extern "C" __global__ void layer_norm(const real* a, real* n, real* r, real eps, int N, int C) {
    long long row = row_of_thread();
    if (row >= N) return;
    a += row * C;
    n += row * C;
    real sum = 0;
    for (int j = threadIdx.x; j < C; j += blockDim.x) sum += a[j];
    real mean = sum_of_row(sum) / C;
    sum = 0;
    for (int j = threadIdx.x; j < C; j += blockDim.x) {
        n[j] = a[j] - mean;
        sum += n[j];
    }
    mean = sum_of_row(sum) / C;  // the first mean is rounded; of a constant row 1/√eps would make 0.5 of what is left
    real squares = 0;
    for (int j = threadIdx.x; j < C; j += blockDim.x) {
        n[j] -= mean;
        squares += n[j] * n[j];
    }
    real stretch = 1 / sqrt(sum_of_row(squares) / C + eps);
    for (int j = threadIdx.x; j < C; j += blockDim.x) n[j] *= stretch;
    if (threadIdx.x == 0) r[row] = stretch;
}

// out = r (g - mean(g) - n mean(g n)).   g, n, out (N, C), r (N,)
extern "C" __global__ void layer_norm_backward(
    const real* g, const real* n, const real* r, real* out, int N, int C) {
    long long row = row_of_thread();
    if (row >= N) return;
    g += row * C;
    n += row * C;
    out += row * C;
    real sum_g = 0, sum_gn = 0;
    for (int j = threadIdx.x; j < C; j += blockDim.x) {
        sum_g += g[j];
        sum_gn += g[j] * n[j];
    }
    real mean_g = sum_of_row(sum_g) / C, mean_gn = sum_of_row(sum_gn) / C;
    for (int j = threadIdx.x; j < C; j += blockDim.x) out[j] = r[row] * (g[j] - mean_g - n[j] * mean_gn);
}
