"""The runs of a sweep. Imports no JAX, so that errors in flags appear at once."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from ml_collections import ConfigDict

from isojax.errors import UsageError

_TARGETS = {"true": True, "false": False}
_NAME = re.compile(r"(?P<method>\w+)-(?P<target>ema|noema)-seed(?P<seed>\d+)")
# Fields that the sweep sets, with the flags for them.
_OWN_FIELDS = {
    "seed": "--seeds",
    "preset": "--methods",
    "method.target": "--ema",
}


class SweepRun(NamedTuple):
    """One run of a sweep.

    Attributes:
      method: the preset without its ending.
      ema: whether the target is a moving average of the online network.
      seed: the seed, from 0.
    """

    method: str
    ema: bool
    seed: int

    @property
    def preset(self) -> str:
        """The preset of the config file."""
        return f"{self.method}_{self._ending}"

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return f"{self.method}-{self._ending}-seed{self.seed}"

    @property
    def title(self) -> str:
        """A description of the run."""
        return f"{self.method}, {'EMA' if self.ema else 'no EMA'}, seed {self.seed}"

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        """Returns the run whose folder has this name, or None."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return cls(match["method"], match["target"] == "ema", int(match["seed"]))

    @property
    def _ending(self) -> str:
        return "ema" if self.ema else "noema"


class Plan(NamedTuple):
    """The runs of a sweep.

    Attributes:
      configs: the config of each run, in the order in which they run.
      twins: for each preset that is left out, the preset with the same settings that
        runs instead.
    """

    configs: dict[SweepRun, ConfigDict]
    twins: dict[str, str]


def plan_runs(
    read_config: Callable[[str], ConfigDict],
    *,
    methods: Sequence[str],
    targets: Sequence[str],
    seeds: int,
) -> Plan:
    """Combines methods, targets and seeds.

    All methods run with one seed before the next seed starts, so that the table of an
    unfinished sweep compares methods. Presets that differ in their names only, such as
    BYOL and SimSiam with the same target, run once.

    Args:
      read_config: returns the config of a preset.
      methods: presets without an ending.
      targets: "true" for a moving average, "false" for the online network, or both.
      seeds: the number of seeds, from 0.

    Raises:
      UsageError: if a method or target does not exist, or `seeds` is not positive.
    """
    if not methods:
        raise UsageError(
            "--methods is not set; choose presets, such as --methods=byol,isoloss"
        )
    if not targets or set(targets) - set(_TARGETS):
        raise UsageError(f"--ema={','.join(targets)}: write true, false or true,false")
    if seeds < 1:
        raise UsageError(f"--seeds={seeds}: set it above 0")
    for method in methods:
        _check_method(method, read_config)
    presets: dict[SweepRun, ConfigDict] = {}
    twins: dict[str, str] = {}
    for method in methods:
        for target in targets:
            run = SweepRun(method, _TARGETS[target], seed=0)
            if run in presets:
                continue  # a method that is given twice
            config = read_config(run.preset)
            twin = next((r for r, c in presets.items() if _are_twins(c, config)), None)
            if twin is None:
                presets[run] = config
            else:
                twins[run.preset] = twin.preset
    configs = {
        run._replace(seed=seed): with_seed(config, seed)
        for seed in range(seeds)
        for run, config in presets.items()
    }
    return Plan(configs, twins)


def check_fields(fields: Sequence[str], *, config_argument: str) -> None:
    """Checks that no field is set that the sweep sets.

    Args:
      fields: the names of the config fields that are set on the command line.
      config_argument: the value of `--config`.

    Raises:
      UsageError: if one is, with the flag to use instead.
    """
    if ":" in config_argument:
        raise UsageError(
            f"--config={config_argument}: remove the preset, and choose presets with "
            "--methods"
        )
    for field in fields:
        if field in _OWN_FIELDS:
            raise UsageError(
                f"--config.{field} differs between runs; use {_OWN_FIELDS[field]}"
            )


def check_effects(
    fields: Mapping[str, Any], effects: Sequence[Mapping[str, str | None]]
) -> None:
    """Checks that every field has an effect in at least one preset of a sweep.

    Args:
      fields: the values set on the command line, by dotted name.
      effects: for each preset, and each field that differs from its default, the reason
        why it has no effect, or None if it has one.

    Raises:
      UsageError: with the first field that has an effect in none.
    """
    for name, value in fields.items():
        reasons = [effect[name] for effect in effects if name in effect]
        if reasons and all(reasons):
            raise UsageError(
                f"--config.{name}={value} has no effect in any run: {reasons[0]}"
            )


def with_seed(config: ConfigDict, seed: int) -> ConfigDict:
    """Returns a copy of a config with another seed."""
    config = config.copy_and_resolve_references()
    config.seed = seed
    return config


def _check_method(method: str, read_config: Callable[[str], ConfigDict]) -> None:
    for ending in ("_ema", "_noema"):
        if method.endswith(ending):
            raise UsageError(
                f"--methods={method}: write {method.removesuffix(ending)}, and choose "
                "the target with --ema"
            )
    try:
        read_config(method)
    except UsageError as error:
        raise UsageError(f"--methods={method}: {error}") from error


def _are_twins(one: ConfigDict, other: ConfigDict) -> bool:
    return one.to_dict() | {"preset": ""} == other.to_dict() | {"preset": ""}
