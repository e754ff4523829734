// z = x Φ(x), Φ the share of a standard normal below x, and its slope dz/dx = Φ(x) + x φ(x), where x = a + b; without b
// (null) x = a. All arrays have n numbers in rows of C, but b (C,): a product's bias costs no pass of its own.

extern "C" __global__ void gelu_exact(const real* a, const real* b, real* z, real* slope, int C, long long n) {
    FOR_EACH(i, n) {
        accurate x = a[i];
        if (b) x += (accurate)b[i % C];
        accurate cdf = (accurate)0.5 * erfc(x * -(accurate)0.70710678118654752440);                     // erfc(-x / √2) / 2
        accurate density = exp((accurate)-0.5 * x * x) * (accurate)0.39894228040143267794;              // e^(-x²/2) / √(2π)
        z[i] = x * cdf;
        slope[i] = cdf + x * density;
    }
}

// The tanh approximation: z = x s with s = (1 + tanh u) / 2, u = c x (1 + 0.044715 x²), c = √(2/π), and its slope
// s + z (1 - s) 2u' with 2u' = 2c (1 + 3 · 0.044715 x²).
extern "C" __global__ void gelu_tanh(const real* a, const real* b, real* z, real* slope, int C, long long n) {
    const accurate c = (accurate)0.79788456080286535588;
    FOR_EACH(i, n) {
        accurate x = a[i];
        if (b) x += (accurate)b[i % C];
        accurate square = x * x;
        accurate s = (1 + tanh(c * x * (1 + (accurate)0.044715 * square))) * (accurate)0.5;
        z[i] = x * s;
        slope[i] = s + x * s * (1 - s) * (2 * c) * (1 + (accurate)(3 * 0.044715) * square);
    }
}
