# %% [markdown]
# # What the spectrum of the data does to the modes
#
# The theory of the paper assumes uncorrelated inputs. Real data have a few directions
# with a large variance and many with a small one. This notebook trains linear networks
# `z = W x` on inputs with such a spectrum, and solves the flow of their weights. Three
# questions: which directions of the inputs does the network represent, how fast does it
# learn them, and does the iso loss still make the modes equal?

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import matplotlib
from matplotlib.figure import Figure

from isojax import dynamics
from isojax.dynamics.input_spectra import input_spectrum_curves
from isojax.reporting.toys import draw_input_spectrum_curves

jax.config.update("jax_enable_x64", True)
matplotlib.rcParams["figure.dpi"] = 66
variances = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
covariance = jnp.diag(jnp.array(variances))

# %% tags=["parameters"]
losses = ("euclidean", "iso_euclidean", "cosine", "iso_cosine")
samples = 500  # new samples per step

# %% [markdown]
# ## Four losses
#
# Six inputs, three outputs. The upper row shows the eigenvalues of the predictor, the
# lower row the squared weights on each input direction.

# %%
curves = input_spectrum_curves(
    jax.random.key(8), variances, names=losses, samples=samples
)
draw_input_spectrum_curves(curves, variances)

# %% [markdown]
# ## Which directions win
#
# The gradient multiplies the weights by the covariance of the inputs. While the weights
# are small, those on a direction of variance s grow as exp(s t) under the iso-Euclidean
# loss. The smaller the weights at the start, the longer this phase, and the more the
# three directions with the largest variances dominate the outputs. With large weights
# at the start, the start decides instead.


# %%
def learnt_shares(deviation):
    """Shares of the variance of the outputs that each direction contributes."""
    weights = deviation * jax.random.normal(jax.random.key(8), (3, 6))
    times = jnp.linspace(0.0, 20.0, 200)
    *_, end = dynamics.solve_network(
        "iso_euclidean", weights, times, input_covariance=covariance
    )
    contributions = jnp.sum(jnp.square(end), axis=0) * jnp.array(variances)
    return contributions / contributions.sum()


for deviation in (1.0, 0.3, 0.1, 0.03, 0.01):
    shares = learnt_shares(deviation)
    print(
        f"deviation {deviation:4}: three leading directions {shares[:3].sum():.3f}, "
        f"of each {', '.join(f'{share:.3f}' for share in shares)}"
    )

# %% [markdown]
# ## At what rate
#
# One output per input direction, all with the same small eigenvalue at the start. With
# uncorrelated inputs, the iso loss would make all of them converge at the same time.
# Here the time is inversely proportional to the variance of the direction: the iso loss
# removes the dependence of the rate on the eigenvalue, but not the dependence on the
# data.

# %%
start = jnp.diag(jnp.sqrt(0.01 / jnp.array(variances)))
times = jnp.linspace(0.0, 45.0, 900)
flow = dynamics.solve_network(
    "iso_euclidean", start, times, input_covariance=covariance
)
eigenvalues = jnp.square(jnp.diagonal(flow, axis1=1, axis2=2)) * jnp.array(variances)
converged = times[jnp.argmax(eigenvalues > 0.9, axis=0)]
for variance, time in zip(variances, converged, strict=True):
    print(f"variance {variance:5}: time {time:6.2f}, product {variance * time:.2f}")

figure = Figure(figsize=(5.0, 3.0), layout="constrained")
axis = figure.subplots()
axis.plot(times, eigenvalues, label=[f"{variance:g}" for variance in variances])
axis.set(xlabel="time (1/rate)", ylabel="eigenvalue of $W_P$", title="Iso-Euclidean")
axis.legend(title="input variance", frameon=False)
figure

# %% [markdown]
# ## Does the iso loss still equalise?
#
# Yes, in the end. All eigenvalues of the outputs' covariance become 1, the same value
# as for uncorrelated inputs. The network compensates for directions that vary little
# by large weights: the squared weights are 1/s.

# %%
end = dynamics.fixed_point("iso_euclidean", eigenvalues[0])
print("eigenvalues at the end:", eigenvalues[-1].round(3))
print(f"fixed point: {end.eigenvalues.round(3)}, {end.stability}")
print("squared weights:", jnp.square(jnp.diagonal(flow[-1])).round(3))
