# %% [markdown]
# # Losses and predictor in ten minutes
#
# This notebook uses only pure functions of arrays: no network and no training loop. Two
# views of a batch of images give projections `z1` and `z2`. A closed-form predictor is
# computed from their correlation. The losses compare prediction and target.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from isojax import losses
from isojax.predictor import direct_predictor, update_correlation

jax.config.update("jax_enable_x64", True)

# %% [markdown]
# ## The predictor
#
# The correlation matrix `C` is a moving average of `E[z z^T]`. DirectPred uses its
# eigenvectors and the square root of its eigenvalues. In this example the modes have
# standard deviations from 1 to 0.1, so the eigenvalues of `C` range from 1 to 0.01 and
# those of the predictor from 1 to 0.1.

# %%
dim, batch = 8, 20_000
scales = jnp.geomspace(1, 0.1, dim)
key1, key2, key3 = jax.random.split(jax.random.key(0), 3)
rotation = jnp.linalg.qr(jax.random.normal(key1, (dim, dim)))[0]
z1 = (scales * jax.random.normal(key2, (batch, dim))) @ rotation
z2 = z1 + 0.1 * jax.random.normal(key3, (batch, dim)) * scales @ rotation

correlation = update_correlation(jnp.zeros((dim, dim)), z1, decay=0.0)
predictor = direct_predictor(correlation, alpha=0.5)
np.round(predictor.eigenvalues, 3)

# %% [markdown]
# The predictor is symmetric. The iso-cosine loss also needs its matrix square root.

# %%
np.abs(predictor.root @ predictor.root - predictor.matrix).max()

# %% [markdown]
# ## The losses
#
# Each loss takes vectors along the last axis and returns one value per sample.

# %%
prediction, root_prediction = z1 @ predictor.matrix, z1 @ predictor.root
values = {
    "euclidean": losses.euclidean_loss(prediction, z2),
    "cosine": losses.cosine_loss(prediction, z2),
    "iso_euclidean": losses.iso_euclidean_loss(z1, prediction, z2),
    "iso_cosine": losses.iso_cosine_loss(z1, prediction, root_prediction, z2),
}
{name: float(value.mean()) for name, value in values.items()}

# %% [markdown]
# ## What "isotropic" means
#
# The gradient of a standard loss with respect to `z1` is `W_P` times the gradient of
# the corresponding iso loss. A mode with a tenth of the eigenvalue therefore learns ten
# times more slowly under the standard loss, and at the same rate under the iso loss.


# %%
def standard(z1):
    return losses.cosine_loss(z1 @ predictor.matrix, z2).sum()


def iso(z1):
    return losses.iso_cosine_loss(
        z1, z1 @ predictor.matrix, z1 @ predictor.root, z2
    ).sum()


gradient, iso_gradient = jax.grad(standard)(z1), jax.grad(iso)(z1)
np.abs(gradient - iso_gradient @ predictor.matrix).max()

# %% [markdown]
# The gradients of each mode, in the eigenbasis of the predictor:

# %%
size = jnp.abs(gradient @ predictor.eigenvectors).mean(0)
iso_size = jnp.abs(iso_gradient @ predictor.eigenvectors).mean(0)

figure = Figure(figsize=(5, 3), layout="constrained")
axis = figure.subplots()
axis.loglog(predictor.eigenvalues, size, "o-", color="#0072B2", label="cosine")
axis.loglog(predictor.eigenvalues, iso_size, "s-", color="#D55E00", label="iso-cosine")
axis.set_xlabel("eigenvalue of $W_P$")
axis.set_ylabel("mean size of the gradient")
axis.legend(frameon=False)
figure

# %% [markdown]
# ## Stop-gradient
#
# The target is treated as a constant. So is the predictor, although it is computed from
# the projections: no gradient passes through `eigh`, whose gradient does not exist
# where eigenvalues coincide.


# %%
def through_everything(z1, z2):
    c = update_correlation(jnp.zeros((dim, dim)), z1, decay=0.0)
    w = direct_predictor(c, alpha=0.5)
    return losses.cosine_loss(z1 @ w.matrix, z2).sum()


on_z1, on_z2 = jax.grad(through_everything, argnums=(0, 1))(z1, z2)
float(jnp.abs(on_z2).max()), float(jnp.abs(on_z1 - gradient).max())
