# %% [markdown]
# # The neural tangent kernel: when the theory holds, and when it does not
#
# The theory describes representations instead of weights. Lemma 2 connects the two: the
# velocity of each representation is a sum of the loss gradients of all samples,
# weighted by the neural tangent kernel.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from matplotlib.figure import Figure

from isojax.dynamics import empirical_ntk, ntk_velocity, velocities

jax.config.update("jax_enable_x64", True)

# %% tags=["parameters"]
dimensions = (16, 64, 256, 1024, 4096)
samples = 8

# %% [markdown]
# ## Lemma 2 in a real network
#
# This section compares a small gradient step of a network with one hidden layer to the
# velocity that the kernel predicts. The relative error decreases with the step size.
# The lemma is exact in the limit.


# %%
class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.tanh(nn.Dense(32)(x)))


network = Network()
key1, key2, key3 = jax.random.split(jax.random.key(0), 3)
x = jax.random.normal(key1, (samples, 10))
targets = jax.random.normal(key2, (samples, 3))
params = network.init(key3, x)
params = jax.tree.map(lambda p: p.astype(jnp.float64), params)


def loss(params):
    return 0.5 * jnp.sum((network.apply(params, x) - targets) ** 2)


kernel = empirical_ntk(network.apply, params, x, x)
predicted = ntk_velocity(kernel, network.apply(params, x) - targets)


def error(step):
    moved = jax.tree.map(lambda p, g: p - step * g, params, jax.grad(loss)(params))
    velocity = (network.apply(moved, x) - network.apply(params, x)) / step
    return float(jnp.linalg.norm(velocity - predicted) / jnp.linalg.norm(predicted))


{step: error(step) for step in (1e-2, 1e-3, 1e-4)}

# %% [markdown]
# ## Samples decouple in high dimension (eq. 21)
#
# For a linear network the kernel is `x_i . x_j` times the identity. Gaussian inputs
# with variance `1/N` become orthonormal as their dimension `N` grows. Each sample then
# follows its own gradient, which is the velocity of Theorem 2.

# %%
eigenvalues = jnp.array([0.2, 0.6, 1.0])


def decoupling_error(n, key):
    inputs = jax.random.normal(key, (samples, n)) / jnp.sqrt(n)
    weights = jax.random.normal(jax.random.fold_in(key, 1), (n, 3))
    z = inputs @ weights
    own = velocities.cosine(z, z, eigenvalues)
    kernel = empirical_ntk(lambda w, x: x @ w, weights, inputs, inputs)
    true = ntk_velocity(kernel, -own)
    return jnp.linalg.norm(true - own) / jnp.linalg.norm(own)


keys = jax.random.split(jax.random.key(1), 20)
errors = [
    float(np.mean([decoupling_error(n, key) for key in keys])) for n in dimensions
]

figure = Figure(figsize=(5, 3), layout="constrained")
axis = figure.subplots()
axis.loglog(dimensions, errors, "o", color="#0072B2", label="measured")
line = errors[0] * np.sqrt(dimensions[0] / np.asarray(dimensions))
axis.loglog(dimensions, line, "--", color="0.4", label="$1/\\sqrt{N}$")
axis.set_xlabel("dimension N of the inputs")
axis.set_ylabel("relative error of the velocity")
axis.legend(frameon=False)
figure

# %% [markdown]
# ## When the samples do not decouple
#
# Inputs with a common non-zero mean are not orthogonal in any dimension. One direction
# of the kernel couples all samples, and the velocity of a sample is no longer its own
# gradient.


# %%
def coupled_error(mean, n=1024):
    noise = jax.random.normal(jax.random.key(2), (samples, n))
    inputs = (noise + mean) / jnp.sqrt(n * (1 + mean**2))
    z = inputs @ jax.random.normal(jax.random.key(3), (n, 3))
    own = velocities.cosine(z, z, eigenvalues)
    true = (inputs @ inputs.T) @ own
    return float(jnp.linalg.norm(true - own) / jnp.linalg.norm(own))


{mean: round(coupled_error(mean), 3) for mean in (0.0, 0.3, 1.0, 3.0)}

# %% [markdown]
# A hidden layer couples the samples too. The kernel of the network above is far from a
# multiple of the identity.

# %%
gram = np.asarray(jnp.einsum("ijaa->ij", kernel))
np.round(gram / np.trace(gram) * samples, 2)
