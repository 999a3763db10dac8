# %% [markdown]
# # Representation dynamics: the toy figures of the paper
#
# A linear network `z = W x` with the closed-form predictor `(W W^T)^alpha` learns from
# Gaussian inputs. Its singular vectors stay where they are, so that a few ordinary
# differential equations for the predictor's eigenvalues say all about it. Here they are
# solved and laid over trained networks.

# %%
# %matplotlib inline
import jax
import jax.numpy as jnp
import matplotlib

from isojax import dynamics
from isojax.dynamics import toys
from isojax.reporting import toys as draw

jax.config.update("jax_enable_x64", True)
matplotlib.rcParams["figure.dpi"] = 66

# %% tags=["parameters"]
samples = 400  # fresh ones in each step; 5,000 for curves as smooth as the paper's
steps = 1_500
two_neuron_steps = 2_000
longest = {"euclidean": 1_000.0, "cosine": 50.0}

# %% [markdown]
# ## Theory over simulation in one cell

# %%
key = jax.random.key(0)
weights = 0.25 * jax.random.normal(key, (10, 15), jnp.float32)
trained = dynamics.simulate_network(
    "iso_euclidean", weights, steps=steps, learning_rate=0.01, samples=samples, key=key
)
times = 0.01 * jnp.arange(steps)
theory = dynamics.solve_eigenvalues(
    "iso_euclidean", trained.eigenvalues[0].astype(float), times, view_noise=(0.0, 0.1)
)
draw.draw_eigenvalue_curves(
    {"iso_euclidean": toys.Curves(times, trained.eigenvalues, theory)}
)

# %% [markdown]
# ## Eight losses (Fig. 2)
#
# The Euclidean losses bring every eigenvalue to one, the iso loss all at one rate.
# Without stop-gradient the modes collapse; without a predictor nothing is learnt. The
# cosine losses make eigenvalues equal. The theory of the cosine losses leaves out the
# small noise that the simulation puts on the second view.

# %%
curves = toys.eigenvalue_curves(key, steps=steps, samples=samples)
draw.draw_eigenvalue_curves(curves)

# %% [markdown]
# The appendix argues that the cosine loss without stop-gradient diverges. The exact
# gradient does not: it keeps the norm of the weights (the last column, beside the three
# largest eigenvalues), and the modes vanish but for the largest. In the panel above,
# noise on the second view lets several survive, which the theory without noise does not
# know.

# %%
collapsing = curves["cosine_no_stop_gradient"].theory[:: steps // 5]
jnp.column_stack([collapsing[:, -3:], collapsing.sum(axis=1)])

# %% [markdown]
# ## The same with a ReLU (Fig. 5)

# %%
relu_curves = toys.eigenvalue_curves(
    key, activation="relu", steps=steps, samples=samples
)
draw.draw_eigenvalue_curves(relu_curves)

# %% [markdown]
# ## Where two eigenvalues end (Fig. 4)
#
# Under the Euclidean loss both end at one wherever they start; under the cosine loss
# they end equal, at half their conserved sum.

# %%
draw.draw_initialization_curves(
    toys.initialization_curves(
        jax.random.key(1), steps=two_neuron_steps, samples=samples
    )
)

# %% [markdown]
# ## Phase portraits
#
# Arrows: the population flow, darker where it is faster. Blue: its solutions. Orange:
# two-neuron networks trained on the standard losses.

# %%
names = ("euclidean", "iso_euclidean", "cosine", "iso_cosine")
starts = jnp.array([[0.1, 0.5], [0.9, 0.15], [1.3, 0.6], [0.4, 1.3]])
draw.draw_eigenvalue_portraits(
    {name: toys.eigenvalue_portrait(name, starts, time=40.0) for name in names},
    {
        name: toys.two_neuron_trajectories(
            name, starts, key, steps=steps, samples=samples
        )
        for name in ("euclidean", "cosine")
    },
)

# %% [markdown]
# One sample's two components under a predictor held fixed. The cosine loss turns the
# representation towards the mode with the smaller eigenvalue and keeps its length.

# %%
fixed = jnp.array([0.3, 1.2])
samples = jnp.array([[0.3, 1.0], [-0.2, 0.6], [1.2, -1.0], [-1.0, -0.3]])
draw.draw_representation_portraits(
    {
        name: toys.representation_portrait(name, fixed, samples, time=10.0)
        for name in names
    },
    fixed.tolist(),
)

# %% [markdown]
# ## What isotropic buys
#
# The time that a weak mode needs beside a strong one, against its first eigenvalue.

# %%
initial = jnp.geomspace(1e-3, 0.8, 13)
arrivals = {
    name: toys.convergence_times(
        name, initial, longest=longest[name.removeprefix("iso_")]
    )
    for name in names
}
draw.draw_convergence_times(initial, arrivals)
