"""The examples in the docstrings of the mathematics and the augmentation."""

import doctest
import inspect

import pytest

from isojax import losses, predictor, schedules, spectral
from isojax.data import augment
from isojax.dynamics import (
    expectations,
    fixed_points,
    flow,
    network_flow,
    networks,
    ntk,
    quadrature,
    solve,
    toys,
    velocities,
    wishart,
)

MODULES = [losses, predictor, schedules, spectral]
MODULES += [expectations, flow, networks, ntk, quadrature, solve, toys, velocities]
MODULES += [fixed_points, network_flow, wishart]
# Used inside `dynamics` only, with arguments that have been checked.
INTERNAL = {"check_flow", "growth_rates", "log_flow", "network_velocity"}


def public_functions(module):
    return {
        name
        for name, value in inspect.getmembers(module, callable)
        if inspect.isfunction(inspect.unwrap(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_function_has_an_example_that_runs(module):
    tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    names = {test.name.removeprefix(f"{module.__name__}.") for test in tests}
    assert names == public_functions(module) - INTERNAL
    runner = doctest.DocTestRunner(verbose=False)
    report = []
    for test in tests:
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.long
def test_every_exported_augmentation_has_an_example_that_runs():
    functions = {n: f for n, f in vars(augment).items() if inspect.isfunction(f)}
    assert "simclr_view" in functions
    runner, report = doctest.DocTestRunner(verbose=False), []
    for name, function in functions.items():
        (test,) = doctest.DocTestFinder(recurse=False).find(function, name)
        assert test.examples, name
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
