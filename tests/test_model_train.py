"The probe equals scikit-learn, learns from nobody's own fold, and refuses what cannot be cross-validated."

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as reference_loss
from sklearn.neural_network import MLPClassifier

from cvkit.core import DataError, ParameterError, rng
from cvkit.model.probe import fit_head, fit_mlp_head, fit_probe, fit_temperature, head_logits, log_loss
from cvkit.stats import softmax

digits, cells = load_digits(), load_breast_cancer()
data = {"ten": (digits.data, digits.target), "two": (cells.data, cells.target)}


def scaled(x, rows):
    spread = x[rows].std(0)
    return (x - x[rows].mean(0)) / np.maximum(spread, np.median(spread))


@pytest.mark.parametrize("name", data)
@pytest.mark.parametrize("C", [0.001, 0.01, 0.1])
def test_head_equals_scikit_learn(name, C):
    x, y = data[name]
    rows = np.arange(len(y)) % 3 != 0
    z = scaled(x, rows)
    weight, bias = fit_head(x[rows], y[rows], C)
    expected = LogisticRegression(C=C, tol=1e-9, max_iter=9999).fit(z[rows], y[rows]).predict_proba(z)
    assert np.abs(softmax(x @ weight.T + bias) - expected).max() < 1e-3


@pytest.mark.parametrize("name", data)
def test_hidden_layer_equals_scikit_learn(name):
    x, y = data[name]
    rows = np.arange(len(y)) % 3 != 0
    z = scaled(x, rows).astype(np.float32)
    head = fit_mlp_head(x[rows], y[rows], 6, 0.1, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = (
            MLPClassifier((6,), solver="lbfgs", alpha=10, max_iter=500, random_state=int(rng(3, "mlp").integers(2**31)))
            .fit(z[rows], y[rows])
            .predict_proba(z)
        )
    assert np.abs(softmax(head_logits(x, *head)) - expected).max() < 2e-3
    assert (
        [v.dtype for v in (*head[:2], *head[2])] == [np.float32] * 4
        and head[0].shape == (len(set(y)), 6)
        and head[2][0].shape == (6, x.shape[1])
    )


def test_hidden_layer_learns_from_shares():
    x, y = data["two"]
    sure = np.eye(2, dtype=np.float32)[y]
    hard, same, unsure = (
        head_logits(x, *fit_mlp_head(x, y, 4, 0.1, shares)) for shares in (None, sure, 0.5 * sure + 0.25)
    )
    assert (
        np.allclose(hard, same, atol=1e-4) and np.abs(softmax(unsure) - 0.5).max() < np.abs(softmax(hard) - 0.5).max()
    )


def rings(n=300):
    angle, y, random = np.arange(n) * 2.4, np.arange(n) // 2 % 2, np.random.default_rng(0)
    return (np.stack([np.cos(angle), np.sin(angle)], 1) * (1 + y[:, None]) + random.normal(0, 0.1, (n, 2))).astype(
        np.float32
    ), y


def test_hidden_layer_is_cross_validated_like_a_linear_head():
    x, y = rings()
    straight, bent, again = (
        fit_probe(x, y, folds_of(len(y)), ["in", "out"], C=1.0, hidden=hidden) for hidden in (0, 8, 8)
    )
    assert straight.accuracies.mean() < 0.7 < 0.98 < bent.accuracies.mean() and straight.hidden is None
    assert np.array_equal(bent.oof_logits, again.oof_logits) and not np.array_equal(
        bent.oof_logits, fit_probe(x, y, folds_of(len(y)), ["in", "out"], C=1.0, hidden=8, seed=1).oof_logits
    )
    assert (head_logits(x, bent.weight, bent.bias, bent.hidden).argmax(1) == y).mean() > 0.98
    flipped = fit_probe(x, np.where(folds_of(len(y)) == 2, 1 - y, y), folds_of(len(y)), ["in", "out"], C=1.0, hidden=8)
    assert np.allclose(bent.oof_logits[folds_of(len(y)) == 2], flipped.oof_logits[folds_of(len(y)) == 2])


def test_two_classes_have_opposite_rows():
    weight, bias = fit_head(*data["two"])
    assert weight.shape == (2, 30) and np.array_equal(weight[0], -weight[1]) and bias[0] == pytest.approx(-bias[1])


def test_a_channel_that_slept_in_training_does_not_outshout_the_others():
    x, y = data["two"]
    slept = np.zeros(len(y))
    slept[0] = 1e-4
    x = np.column_stack([(x - x.mean(0)) / x.std(0), slept, np.full(len(y), 3.0)])
    weight, _ = fit_head(x, y)
    assert np.isfinite(weight).all() and np.abs(weight[:, 30:] * 5).max() < 0.01 * np.abs(weight[:, :30]).max()


def folds_of(n, k=5):
    return np.arange(n) % k


def test_out_of_fold_predictions_come_from_other_folds_only():
    x, y = data["two"]
    folds = folds_of(len(y))
    first = fit_probe(x, y, folds, cells.target_names)
    flipped = np.where(folds == 2, 1 - y, y)
    second = fit_probe(x, flipped, folds, cells.target_names)
    assert np.allclose(first.oof_logits[folds == 2], second.oof_logits[folds == 2], atol=1e-4)
    assert not np.allclose(first.oof_logits[folds == 1], second.oof_logits[folds == 1], atol=0.1)


def test_temperature_of_a_fold_comes_from_the_others():
    x, y = data["ten"]
    folds = folds_of(len(y), 4)
    probe = fit_probe(x, y, folds, list("0123456789"))
    for k in range(4):
        others = folds != k
        expected = softmax(probe.oof_logits[~others] / fit_temperature(probe.oof_logits[others], y[others]))
        assert np.allclose(probe.oof_probabilities[~others], expected, atol=1e-9)


def test_images_left_out_change_nothing_and_have_no_prediction():
    x, y = data["ten"]
    folds = np.where(np.arange(len(y)) < 1500, folds_of(len(y)), -1)
    probe, alone = (fit_probe(x[:n], y[:n], folds[:n], list("0123456789")) for n in (len(y), 1500))
    assert np.isnan(probe.oof_logits[1500:]).all() and np.isnan(probe.oof_probabilities[1500:]).all()
    assert np.array_equal(probe.weight, alone.weight) and probe.temperature == alone.temperature
    assert np.allclose(probe.oof_probabilities[:1500].sum(1), 1)


def test_report_and_numbers():
    x, y = data["ten"]
    folds, reported = folds_of(len(y)), []
    probe = fit_probe(x, y, folds, list("0123456789"), report=lambda step, values: reported.append((step, values)))
    right = probe.oof_logits.argmax(1) == y
    assert [step for step, _ in reported] == [f"fold {k}" for k in range(5)]
    assert (
        [v["accuracy"] for _, v in reported] == [right[folds == k].mean() for k in range(5)] == list(probe.accuracies)
    )
    about = probe.to_dict()
    assert (
        about["accuracy_sd"] == pytest.approx(np.std(probe.accuracies, ddof=1))
        and about["folds"] == 5
        and about["images"] == 1797
    )


def test_same_inputs_same_bits():
    x, y = data["two"]
    one, two = (fit_probe(x, y, folds_of(len(y)), cells.target_names) for _ in range(2))
    assert np.array_equal(one.weight, two.weight) and np.array_equal(one.oof_probabilities, two.oof_probabilities)


def test_log_loss_and_temperature():
    random = np.random.default_rng(0)
    logits, y = random.normal(0, 3, (500, 4)), random.integers(0, 4, 500)
    assert log_loss(logits, y) == pytest.approx(reference_loss(y, softmax(logits)))
    best = fit_temperature(logits, y)
    assert log_loss(logits, y, best) <= min(log_loss(logits, y, t) for t in np.geomspace(0.06, 18, 50)) + 1e-6


n = 20
x, y, f = np.random.default_rng(0).normal(size=(n, 3)), np.arange(n) % 2, np.arange(n) // 2 % 4
bad = [
    (x[:9], y, f, 1, DataError, "got 9 embeddings, 20 targets and 20 folds"),
    (np.where(np.arange(n)[:, None] == 7, np.nan, x), y, f, 1, DataError, "row 7 is not"),
    (x, y, np.zeros(n, int), 1, DataError, "expected at least 2 folds, got 1"),
    (x, y, np.full(n, -1), 1, DataError, "expected at least 2 folds, got 0"),
    (x, y, y, 1, DataError, "every class outside fold 0, but 'good' is not"),
    (x, y, f, 0, ParameterError, "expected C above 0, got 0"),
]


@pytest.mark.parametrize("embedding, targets, folds, C, error, words", bad)
def test_refusals(embedding, targets, folds, C, error, words):
    with pytest.raises(error, match=words):
        fit_probe(embedding, targets, folds, ["good", "bad"], C=C)


def test_interrupt_comes_through():
    def stop(step, values):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_probe(x, y, f, ["good", "bad"], report=stop)
