"""Gaussian averages of the cosine losses, by quadrature instead of sampling.

For independent z_m ~ N(0, v_m) and D = diag(lam), the population flow needs

  Q_km = E[z_k^2 z_m^2 / (|Dz|^3 |z|)]   and   R_km = E[z_k^2 z_m^2 / (|Dz| |z|^3)].

Feynman's parametrisation joins the two norms,

  1 / (a^{3/2} b^{1/2}) = 2/pi int_0^{pi/2} 2 cos^2(phi) / h(phi)^2 dphi,
  h(phi) = a cos^2(phi) + b sin^2(phi),

with sin^2 for cos^2 in front where a and b change places. With
1/h^2 = int_0^inf 2 rho^3 exp(-rho^2 h) drho the average factorises over the modes:

  E[z_k^2 z_m^2 exp(-rho^2 h)] = v_k v_m / (d_k d_m) prod_j d_j^{-1/2},
  d_j = 1 + 2 v_j rho^2 (lam_j^2 cos^2(phi) + sin^2(phi)),  k != m,

three times as much where k = m. Gauss-Legendre nodes in phi and rho are stretched
after the smallest mode, so that many modes over four decades keep six digits, but of
two modes only three decades apart: of four they keep two digits, of five none. A mode
that is followed with fewer digits costs the others none.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

# Twice as many would give two modes four decades apart five digits, at twice the cost.
_ANGLES = 20
_RADII = 64
_RADIAL_STRETCH = 0.3
# Weaker modes are not resolved: nodes spent on them would be missing elsewhere.
_SMALLEST_RATIO = 1e-6
_WIDEST_SPREAD = 1e6


def cosine_moments(eigenvalues: Array, variances: Array) -> Array:
    """Averages Q_km / (v_k v_m) of the cosine loss's gradient.

    Args:
      eigenvalues: lam of the predictor, positive, shape (dim,).
      variances: v of the projections along its eigenvectors, positive, shape (dim,).

    Returns:
      E[z_k^2 z_m^2 / (|Dz|^3 |z|)] / (v_k v_m), shape (dim, dim), symmetric.
    """
    return _moments(eigenvalues, variances, gradient_on_target=False)


def target_cosine_moments(eigenvalues: Array, variances: Array) -> Array:
    """Averages R_km / (v_k v_m) of the gradient that stop-gradient removes.

    Args:
      eigenvalues: lam of the predictor, positive, shape (dim,).
      variances: v of the projections along its eigenvectors, positive, shape (dim,).

    Returns:
      E[z_k^2 z_m^2 / (|Dz| |z|^3)] / (v_k v_m), shape (dim, dim), symmetric.
    """
    return _moments(eigenvalues, variances, gradient_on_target=True)


def _moments(lam: Array, v: Array, *, gradient_on_target: bool) -> Array:
    (dim,) = lam.shape
    a, b = jnp.sum(lam**2 * v), jnp.sum(v)
    a_modes, b_modes = lam**2 * v / a, v / b  # a and b in units of their means

    phi, phi_weights = _angles(jnp.min(lam**2) * b / a)
    narrowest = jnp.minimum(jnp.min(a_modes), jnp.min(b_modes))
    rho, log_rho_weights = _radii(jnp.sqrt(1 / (dim * narrowest)))

    cos2, sin2 = jnp.cos(phi) ** 2, jnp.sin(phi) ** 2
    h = cos2[:, None] * a_modes[None, :] + sin2[:, None] * b_modes[None, :]
    d = 1 + 2 * jnp.square(rho)[None, :, None] * h[:, None, :]
    # Logarithms, because rho^3 and the product over modes leave float32's range.
    log_integrand = (log_rho_weights + jnp.log(2) + 3 * jnp.log(rho))[
        None, :
    ] - 0.5 * jnp.sum(jnp.log(d), axis=-1)
    angular = 4 / jnp.pi * (sin2 if gradient_on_target else cos2) * phi_weights
    weights = angular[:, None] * jnp.exp(log_integrand)

    inverse = 1 / d.reshape(-1, dim)
    moments = (inverse * weights.reshape(-1, 1)).T @ inverse
    moments = moments * (1 + 2 * jnp.eye(dim, dtype=lam.dtype))
    scale = a**0.5 * b**1.5 if gradient_on_target else a**1.5 * b**0.5
    return moments / scale


def _angles(smallest_ratio: Array) -> tuple[Array, Array]:
    """Nodes and weights on (0, pi/2), dense near 0 where a weak mode varies fast."""
    x, weights = _gauss_legendre(_ANGLES, smallest_ratio.dtype)
    delta = jnp.sqrt(jnp.maximum(smallest_ratio, _SMALLEST_RATIO))
    mu = jnp.arcsinh(jnp.pi / 2 / delta)
    return delta * jnp.sinh(mu * x), delta * mu * jnp.cosh(mu * x) * weights


def _radii(spread: Array) -> tuple[Array, Array]:
    """Nodes and logarithms of weights on (0, inf), reaching the widest scale."""
    x, weights = _gauss_legendre(_RADII, spread.dtype)
    r = x / (1 - x)
    beta = _RADIAL_STRETCH * (jnp.sqrt(jnp.minimum(spread, _WIDEST_SPREAD)) - 1)
    rho = r + beta * r**3
    slope = 1 + 3 * beta * r**2
    return rho, jnp.log(weights) - 2 * jnp.log(1 - x) + jnp.log(slope)


def _gauss_legendre(nodes: int, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Nodes and weights on (0, 1)."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    return jnp.asarray((x + 1) / 2, dtype), jnp.asarray(weights / 2, dtype)
