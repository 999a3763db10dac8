# %% [markdown]
# # A trained network compared with the theory
#
# This notebook reads the spectrum recorded by a run of `train.py` and compares it with
# the population flow of a linear network. The flow starts from the spectrum of epoch
# `first_epoch`. Only one parameter is fitted: the flow time per epoch.

# %%
# %matplotlib inline
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from isojax.dynamics import solve_eigenvalues

jax.config.update("jax_enable_x64", True)

# %% tags=["parameters"]
workdir = "../runs/demo"
first_epoch = 2
name = "iso_cosine"
alpha = 0.5

# %%
path = Path(workdir) / "spectrum.npz"
if not path.exists():
    raise FileNotFoundError(f"{path} is missing: run `make demo`, or set workdir")
saved = np.load(path)
is_late = saved["epoch"] >= first_epoch
epochs = saved["epoch"][is_late]
spectrum = saved["eigenvalues"][is_late]
spectrum = np.maximum(spectrum / spectrum.max(axis=1, keepdims=True), 1e-6)
spectrum.shape

# %% [markdown]
# The eigenvalues of the predictor are those of the correlation, divided by the largest
# and raised to the power `alpha`. The cosine losses do not depend on the absolute
# scale, so both spectra are shown relative to the largest mode.

# %%
start = jnp.asarray(spectrum[0] ** alpha)


def flow(rate):
    times = jnp.asarray(epochs - epochs[0], jnp.float64)
    solution = solve_eigenvalues(name, start, times, alpha=alpha, rate=rate)
    return (solution / solution.max(axis=1, keepdims=True)) ** (1 / alpha)


def distance(rate):
    return float(np.mean(np.square(np.log(flow(rate)) - np.log(spectrum))))


rates = np.geomspace(1e-3, 1, 13)
rate = min(rates, key=distance)
theory = flow(rate)
rate, distance(rate)

# %%
figure = Figure(figsize=(7, 3), layout="constrained")
for axis, values, title in zip(
    figure.subplots(1, 2, sharey=True),
    (spectrum, theory),
    ("trained network", f"{name} flow, {rate:.2g} of its time an epoch"),
    strict=True,
):
    axis.semilogy(epochs, values, color="#0072B2", linewidth=0.7)
    axis.set_xlabel("epoch")
    axis.set_title(title, fontsize=10)
figure.axes[0].set_ylabel("eigenvalue of C, relative")
figure

# %% [markdown]
# The order of events agrees: the large modes pull up the small ones. The differences
# are due to effects that a linear network with Gaussian inputs does not have. The
# tangent kernel of a deep network changes, weight decay and momentum have an effect,
# the two views differ strongly, and the data determine how many modes grow.
