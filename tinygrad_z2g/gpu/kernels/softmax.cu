// softmax, softmax_backward, log_softmax along the last axis: a, p (N, C).

// p = e^(a - m) / Σ e^(a - m), m = max a. A row that is -inf throughout gives zeros.
extern "C" __global__ void softmax(const real* a, real* p, int N, int C) {
    long long row = row_of_thread();
    if (row >= N) return;
    a += row * C;
    p += row * C;
    accurate m = LOWEST;
    for (int j = threadIdx.x; j < C; j += blockDim.x) m = max(m, (accurate)a[j]);
    m = max_of_row(m);
    accurate total = 0;
    for (int j = threadIdx.x; j < C; j += blockDim.x) {
        accurate e = exp(a[j] - m);
        p[j] = e;
        total += e;
    }
    total = sum_of_row(total);
    if (total == 0) total = 1;
    for (int j = threadIdx.x; j < C; j += blockDim.x) p[j] = p[j] / total;  // each thread reads what it wrote itself
}

// out = p (grad - Σ p grad)
extern "C" __global__ void softmax_backward(const real* p, const real* grad, real* out, int N, int C) {
    long long row = row_of_thread();
    if (row >= N) return;
    p += row * C;
    grad += row * C;
    out += row * C;
    accurate sum = 0;
    for (int j = threadIdx.x; j < C; j += blockDim.x) sum += (accurate)p[j] * (accurate)grad[j];
    sum = sum_of_row(sum);
    for (int j = threadIdx.x; j < C; j += blockDim.x) out[j] = p[j] * (grad[j] - sum);
}

// z = a - m - ln Σ e^(a - m). The largest e is 1: ln (1 + the rest) keeps the digits of a rest that is small.
extern "C" __global__ void log_softmax(const real* a, real* z, int N, int C) {
    long long row = row_of_thread();
    if (row >= N) return;
    a += row * C;
    z += row * C;
    accurate m = LOWEST;
    for (int j = threadIdx.x; j < C; j += blockDim.x) m = max(m, (accurate)a[j]);
    m = max_of_row(m);
    accurate rest = 0, ones = 0;
    for (int j = threadIdx.x; j < C; j += blockDim.x) {
        accurate e = exp(a[j] - m);
        if (e == 1) ones += 1;
        else rest += e;
    }
    rest = sum_of_row(rest);
    accurate log_sum = log1p(rest + (sum_of_row(ones) - 1));
    for (int j = threadIdx.x; j < C; j += blockDim.x) z[j] = a[j] - m - log_sum;
}
