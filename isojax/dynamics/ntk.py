"""The empirical neural tangent kernel, which turns loss gradients into velocities.

When the parameters of z = f(x) follow the gradient flow of a loss, each representation
moves by the gradients on all of them (Lemma 2):

  dz_i/dt = -rate sum_j K_ij dL/dz_j,    K_ij = (dz_i/dparams) (dz_j/dparams)^T.

For a linear network K_ij = (x_i . x_j) I in every orthonormal basis of the output
(Lemma 3). If inputs are orthonormal, each sample then follows its own gradient. For n
inputs from N(0, I / N) this holds to order sqrt(n / N), eq. 21; without the 1 / N, at N
times the rate. If inputs coincide in orthonormal clusters, each sample follows its
cluster's mean gradient at the cluster's size times the rate: the appendix's statement,
where the gradients in a cluster agree.

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
    """Products of the Jacobians of two batches of outputs, J(x1) J(x2)^T.

    One column at a time: a backward pass through one sample of x2, then a forward one
    through x1. No Jacobian is held, only copies of the parameters and activations.

    Args:
      apply: maps `params` and inputs (n, ...) to outputs (n, dim), each output a
        function of its own input alone. BatchNorm must use running statistics: in
        training it couples the samples, and the kernel would be wrong.
      params: parameters, any pytree of floating-point arrays.
      x1: inputs, shape (n1, ...).
      x2: inputs, shape (n2, ...).

    Returns:
      The kernel, shape (n1, n2, dim, dim): entry (i, j, a, b) is the product of the
      gradients of output a of x1_i and output b of x2_j. In the dtype of the outputs.

    Raises:
      AssertionError: if the inputs differ in more than their number, or `apply` does
        not return a vector for each.

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
    """Velocities of the representations, -rate sum_j K_ij g_j.

    Args:
      ntk: K, shape (n1, n2, dim, dim).
      loss_gradients: g, gradients of the summed loss on the representations of the
        inputs trained on, shape (n2, dim).
      rate: learning rate of the gradient flow.

    Returns:
      Velocities, shape (n1, dim).

    Raises:
      AssertionError: if the shapes do not fit.

    Source: Halvagal et al. 2023, Lemma 2.
    """
    chex.assert_rank([ntk, loss_gradients], [4, 2])
    n, dim = loss_gradients.shape
    chex.assert_shape(ntk, (None, n, dim, dim))
    return -rate * jnp.einsum(
        "ijab,jb->ia", ntk, loss_gradients, precision=jax.lax.Precision.HIGHEST
    )
