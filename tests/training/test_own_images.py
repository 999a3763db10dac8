"""Runs on images that the user passes as arrays, with and without labels."""

import json
from functools import partial

import numpy as np
import pytest

from isojax.data import from_arrays
from isojax.errors import UsageError
from isojax.evaluation import Options, evaluate_run
from isojax.evaluation.images import changes_of, load_images
from isojax.reporting.html_report import write_report
from isojax.runs.config_file import load_config
from isojax.training import pretrain
from isojax.training.assembly import with_normalization
from isojax.training.run_data import load_run_data
from tests.training.small_run import small_config

pytestmark = pytest.mark.usefixtures("small_run")
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (96, 28, 28, 1), dtype=np.uint8)
LABELS = np.arange(96) % 3
TEST = {
    "test_images": RNG.integers(0, 256, (40, 28, 28, 1), dtype=np.uint8),
    "test_labels": np.arange(40) % 3,
}


def config_of(**fields):
    config = small_config()
    config.epochs = 1
    config.optimizer.warmup_epochs = 0.0
    config.update(fields)
    return config


def rows_of(workdir):
    text = (workdir / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_an_array_is_not_a_data_set(tmp_path):
    for call in (partial(pretrain, config_of()), evaluate_run):
        with pytest.raises(UsageError, match="type ndarray; .*from_arrays"):
            call(tmp_path / "run", dataset=IMAGES)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def labelled_run(small_run, tmp_path_factory):
    dataset = from_arrays(IMAGES, LABELS, **TEST)
    return pretrain(config_of(), tmp_path_factory.mktemp("own") / "a", dataset=dataset)


@pytest.fixture(scope="module")
def unlabelled_run(small_run, tmp_path_factory):
    dataset = from_arrays(IMAGES, test_images=TEST["test_images"])
    workdir = tmp_path_factory.mktemp("own") / "b"
    return pretrain(config_of(), workdir, dataset=dataset)


@pytest.mark.long
def test_the_config_describes_the_arrays(labelled_run):
    data = load_config(labelled_run).data
    assert (data.name, data.folder, data.resolution) == ("arrays", "", 28)
    pixels = IMAGES / 255
    np.testing.assert_allclose(data.mean, [pixels.mean()], atol=1e-4)
    np.testing.assert_allclose(data.std, [pixels.std()], atol=1e-4)
    assert len(data.images_checksum) == len(data.labels_checksum) == 8


@pytest.mark.long
def test_the_run_trains_on_the_arrays_and_is_evaluated_on_them(labelled_run):
    rows = rows_of(labelled_run)
    assert [row["step"] for row in rows] == [3]
    assert {"eval/online_accuracy", "train/probe_loss"} <= rows[0].keys()
    result = evaluate_run(labelled_run, dataset=from_arrays(IMAGES, LABELS, **TEST))
    assert (result["num_train"], result["num_test"]) == (96, 40)
    assert (labelled_run / "linear_eval.json").is_file()


def test_the_splits_are_those_of_the_data_set():
    config = config_of()
    config.data.update(pretrain_split="train+unlabelled", evaluation_split="val")
    _, described = load_run_data(config, from_arrays(IMAGES))
    assert described.data.pretrain_split == described.data.train_split == "train"
    assert described.data.evaluation_split == "test"


def test_mean_and_std_can_be_set_for_arrays():
    config = config_of()
    config.data.update(name="arrays", mean=(0.25,), std=(0.5,))
    _, described = load_run_data(config, from_arrays(IMAGES))
    assert (described.data.mean, described.data.std) == ((0.25,), (0.5,))


@pytest.mark.long
def test_a_finished_run_can_be_extended_with_its_own_images(labelled_run, capsys):
    dataset = from_arrays(IMAGES.copy(), LABELS, **TEST)
    pretrain(config_of(), labelled_run, dataset=dataset)
    pretrain(load_config(labelled_run), labelled_run, dataset=dataset)
    assert capsys.readouterr().out.count("is finished") == 2


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[::-1], LABELS, "run on other images: data.images_checksum .*stored"),
        (IMAGES // 2, LABELS, "run on other images: .*data.mean .*Pass the images"),
        (IMAGES, LABELS[::-1], "run on other labels: data.labels_checksum .*stored"),
    ],
)
@pytest.mark.long
def test_other_images_or_labels_are_refused(labelled_run, images, labels, message):
    before = (labelled_run / "config.json").read_bytes()
    with pytest.raises(UsageError, match=message):
        pretrain(config_of(), labelled_run, dataset=from_arrays(images, labels, **TEST))
    assert (labelled_run / "config.json").read_bytes() == before


@pytest.mark.long
def test_a_run_on_arrays_needs_them_to_resume(labelled_run):
    with pytest.raises(UsageError, match="dataset="):
        pretrain(config_of(), labelled_run)


@pytest.mark.long
def test_wholly_unlabelled_images_train_without_metrics_of_labels(unlabelled_run):
    rows = rows_of(unlabelled_run)
    assert [row["step"] for row in rows] == [3]
    for name in ("eval/online_accuracy", "train/probe_loss", "train/probe_accuracy"):
        assert name not in rows[-1]
    assert rows[-1]["train/loss"] < 0
    assert (unlabelled_run / "figures" / "learning.png").is_file()
    page = write_report([unlabelled_run]).read_text()
    assert rows[-1]["eval/effective_rank"] > 1
    assert "Participation ratio" in page and "Online accuracy" not in page


@pytest.mark.long
def test_labels_change_nothing_but_the_probe(labelled_run, unlabelled_run):
    first, second = (rows_of(run)[-1] for run in (labelled_run, unlabelled_run))
    for name in ("train/loss", "train/std", "train/participation_ratio"):
        assert first[name] == pytest.approx(second[name], rel=1e-5)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (from_arrays(IMAGES), "needs labels, .* pass labels, test_images and test_la"),
        (from_arrays(IMAGES, LABELS), "needs test images, .*pass test_images, or hold"),
    ],
)
@pytest.mark.long
def test_evaluation_states_what_it_needs(unlabelled_run, dataset, message):
    with pytest.raises(UsageError, match=message) as error:
        evaluate_run(unlabelled_run, dataset=dataset)
    assert "\n" not in str(error.value)


@pytest.mark.long
def test_labels_may_be_added_for_the_evaluation(unlabelled_run):
    dataset = from_arrays(IMAGES, LABELS, **TEST)
    assert "data" not in evaluate_run(unlabelled_run, dataset=dataset)
    with pytest.raises(UsageError, match="protocol=online .*leave it out"):
        evaluate_run(
            unlabelled_run, dataset=dataset, options=Options(protocols=("online",))
        )


@pytest.mark.long
def test_other_images_have_a_result_of_their_own(unlabelled_run):
    dataset = from_arrays(IMAGES[::-1], LABELS, **TEST)
    result = evaluate_run(unlabelled_run, dataset=dataset)
    checksum = result["data"]["images_checksum"]
    file = f"linear_eval-images_checksum={checksum}.json"
    assert (unlabelled_run / file).is_file()


def test_a_part_is_held_out_of_arrays():
    config = config_of()
    config.data.validation_fraction = 0.25
    own = from_arrays(IMAGES, LABELS)
    dataset, described = load_run_data(config, own)
    described = with_normalization(described, dataset)
    assert [len(split.labels) for split in dataset[:3]] == [72, 72, 24]
    assert changes_of(own, described.data) == {}
    evaluated, num_pretrained = load_images(described.data, {}, given=own)
    np.testing.assert_array_equal(evaluated.evaluation.images, dataset[2].images)
    assert evaluated.evaluation_name == "validation" and num_pretrained == 0
    # With another fraction, some test images were seen in pretraining.
    evaluated, num_pretrained = load_images(
        described.data, {"validation_fraction": 0.5}, given=own
    )
    assert len(evaluated.evaluation.labels) == 48 and num_pretrained == 24
    with pytest.raises(UsageError, match="validation_fraction=0.25 needs labels"):
        load_run_data(config, from_arrays(IMAGES))


@pytest.mark.long
def test_test_images_seen_in_pretraining_are_counted(labelled_run):
    test = {
        "test_images": np.insert(TEST["test_images"][:3], 1, IMAGES[5], axis=0),
        "test_labels": [0, 1, 2, 0],
    }
    result = evaluate_run(labelled_run, dataset=from_arrays(IMAGES, LABELS, **test))
    assert result["num_test_pretrained"] == 1
