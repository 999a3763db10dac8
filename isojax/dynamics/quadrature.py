"""Gaussian averages of the cosine losses by numerical quadrature.

For independent z_m ~ N(0, v_m) and D = diag(lam), the population flow depends on

  Q_km = E[z_k^2 z_m^2 / (|Dz|^3 |z|)]   and   R_km = E[z_k^2 z_m^2 / (|Dz| |z|^3)].

Gamma integrals replace the norms by Gaussian factors,

  1 / (a^{3/2} b^{1/2}) = 2/pi int_0^inf int_0^inf t^{1/2} u^{-1/2} e^{-ta - ub} dt du,

with the exponents of t and u exchanged for R. The average then factorises over the
modes:

  E[z_k^2 z_m^2 e^{-t |Dz|^2 - u |z|^2}] = v_k v_m / (d_k d_m) prod_j d_j^{-1/2},
  d_j = 1 + 2 v_j (t lam_j^2 + u),  k != m,

and three times this value for k = m. With t = r^2 and u = q^2 the integrand is an even
function of q, and of r at each q. Its singularities lie on the imaginary axes where
some d_j vanishes, at one scale per mode. The variable y is defined by
x = sinh(y) exp(c/kappa cosh(y)), where x = q / q_first or r / r_first(q), and kappa is
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
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

_LARGEST_RATIO = 1e6
_TAIL_RATE = 0.25  # c above
_LOG_TOLERANCE = 18.5  # e^-18.5 is 1e-8
# Ratios of the scales of q and of r up to which the smaller number of nodes suffices.
_CLOSE_Q, _CLOSE_R = 1e2, 1e4
# Numbers of nodes (of q, of r), for close scales and for others. Clusters of many equal
# modes have Gaussian tails, which grow away from the real axis and need closer nodes.
_NODES = (20, 32), (48, 80)
_MANY_MODES, _NODES_OF_MANY_MODES = 11, ((32, 48), (64, 104))


def cosine_moments(eigenvalues: Array, variances: Array) -> Array:
    """Computes the averages Q_km / v_m of the cosine loss's gradient.

    Args:
      eigenvalues: lam of the predictor, positive, shape (dim,).
      variances: v of the projections along its eigenvectors, positive, shape (dim,).

    Returns:
      E[z_k^2 z_m^2 / (|Dz|^3 |z|)] / v_m in row m and column k, shape (dim, dim).

    Example:
      >>> lam, v = jnp.array([0.5, 1.0]), jnp.array([0.5, 1.0])
      >>> q = cosine_moments(lam, v) * v[:, None]
      >>> bool(jnp.allclose(q, q.T, rtol=1e-5))
      True
    """
    return _moments(eigenvalues, variances, gradient_on_target=False)


def target_cosine_moments(eigenvalues: Array, variances: Array) -> Array:
    """Computes the averages R_km / v_m of the gradient through the target.

    Args:
      eigenvalues: lam of the predictor, positive, shape (dim,).
      variances: v of the projections along its eigenvectors, positive, shape (dim,).

    Returns:
      E[z_k^2 z_m^2 / (|Dz| |z|^3)] / v_m in row m and column k, shape (dim, dim).

    Example:
      >>> ones = jnp.ones(2)  # for D = 1 both averages are the same
      >>> averages = cosine_moments(ones, ones), target_cosine_moments(ones, ones)
      >>> bool(jnp.allclose(*averages, rtol=1e-5))
      True
    """
    return _moments(eigenvalues, variances, gradient_on_target=True)


# Under `jit`, because an eager `cond` is compiled again at each call.
@partial(jax.jit, static_argnames="gradient_on_target")
def _moments(lam: Array, v: Array, *, gradient_on_target: bool) -> Array:
    (dim,) = lam.shape
    a, b = jnp.sum(lam**2 * v), jnp.sum(v)
    # In units such that d_j = 1 + a_j r^2 + b_j q^2, and a and b each sum to 1.
    a_modes, b_modes = lam**2 * v / a, v / b
    # The integral does not depend on its nodes, so they are not differentiated.
    scales = _resolved_scales(*jax.lax.stop_gradient((lam, v, a_modes, b_modes)))
    few, all_nodes = _NODES if dim < _MANY_MODES else _NODES_OF_MANY_MODES
    are_close = (jnp.min(scales[0]) > _CLOSE_R**-2) & (
        jnp.min(scales[1]) > _CLOSE_Q**-2
    )
    moments = jax.lax.cond(
        _all_of_batch(are_close),
        partial(_integrate, nodes=few, gradient_on_target=gradient_on_target),
        partial(_integrate, nodes=all_nodes, gradient_on_target=gradient_on_target),
        a_modes,
        b_modes,
        scales,
    )
    return moments / (jnp.sqrt(a * b) if gradient_on_target else a * jnp.sqrt(a / b))


def _integrate(
    a: Array,
    b: Array,
    scales: tuple[Array, Array],
    *,
    nodes: tuple[int, int],
    gradient_on_target: bool,
) -> Array:
    """Computes the moments in units such that a and b each sum to 1."""
    (dim,) = a.shape
    q, q_weights, r, r_weights = _nodes(*scales, nodes)
    at_q = 1 + b[:, None] * jnp.square(q)[None, :]
    d = at_q[:, :, None] + a[:, None, None] * jnp.square(r)[None, :, :]
    inverse = (1 / d).reshape(dim, -1)
    # This order of products avoids overflow in float32.
    integrand = _root_of_product(inverse).reshape(r.shape)
    if gradient_on_target:
        integrand = integrand * jnp.square(q)[:, None]
    else:
        integrand = integrand * r * r
    weights = 2 / jnp.pi * q_weights[:, None] * r_weights
    moments = (inverse * weights.reshape(1, -1)) @ (
        b[:, None] * inverse * integrand.reshape(1, -1)
    ).T
    return moments * (1 + 2 * jnp.eye(dim, dtype=a.dtype))


def _resolved_scales(lam: Array, v: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Limits the ratios of the scales a and b to those that the nodes resolve."""
    # In logarithms, because lam^2 v of a weak mode underflows and no scale may be 0.
    tiny = jnp.finfo(lam.dtype).tiny
    log_lam, log_v = jnp.log(jnp.maximum(lam, tiny)), jnp.log(jnp.maximum(v, tiny))
    depth = jnp.max(log_lam) - log_lam
    limit = jnp.minimum(1, math.log(_LARGEST_RATIO) / jnp.maximum(depth, 1))

    def resolve(scale: Array, log_scale: Array) -> Array:
        return jnp.max(scale) * jnp.exp(limit * (log_scale - jnp.max(log_scale)))

    return resolve(a, 2 * log_lam + log_v), resolve(b, log_v)


def _nodes(
    a: Array, b: Array, nodes: tuple[int, int]
) -> tuple[Array, Array, Array, Array]:
    """Returns nodes and weights of q, (q nodes,), and of r, (q nodes, r nodes)."""
    (dim,) = a.shape
    q_nodes, r_nodes = nodes
    q, q_weights = _half_line(jnp.min(b), nodes=q_nodes, decay=dim)
    scales = a[:, None] / (1 + b[:, None] * jnp.square(q)[None, :])
    # The sum instead of the maximum, as many equal modes narrow the integrand.
    total = jnp.sum(scales, axis=0)
    r, r_weights = jax.vmap(partial(_half_line, nodes=r_nodes, decay=dim + 1))(
        jnp.min(scales, axis=0) / total
    )
    first = jax.lax.rsqrt(total)[:, None]
    return q, q_weights, first * r, first * r_weights


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
