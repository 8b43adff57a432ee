"Calibration, fairness, robustness and comparison: values by hand, answers where the truth is known, and refusals."

import json

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.isotonic import IsotonicRegression

from cvkit.core import DataError, ParameterError, canonical_json
from cvkit.evidence.calibration import choose_threshold, cross_fit_threshold, cross_fitted, fit_calibrator
from cvkit.evidence.comparison import compare_models, corrected_t
from cvkit.evidence.fairness import Fairness, compare_subgroups, discover_slices, fairness_measures, measure_fairness
from cvkit.evidence.robustness import KINDS, Robustness, corrupt, measure_robustness
from cvkit.stats import share_difference


def made(n=600, classes=2, seed=0, sure=1.0):
    "Targets, logits that are right about themselves (times sure), folds."
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (n, classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return (p.cumsum(1) < random.random((n, 1))).sum(1), logits * sure, np.arange(n) % 5


def softmax(z):
    return np.exp(z - z.max(1, keepdims=True)) / np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)


# ---- calibration


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_model_too_sure_is_calibrated_on_other_folds(method):
    targets, logits, folds = made(1500, 3, sure=4.0)
    before, after = sk.log_loss(targets, softmax(logits)), cross_fitted(logits, targets, folds, method)
    assert after.sum(1) == pytest.approx(np.ones(1500)) and sk.log_loss(targets, after) < before - 0.3
    only = folds == 2
    assert after[only] == pytest.approx(fit_calibrator(logits[~only], targets[~only], method)(logits[only])), (
        "a fold has no say in its own calibration"
    )
    other = targets.copy()
    other[only] = (other[only] + 1) % 3
    assert cross_fitted(logits, other, folds, method)[only] == pytest.approx(after[only])


def test_temperature_is_found_and_isotonic_is_scikit_learns():
    targets, logits, _ = made(4000, 3, sure=4.0)
    assert fit_calibrator(logits, targets).temperature == pytest.approx(4, rel=0.1)
    targets, logits, _ = made(500, 2)
    p = softmax(logits)
    expected = np.stack(
        [
            IsotonicRegression(y_min=1e-4, y_max=1 - 1e-4, out_of_bounds="clip")
            .fit(p[:, k], targets == k)
            .predict(p[:, k])
            for k in (0, 1)
        ],
        1,
    )
    assert fit_calibrator(logits, targets, "isotonic")(logits) == pytest.approx(
        expected / expected.sum(1, keepdims=True)
    )


def test_a_class_absent_from_a_fold_is_no_accident():
    targets, logits, folds = made(300, 3)
    targets[(folds != 1) & (targets == 2)] = 0  # class 2 in fold 1 only
    for method in ("temperature", "isotonic"):
        assert np.isfinite(cross_fitted(logits, targets, folds, method)).all()


def test_thresholds_by_hand():
    truth, scores = np.array([1, 0, 1, 1, 0, 0, 0, 0], bool), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    assert choose_threshold(truth, scores, "f1") == pytest.approx(0.55), "all three, one alarm: 6/7"
    assert choose_threshold(truth, scores, "recall", floor=0.3) == pytest.approx(0.85) and choose_threshold(
        truth, scores, "recall", floor=1.0
    ) == pytest.approx(0.55)
    assert choose_threshold(truth, scores, "cost", miss=1, alarm=10) == pytest.approx(0.85) and choose_threshold(
        truth, scores, "cost", miss=10, alarm=1
    ) == pytest.approx(0.55)


def test_a_cut_is_scored_on_folds_that_had_no_say():
    targets, logits, folds = made(500)
    truth, scores = targets == 1, softmax(logits)[:, 1]
    cut = cross_fit_threshold(truth, scores, folds, "b", by="recall", floor=0.9)
    predicted_rows = np.array([
        scores[i] >= choose_threshold(truth[folds != folds[i]], scores[folds != folds[i]], "recall", floor=0.9)
        for i in range(500)
    ])
    assert cut.cross_fitted["recall"].value == pytest.approx(predicted_rows[truth].mean()) and cut.cross_fitted[
        "precision"
    ].value == pytest.approx(truth[predicted_rows].mean())
    assert (
        cut.cross_fitted["f1"].value == pytest.approx(sk.f1_score(truth, predicted_rows))
        and cut.selected["recall"] >= 0.9
    )
    assert json.loads(canonical_json(cut))["by"] == "recall" and "selected" in cut._repr_html_()


# ---- fairness


def people(n=2000, gap=0.0, seed=0):
    "Targets, probabilities and the town of n people; those of town y are judged worse by a gap."
    random = np.random.default_rng(seed)
    town = random.choice(["x", "y"], n)
    truth = random.random(n) < 0.5
    wrong = random.random(n) < np.where(town == "y", 0.15 + gap, 0.15)
    predicted = truth ^ wrong
    probabilities = np.eye(2)[predicted.astype(int)] * 0.8 + 0.1
    return truth.astype(int), probabilities, town


@pytest.mark.parametrize("n, gap, verdict", [(4000, 0.1, "problem"), (6000, 0.0, "ok"), (150, 0.0, "insufficient")])
def test_the_verdict_tells_a_gap_from_none_and_none_from_could_not_tell(n, gap, verdict):
    targets, p, town = people(n, gap)
    audit = measure_fairness(targets, p, ["no", "yes"], {"town": town}, "yes")
    assert audit.verdict[0] == verdict
    if verdict == "insufficient":
        assert "could not tell" in audit.verdict[1]
        assert "would have been seen" in audit.verdict[1]


def test_gaps_are_those_of_fairlearn_with_newcombes_interval():
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

    targets, p, town = people(800, 0.1)
    audit = measure_fairness(targets, p, ["no", "yes"], {"town": town}, "yes")
    expected = MetricFrame(
        metrics={
            "accuracy": sk.accuracy_score,
            "predicted yes": selection_rate,
            "recall of yes": true_positive_rate,
            "false alarms of yes": false_positive_rate,
        },
        y_true=targets,
        y_pred=p.argmax(1),
        sensitive_features=town,
    ).by_group
    for g in audit.gaps:
        assert g.value.value == pytest.approx(expected.loc["x", g.metric])
        assert g.rest.value == pytest.approx(expected.loc["y", g.metric])
        assert audit.shares["town"]["y"][g.metric] == pytest.approx(expected.loc["y", g.metric])
    g = audit.gaps[0]
    of_x = (g.value.value, (town == "x").sum())
    of_y = (g.rest.value, (town == "y").sum())
    interval = share_difference(of_x, of_y, 1 - 0.05 / 4)
    assert (g.gap.value, g.gap.low, g.gap.high) == pytest.approx(interval)


@pytest.mark.slow
def test_one_error_for_all_comparisons():
    "Five attributes without meaning, 60 audits: hardly any finds a gap, though each makes forty-five comparisons."
    some_gap = []
    for seed in range(60):
        targets, p, _ = people(400, seed=seed)
        random = np.random.default_rng(1000 + seed)
        measures = fairness_measures(targets, p.argmax(1), ["no", "yes"], None)
        gaps = compare_subgroups(measures, {f"a{i}": random.choice(["x", "y", "z"], 400) for i in range(5)})
        some_gap.append(any(g.answer == "gap" for g in gaps))
    assert len(gaps) == 45
    assert np.mean(some_gap) <= 0.12


def test_groups_widen_a_gap():
    targets, p, town = (np.repeat(v, 3, axis=0) for v in people(120, 0.1))
    groups = [f"{i // 3}" for i in range(360)]
    free = measure_fairness(targets, p, ["no", "yes"], {"town": town}).gaps[0].gap
    tied = measure_fairness(targets, p, ["no", "yes"], {"town": town}, groups=groups).gaps[0].gap
    assert tied.value == pytest.approx(free.value)
    assert tied.high - tied.low > 1.5 * (free.high - free.low)


def test_a_subgroup_of_few_says_so():
    targets, p, town = people(300)
    town[:6] = "z"
    audit = measure_fairness(targets, p, ["no", "yes"], {"town": town, "id": np.arange(300)})
    assert {g.answer for g in audit.gaps if g.subgroup == "z"} == {"too few"}
    assert audit.left_out == [{"attribute": "id", "reason": "300 values, at most 12"}]
    record = json.loads(canonical_json(audit))
    assert record["gaps"][0]["gap"]["method"] and "Holm" in record["correction"]
    assert "<script" not in audit._repr_html_()


def test_an_audit_is_read_from_its_record():
    targets, p, town = people(300, 0.2)
    audit = measure_fairness(targets, p, ["no", "yes"], {"town": town}, "yes")
    record = json.loads(canonical_json(audit))
    assert Fairness.from_dict(record).to_dict() == record


@pytest.mark.parametrize("claimed", [0, 1])
def test_all_one_class_predictions(claimed):
    targets, _, town = people(400)
    p = np.tile([0.9, 0.1] if claimed == 0 else [0.1, 0.9], (400, 1))
    audit = measure_fairness(targets, p, ["no", "yes"], {"town": town}, "yes")
    answers = {g.answer for g in audit.gaps if g.metric.startswith("predicted")}
    assert answers and answers <= {"none", "could not tell"}


def test_a_slice_that_is_there_is_confirmed():
    random = np.random.default_rng(0)
    embedding = random.normal(size=(1200, 6))
    embedding[:200] += 6
    correct = random.random(1200) < np.where(np.arange(1200) < 200, 0.5, 0.95)
    confirmed = [s for s in discover_slices(correct, {}, embedding) if s["answer"] == "confirmed"]
    assert confirmed
    rows = np.concatenate([s["rows"] for s in confirmed])
    assert np.mean(rows < 200) > 0.95


def test_a_slice_by_chance_is_not_confirmed():
    for seed in range(8):
        correct = np.random.default_rng(seed).random(800) < 0.9
        embedding = np.random.default_rng(seed + 99).normal(size=(800, 4))
        slices = discover_slices(correct, {}, embedding, seed=seed)
        assert all(s["answer"] != "confirmed" for s in slices)


# ---- robustness


@pytest.mark.parametrize("kind", list(KINDS))
def test_damage_is_pure_and_keeps_the_shape(kind):
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    before = image.copy()
    damaged = corrupt(image, kind, 4, seed=3)
    assert (image == before).all()
    assert damaged.shape == image.shape and damaged.dtype == np.uint8
    assert (damaged == corrupt(image, kind, 4, seed=3)).all()
    assert (damaged != image).any()


@pytest.fixture(scope="module")
def bright_or_dark():
    "A model that calls bright what is bright, on gray pictures: their gray values, targets and robustness."
    gray = np.random.default_rng(0).integers(60, 200, 80)
    pixels = np.repeat(gray, 16 * 16 * 3).reshape(80, 16, 16, 3).astype(np.uint8)
    targets = (gray > 127).astype(int)

    def predict(x, rows):
        bright = x.reshape(len(x), -1).mean(1) > 127
        return np.stack([1 - bright, bright], 1).astype(float)

    return gray, targets, measure_robustness(predict, pixels, targets, kinds=("brightness", "contrast"))


def test_curves_by_hand(bright_or_dark):
    gray, targets, robustness = bright_or_dark
    assert robustness.clean.value == 1
    assert all(point["accuracy"].value == 1 for point in robustness.curves["contrast"])
    for point, added in zip(robustness.curves["brightness"], (0.1, 0.2, 0.3, 0.4, 0.5)):
        brightened = np.round(np.clip(gray / 255 + added, 0, 1) * 255)
        expected = ((brightened > 127) == targets).mean()
        assert point["accuracy"].value == pytest.approx(expected)
        assert point["loss"].value == pytest.approx(1 - expected)


def test_little_damage_that_costs_much_is_a_warning(bright_or_dark):
    _, _, robustness = bright_or_dark
    record = json.loads(canonical_json(robustness))
    assert robustness.verdict[0] == "warning" and "brightness" in robustness.verdict[1]
    assert record["weak"] == ["brightness"]
    assert Robustness.from_dict(record) == robustness


def test_few_images_are_insufficient():
    pixels = np.zeros((6, 8, 8, 3), np.uint8)
    robustness = measure_robustness(
        lambda x, rows: np.tile([0.9, 0.1], (len(x), 1)), pixels, np.zeros(6, int), kinds=("noise",)
    )
    assert robustness.verdict[0] == "insufficient"
    assert "too few" in robustness._repr_html_()


# ---- comparison


def test_the_corrected_t_is_nadeau_and_bengios():
    from scipy.stats import t as student

    d = np.array([0.02, 0.00, 0.03, 0.01, 0.04])
    t = d.mean() / np.sqrt((1 / 5 + 1 / 4) * d.var(ddof=1))
    estimate, p = corrected_t(d, 1 / 4)
    assert p == pytest.approx(2 * student.sf(t, 4))
    assert estimate.low == pytest.approx(d.mean() - student.ppf(0.975, 4) * d.mean() / t)


def test_the_corrected_t_without_a_difference_or_with_one_fold():
    assert corrected_t(np.zeros(5), 1 / 4)[1] == 1.0
    assert corrected_t([0.1], 1 / 4)[0].value is None


def compared_models():
    "Probabilities of a good model, of a noisy one, and of nearly the good one again; with targets and folds."
    targets, logits, folds = made(1500)
    noise = np.random.default_rng(1).normal(0, 1, logits.shape)
    predictions = {
        "good": softmax(logits),
        "noisy": softmax(logits + 3 * noise),
        "again": softmax(logits + 0.01 * noise),
    }
    return predictions, targets, folds


def test_the_better_model_is_found_and_equal_ones_are_not():
    predictions, targets, folds = compared_models()
    comparison = compare_models(predictions, targets, "ab", folds, "b")
    answers = {(r["first"], r["second"], r["score"]): r["answer"] for r in comparison.pairs}
    assert len(answers) == 9
    assert answers["good", "noisy", "accuracy"] == "differ"
    assert answers["noisy", "again", "log_loss"] == "differ"
    assert answers["good", "again", "accuracy"] == "not shown to differ"
    assert comparison.verdict[0] == "insufficient"
    assert json.loads(canonical_json(comparison))["selected"]


def test_the_better_of_two_models_passes():
    predictions, targets, folds = compared_models()
    two = {name: predictions[name] for name in ("good", "noisy")}
    comparison = compare_models(two, targets, "ab", folds, "b")
    assert comparison.verdict == ("pass", "good is right more often than noisy, after 3 comparisons.")


@pytest.mark.slow
def test_equal_models_are_seldom_told_apart():
    "Thirty pairs of models that are equally good: at most a few are said to differ."
    wrong = 0
    for seed in range(30):
        targets, logits, _ = made(200, seed=seed)
        random = np.random.default_rng(1000 + seed)
        predictions = {name: softmax(logits + random.normal(0, 1, logits.shape)) for name in "ab"}
        comparison = compare_models(predictions, targets, "xy")
        wrong += any(r["answer"] == "differ" for r in comparison.pairs)
    assert wrong <= 5


y, q = np.arange(40) % 2, np.tile([0.4, 0.6], (40, 1))
bad = [
    (lambda: fit_calibrator(np.zeros((3, 2)), [0, 1]), DataError, r"got \(3, 2\) and 2"),
    (lambda: fit_calibrator(np.zeros((2, 2)), [0, 2]), DataError, "got 0 to 2"),
    (lambda: cross_fitted(np.zeros((40, 2)), y, np.zeros(40)), DataError, "got 1; a calibrator"),
    (lambda: choose_threshold([1, 1], [0.1, 0.2]), DataError, "got 2 of 2"),
    (lambda: choose_threshold([1, 0], [0.1, np.nan]), DataError, "1 are not"),
    (lambda: choose_threshold([1, 0], [0.1, 0.2], "accuracy"), ParameterError, "got 'accuracy'"),
    (lambda: choose_threshold([1, 0], [0.1, 0.2], "recall", floor=2), ParameterError, "got 2"),
    (lambda: choose_threshold([1, 0], [0.1, 0.2], "cost", miss=-1), ParameterError, "miss=-1"),
    (lambda: cross_fit_threshold(y == 1, q[:, 1], np.zeros(40), "b"), DataError, "got 1; a threshold"),
    (lambda: measure_fairness(y, q * np.nan, "ab", {}), DataError, "sum to 1"),
    (lambda: measure_fairness(y + 1, q, "ab", {}), DataError, "got 1 to 2"),
    (lambda: measure_fairness(y, q, "ab", {"t": ["x"]}), DataError, "'t' for each of 40 images, got 1"),
    (lambda: corrupt(np.zeros((4, 4, 3)), "noise", 1), DataError, r"got \(4, 4, 3\)"),
    (lambda: corrupt(np.zeros((4, 4, 3), np.uint8), "noise", 6), ParameterError, "got 6"),
    (lambda: measure_robustness(lambda x, r: q, np.zeros((0, 4, 4, 3)), []), DataError, "got 0 for 0"),
    (lambda: compare_models({"a": q}, y, "ab"), DataError, "got 1"),
    (lambda: compare_models({"a": q, "b": q[:9]}, y, "ab"), DataError, r"got \(9, 2\)"),
    (lambda: corrected_t([0.1, 0.2], 0), DataError, "got 0"),
]


@pytest.mark.parametrize("call, kind, words", bad)
def test_refusals(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
