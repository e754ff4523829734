"""More of what `python -m tinygrad_z2g.gradcheck` checks; see `cases`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ... import creation
from ...ops import decompositions, elementary, elementwise, grids, products, statistics, writing
from ...tensor import Tensor

NOT_HALF = {  # they refuse float16, as in torch: LAPACK has none
    "quantile", "nanquantile", "inv", "det", "logdet", "svdvals", "pinv", "slogdet", "solve", "solve_triangular",
    "cholesky", "eigh", "svd", "qr", "lstsq",
}  # fmt: skip


def add_further(add: Callable, any_: Callable, positive: Callable, inside: Callable) -> None:
    """Add the cases; the last three make tensors with elements of some kind."""
    ids = creation.tensor([1, 0, 1])
    mask = creation.tensor([[True, False, True], [False, True, False]])

    def well(*size: int) -> Tensor:
        """Matrices near a diagonal one with different elements: far from singular."""
        n, m = size[-2:]
        return (any_(*size).detach() / 4 + creation.tensor(np.eye(n, m) * (2 + np.arange(m)))).requires_grad_()

    for name in ("exp2", "asinh", "frac", "sinc", "nan_to_num", "deg2rad", "rad2deg"):
        add(name, getattr(elementary, name), any_(2, 3))
    add("trunc", elementary.trunc, any_(2, 3))
    for name in ("log10", "lgamma", "digamma"):
        add(name, getattr(elementary, name), positive(2, 3))
    add("acosh", lambda x: elementary.acosh(x + 1), positive(2, 3))
    add("atanh", elementary.atanh, inside(2, 3))
    add("erfinv", elementary.erfinv, inside(2, 3))
    add("logit", lambda x: elementary.logit(x / 2.5), positive(2, 3))
    for name in ("atan2", "hypot", "logaddexp", "fmod", "xlogy"):
        add(name, getattr(elementary, name), any_(2, 3), positive(3))
    add("clamp_min", lambda x: elementary.clamp_min(x, 0.1), any_(2, 3))
    add("clamp_max", lambda x: elementary.clamp_max(x, 0.1), any_(2, 3))

    add("meshgrid", grids.meshgrid, any_(2), any_(3))
    add("cartesian_prod", grids.cartesian_prod, any_(2), any_(3))
    add("combinations", grids.combinations, any_(4))
    add("broadcast_tensors", grids.broadcast_tensors, any_(2, 1), any_(3))
    add("tensor_split", lambda x: grids.tensor_split(x, 2, 1), any_(2, 3))
    add("hsplit", lambda x: grids.hsplit(x, 3), any_(2, 3))
    add("vsplit", lambda x: grids.vsplit(x, 2), any_(2, 3))
    add("dsplit", lambda x: grids.dsplit(x, [1]), any_(2, 2, 3))
    for name in ("atleast_1d", "atleast_2d", "atleast_3d", "ravel", "diagflat"):
        add(name, getattr(grids, name), any_(3))
    for join in (grids.dstack, grids.column_stack):
        add(join.__name__, lambda x, y, f=join: f([x, y]), any_(3), any_(3))
    add("block_diag", grids.block_diag, any_(2, 3), any_(2))
    for name in ("fliplr", "flipud", "rot90", "diag_embed"):
        add(name, getattr(grids, name), any_(2, 3))
    add("rsub", elementwise.rsub, any_(2, 3), any_(3))
    add("take", lambda x: grids.take(x, ids), any_(2, 3))
    add("msort", statistics.msort, any_(3, 2))
    add("unfold", lambda x: grids.unfold(x, 1, 2, 1), any_(2, 3))

    add("addmm", lambda x, a, b: products.addmm(x, a, b, beta=2, alpha=3), any_(4), any_(2, 3), any_(3, 4))
    add("addmv", products.addmv, any_(2), any_(2, 3), any_(3))
    add("addr", products.addr, any_(2, 3), any_(2), any_(3))
    add("baddbmm", products.baddbmm, any_(2, 2, 2), any_(2, 2, 3), any_(2, 3, 2))
    add("addbmm", products.addbmm, any_(2, 2), any_(2, 2, 3), any_(2, 3, 2))
    add("addcmul", products.addcmul, any_(3), any_(3), any_(3))
    add("addcdiv", products.addcdiv, any_(3), any_(3), positive(3))
    add("inner", products.inner, any_(2, 3), any_(4, 3))
    add("vdot", products.vdot, any_(3), any_(3))
    add("kron", products.kron, any_(2, 2), any_(2, 3))
    add("chain_matmul", products.chain_matmul, any_(2, 3), any_(3, 2), any_(2, 2))
    add("matrix_power", lambda x: products.matrix_power(x, 3), any_(2, 2))
    add("trace", products.trace, any_(3, 2))
    add("cross", products.cross, any_(2, 3), any_(2, 3))
    for p in (2.0, 1.0, 3.0, float("inf")):
        add("cdist", lambda x, y, p=p: products.cdist(x, y, p), any_(2, 3), any_(4, 3))
    add("dist", products.dist, any_(3), any_(3))
    add("diff", products.diff, any_(2, 4))
    add("trapezoid", products.trapezoid, any_(2, 4), any_(4))
    add("cumulative_trapezoid", products.cumulative_trapezoid, any_(2, 4), any_(4))
    add("vander", products.vander, any_(3))
    add("cov", products.cov, any_(2, 4))
    add("corrcoef", products.corrcoef, any_(3, 4))

    s = statistics
    for find in (s.median, s.nanmedian, s.mode, s.cummax, s.cummin):
        add(find.__name__, lambda x, f=find: f(x, 1)[0], any_(2, 4))
    add("kthvalue", lambda x: statistics.kthvalue(x, 2).values, any_(2, 4))
    for find in (s.quantile, s.nanquantile):
        add(find.__name__, lambda x, f=find: f(x, 0.4, 1), any_(2, 4))
    for name in ("aminmax", "var_mean", "std_mean", "nansum", "nanmean"):
        add(name, getattr(statistics, name), any_(2, 3))

    add("index_fill", lambda x: writing.index_fill(x, 1, ids, 2.0), any_(2, 3))
    add("index_copy", lambda x, s: writing.index_copy(x, 1, ids[:2], s), any_(2, 3), any_(2, 2))
    add("index_add", lambda x, s: writing.index_add(x, 1, ids, s, alpha=2), any_(2, 3), any_(2, 3))
    add("index_put", lambda x, v: writing.index_put(x, (ids, ids), v, True), any_(2, 3), any_(3))
    add("masked_scatter", lambda x, s: writing.masked_scatter(x, mask, s), any_(2, 3), any_(4))
    for how in ("sum", "mean"):
        add("scatter_reduce", lambda x, s, h=how: writing.scatter_reduce(x, 0, ids, s, h), any_(3), any_(3))

    for name in ("inv", "det", "logdet", "svdvals", "pinv"):
        add(name, getattr(decompositions, name), well(3, 3))
    add("slogdet", lambda x: decompositions.slogdet(x).logabsdet, well(2, 3, 3))
    add("solve", decompositions.solve, well(3, 3), any_(3, 2))
    add("solve_triangular", lambda a, b: decompositions.solve_triangular(a, b, upper=True), well(3, 3), any_(3, 2))
    add("cholesky", lambda x: decompositions.cholesky(x + x.mT), well(3, 3))
    add("eigh", lambda x: [part.square() for part in decompositions.eigh(x + x.mT)], well(3, 3))
    add("svd", lambda x: [part.square() for part in decompositions.svd(x, False)], well(4, 3))
    add("qr", lambda x: [part.square() for part in decompositions.qr(x)], well(4, 3))
    add("lstsq", lambda a, b: decompositions.lstsq(a, b).solution, well(4, 3), any_(4, 2))
