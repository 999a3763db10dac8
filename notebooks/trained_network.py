# %% [markdown]
# # A trained network beside the theory
#
# Reads the spectrum that a run of `train.py` leaves behind and lays the population flow
# of a linear network beside it. The flow knows only the first spectrum; one number, how
# much of its time passes in an epoch, is fitted.

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
    raise FileNotFoundError(f"no {path}: run `make demo` first, or set workdir")
saved = np.load(path)
is_late = saved["epoch"] >= first_epoch
epochs = saved["epoch"][is_late]
spectrum = saved["eigenvalues"][is_late]
spectrum = np.maximum(spectrum / spectrum.max(axis=1, keepdims=True), 1e-6)
spectrum.shape

# %% [markdown]
# The predictor's eigenvalues are those of the correlation, divided by the largest, to
# the power `alpha`. The cosine losses know no absolute size, so both sides are shown
# relative to the largest mode.

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
# What agrees is the order of events, the large modes pulling up the small ones. What
# does not agree is what a linear network of Gaussian inputs leaves out: the tangent
# kernel of a deep network moves, weight decay and momentum act, the views are far from
# equal, and how many modes grow is decided by the data.
