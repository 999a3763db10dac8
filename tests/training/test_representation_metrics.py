import jax
import numpy as np
import pytest

from isojax import spectral
from isojax.training.representation_metrics import (
    products_of,
    representation_metrics,
)


def representations(n, dim, decay):
    """Rows whose singular values fall by a factor of `decay` from first to last."""
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.normal(size=(n, min(n, dim))))[0]
    right = np.linalg.qr(rng.normal(size=(dim, dim)))[0][: min(n, dim)]
    return left * np.geomspace(1, decay, min(n, dim)) @ right


def rank_on_host(z):
    row = representation_metrics(
        products_of(z), z.sum(axis=0, dtype=np.float64), len(z)
    )
    return row["eval/effective_rank"]


@pytest.mark.parametrize(
    ("n", "dim"), [(40, 12), (12, 12), (7, 12)], ids=["tall", "square", "wide"]
)
@pytest.mark.parametrize("decay", [1.0, 1e-2, 1e-6])
def test_the_rank_of_the_gram_matrix_is_that_of_the_svd(n, dim, decay, x64):
    z = representations(n, dim, decay) + 0.1  # whose mean RankMe does not remove
    np.testing.assert_allclose(rank_on_host(z), spectral.effective_rank(z), rtol=1e-6)


def test_the_rank_of_float32_representations_is_the_former_one():
    z = np.maximum(np.random.default_rng(0).normal(size=(300, 40)), 0)
    z = z.astype(np.float32) * np.geomspace(1, 1e-3, 40, dtype=np.float32)
    np.testing.assert_allclose(
        rank_on_host(z), jax.jit(spectral.effective_rank)(z), rtol=1e-5
    )


@pytest.mark.parametrize("n", [5, 30])
def test_the_rank_of_zeros_is_0_and_of_one_direction_1(n):
    assert rank_on_host(np.zeros((n, 8), np.float32)) == 0
    rng = np.random.default_rng(0)
    one = np.outer(rng.normal(size=n), rng.normal(size=64)).astype(np.float32)
    # Products in float32 would change this by several times the tolerance.
    np.testing.assert_allclose(rank_on_host(one), 1, atol=3e-4)


def test_exponent_and_eigenvalue_sum_are_those_of_the_centred_covariance(x64):
    """Eigenvalues 1, 1/4 and 1/9 around a mean that dominates the products."""
    n = 12
    left = np.random.default_rng(0).normal(size=(n, 3))
    left = np.linalg.qr(left - left.mean(axis=0))[0]
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    z = np.sqrt(n) * (left * [1, 1 / 2, 1 / 3]) @ rotation + np.array([7.0, 2.0, -5.0])
    row = representation_metrics(products_of(z), z.sum(axis=0), n)
    assert row["eval/alpha_req"] == pytest.approx(2, rel=1e-6)
    assert row["eval/nesum"] == pytest.approx(1 + 1 / 4 + 1 / 9, rel=1e-6)
    assert row["eval/effective_rank"] == pytest.approx(
        float(spectral.effective_rank(z)), rel=1e-6
    )


def test_constant_representations_have_no_exponent():
    z = np.ones((5, 3))
    row = representation_metrics(products_of(z), z.sum(axis=0), len(z))
    assert row.keys() == {"eval/effective_rank", "eval/nesum"}
    assert row["eval/nesum"] == 0
