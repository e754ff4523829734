"""Newton: the slope says where down is, the curvature says how far.

Descent (step 05) follows the slope g and must be told how long a step is. Newton's method asks the second derivatives
as well: near a point f is a parabola, whose lowest place is x - H⁻¹ g, H the matrix of second derivatives. Close to the
minimum every step doubles the number of right digits. The framework has no rule for H: the walk back that gives g is
recorded, and walked back itself. Gauss-Newton takes a sum of squares Σ r² and needs first derivatives only: with
J = ∂r/∂x it steps by -(JᵀJ)⁻¹ Jᵀ r, as if every r were a straight line.

The playground is Rosenbrock's valley (1960), f = (1 - x)² + 100 (y - x²)²: bent, flat along its floor, 2,500 times
more curved across. Why are networks not trained so? H of n weights has n² numbers; and far from a minimum Newton goes
to any place where the slope is 0.

    python examples/29_newton.py

takes about 4 seconds of one core. The last lines look like this:

    claim: Newton is there in 6 steps, Gauss-Newton in 2; after 10000 steps descent is 0.0171 away
    claim: Newton's error is squared in each step: 5.6e-02 -> 9.6e-06 -> 1.9e-11
    result: descent=10000 newton=6 gauss_newton=2 leftover=2e-02
"""

from __future__ import annotations

import common
import numpy as np
from common import pictures

import tinygrad_z2g as z2g
from tinygrad_z2g import func

START = (-1.2, 1.0)
MINIMUM = np.ones(2)
RATE = 1e-3  # of descent; 2e-3 leaves the valley for good, for the curvature across it is up to 1,300
NEAR = 1e-9  # from the minimum: arrived


def residuals(p: z2g.Tensor) -> z2g.Tensor:
    """r, with f = r₁² + r₂²"""
    x, y = p[0], p[1]
    return z2g.stack([1 - x, 10 * (y - x * x)])


def height(p: z2g.Tensor) -> z2g.Tensor:
    """Rosenbrock's f"""
    return residuals(p).square().sum()


slope = func.grad(height)
curvature = func.hessian(height)
jacobian = func.jacrev(residuals)


def host(x: z2g.Tensor) -> np.ndarray:
    return x.cpu().numpy()


def descent(p: z2g.Tensor) -> z2g.Tensor:
    """A step along the slope"""
    return -RATE * slope(p)


def newton(p: z2g.Tensor) -> z2g.Tensor:
    """To the lowest point of the parabola: H step = -g"""
    return z2g.tensor(np.linalg.solve(host(curvature(p)), -host(slope(p))), device=p.device)


def gauss_newton(p: z2g.Tensor) -> z2g.Tensor:
    """To where all r would be 0, if they were straight: JᵀJ step = -Jᵀ r"""
    J = host(jacobian(p))
    r = host(residuals(p))
    return z2g.tensor(np.linalg.solve(J.T @ J, -J.T @ r), device=p.device)


def walk(step, start: z2g.Tensor, steps: int) -> np.ndarray:
    """All points of the way, (n + 1, 2): so many steps, or fewer if it arrives."""
    way = [start]
    while len(way) <= steps and np.abs(host(way[-1]) - MINIMUM).max() > NEAR:
        way.append(way[-1] + step(way[-1]))
    return np.array([host(p) for p in way])


def main() -> None:
    args = common.parse(common.arguments("Descent, Newton and Gauss-Newton in Rosenbrock's valley.", 10000), steps=100)
    start = z2g.tensor(START, dtype=z2g.float64, device=args.device)
    x, y = START
    exact = np.array([[2 - 400 * (y - 3 * x**2), -400 * x], [-400 * x, 200]])  # on paper
    off = np.abs(host(curvature(start)) - exact).max()
    common.claim(off < 1e-10, f"the framework's second derivatives are those of the formula, to {off:.0e}")

    ways = {
        "descent": walk(descent, start, args.steps),
        "newton": walk(newton, start, args.steps),
        "gauss-newton": walk(gauss_newton, start, args.steps),
    }
    errors = {name: np.sqrt(((way - MINIMUM) ** 2).sum(1)) for name, way in ways.items()}
    for name, error in errors.items():
        told = " ".join(f"{e:.0e}" for e in error[:9])
        print(f"{name:13s} {len(error) - 1:5d} steps; distance from the minimum: {told}{' ...' * (len(error) > 9)}")

    pictures.newton(args, ways, errors, MINIMUM)
    count = {name: len(way) - 1 for name, way in ways.items()}
    leftover = errors["descent"][-1]
    if args.steps >= 10000:
        e = errors["newton"]
        common.claim(
            count["newton"] < 10 and count["gauss-newton"] < 5 and leftover > 1e-3,
            f"Newton is there in {count['newton']} steps, Gauss-Newton in {count['gauss-newton']}; "
            f"after {count['descent']} steps descent is {leftover:.4f} away",
        )
        ratios = e[-3:] / e[-4:-1] ** 2  # of quadratic convergence: bounded, while the errors fall by powers of ten
        common.claim(
            e[-2] < 0.02 * e[-3] and e[-1] < 1e-4 * e[-2] and ratios.max() < 50,
            f"Newton's error is squared in each step: {' -> '.join(f'{v:.1e}' for v in e[-3:])}",
        )
    common.result(
        descent=count["descent"], newton=count["newton"], gauss_newton=count["gauss-newton"], leftover=f"{leftover:.0e}"
    )


if __name__ == "__main__":
    main()
