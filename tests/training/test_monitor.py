import jax
import numpy as np
import pytest

from isojax import processes, spectral
from isojax.predictor import direct_predictor
from isojax.training import monitor
from isojax.training.monitor import alignment_metrics
from isojax.training.probe import probe_logits


@pytest.mark.parametrize("is_first", [True, False])
def test_only_the_first_process_computes_the_rank(tiny_run, monkeypatch, is_first):
    monkeypatch.setattr(processes, "is_first_process", lambda: is_first)
    run = tiny_run()
    images = np.zeros((9, 8, 8, 1), np.uint8)
    split = monitor.Split(images, np.zeros(9, np.int32))
    evaluate = monitor.make_evaluation(run.network, mean=(0.3,), std=(0.7,))
    row = evaluate(run.state, split)
    assert row["eval/online_accuracy"] == 1
    assert ("eval/effective_rank" in row) == is_first


def test_an_epoch_is_evaluated_on_normalised_images_with_running_statistics(tiny_run):
    run = tiny_run()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (257, 8, 8, 1), dtype=np.uint8)  # two batches
    keys = iter(jax.random.split(jax.random.key(0), 99))
    stats = jax.tree.map(
        lambda x: 0.5 + jax.random.uniform(next(keys), x.shape), run.state.batch_stats
    )
    weights = jax.random.normal(next(keys), run.state.probe.weights.shape)
    state = run.state.replace(
        batch_stats=stats, probe=run.state.probe.replace(weights=weights)
    )
    inputs = (images / np.float32(255) - 0.3) / 0.7
    variables = {"params": state.params, "batch_stats": stats}
    representation, _ = run.network.apply(variables, inputs, train=False)
    labels = np.asarray(probe_logits(weights, representation).argmax(axis=-1))
    labels = np.where(np.arange(257) < 40, (labels + 1) % 3, labels)
    split = monitor.Split(images, labels)
    evaluate = monitor.make_evaluation(run.network, mean=(0.3,), std=(0.7,))
    row = evaluate(state, split)
    assert row["eval/online_accuracy"] == pytest.approx(217 / 257)
    rank = float(spectral.effective_rank(representation))
    assert row["eval/effective_rank"] == pytest.approx(rank, rel=1e-4)


def test_metrics_of_a_spectrum():
    assert monitor.spectrum_metrics(np.array([0.0, 1.0, 2.0, 5.0])) == pytest.approx(
        {
            "train/participation_ratio": 64 / 30,
            "train/eigenvalue_min": 0.0,
            "train/eigenvalue_max": 5.0,
            "train/eigenvalue_mean": 2.0,
            "train/eigenvalue_std": np.sqrt(14 / 4),
        }
    )


def test_a_linear_layer_that_is_the_closed_form_predictor_is_aligned(x64):
    z = np.random.default_rng(0).normal(size=(20, 5))
    c = z.T @ z
    # p = W z with W u along u; a product with a rotation is not.
    aligned = direct_predictor(c).matrix
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]

    def metrics(w):
        return alignment_metrics({"predictor": {"map": {"kernel": w.T}}}, c)

    assert metrics(aligned)["train/alignment_min"] == pytest.approx(1)
    turned = metrics(rotation @ aligned)
    assert turned["train/alignment_min"] < turned["train/alignment_mean"] < 0.99


def test_the_line_of_an_epoch_fits_into_80_columns():
    row = {
        "epoch": 1000,
        "train/loss": -1.2345,
        "eval/online_accuracy": 0.9876,
        "train/participation_ratio": 123.4,
        "train/images_per_second": 123456.7,
    }
    line = monitor.describe(row, 1000)
    assert line == (
        "epoch 1000/1000  loss -1.234  probe 0.988  participation 123.4"
        "  123,457 images/s"
    )
    del row["train/images_per_second"]
    assert monitor.describe(row, 1000) == line.removesuffix("  123,457 images/s")
    del row["eval/online_accuracy"]
    assert monitor.describe(row, 1000) == (
        "epoch 1000/1000  loss -1.234  participation 123.4"
    )
    explanations = map(monitor.describe_columns, ("validation", None))
    for text in (line, *"\n".join(explanations).splitlines()):
        assert len(text) <= 80


def test_alignment_is_that_of_w_not_of_its_transpose():
    # z W^T with W e1 = e1 + e2 and W e2 = 2 e2. The transpose has the alignments 1 and
    # 2 / sqrt(5).
    w = np.array([[1.0, 0.0], [1.0, 2.0]])
    params = {"predictor": {"map": {"kernel": w.T}}}
    row = alignment_metrics(params, np.diag([1.0, 2.0]))
    assert row["train/alignment_min"] == pytest.approx(2**-0.5)
    assert row["train/alignment_mean"] == pytest.approx((1 + 2**-0.5) / 2)


@pytest.mark.parametrize("predictor", ["mlp", "none", "directpred"])
def test_other_predictors_have_no_alignment(tiny_run, predictor):
    run = tiny_run(predictor=predictor, form="standard")
    assert alignment_metrics(run.state.params, np.eye(6)) == {}


@pytest.mark.parametrize(
    "predictor", [pytest.param("mlp", marks=pytest.mark.long), "none"]
)
def test_the_correlation_is_followed_whatever_the_predictor(tiny_run, batch, predictor):
    run = tiny_run(predictor=predictor, form="standard", correlation_decay=0.5)
    state, report = jax.jit(run.step)(run.state, batch)
    eigenvalues = np.linalg.eigvalsh(np.asarray(state.correlation, np.float64))
    assert eigenvalues.max() > 0
    row = monitor.spectrum_metrics(eigenvalues)
    assert 1 < row["train/participation_ratio"] <= 6
    assert row["train/eigenvalue_mean"] == pytest.approx(eigenvalues.sum() / 6)
    for name in ("std", "view_similarity", "gradient_norm", "learning_rate"):
        assert np.isfinite(report.metrics[name])
