"""Gaussian averages of the cosine losses by numerical quadrature.

z1 and z2 are the projections of two views with noise sigma_1 and sigma_2. Their modes
are independent. Mode m has the variances v_m (1 + sigma_1^2) and v_m (1 + sigma_2^2)
and the covariance v_m. The correlation of the views is the same in all modes,

  c = 1 / sqrt((1 + sigma_1^2) (1 + sigma_2^2)).

The cosine depends only on the directions of its vectors, so that the variances can be
scaled to v_m, and the noise enters through c alone. With D = diag(lam), the population
flow depends on

  E[z1_k^2 z1_m z2_m / (|Dz1|^3 |z2|)] = v_m (Q_mk + v_k T_mk),
  E[z2_k^2 z1_m z2_m / (|Dz1| |z2|^3)] = v_m (R_mk + lam_k^2 v_k T_mk).

Gamma integrals replace the norms by Gaussian factors,

  1 / (a^{3/2} b^{1/2}) = 2/pi int_0^inf int_0^inf t^{1/2} u^{-1/2} e^{-ta - ub} dt du,

with the exponents of t and u exchanged for R. The average then factorises over the
modes. With t = r^2, u = q^2 and s = 1 - c^2, mode j contributes the determinant

  d_j = 1 + 2 v_j (lam_j^2 r^2 + q^2) + 4 s lam_j^2 v_j^2 r^2 q^2,

and Q, R and T are the integrals over r and q of

  8 c / pi prod_j d_j^{-1/2} v_k / (d_k d_m) {r^2, q^2, 2 s r^2 q^2},

for k = m three times this value. At each q the integrand is an even function of r, and
its integral over r is an even function of q. The singularities of both lie on the
imaginary axis, at one scale per mode. The variable y is defined by
x = sinh(y) exp(C/kappa cosh(y)), where x = q / q_first or r / r_first(q), and kappa is
the ratio of the last scale to the first. In y the singularities are at a distance of
about pi/2 from the real axis, and the integrand remains even and decays double
exponentially beyond the last scale. The midpoint rule therefore converges geometrically
in the number of nodes per decade.

The nodes cover eigenvalues that differ by a factor of at most 1e6. For
v = lam^{1/alpha} and alpha >= 1/2 the relative error of the flow is then below 1e-6,
and typically 1e-8. Weaker modes do not increase the errors of the others. Fewer nodes
are used where the scales are close.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from isojax.dynamics.arguments import is_noisy

_LARGEST_RATIO = 1e6
_TAIL_RATE = 0.25  # C above
_LOG_TOLERANCE = 18.5  # e^-18.5 is 1e-8
# Ratios of the scales of q and of r up to which the smaller number of nodes suffices.
_CLOSE_Q, _CLOSE_R = 1e2, 1e4
# Numbers of nodes (of q, of r), for close scales and for others. Clusters of many equal
# modes have Gaussian tails, which grow away from the real axis and need closer nodes.
_NODES = (20, 32), (48, 80)
_MANY_MODES, _NODES_OF_MANY_MODES = 11, ((32, 48), (64, 104))
# View noise adds scales of q further out by 1 / sqrt(s). Where many modes decay, they
# are negligible; for few modes they are resolved for s above the given value.
_FEW_MODES, _SMALLEST_NOISE = 4, 1e-10


def cosine_moments(
    eigenvalues: Array, variances: Array, view_noise: Sequence[ArrayLike] = (0.0, 0.0)
) -> tuple[Array, Array]:
    """Computes the averages Q and T of the gradient through the prediction.

    Args:
      eigenvalues: lam of the predictor, positive, shape (dim,).
      variances: v of the projections along its eigenvectors, positive, shape (dim,).
      view_noise: standard deviations sigma_1 and sigma_2 of the noise of the views.

    Returns:
      Q_mk and T_mk in row m and column k, both of shape (dim, dim). Without view noise,
      T is zero and Q_mk is E[z_k^2 z_m^2 / (|Dz|^3 |z|)] / v_m.

    Example:
      >>> lam, v = jnp.array([0.5, 1.0]), jnp.array([0.5, 1.0])
      >>> q = cosine_moments(lam, v)[0] * v[:, None]
      >>> bool(jnp.allclose(q, q.T, rtol=1e-5))
      True
    """
    q, t = _moments(
        eigenvalues,
        variances,
        *view_noise,
        is_noisy=is_noisy(view_noise),
        with_target=False,
    )
    return q, t


def target_cosine_moments(
    eigenvalues: Array, variances: Array, view_noise: Sequence[ArrayLike] = (0.0, 0.0)
) -> tuple[Array, Array, Array]:
    """Computes the averages Q, R and T of the gradients through both branches.

    Args:
      eigenvalues: lam of the predictor, positive, shape (dim,).
      variances: v of the projections along its eigenvectors, positive, shape (dim,).
      view_noise: standard deviations sigma_1 and sigma_2 of the noise of the views.

    Returns:
      Q_mk, R_mk and T_mk in row m and column k, all of shape (dim, dim). Without view
      noise, R_mk is E[z_k^2 z_m^2 / (|Dz| |z|^3)] / v_m.

    Example:
      >>> ones = jnp.ones(2)
      >>> q, r, _ = target_cosine_moments(ones, ones)  # equal for D = 1
      >>> bool(jnp.allclose(q, r, rtol=1e-5))
      True
    """
    q, r, t = _moments(
        eigenvalues,
        variances,
        *view_noise,
        is_noisy=is_noisy(view_noise),
        with_target=True,
    )
    return q, r, t


# Under `jit`, because an eager `cond` is compiled again at each call.
@partial(jax.jit, static_argnames=("is_noisy", "with_target"))
def _moments(
    lam: Array,
    v: Array,
    sigma1: ArrayLike,
    sigma2: ArrayLike,
    *,
    is_noisy: bool,
    with_target: bool,
) -> list[Array]:
    (dim,) = lam.shape
    a, b = jnp.sum(lam**2 * v), jnp.sum(v)
    # In units such that d_j = 1 + a_j r^2 + b_j q^2 + s a_j b_j r^2 q^2, and a and b
    # each sum to 1.
    a_modes, b_modes = lam**2 * v / a, v / b
    noise1, noise2 = (jnp.asarray(sigma, lam.dtype) ** 2 for sigma in (sigma1, sigma2))
    total = (1 + noise1) * (1 + noise2)
    s = (noise1 + noise2 + noise1 * noise2) / total if is_noisy else None
    # The integral does not depend on its nodes, so they are not differentiated.
    scales = _resolved_scales(*jax.lax.stop_gradient((lam, v, a_modes, b_modes)))
    few, all_nodes = _NODES if dim < _MANY_MODES else _NODES_OF_MANY_MODES
    are_close = (jnp.min(scales[0]) > _CLOSE_R**-2) & (
        _last_scale_of_q(scales[1], s) > _CLOSE_Q**-2
    )
    q, r, t = jax.lax.cond(
        _all_of_batch(are_close),
        partial(_integrate, nodes=few, with_target=with_target),
        partial(_integrate, nodes=all_nodes, with_target=with_target),
        a_modes,
        b_modes,
        s,
        scales,
    )
    # The product a * sqrt(a * b) would underflow earlier.
    c, root = jax.lax.rsqrt(total), jnp.sqrt(a * b)
    moments = [q * (c * b / a / root), t * (c / a / root)]
    return [moments[0], r * (c / root), moments[1]] if with_target else moments


def _integrate(
    a: Array,
    b: Array,
    s: Array | None,
    scales: tuple[Array, Array],
    *,
    nodes: tuple[int, int],
    with_target: bool,
) -> tuple[Array, Array, Array]:
    """Computes Q, R and T in units such that a and b each sum to 1."""
    (dim,) = a.shape
    q, q_weights, r, r_weights = _nodes(*scales, s, nodes)
    q2, r2 = jnp.square(q)[:, None], jnp.square(r)
    at_q = 1 + b[:, None] * jnp.square(q)[None, :]
    slope = a[:, None] if s is None else a[:, None] * (1 + s * (at_q - 1))
    d = at_q[:, :, None] + slope[:, :, None] * r2[None, :, :]
    inverse = (1 / d).reshape(dim, -1)
    # This order of products avoids overflow in float32.
    root = _root_of_product(inverse).reshape(r.shape)
    weights = 2 / jnp.pi * q_weights[:, None] * r_weights
    left = inverse * weights.reshape(1, -1)
    right = b[:, None] * inverse

    def integrate(integrand: Array) -> Array:
        moments = left @ (right * integrand.reshape(1, -1)).T
        return moments * (1 + 2 * jnp.eye(dim, dtype=a.dtype))

    zero = jnp.zeros((dim, dim), a.dtype)
    return (
        integrate(root * r * r),
        integrate(root * q2) if with_target else zero,
        zero if s is None else integrate(s * root * r * r * q2),
    )


def _resolved_scales(lam: Array, v: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Limits the ratios of the scales a and b to those that the nodes resolve."""
    # In logarithms, because lam^2 v of a weak mode underflows and no scale may be 0.
    tiny = jnp.finfo(lam.dtype).tiny
    log_lam, log_v = jnp.log(jnp.maximum(lam, tiny)), jnp.log(jnp.maximum(v, tiny))
    # v = lam^2 is the widest range of v that the nodes resolve.
    depth = jnp.maximum(jnp.max(log_lam) - log_lam, (jnp.max(log_v) - log_v) / 2)
    limit = jnp.minimum(1, math.log(_LARGEST_RATIO) / jnp.maximum(depth, 1))

    def resolve(scale: Array, log_scale: Array) -> Array:
        return jnp.max(scale) * jnp.exp(limit * (log_scale - jnp.max(log_scale)))

    return resolve(a, 2 * log_lam + log_v), resolve(b, log_v)


def _nodes(
    a: Array, b: Array, s: Array | None, nodes: tuple[int, int]
) -> tuple[Array, Array, Array, Array]:
    """Returns nodes and weights of q, (q nodes,), and of r, (q nodes, r nodes)."""
    (dim,) = a.shape
    q_nodes, r_nodes = nodes
    q, q_weights = _half_line(_last_scale_of_q(b, s), nodes=q_nodes, decay=dim)
    at_q = b[:, None] * jnp.square(q)[None, :]
    noise = 0 if s is None else jax.lax.stop_gradient(s)
    scales = a[:, None] * ((1 + noise * at_q) / (1 + at_q))
    # The sum instead of the maximum, as many equal modes narrow the integrand.
    total = jnp.sum(scales, axis=0)
    r, r_weights = jax.vmap(partial(_half_line, nodes=r_nodes, decay=dim + 1))(
        jnp.min(scales, axis=0) / total
    )
    first = jax.lax.rsqrt(total)[:, None]
    return q, q_weights, first * r, first * r_weights


def _last_scale_of_q(b: Array, s: Array | None) -> Array:
    """Returns 1 / q^2 of the last scale that the nodes must resolve."""
    (dim,) = b.shape
    if s is None or dim > _FEW_MODES:
        return jnp.min(b)
    noise = jax.lax.stop_gradient(s)
    return jnp.min(b) * jnp.where(noise > 0, jnp.maximum(noise, _SMALLEST_NOISE), 1)


def _half_line(last: Array, *, nodes: int, decay: int) -> tuple[Array, Array]:
    """Computes nodes and weights of the midpoint rule on (0, inf).

    Args:
      last: 1 / (largest scale)^2, where the smallest scale is 1.
      nodes: number of nodes.
      decay: exponent d of the decay x^{-d} of the integrand in log x beyond the largest
        scale.

    Returns:
      Nodes and weights, both of shape (nodes,).
    """
    kappa = jax.lax.rsqrt(last)
    # (1 + x^2)^{-d/2} is below the tolerance for x > `end`. The larger of the two
    # factors of x reaches `end` at sinh(y) = kappa * reach.
    end = math.sqrt(math.expm1(2 * _LOG_TOLERANCE / decay))
    reach = min(end, max(1.0, math.log(end) / _TAIL_RATE))
    top = kappa * reach
    step = jnp.log(top + jnp.sqrt(jnp.square(top) + 1)) / nodes  # arcsinh
    e = jnp.exp(step * (jnp.arange(nodes, dtype=last.dtype) + 0.5))
    sinh, cosh = (e - 1 / e) / 2, (e + 1 / e) / 2
    tail = _TAIL_RATE / kappa
    stretch = jnp.exp(tail * cosh)
    return sinh * stretch, step * stretch * (cosh + tail * jnp.square(sinh))


@jax.custom_batching.custom_vmap
def _all_of_batch(condition: Array) -> Array:
    """Returns the condition; under `vmap`, whether it holds for the whole batch.

    The result is not batched, so `cond` runs a single branch under `vmap` too.
    """
    return condition


@_all_of_batch.def_vmap
def _(axis_size: int, in_batched: list[bool], condition: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return _all_of_batch(jnp.all(condition, axis=0)), False


@jax.custom_jvp
def _root_of_product(x: Array) -> Array:
    """Computes the root of the product over the first axis of numbers in (0, 1]."""
    if x.dtype == jnp.float64:
        return jnp.sqrt(jnp.prod(x, axis=0))
    # In narrower types the product would underflow.
    return jnp.prod(jnp.sqrt(x), axis=0)


@_root_of_product.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    root = _root_of_product(x)
    return root, root * jnp.sum(dx / x, axis=0) / 2
