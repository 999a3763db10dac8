# %% [markdown]
# # Representation dynamics: the toy figures of the paper
#
# A linear network `z = W x` with the closed-form predictor `(W W^T)^alpha` learns from
# Gaussian inputs. Its singular vectors do not change. Its learning dynamics are
# therefore described completely by ordinary differential equations for the eigenvalues
# of the predictor. This notebook solves these equations and compares them with trained
# networks.

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
samples = 400  # new samples per step; 5,000 gives curves as smooth as the paper's
steps = 1_500
longest = {"euclidean": 1_000.0, "cosine": 50.0}

# %% [markdown]
# ## Theory and simulation in one cell

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
# Under the Euclidean losses every eigenvalue converges to one; under the iso loss all
# do so at the same rate. Without stop-gradient the modes collapse, and without a
# predictor the network does not learn. Under the cosine losses the eigenvalues become
# equal. Simulation and theory both include a small amount of noise on the second view.

# %%
curves = toys.eigenvalue_curves(key, steps=steps, samples=samples)
draw.draw_eigenvalue_curves(curves)

# %% [markdown]
# The appendix argues that the cosine loss without stop-gradient diverges. Under the
# exact gradient it does not. The norm of the weights is conserved. Without noise, all
# modes except the largest vanish; noise lets several survive. The table shows the three
# largest eigenvalues and, in the last column, the sum of all, which is the squared
# norm.

# %%
collapsing = curves["cosine_no_stop_gradient"].theory[:: steps // 5]
jnp.column_stack([collapsing[:, -3:], collapsing.sum(axis=1)])

# %% [markdown]
# ## The same losses with a ReLU (Fig. 5)

# %%
relu_curves = toys.eigenvalue_curves(
    key, activation="relu", steps=steps, samples=samples
)
draw.draw_eigenvalue_curves(relu_curves)

# %% [markdown]
# ## Fixed points of two eigenvalues (Fig. 4)
#
# Under the Euclidean loss both eigenvalues converge to one from any initialisation, the
# slower the smaller they are. Under the cosine loss they converge to the same value,
# half of their conserved sum.

# %%
draw.draw_initialization_curves(
    toys.initialization_curves(jax.random.key(1), steps=steps, samples=samples)
)

# %% [markdown]
# ## Phase portraits
#
# Arrows show the population flow; darker arrows are faster. Blue lines are solutions of
# the flow. Orange lines are two-neuron networks trained with the standard losses.

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
# The next figure shows the two components of a single sample under a fixed predictor.
# The cosine loss rotates the representation towards the mode with the smaller
# eigenvalue and preserves its norm.

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
# ## The advantage of the isotropic loss
#
# The time that a weak mode needs to converge in the presence of a strong one, as a
# function of its initial eigenvalue.

# %%
initial = jnp.geomspace(1e-3, 0.8, 13)
arrivals = {
    name: toys.convergence_times(
        name, initial, longest=longest[name.removeprefix("iso_")]
    )
    for name in names
}
draw.draw_convergence_times(initial, arrivals)
