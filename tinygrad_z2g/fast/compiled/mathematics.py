"""eˣ, tanh, σ, erf and the normal distribution for float32, so that the compiler computes eight or sixteen at a time.

`math.exp` inside a loop is a call of the C library for each number, no faster than NumPy. What stands here has neither
calls nor branches. exp, tanh and erf are within 2 units in the last place of the exact value; all take infinities and
NaN as NumPy does. The polynomials are least-squares fits of the functions named, in float64, rounded once. They know
nothing of arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float64, int32, types
from numba.extending import intrinsic

from .jit import loop


@intrinsic
def float_of_bits(_: Any, bits: Any) -> Any:
    """The float32 that has the bits of an int32."""

    def code(context: Any, builder: Any, _: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), code


@intrinsic
def bits_of_float(_: Any, x: Any) -> Any:
    """The bits of a float32 as an int32."""

    def code(context: Any, builder: Any, _: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), code


@intrinsic
def choose(_: Any, condition: Any, yes: Any, no: Any) -> Any:
    """yes if condition else no, both computed: a branch would keep the compiler from taking many numbers at a time."""

    def code(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.select(*args)

    return yes(condition, yes, no), code


f = np.float32
ZERO, HALF, ONE, TWO = f(0), f(0.5), f(1), f(2)
LOG2E = f(1.4426950408889634)
LN2_HIGH, LN2_LOW = f(0.693359375), f(-2.12194440e-4)  # ln 2 in two parts: a whole number times the first is exact
ROUND = f(12582912.0)  # 1.5 · 2²³: a float32 added to it is rounded to a whole number
ROOT_HALF, ROOT_2PI = f(0.7071067811865476), f(0.3989422804014327)  # 1/√2, 1/√(2π)


@loop
def exp(x):
    """eˣ = 2ᵏ eʳ with k = round(x / ln 2) and |r| <= ln 2 / 2, where a polynomial of degree 7 is exact to float32."""
    none = x < f(-104.0)  # 0; a processor takes 100 times as long for a product that is nearly 0 as for others
    y = choose(none, ZERO, min(x, f(89.0)))  # beyond: inf
    k = (y * LOG2E + ROUND) - ROUND
    r = (y - k * LN2_HIGH) - k * LN2_LOW
    p = f(1.9875691500e-4)
    p = p * r + f(1.3981999507e-3)
    p = p * r + f(8.3334519073e-3)
    p = p * r + f(4.1665795894e-2)
    p = p * r + f(1.6666665459e-1)
    p = p * r + f(5.0000001201e-1)
    p = (p * r) * r + r + ONE
    whole = int32(k)
    half = whole >> int32(1)  # in two factors, as 2ᵏ itself may be beyond float32 at either end
    z = p * float_of_bits((half + int32(127)) << int32(23))
    z = z * float_of_bits((whole - half + int32(127)) << int32(23))
    return choose(x == x, choose(none, ZERO, z), x)


@loop
def sigmoid(x):
    """σ(x) = 1 / (1 + e⁻ˣ)"""
    return ONE / (ONE + exp(-x))


@loop
def tanh(x):
    """tanh x = (1 - t) / (1 + t) with t = e^(-2|x|); near 0, where 1 - t cancels, x + x³ P(x²)."""
    t = exp(-TWO * abs(x))
    far = (ONE - t) / (ONE + t)
    s = x * x
    p = f(-5.70498872745e-3)
    p = p * s + f(2.06390887954e-2)
    p = p * s + f(-5.37397155531e-2)
    p = p * s + f(1.33314422036e-1)
    p = p * s + f(-3.33332819422e-1)
    near = x + x * s * p
    return choose(abs(x) < f(0.625), near, choose(x > ZERO, far, -far))


@loop
def erf(x):
    """erf x = x + x P(x²) near 0; beyond, 1 - e^q with q = ln erfc |x| as a polynomial, up to 4, where it is 1."""
    s = x * x
    p = f(7.88911954e-05)
    p = p * s + f(-0.000802084128)
    p = p * s + f(0.00518953534)
    p = p * s + f(-0.0268544446)
    p = p * s + f(0.112836002)
    p = p * s + f(-0.376126271)
    p = p * s + f(0.12837917)
    near = x + x * p
    a = min(abs(x), f(4))
    q = f(0.000198220708)
    q = q * a + f(-0.00306549983)
    q = q * a + f(0.0223152481)
    q = q * a + f(-0.104113746)
    q = q * a + f(-0.636976013)
    q = q * a + f(-1.12779728)
    q = q * a + f(-0.000166439071)
    far = ONE - exp(q)
    return choose(abs(x) < f(0.9375), near, choose(x > ZERO, far, -far))


@loop
def bell(x):
    """e^(-x²/2). x² is rounded, which for x = 10 would be an error of 50 units in the last place: the rest follows."""
    y = float64(min(abs(x), f(20)))  # beyond: 0
    exact = y * y * 0.5
    high = f(exact)
    low = f(exact - float64(high))
    return exp(-high) * (ONE - low)


@loop
def normal_cdf(x, e):
    """Φ(x), given e = `bell` (x): Φ(-|x|) = e t P(t) / 2, t = 1 / (1 + 0.4 |x| / √2), exact in the tail too."""
    t = ONE / (ONE + f(0.4) * ROOT_HALF * abs(x))
    p = f(-0.0286371617)
    p = p * t + f(0.192823733)
    p = p * t + f(-0.486632889)
    p = p * t + f(0.531232447)
    p = p * t + f(-0.270927833)
    p = p * t + f(0.264876239)
    p = p * t + f(0.132155645)
    p = p * t + f(0.214390898)
    p = p * t + f(0.225015256)
    p = p * t + f(0.225703676)
    tail = HALF * e * (t * p)
    return choose(x > ZERO, ONE - tail, tail)
