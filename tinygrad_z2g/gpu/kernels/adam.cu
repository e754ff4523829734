// Adam's step for many parameters in one launch. A model has dozens of parameters, most of them small, and launching a
// kernel takes 5 to 10 µs whatever it does; so one launch takes a table of them. The table is handed over by value, as
// an argument of the kernel: to upload it would make the host wait.
#define PARAMETERS 64

struct Parameters {
    long long size[PARAMETERS];  // numbers of elements
    real* w[PARAMETERS];
    const real* g[PARAMETERS];
    real* m[PARAMETERS];
    real* v[PARAMETERS];
};

// m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= step_size · m / (√v · root + ε) + shrink · w
//
// step_size = lr / (1 - β₁ᵗ), root = 1 / √(1 - β₂ᵗ), shrink = lr · decay. In a captured step these three are where
// `now` says. The blocks (·, k) take parameter k.
extern "C" __global__ void adam_all(
    const Parameters table, real beta1, real rest1, real beta2, real rest2, real eps, real step_size, real root,
    real shrink, const real* now) {
    if (now) step_size = now[0], root = now[1], shrink = now[2];
    int k = blockIdx.y;
    real *w = table.w[k], *m = table.m[k], *v = table.v[k];
    const real* g = table.g[k];
    FOR_EACH(i, table.size[k]) {
        m[i] = beta1 * m[i] + rest1 * g[i];
        v[i] = beta2 * v[i] + rest2 * (g[i] * g[i]);
        w[i] -= step_size * (m[i] / (sqrt(v[i]) * root + eps)) + shrink * w[i];
    }
}
