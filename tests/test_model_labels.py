"Heads of many labels equal scikit-learn, learn only from what is known, and their calibration lies in the last layer."

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from cvkit.core import DataError, ParameterError, canonical_json
from cvkit.data.manifest import Dataset, Manifest
from cvkit.model.multilabel_probe import (
    calibrate_labels,
    fit_label_probe,
    fit_platt,
    label_heads,
    label_truth,
    mean_average_precision,
)
from cvkit.stats import sigmoid

digits = load_digits()
x = digits.data[:900].astype(np.float32)
names = ("even", "above four", "round")
full = np.column_stack([
    digits.target[:900] % 2 == 0,
    digits.target[:900] > 4,
    np.isin(digits.target[:900], (0, 6, 8, 9)),
]).astype(np.int8)
hidden = np.random.default_rng(0).random(full.shape) < 0.15
truth = np.where(hidden, -1, full).astype(np.int8)
folds = np.arange(900) % 4 - (np.arange(900) % 9 == 0) * 10
folds[folds < 0] = -1


@pytest.fixture(scope="module")
def probe():
    return fit_label_probe(x, truth, folds, names)


def of(labels, **columns):
    n = len(labels)
    table = pd.DataFrame({
        "uri": [f"{i}.png" for i in range(n)],
        "content": [str(i) for i in range(n)],
        "group": "",
        "labels": labels,
        **{f"attribute.{k}": v for k, v in columns.items()},
    })
    return Manifest(table, ".", Dataset("three"))


# ---- truth


def test_truth_has_three_values():
    found = label_truth(of([["a"], ["a", "b"], [], ["c"]], unknown=["b| c", "", "a|b|c|", "a"]))
    assert found.dtype == np.int8 and found.tolist() == [[1, -1, -1], [1, 1, 0], [-1, -1, -1], [-1, 0, 1]]


def test_without_the_column_everything_is_known_and_another_separator_may_be_named():
    assert set(label_truth(of([["a"], ["b"]])).ravel()) == {0, 1}
    assert label_truth(of([["a"], ["b"], []], unknown=["b", "", "a;b"]), separator=";").tolist() == [
        [1, -1],
        [0, 1],
        [-1, -1],
    ]


def test_a_mask_hides_what_is_present_too():
    assert label_truth(of([["a"], ["b"]], unknown=["b", ""]), np.array([[False, True], [True, True]])).tolist() == [
        [-1, -1],
        [0, 1],
    ]


@pytest.mark.parametrize(
    "unknown, known, message",
    [
        (["d", ""], None, "got 'd' of 0.png; correct it"),
        (["a", ""], None, "got 'a' as both; remove one"),
        (["", ""], np.ones((2, 3), bool), r"a mask \(2, 2\) of True and False, got \(2, 3\)"),
        (["", ""], np.ones((2, 2)), r"got \(2, 2\) float64"),
    ],
)
def test_truth_that_contradicts_itself_is_refused(unknown, known, message):
    with pytest.raises(DataError, match=message):
        label_truth(of([["a"], ["b"]], unknown=unknown), known)


# ---- heads and calibration


@pytest.mark.parametrize("C", [0.001, 0.1])
def test_heads_equal_scikit_learn_on_what_is_known(C):
    weight, bias = label_heads(x, truth, C)
    for k in range(3):
        rows = truth[:, k] >= 0
        spread = x[rows].std(0)
        scaled = (x - x[rows].mean(0)) / np.maximum(spread, np.median(spread))
        expected = (
            LogisticRegression(C=C, tol=1e-9, max_iter=9999)
            .fit(scaled[rows], truth[rows, k])
            .predict_proba(scaled)[:, 1]
        )
        assert np.abs(sigmoid(x @ weight[k] + bias[k]) - expected).max() < 1e-3


class Shown(LogisticRegression):
    def decision_function(self, X):
        return X[:, 0]


@pytest.mark.parametrize("factor, shift, share", [(0.3, 1, 0.5), (4, -2, 0.05), (30, 0, 0.9)])
def test_platt_equals_scikit_learn(factor, shift, share):
    random = np.random.default_rng(1)
    there = random.random(2000) < share
    logits = factor * (random.normal(size=2000) + 1.5 * there) + shift
    scale, move = fit_platt(logits, there)
    ours = sigmoid(scale * logits + move)
    theirs = (
        CalibratedClassifierCV(Shown(), cv=2, method="sigmoid", ensemble=False)
        .fit(logits[:, None], there)
        .predict_proba(logits[:, None])[:, 1]
    )
    assert np.abs(ours - theirs).max() < 2e-3


def test_platt_stays_finite_and_never_turns_an_answer_round():
    apart = fit_platt(np.r_[np.full(20, -3.0), np.full(20, 3.0)], np.arange(40) >= 20)
    assert 0 < apart[0] <= 20 and sigmoid(3 * apart[0] + apart[1]) == pytest.approx(21 / 22, abs=1e-3), (
        "Platt's target of 20 positives"
    )
    assert fit_platt(np.r_[np.full(20, 3.0), np.full(20, -3.0)], np.arange(40) >= 20)[0] == pytest.approx(0.05)
    assert np.isfinite(fit_platt(np.zeros(10), np.arange(10) > 6)).all()


# ---- the probe


def test_calibration_is_folded_into_the_last_layer(probe):
    weight, bias = label_heads(x[folds >= 0], truth[folds >= 0])
    scale, shift = probe.calibration.T
    assert (
        np.abs(sigmoid(x @ probe.weight.T + probe.bias) - sigmoid(scale * (x @ weight.T + bias) + shift)).max() < 1e-5
    )
    assert np.abs(scale - 1).max() > 0.05, "there was something to fold"
    rows = (folds >= 0) & (truth[:, 1] >= 0)
    assert probe.calibration[1] == pytest.approx(fit_platt(probe.oof_logits[rows, 1], truth[rows, 1] == 1))


def test_out_of_fold_record(probe):
    used = folds >= 0
    assert np.isnan(probe.oof_logits[~used]).all() and np.isfinite(probe.oof_probabilities[used]).all()
    assert probe.weight.dtype == probe.bias.dtype == np.float32 and probe.weight.shape == (3, 64)
    weight, bias = label_heads(x[used & (folds != 2)], truth[used & (folds != 2)])
    assert np.allclose(probe.oof_logits[folds == 2], x[folds == 2] @ weight.T + bias, atol=1e-4)
    one = (folds == 2)[:, None] & (truth >= 0)
    assert probe.scores[2] == pytest.approx(
        np.mean([average_precision_score(truth[one[:, k], k], probe.oof_logits[one[:, k], k]) for k in range(3)])
    )
    about = probe.to_dict()
    assert (about["folds"], about["images"], about["average_precision_mean"]) == (
        4,
        used.sum(),
        pytest.approx(probe.scores.mean()),
    ) and canonical_json(probe)
    assert f"{probe.scores[1]:.3f}" in probe._repr_html_() and "LabelProbeFit for 3 labels" in repr(probe)


def test_a_fold_learns_from_the_others_and_calibrates_by_them(probe):
    flipped = np.where((folds == 1)[:, None] & (truth >= 0), 1 - truth, truth)
    other = fit_label_probe(x, flipped, folds, names)
    assert np.array_equal(other.oof_logits[folds == 1], probe.oof_logits[folds == 1])
    assert np.abs(other.oof_logits[folds == 3] - probe.oof_logits[folds == 3]).max() > 0.1
    found, _ = calibrate_labels(probe.oof_logits, flipped, folds)
    assert np.array_equal(found[folds == 1], probe.oof_probabilities[folds == 1])
    assert np.abs(found[folds == 3] - probe.oof_probabilities[folds == 3]).max() > 0.05


def test_what_is_not_known_teaches_nothing(probe):
    values = x.copy()
    values[(truth[:, 0] < 0)] = np.random.default_rng(3).normal(0, 50, (int((truth[:, 0] < 0).sum()), 64))
    weight, bias = label_heads(values, truth)
    first, second = label_heads(x, truth)
    assert np.array_equal(weight[0], first[0]) and bias[0] == second[0] and not np.array_equal(weight[1], first[1])
    logits = probe.oof_logits.copy()
    logits[truth < 0] = 1e3
    kept, calibration = calibrate_labels(logits, truth, folds)
    assert np.array_equal(calibration, probe.calibration) and np.array_equal(
        kept[truth >= 0], probe.oof_probabilities[truth >= 0], equal_nan=True
    )


def test_labels_that_no_image_of_a_fold_has_are_left_out_of_its_score():
    scores = np.random.default_rng(0).random((6, 2))
    assert mean_average_precision(np.array([[1, 0], [0, 0], [0, -1], [1, 0], [0, 0], [0, 0]]), scores) == pytest.approx(
        average_precision_score([1, 0, 0, 1, 0, 0], scores[:, 0])
    )
    assert np.isnan(mean_average_precision(np.zeros((3, 2), int), scores[:3]))


def test_report_is_told_of_each_fold():
    reported = []
    found = fit_label_probe(x, truth, folds, names, report=lambda step, values: reported.append((step, values)))
    assert [step for step, _ in reported] == [f"fold {f}" for f in range(4)] and [
        v["average_precision"] for _, v in reported
    ] == found.scores.tolist()
    assert sum(v["images"] for _, v in reported) == (folds >= 0).sum()


def without(k, fold, value, left):
    changed = truth.copy()
    rows = np.flatnonzero((changed[:, k] == value) & (folds != fold) & (folds >= 0))
    changed[rows[left:], k] = -1
    return changed


@pytest.mark.parametrize(
    "given, message",
    [
        (lambda: (x[:-1], truth, folds, names), "got 899 embeddings, 900 rows and 900 folds"),
        (lambda: (x, truth[:, :2], folds, names), r"expected truth \(900, 3\)"),
        (lambda: (x, np.where(truth == 1, 2, truth), folds, names), "present, absent, not known"),
        (lambda: (np.where(np.arange(900)[:, None] == 7, np.nan, x), truth, folds, names), "row 7 is not"),
        (lambda: (x, truth, np.zeros(900, int), names), "at least 2 folds, got 1"),
        (
            lambda: (x, without(1, 2, 1, 1), folds, names),
            "outside fold 2 that are known to have 'above four' and 2 known not to, got 1 and",
        ),
        (
            lambda: (x, without(2, 0, 0, 0), folds, names),
            "outside fold 0 that are known to have 'round' and 2 known not to, got [0-9]+ and 0",
        ),
    ],
)
def test_what_cannot_be_cross_validated_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        fit_label_probe(*given())


def test_two_images_are_enough():
    assert np.isfinite(fit_label_probe(x, without(1, 2, 1, 2), folds, names).weight).all()
    with pytest.raises(ParameterError, match="C above 0"):
        fit_label_probe(x, truth, folds, names, C=0)
