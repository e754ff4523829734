"""Distributions: samples, densities, entropies, divergences. Loaded when it is first asked for.

This file knows nothing of them: one family a file.
"""

# isort: off
from .bernoulli import Bernoulli as Bernoulli, Geometric as Geometric, Poisson as Poisson
from .categorical import Categorical as Categorical, Multinomial as Multinomial, OneHotCategorical as OneHotCategorical
from .distribution import Distribution as Distribution
from .gamma import Beta as Beta, Chi2 as Chi2, Dirichlet as Dirichlet, Gamma as Gamma
from .independent import Independent as Independent
from .kl import kl_divergence as kl_divergence, register_kl as register_kl
from .multivariate_normal import MultivariateNormal as MultivariateNormal
from .normal import LogNormal as LogNormal, Normal as Normal
from .uniform import Exponential as Exponential, Laplace as Laplace, Uniform as Uniform
