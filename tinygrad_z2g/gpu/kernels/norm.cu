// The joint norm of many arrays, √(Σ x²), and scaling them all: three launches for a whole model; and dividing them by a scale. See adam.cu for why
// the arrays come as a table.
#define ARRAYS 192

struct Arrays {
    long long size[ARRAYS];
    real* x[ARRAYS];
};

// sums[k, b] = Σ x² over the elements of array k that block (b, k) takes. Summed in double: the many small rounding
// errors of a million additions would show in float.
extern "C" __global__ void sum_squares(const Arrays table, double* sums) {
    int k = blockIdx.y;
    const real* x = table.x[k];
    double sum = 0;
    FOR_EACH(i, table.size[k]) sum += (double)x[i] * x[i];
    __shared__ double parts[256];  // one of each thread
    parts[threadIdx.x] = sum;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {  // a fixed order: the same sum every time
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    if (threadIdx.x == 0) sums[(long long)k * gridDim.x + blockIdx.x] = parts[0];
}

// norm = √(Σ sums), by a single block
extern "C" __global__ void root_of_sum(const double* sums, real* norm, int n) {
    double sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += sums[i];
    __shared__ double parts[256];
    parts[threadIdx.x] = sum;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    }
    if (threadIdx.x == 0) norm[0] = (real)sqrt(parts[0]);
}

// x *= min(1, max_norm / (norm + 1e-6)) for every array; a norm of NaN makes everything NaN, as it should.
extern "C" __global__ void clip_to_norm(const Arrays table, const real* norm, real max_norm) {
    int k = blockIdx.y;
    real factor = max_norm / (norm[0] + (real)1e-6);
    if (factor > 1) factor = 1;
    FOR_EACH(i, table.size[k]) table.x[k][i] *= factor;
}

// x *= factor for every array; found = 1 if there was an inf or NaN. (Whoever finds one writes the same.)
extern "C" __global__ void unscale(const Arrays table, real factor, int* found) {
    int k = blockIdx.y;
    FOR_EACH(i, table.size[k]) {
        real x = table.x[k][i];
        if (!isfinite(x)) found[0] = 1;
        table.x[k][i] = x * factor;
    }
}
