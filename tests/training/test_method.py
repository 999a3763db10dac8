import itertools

import pytest
from ml_collections import ConfigDict

from configs import digits
from isojax.errors import UsageError
from isojax.training.method import CHOICES, STANDARD_LOSSES, check_method


def method(**changes):
    return ConfigDict(digits.get_config().method.to_dict() | changes)


def is_accepted(**changes):
    try:
        check_method(method(**changes))
    except UsageError as error:
        assert "set config.method." in str(error)
        return False
    return True


@pytest.mark.parametrize(
    "combination",
    list(itertools.product(*CHOICES.values(), (True, False))),
    ids=lambda combination: "-".join(map(str, combination)),
)
def test_exactly_the_sensible_combinations_are_accepted(combination):
    metric, form, predictor, target, stop_gradient = combination
    iso = form != "standard"
    sensible = (
        not (iso and predictor not in ("directpred", "directcopy"))
        and not (iso and not stop_gradient)
        and not (form == "iso_product" and metric == "cosine")
        and not (target == "ema" and not stop_gradient)
    )
    assert (
        is_accepted(
            metric=metric,
            form=form,
            predictor=predictor,
            target=target,
            stop_gradient=stop_gradient,
        )
        == sensible
    )


def test_a_loss_of_ones_own_has_no_iso_form(monkeypatch):
    monkeypatch.setitem(STANDARD_LOSSES, "own", STANDARD_LOSSES["cosine"])
    assert is_accepted(metric="own", form="standard")
    assert not is_accepted(metric="own", form="iso")


def test_an_unknown_choice_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="'l2' is not one of euclidean, cosine"):
        check_method(method(metric="l2"))
