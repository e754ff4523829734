"""Distributions: samples, densities, entropies, divergences. Loaded when it is first asked for.

This file knows nothing of them: one family a file.
"""

from .bernoulli import Bernoulli, Geometric, Poisson
from .categorical import Categorical, Multinomial, OneHotCategorical
from .distribution import Distribution
from .gamma import Beta, Chi2, Dirichlet, Gamma
from .independent import Independent
from .kl import kl_divergence, register_kl
from .multivariate_normal import MultivariateNormal
from .normal import LogNormal, Normal
from .uniform import Exponential, Laplace, Uniform
