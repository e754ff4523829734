// Per row, losses = -weight ln p[target], p = softmax(logits), and its gradient g = weight (p - onehot(target)).
//
// logits, g (N, C); target, weight, losses (N,). A target out of range has the loss NaN and the gradient NaN: nobody
// looks at the targets before (that would stop the GPU), and nothing outside the row may be read.
extern "C" __global__ void cross_entropy(
    const real* logits, const long long* target, const real* weight, real* losses, real* g, int N, int C) {
    long long row = row_of_thread();
    if (row >= N) return;
    logits += row * C;
    g += row * C;
    real m = LOWEST;
    for (int j = threadIdx.x; j < C; j += blockDim.x) m = max(m, logits[j]);
    m = max_of_row(m);
    long long t = target[row];
    bool valid = 0 <= t && t < C;
    real others = 0;  // the sum of all exponentials but the target's: 1 - p[target], which is small, is others / total
    for (int j = threadIdx.x; j < C; j += blockDim.x) {
        g[j] = exp(logits[j] - m);
        if (j != t) others += g[j];
    }
    others = sum_of_row(others);
    real w = valid ? weight[row] : (real)nan("");
    real e = valid ? exp(logits[t] - m) : (real)nan(""), total = e + others;
    for (int j = threadIdx.x; j < C; j += blockDim.x) g[j] = (j == t ? -others : g[j]) / total * w;
    if (threadIdx.x == 0) {
        real logp = !valid ? (real)nan("") : others < e ? -log1p(others / e) : logits[t] - m - log(total);
        losses[row] = w == 0 ? 0 : -logp * w;  // a row of weight 0 may hold inf, and 0 · inf is NaN
    }
}
