import jax
import numpy as np

from isojax.training.state import random_key


def test_the_key_of_a_seed_below_32_bits_is_jax_s():
    for seed in (0, 1, 2**32 - 1):
        ours, theirs = random_key(seed), jax.random.key(seed)
        np.testing.assert_array_equal(
            jax.random.key_data(ours), jax.random.key_data(theirs)
        )


def test_the_key_has_all_64_bits_of_the_seed(x64):
    theirs = jax.random.key(np.uint64(2**63 + 2**32 + 5))
    ours = random_key(2**63 + 2**32 + 5)
    np.testing.assert_array_equal(
        jax.random.key_data(ours), jax.random.key_data(theirs)
    )


def test_seeds_that_differ_above_32_bits_give_other_weights(tiny_network):
    network = tiny_network("mlp", None)

    def kernel(seed):
        variables = network.init(
            random_key(seed), np.zeros((1, 8, 8, 1), np.float32), method="initialize"
        )
        return variables["params"]["projector"]["hidden"]["kernel"]

    assert not np.array_equal(kernel(0), kernel(2**32))
