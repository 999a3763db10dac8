"""Dynamics of representations and eigenvalues during learning."""

from isojax.dynamics import velocities as velocities
from isojax.dynamics.fixed_points import FixedPoint as FixedPoint
from isojax.dynamics.fixed_points import fixed_point as fixed_point
from isojax.dynamics.flow import eigenvalue_flow as eigenvalue_flow
from isojax.dynamics.network_flow import solve_network as solve_network
from isojax.dynamics.networks import simulate_network as simulate_network
from isojax.dynamics.ntk import empirical_ntk as empirical_ntk
from isojax.dynamics.ntk import ntk_velocity as ntk_velocity
from isojax.dynamics.solve import solve_eigenvalues as solve_eigenvalues
