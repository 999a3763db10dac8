import pytest

from isojax.errors import UsageError, choose


def test_a_choice_is_looked_up_by_its_name():
    assert choose("config.target", "ema", {"ema": 1, "online": 2}) == 1


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="config.target=em: .* ema, online$"):
        choose("config.target", "em", {"ema": 1, "online": 2})
