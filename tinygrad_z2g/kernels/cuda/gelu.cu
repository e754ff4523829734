// z = x Φ(x), Φ the share of a standard normal below x, and its slope dz/dx = Φ(x) + x φ(x). All arrays (n,).

extern "C" __global__ void gelu_exact(const real* a, real* z, real* slope, long long n) {
    FOR_EACH(i, n) {
        real x = a[i];
        real cdf = (real)0.5 * erfc(x * -(real)0.70710678118654752440);                     // erfc(-x / √2) / 2
        real density = exp((real)-0.5 * x * x) * (real)0.39894228040143267794;              // e^(-x²/2) / √(2π)
        z[i] = x * cdf;
        slope[i] = cdf + x * density;
    }
}

// The tanh approximation: z = x s with s = σ(2u), 2u = c x (1 + 0.044715 x²), and its slope s + x s (1 - s) 2u'.
extern "C" __global__ void gelu_tanh(const real* a, real* z, real* slope, long long n) {
    const real c = (real)1.59576912160573071176;  // 2 √(2/π)
    FOR_EACH(i, n) {
        real x = a[i], square = x * x;
        real power = -c * x * (1 + (real)0.044715 * square);  // -2u
        real s = 1 / (1 + exp(power < 80 ? power : (real)80));  // 1 / (1 + e^80) is 0 beside any x; e^90 is inf
        z[i] = x * s;
        slope[i] = s + z[i] * (1 - s) * (c + (real)(3 * 0.044715) * c * square);
    }
}
