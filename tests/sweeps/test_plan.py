import pytest

from isojax.configs import cifar10, digits
from isojax.errors import UsageError
from isojax.sweeps.plan import SweepRun, check_fields, plan_runs


def plan(methods, targets=("true", "false"), seeds=1, read_config=digits.get_config):
    return plan_runs(read_config, methods=methods, targets=targets, seeds=seeds)


def test_every_combination_runs_a_seed_of_all_first():
    runs = list(plan(["isoloss", "directpred"], seeds=2).configs)
    assert [run.name for run in runs] == [
        "isoloss-ema-seed0",
        "isoloss-noema-seed0",
        "directpred-ema-seed0",
        "directpred-noema-seed0",
        "isoloss-ema-seed1",
        "isoloss-noema-seed1",
        "directpred-ema-seed1",
        "directpred-noema-seed1",
    ]
    assert [SweepRun.from_name(run.name) for run in runs] == runs


def test_each_run_has_the_settings_of_its_preset_and_its_seed():
    configs = plan(["isoloss"], seeds=3).configs
    config = configs[SweepRun("isoloss", False, 2)]
    assert (config.seed, config.preset) == (2, "isoloss_noema")
    assert config.optimizer.learning_rate == 0.05
    assert configs[SweepRun("isoloss", True, 0)].optimizer.learning_rate == 0.1


def test_presets_with_the_same_settings_run_once():
    made = plan(["simsiam", "byol", "simsiam"])
    assert [run.preset for run in made.configs] == ["simsiam_ema", "simsiam_noema"]
    assert made.twins == {"byol_ema": "simsiam_ema", "byol_noema": "simsiam_noema"}


def test_the_official_recipe_is_a_method_like_others():
    made = plan(["official_byol"], ["true"], read_config=cifar10.get_config)
    (config,) = made.configs.values()
    assert config.optimizer.name == "lars"


def test_other_folders_are_no_runs():
    for name in ("records", "byol", "byol-ema", "byol-ema-seedx", "x/byol-ema-seed0"):
        assert SweepRun.from_name(name) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": []}, "--methods.*--methods=byol,isoloss"),
        ({"methods": ["byoll"]}, "--methods=byoll: .*'byoll'"),
        ({"methods": ["byol_ema"]}, "--methods=byol_ema: write byol, .* --ema"),
        ({"methods": ["byol"], "seeds": 0}, "--seeds=0: "),
        ({"methods": ["byol"], "targets": ["yes"]}, "--ema=yes: "),
        ({"methods": ["byol"], "targets": []}, "--ema=: "),
    ],
)
def test_mistakes_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        plan(**arguments)


def test_what_the_sweep_sets_itself_is_refused():
    check_fields(["epochs", "method.target_decay"], config_argument="digits.py")
    with pytest.raises(UsageError, match=r"config\.method\.target .*--ema"):
        check_fields(["method.target"], config_argument="digits.py")
    with pytest.raises(UsageError, match="--config=digits.py:byol: .*--methods"):
        check_fields([], config_argument="digits.py:byol")
