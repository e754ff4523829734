// The softmax inside attention, with everything that happens to the scores: one pass over (T, S) instead of five.

// p = softmax(scale s + bias) over the keys; s is overwritten by p.
//
// s (rows, S): the scores of all queries, rows = batch · heads · T. bias (bias_rows, S), or none (null): row i of s takes
// row i % bias_rows, so a bias (T, S) serves every head. Causal: query t sees the keys 0..t only.
extern "C" __global__ void attention_softmax(
    real* s, const real* bias, long long bias_rows, int causal, int T, int S, accurate scale, long long rows) {
    long long row = row_of_thread();
    if (row >= rows) return;
    s += row * S;
    if (bias) bias += row % bias_rows * S;
    int seen = causal ? min((int)(row % T) + 1, S) : S;
    accurate m = LOWEST;
    for (int j = threadIdx.x; j < seen; j += blockDim.x) {
        accurate x = scale * s[j] + (bias ? (accurate)bias[j] : 0);
        s[j] = x;
        m = max(m, x);
    }
    m = max_of_row(m);
    accurate total = 0;
    for (int j = threadIdx.x; j < seen; j += blockDim.x) {
        accurate e = exp(s[j] - m);
        s[j] = e;
        total += e;
    }
    total = sum_of_row(total);
    if (total == 0) total = 1;  // a query that may look nowhere attends to nothing
    for (int j = threadIdx.x; j < S; j += blockDim.x) s[j] = j < seen ? s[j] / total : (accurate)0;
}

// From ∂L/∂(p kept), which is in s, to ∂L/∂(q kᵀ), which overwrites it:
//
// s = scale p (g - Σ p g),  g = kept s, or s where nothing was dropped (kept is null).   p, kept, s (rows, S)
extern "C" __global__ void attention_softmax_backward(
    const real* p, const real* kept, real* s, int S, accurate scale, long long rows) {
    long long row = row_of_thread();
    if (row >= rows) return;
    p += row * S;
    s += row * S;
    if (kept) kept += row * S;
    accurate sum = 0;
    for (int j = threadIdx.x; j < S; j += blockDim.x) {
        if (kept) s[j] = s[j] * (accurate)kept[j];
        sum += p[j] * (accurate)s[j];
    }
    sum = sum_of_row(sum);
    for (int j = threadIdx.x; j < S; j += blockDim.x) s[j] = scale * (p[j] * (s[j] - sum));
}
