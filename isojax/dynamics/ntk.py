"""The empirical neural tangent kernel, which maps loss gradients to velocities.

If the parameters of z = f(x) follow the gradient flow of a loss, each representation
moves according to the gradients with respect to all representations (Lemma 2):

  dz_i/dt = -rate sum_j K_ij dL/dz_j,    K_ij = (dz_i/dparams) (dz_j/dparams)^T.

For a linear network K_ij = (x_i . x_j) I in every orthonormal basis of the outputs
(Lemma 3). If the inputs are orthonormal, each sample follows its own gradient. For n
inputs from N(0, I / N) this holds up to an error of order sqrt(n / N), eq. 21. Inputs
from N(0, I) multiply the rate by N. If the inputs form clusters of equal vectors and
the clusters are orthonormal, each sample follows the mean gradient of its cluster, and
the rate is multiplied by the size of the cluster. The appendix states this for equal
gradients within a cluster.

Source: Halvagal, Laborieux and Zenke 2023, "Implicit variance regularization in
non-contrastive SSL", appendix B.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax import Array


def empirical_ntk(
    apply: Callable[[chex.ArrayTree, Array], Array],
    params: chex.ArrayTree,
    x1: Array,
    x2: Array,
) -> Array:
    """Computes the neural tangent kernel J(x1) J(x2)^T, with J the Jacobian.

    Each column takes a backward pass through one sample of x2 and a forward pass
    through x1. The Jacobians are never stored, only copies of the parameters and
    activations.

    Args:
      apply: function from `params` and inputs (n, ...) to outputs (n, dim), where each
        output depends on its own input only. BatchNorm must use running statistics: in
        training mode it couples the samples, and the kernel would be wrong.
      params: parameters, any pytree of floating-point arrays.
      x1: first inputs, shape (n1, ...).
      x2: second inputs, shape (n2, ...).

    Returns:
      The kernel in the dtype of the outputs, shape (n1, n2, dim, dim). Entry
      (i, j, a, b) is the inner product of the gradients of output a of x1_i and output
      b of x2_j.

    Raises:
      AssertionError: if the shapes of `x1` and `x2` differ beyond the first axis, or
        `apply` does not return one vector per input.

    Example:
      >>> x = jnp.array([[1.0, 2.0], [0.0, 1.0]])
      >>> ntk = empirical_ntk(lambda weights, x: x @ weights.T, jnp.ones((1, 2)), x, x)
      >>> ntk[:, :, 0, 0].tolist()
      [[5.0, 2.0], [2.0, 1.0]]

    Source: Halvagal et al. 2023, Lemma 2; Novak et al. 2022, "Fast finite width neural
    tangent kernel", section 3.3.
    """
    chex.assert_equal_rank([x1, x2])
    chex.assert_equal_shape([x1, x2], dims=range(1, x1.ndim))
    z1, push_forward = jax.linearize(lambda params: apply(params, x1), params)
    chex.assert_shape(z1, (len(x1), None))
    outputs = jnp.eye(z1.shape[-1], dtype=z1.dtype)

    def columns(x: Array) -> Array:
        _, pull_back = jax.vjp(lambda params: apply(params, x[None])[0], params)
        return jax.lax.map(lambda output: push_forward(*pull_back(output)), outputs)

    return jax.lax.map(columns, x2).transpose(2, 0, 3, 1)


def ntk_velocity(ntk: Array, loss_gradients: Array, *, rate: float = 1.0) -> Array:
    """Computes the velocities of the representations, -rate sum_j K_ij g_j.

    Args:
      ntk: kernel K, shape (n1, n2, dim, dim).
      loss_gradients: gradients g of the summed loss with respect to the representations
        of the training inputs, shape (n2, dim).
      rate: learning rate of the gradient flow.

    Returns:
      Velocities, shape (n1, dim).

    Raises:
      AssertionError: if the shapes do not match.

    Example:
      >>> ntk = jnp.ones((1, 2, 1, 1))
      >>> ntk_velocity(ntk, jnp.array([[1.0], [2.0]]), rate=0.5).tolist()
      [[-1.5]]

    Source: Halvagal et al. 2023, Lemma 2.
    """
    chex.assert_rank([ntk, loss_gradients], [4, 2])
    n, dim = loss_gradients.shape
    chex.assert_shape(ntk, (None, n, dim, dim))
    return -rate * jnp.einsum(
        "ijab,jb->ia", ntk, loss_gradients, precision=jax.lax.Precision.HIGHEST
    )
