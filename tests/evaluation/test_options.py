import pytest

from isojax.errors import UsageError
from isojax.evaluation import options


def test_options_are_read_in_any_order():
    assert options.parse_protocols("online, linear") == ("linear", "online")
    assert options.parse_fractions("1,0.01,0.1") == (0.01, 0.1, 1.0)
    assert options.parse_steps("20,10,20") == (10, 20)
    assert options.parse_steps("all") == "all"
    assert options.parse_steps(None) is None


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (options.parse_protocols, "linear,svm", "--protocol=linear,svm: .*'svm'"),
        (options.parse_fractions, "0.1,2", "--label_fractions=0.1,2: '2'"),
        (options.parse_fractions, "0", "--label_fractions=0: '0'"),
        (options.parse_fractions, "nan", "--label_fractions=nan: 'nan'"),
        (options.parse_fractions, "some", "--label_fractions=some: 'some'"),
        (options.parse_steps, "10,last", "--steps=10,last: "),
    ],
)
def test_invalid_options_are_refused(parse, text, message):
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_fields_of_the_encoder_are_refused():
    assert options.check_data_fields({"data.name": "mnist"}) == {
        "name": "mnist",
        "folder": "",
    }
    for name in ("data.mean", "seed"):
        with pytest.raises(UsageError, match=f"--config.{name} .*data.name"):
            options.check_data_fields({name: 1})
    for fraction in (-0.5, 1.0):
        with pytest.raises(UsageError, match=str(fraction)):
            options.check_data_fields({"data.validation_fraction": fraction})


def test_a_folder_is_chosen_instead_of_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options.check_data_fields({"data.folder": "photos"}) == {
        "name": "folder",
        "folder": str(tmp_path / "photos"),
    }
    both = {"data.folder": "photos", "data.name": "mnist"}
    with pytest.raises(UsageError, match="name=mnist and --config.data.folder=photos"):
        options.check_data_fields(both)
