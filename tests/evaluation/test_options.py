import pytest

from isojax.errors import UsageError
from isojax.evaluation import options


def test_what_is_asked_for_is_read_in_any_order():
    assert options.parse_protocols("online, linear") == ("linear", "online")
    assert options.parse_fractions("1,0.01,0.1") == (0.01, 0.1, 1.0)
    assert options.parse_steps("20,10,20") == (10, 20)
    assert options.parse_steps("all") == "all"
    assert options.parse_steps(None) is None


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (options.parse_protocols, "linear,svm", "no protocol 'svm'; choose among"),
        (options.parse_fractions, "0.1,2", "'2' is no fraction"),
        (options.parse_fractions, "0", "'0' is no fraction"),
        (options.parse_fractions, "nan", "'nan' is no fraction"),
        (options.parse_fractions, "some", "'some' is no fraction"),
        (options.parse_steps, "10,last", "--steps=10,last: write all, or steps"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(parse, text, message):
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_fields_of_the_encoder_are_refused():
    assert options.check_data_fields({"data.name": "mnist"}) == {"name": "mnist"}
    for name in ("data.mean", "seed"):
        with pytest.raises(UsageError, match=f"--config.{name} belongs to the trained"):
            options.check_data_fields({name: 1})
    for fraction in (-0.5, 1.0):
        with pytest.raises(UsageError, match="set it to at least 0, below 1"):
            options.check_data_fields({"data.validation_fraction": fraction})
