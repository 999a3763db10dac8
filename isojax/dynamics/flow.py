"""Population flow of a linear network's predictor eigenvalues.

z = W x with x ~ N(0, I), views x_i = x + sigma_i xi_i, and W_P = (W W^T)^alpha. The
flow dW/dt = -rate dE[L]/dW leaves the singular vectors of W constant and is therefore
described by the eigenvalues lam of W_P. Mode m has the variance v_m = lam_m^{1/alpha}:

  euclidean                   2 alpha rate lam^2 (1 - (1 + sigma_1^2) lam)
  iso_euclidean               2 alpha rate lam (1 - (1 + sigma_1^2) lam)
  euclidean_no_stop_gradient  -2 alpha rate lam ((1 + sigma_1^2) lam^2 - 2 lam + 1
                                                 + sigma_2^2)
  euclidean_no_predictor      -2 alpha rate sigma_1^2 lam
  iso_cosine                  2 alpha rate lam_m sum_k lam_k ((lam_k - lam_m) Q_mk
                                + (lam_k v_k - lam_m v_m) T_mk)
  cosine                      lam_m times that of iso_cosine
  cosine_near_uniform         2 alpha rate lam_m^2 (Q_mm + v_m T_mm)
                                sum_k lam_k (lam_k - lam_m)
  cosine_no_stop_gradient     cosine - 2 alpha rate lam_m sum_k ((lam_k - lam_m) R_mk
                                - lam_m lam_k (lam_k v_k - lam_m v_m) T_mk)
  cosine_no_predictor         iso_cosine with lam = 1 everywhere on the right-hand side
                                except in the leading factor lam_m

Q, R and T are averages of the views, see `isojax.dynamics.quadrature`. T is zero
without view noise. Weight decay kappa adds -2 alpha rate kappa lam. The cosine losses
conserve sum_m v_m, with and without stop-gradient and predictor; the iso-cosine loss
conserves sum_m lam_m v_m. View noise preserves these sums.

`cosine_near_uniform` is not a gradient flow: it is dW/dt = E[dz/dt x^T] with
`velocities.cosine_near_uniform` for dz/dt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from isojax.dynamics.arguments import (
    check_choice,
    check_not_negative,
    check_positive,
    check_vector,
    check_view_noise,
    flow_settings,
)
from isojax.dynamics.quadrature import cosine_moments, target_cosine_moments


@partial(
    jax.tree_util.register_dataclass, meta_fields=["growth"], data_fields=["powers"]
)
@dataclass(frozen=True)
class Flow:
    """The flow of one loss; `jit` compiles once for all that share the function.

    Attributes:
      growth: function of lam, v, sigma_1, sigma_2 and the powers: d log(lam) / dt
        divided by 2 alpha rate.
      powers: powers of lam that differ between the losses which share the function.
    """

    growth: Callable[..., Array]
    powers: tuple[float, ...] = ()


def eigenvalue_flow(
    name: str,
    eigenvalues: Array,
    *,
    alpha: float = 1.0,
    rate: float = 1.0,
    view_noise: tuple[float, float] = (0.0, 0.0),
    weight_decay: float = 0.0,
) -> Array:
    """Computes the velocity of the predictor's eigenvalues as a linear network learns.

    Args:
      name: name of the loss, one of `FLOWS`.
      eigenvalues: lam, positive, shape (dim,).
      alpha: exponent of the predictor W_P = (W W^T)^alpha.
      rate: learning rate, which sets the unit of time.
      view_noise: standard deviations sigma_1 and sigma_2 of the noise added to the
        online and the target view.
      weight_decay: coefficient kappa of the penalty kappa/2 |W|^2.

    Returns:
      d lam / dt, shape (dim,), in the dtype of `eigenvalues`.

    Raises:
      ValueError: if `name` is unknown, `eigenvalues` is not a vector of floats, an
        eigenvalue, `alpha` or `rate` is not positive and finite, `view_noise` is not a
        pair of nonnegative numbers, or `weight_decay` is negative. Traced values are
        not checked.

    Example:
      >>> eigenvalue_flow("euclidean", jnp.array([0.5, 1.0])).tolist()
      [0.25, 0.0]

    Source: Halvagal et al. 2023, Theorems 1 and 2 averaged over Gaussian inputs.
    """
    lam = check_flow(name, eigenvalues, alpha, rate, view_noise, weight_decay)
    settings = flow_settings(
        lam.dtype,
        alpha=alpha,
        rate=rate,
        view_noise=view_noise,
        weight_decay=weight_decay,
    )
    return lam * log_flow(FLOWS[name], jnp.log(lam), **settings)


@jax.jit
def log_flow(
    flow: Flow,
    log_eigenvalues: Array,
    *,
    alpha: float,
    rate: float,
    view_noise: tuple[float, float] | None,
    weight_decay: float,
) -> Array:
    """Computes the velocity of log(lam) without checking arguments; shape (dim,)."""
    lam = jnp.exp(log_eigenvalues)
    growth = growth_rates(flow, lam, lam ** (1 / alpha), view_noise)
    return 2 * alpha * rate * (growth - weight_decay)


def growth_rates(
    flow: Flow, lam: Array, v: Array, view_noise: tuple[float, float] | None
) -> Array:
    """Computes d log(lam) / dt divided by 2 alpha rate, without decay; shape (dim,).

    `view_noise=None` stands for views known to be free of noise, also under a trace.
    """
    sigma1, sigma2 = (0.0, 0.0) if view_noise is None else view_noise
    return flow.growth(lam, v, sigma1, sigma2, *flow.powers)


def _euclidean(lam: Array, v: Array, sigma1: float, sigma2: float) -> Array:
    return lam * _iso_euclidean(lam, v, sigma1, sigma2)


def _iso_euclidean(lam: Array, v: Array, sigma1: float, sigma2: float) -> Array:
    return 1 - (1 + sigma1**2) * lam


def _euclidean_no_stop_gradient(
    lam: Array, v: Array, sigma1: float, sigma2: float
) -> Array:
    return -((1 + sigma1**2) * lam**2 - 2 * lam + 1 + sigma2**2)


def _euclidean_no_predictor(
    lam: Array, v: Array, sigma1: float, sigma2: float
) -> Array:
    return jnp.full_like(lam, -(sigma1**2))


def _cosine_near_uniform(lam: Array, v: Array, sigma1: float, sigma2: float) -> Array:
    q, t = cosine_moments(lam, v, (sigma1, sigma2))
    gaps = jnp.sum(lam[None, :] * _differences(lam), axis=1)
    return lam * jnp.diagonal(q + v[None, :] * t) * gaps


def _cosine(
    lam: Array, v: Array, sigma1: float, sigma2: float, outer: float, inner: float
) -> Array:
    """lam^outer times the growth rates under the iso-cosine loss for lam^inner."""
    predictor = lam**inner
    q, t = cosine_moments(predictor, v, (sigma1, sigma2))
    pulls = _differences(predictor) * q + _differences(predictor * v) * t
    return lam**outer * jnp.sum(predictor[None, :] * pulls, axis=1)


def _cosine_no_stop_gradient(
    lam: Array, v: Array, sigma1: float, sigma2: float
) -> Array:
    q, r, t = target_cosine_moments(lam, v, (sigma1, sigma2))
    pulls = _differences(lam) * q + 2 * _differences(lam * v) * t
    collapse = _differences(lam) * r
    return jnp.sum(lam[:, None] * lam[None, :] * pulls - collapse, axis=1)


def _differences(x: Array) -> Array:
    """Returns the matrix with x_k - x_m in row m and column k."""
    return x[None, :] - x[:, None]


FLOWS = {
    "euclidean": Flow(_euclidean),
    "iso_euclidean": Flow(_iso_euclidean),
    "euclidean_no_stop_gradient": Flow(_euclidean_no_stop_gradient),
    "euclidean_no_predictor": Flow(_euclidean_no_predictor),
    "cosine": Flow(_cosine, (1.0, 1.0)),
    "cosine_near_uniform": Flow(_cosine_near_uniform),
    "iso_cosine": Flow(_cosine, (0.0, 1.0)),
    "cosine_no_stop_gradient": Flow(_cosine_no_stop_gradient),
    "cosine_no_predictor": Flow(_cosine, (0.0, 0.0)),
}


def check_flow(
    name: str,
    eigenvalues: Array,
    alpha: float,
    rate: float,
    view_noise: tuple[float, float],
    weight_decay: float,
) -> Array:
    """Checks the arguments of a flow and returns the eigenvalues as an array."""
    check_choice("name", name, FLOWS)
    lam = check_vector("eigenvalues", eigenvalues)
    if not isinstance(lam, jax.core.Tracer):
        values = np.asarray(lam)
        if not np.all((values > 0) & np.isfinite(values)):
            raise ValueError(
                f"eigenvalues={values} are not all positive and finite; remove zeros, "
                "which stay constant"
            )
    check_positive("alpha", alpha)
    check_positive("rate", rate)
    check_view_noise(view_noise)
    check_not_negative("weight_decay", weight_decay)
    return lam
