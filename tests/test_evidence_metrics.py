"Metrics equal scikit-learn's and torchmetrics', intervals hold what they say, and the page says what was measured."

import json

import numpy as np
import pytest
import torch
import torchmetrics.classification as tm
from scipy.stats import binom, binomtest, norm
from scipy.stats import t as student
from sklearn import metrics as sk

from cvkit.core import DataError, canonical_json
from cvkit.evidence.classification_metrics import (
    class_estimates,
    class_rates,
    classification_estimates,
    expected_calibration_error,
    reliability,
    weighted_auroc,
    weighted_average_precision,
)
from cvkit.evidence.classification_report import (
    confusion_matrix,
    evaluate_predictions,
    evaluation_report,
    plot_confusion,
    slice_table,
    threshold_curves,
    worst_errors,
)
from cvkit.stats import MINIMUM, bootstrap, bootstrap_weights, clopper_pearson, proportion, share, wilson


def predictions(classes, ties, n=300, seed=0):
    "Targets and probabilities that know something of them; with ties, multiples of a tenth."
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, n)
    logits = random.normal(0, 1, (n, classes)) + np.eye(classes)[targets]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return targets, np.stack([random.multinomial(10, q) for q in p]) / 10 if ties else p


cases = [(2, False), (2, True), (3, False), (3, True)]
letters = ["a", "b", "c"]


# ---- values


@pytest.mark.parametrize("classes, ties", cases)
def test_values_are_those_of_scikit_learn(classes, ties):
    targets, p = predictions(classes, ties)
    predicted, hot = p.argmax(1), np.eye(classes)[targets]
    two = classes == 2
    found = classification_estimates(targets, p, letters[:classes], positive="b" if two else None, replicates=20)
    mean = dict(average="binary" if two else "macro")
    expected = {
        "accuracy": sk.accuracy_score(targets, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted),
        "precision": sk.precision_score(targets, predicted, **mean),
        "recall": sk.recall_score(targets, predicted, **mean),
        "f1": sk.f1_score(targets, predicted, **mean),
        "auroc": sk.roc_auc_score(targets, p[:, 1]) if two else sk.roc_auc_score(targets, p, multi_class="ovr"),
        "average_precision": sk.average_precision_score(targets, p[:, 1])
        if two
        else sk.average_precision_score(hot, p),
        "brier": ((p - hot) ** 2).sum(1).mean(),
        "log_loss": -np.log(np.clip((p * hot).sum(1), 1e-12, 1)).mean(),
    }
    if not ties:
        expected["log_loss"] = sk.log_loss(targets, p)
    assert {name: found[name].value for name in expected} == pytest.approx(expected, abs=1e-9)
    if not two:
        expected["top_2"] = (
            sk.top_k_accuracy_score(targets, p, k=2) if not ties else found["top_2"].value
        )  # where scores are equal, scikit-learn takes the later class
    assert found["accuracy"].value == sk.f1_score(targets, predicted, average="micro"), (
        "micro F1 is accuracy, one label an image"
    )
    assert set(found) == {*expected, "ece"}
    assert {name: found[name].value for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("classes, ties", cases)
def test_values_are_those_of_torchmetrics(classes, ties):
    targets, p = predictions(classes, ties, seed=1)
    found = classification_estimates(
        targets, p, letters[:classes], positive="b" if classes == 2 else None, replicates=20
    )
    kinds = {
        "precision": "Precision",
        "recall": "Recall",
        "f1": "F1Score",
        "auroc": "AUROC",
        "average_precision": "AveragePrecision",
    }
    for name, kind in kinds.items():
        if classes == 2:
            metric, given = (
                getattr(tm, f"Binary{kind}")(),
                p[:, 1] if name in ("auroc", "average_precision") else p.argmax(1),
            )
        else:
            metric, given = (
                getattr(tm, f"Multiclass{kind}")(classes, average="macro"),
                p if name in ("auroc", "average_precision") else p.argmax(1),
            )
        assert float(metric(torch.tensor(given), torch.tensor(targets))) == pytest.approx(
            found[name].value, abs=1e-6
        ), name


@pytest.mark.parametrize("ties", [False, True])
def test_a_weight_counts_as_so_many_rows(ties):
    targets, p = predictions(2, ties, 80, seed=2)
    weights = bootstrap_weights(80, replicates=8, seed=5)
    truth = targets == 1
    scores = p[:, 1]
    predicted = p.argmax(1) == 1
    for i, rows in enumerate(np.repeat(np.arange(80), w.astype(int)) for w in weights):
        w = weights[[i]]
        assert weighted_auroc(w, truth, scores)[0] == pytest.approx(
            sk.roc_auc_score(truth[rows], scores[rows]), abs=1e-9
        )
        assert weighted_average_precision(w, truth, scores)[0] == pytest.approx(
            sk.average_precision_score(truth[rows], scores[rows]), abs=1e-9
        )
        expected = sk.precision_recall_fscore_support(truth[rows], predicted[rows], average="binary")[:3]
        assert np.ravel(class_rates(w, truth, predicted)) == pytest.approx(expected, abs=1e-9)


def test_equal_scores_may_stand_in_any_order():
    targets, p = predictions(2, True, 60, seed=3)
    order = np.random.default_rng(0).permutation(60)
    one = np.ones((1, 60))
    for metric in (weighted_auroc, weighted_average_precision):
        assert metric(one, targets[order] == 1, p[order, 1]) == pytest.approx(
            metric(one, targets == 1, p[:, 1]), abs=1e-12
        )
    right = p.argmax(1) == targets
    assert expected_calibration_error(p.max(1)[order], right[order]) == pytest.approx(
        expected_calibration_error(p.max(1), right), abs=1e-12
    )


def test_calibration_error_by_hand():
    confidence, right = np.array([0.6, 0.9, 0.7, 0.8]), np.array([True, True, False, True])
    sure, share_right, count = (v[0] for v in reliability(confidence, right, bins=2))
    assert sure == pytest.approx([0.65, 0.85]) and share_right.tolist() == [0.5, 1.0] and count.tolist() == [2, 2]
    assert expected_calibration_error(confidence, right, bins=2) == pytest.approx([(0.15 * 2 + 0.15 * 2) / 4])
    tripled = expected_calibration_error(confidence, right, bins=2, weights=np.array([[3.0, 1.0, 1.0, 1.0]]))
    assert tripled == pytest.approx([(abs((3 * 0.6 + 0.7) / 4 - 3 / 4) * 4 + 0.15 * 2) / 6])
    assert expected_calibration_error(np.full(5, 0.8), np.array([1, 1, 1, 1, 0], bool)) == pytest.approx([0.0]), (
        "equal confidences are one bin"
    )


def test_confusion_and_slices():
    targets, p = predictions(3, False)
    assert (confusion_matrix(targets, p.argmax(1), 4)[:3, :3] == sk.confusion_matrix(targets, p.argmax(1))).all()
    town = np.array(["x", "y", "z"])[np.arange(300) % 3]
    rows = slice_table(targets, p, {"town": town, "same": ["s"] * 300, "many": np.arange(300)})
    right = p.argmax(1) == targets
    assert [(r["attribute"], r["value"], r["n"]) for r in rows] == [("town", v, 100) for v in "xyz"]
    assert [r["accuracy"] for r in rows] == [proportion(int(right[town == v].sum()), 100) for v in "xyz"]


@pytest.mark.parametrize("ties", [False, True])
def test_curves_are_those_of_scikit_learn(ties):
    targets, p = predictions(2, ties, 200, seed=4)
    found = threshold_curves(targets == 1, p[:, 1])
    false_alarms, recall, thresholds = sk.roc_curve(targets, p[:, 1], drop_intermediate=False)
    precision, recalled, _ = sk.precision_recall_curve(targets, p[:, 1])
    assert (
        found["threshold"] == pytest.approx(thresholds[1:])
        and found["false_alarms"] == pytest.approx(false_alarms[1:])
        and found["recall"] == pytest.approx(recall[1:])
    )
    assert found["precision"] == pytest.approx(precision[-2::-1]) and found["recall"] == pytest.approx(recalled[-2::-1])
    short = threshold_curves(targets == 1, p[:, 1], most=7)
    assert (
        len(short["recall"]) <= 7
        and short["recall"][-1] == short["false_alarms"][-1] == 1
        and short["threshold"][0] == found["threshold"][0]
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_class_by_class(grouped):
    targets, p = predictions(3, False, 240, seed=5)
    groups = [f"house {i // 2}" for i in range(240)] if grouped else None
    rows, predicted = class_estimates(targets, p, letters, groups), p.argmax(1)
    expected = sk.precision_recall_fscore_support(targets, predicted)
    for i, name in enumerate(("precision", "recall", "f1")):
        assert [r[name].value for r in rows] == pytest.approx(expected[i])
    assert [(r["class"], r["images"], r["predicted"]) for r in rows] == [
        (letters[k], (targets == k).sum(), (predicted == k).sum()) for k in range(3)
    ]
    assert {r["recall"].method for r in rows} == {"bootstrap" if grouped else "wilson"}
    assert all(r[name].low < r[name].value < r[name].high for r in rows for name in ("precision", "recall", "f1"))


# ---- intervals


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_intervals_of_proportions(level):
    z, tail = norm.ppf(0.5 + level / 2), (1 - level) / 2
    for n in (1, 10, 39, 40, 500):
        none, all_ = wilson(0, n, level), wilson(n, n, level)
        assert (none.low, none.high) == pytest.approx((0, z * z / (n + z * z))) and (
            all_.low,
            all_.high,
        ) == pytest.approx((n / (n + z * z), 1))
        none, all_ = clopper_pearson(0, n, level), clopper_pearson(n, n, level)
        assert (none.low, none.high) == pytest.approx((0, 1 - tail ** (1 / n))) and (
            all_.low,
            all_.high,
        ) == pytest.approx((tail ** (1 / n), 1))
        for k in {0, 1, n // 3, n - 1, n}:
            for ours, name in ((wilson, "wilson"), (clopper_pearson, "exact")):
                theirs = binomtest(k, n).proportion_ci(level, name)
                assert (ours(k, n, level).low, ours(k, n, level).high) == pytest.approx(
                    (theirs.low, theirs.high), abs=1e-9
                )


@pytest.mark.parametrize("n", [12, 39, 40, 100, 400])
def test_a_proportion_covers_the_truth(n):
    """Exactly, by the binomial law: Clopper-Pearson never falls short of 95 %, Wilson on average not by more than a
    point and nowhere by more than five."""
    spans, truths = [proportion(k, n) for k in range(n + 1)], np.linspace(0.1, 0.97, 60)
    low, high = np.array([s.low for s in spans]), np.array([s.high for s in spans])
    covered = np.array([binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() for p in truths])
    assert covered.min() >= 0.95 if n < 40 else covered.min() >= 0.90 and 0.94 <= covered.mean() <= 0.97


def test_the_bounds_are_quantiles_with_the_tails_of_student():
    values, n = np.random.default_rng(1).normal(size=16), 16
    weights = bootstrap_weights(n, replicates=3000)
    found = bootstrap(lambda w: w @ values / w.sum(1), weights)
    tail = norm.cdf(np.sqrt(n / (n - 1)) * student.ppf(0.025, n - 1))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(weights @ values / n, [tail, 1 - tail])))


def test_the_bootstrap_by_group_covers_the_truth():
    """400 sets of 30 houses, each with photographs that tend to be right or wrong together: 95 % within 3 points;
    without groups far less."""
    random, held = np.random.default_rng(0), {"by group": [], "as if independent": []}
    for i in range(400):
        size = random.integers(2, 7, 30)
        groups, right = (
            np.repeat(np.arange(30), size),
            np.repeat(random.beta(1.6, 0.4, 30), size),
        )  # a house is right with 0.8 on average
        right = random.random(len(right)) < right
        for name, found in (("by group", share(right, groups, seed=i)), ("as if independent", share(right))):
            held[name].append(found.low <= 0.8 <= found.high)
    held = {name: np.mean(v) for name, v in held.items()}
    assert 0.92 <= held["by group"] <= 0.98 and held["as if independent"] < 0.85


def test_images_of_a_group_are_drawn_together():
    groups = ["A", "A", "", "", "B", "B", "B"]
    drawn = bootstrap_weights(7, groups, replicates=500)
    assert (
        (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 4] == drawn[:, 6]).all() and (drawn[:, 2] != drawn[:, 3]).any()
    )
    assert (drawn[:, [0, 2, 3, 4]].sum(1) == 4).all() and drawn[:, [0, 2, 3, 4]].mean(0) == pytest.approx(
        np.ones(4), abs=0.15
    )
    assert (drawn == bootstrap_weights(7, groups, replicates=500)).all() and (
        drawn != bootstrap_weights(7, groups, replicates=500, seed=1)
    ).any()


rates = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc", "average_precision")


@pytest.mark.parametrize("n", [12, 30, 61])
@pytest.mark.parametrize("classes, positive", [(2, "b"), (2, None), (3, None), (3, "c")])
@pytest.mark.parametrize("kind", ["faultless", "all wrong", "one wrong", "shy"])
@pytest.mark.parametrize("grouped", [False, True])
def test_no_certainty_from_few_images(n, classes, positive, kind, grouped):
    targets = np.arange(n) % classes
    predicted = {
        "faultless": targets,
        "all wrong": (targets + 1) % classes,
        "one wrong": np.where(np.arange(n) == 1, 0, targets),
        "shy": np.where(np.arange(n) < 2 * n // 3, 0, targets),
    }[kind]
    p = np.eye(classes)[predicted] * 0.94 + 0.06 / classes
    groups = [f"{i // 2}" for i in range(n)] if grouped else None
    found = classification_estimates(targets, p, letters[:classes], positive, groups, replicates=100)
    by_class = [
        row[name]
        for row in class_estimates(targets, p, letters[:classes], groups, replicates=100)
        for name in ("precision", "recall", "f1")
    ]
    for e in [found[name] for name in rates] + by_class:
        if e.value is None:
            assert e.low is e.high is None and e.method.startswith("undefined: ")
        else:
            assert 0 <= e.low <= e.value <= e.high <= 1 and e.low < 1 and e.high > 0 and e.low < e.high
    if kind == "faultless" and found["ece"].value is not None:
        assert (
            found["ece"].high > found["ece"].value
            and found["brier"].high > found["brier"].value
            and found["log_loss"].value is None
        )


def test_faultless_precision_rests_on_what_was_claimed():
    "Of 100 pairs of photographs 50 are of the class and 12 were predicted to be: twelve trials, not fifty."
    targets, predicted = np.repeat(np.arange(100) < 50, 2).astype(int), np.repeat(np.arange(100) < 12, 2).astype(int)
    p, groups = np.eye(2)[predicted] * 0.9 + 0.05, np.repeat(np.arange(100), 2)
    exact = clopper_pearson(12, 12)
    for found in (
        classification_estimates(targets, p, ["no", "yes"], "yes", groups)["precision"],
        class_estimates(targets, p, ["no", "yes"], groups)[1]["precision"],
    ):
        assert (found.low, found.high, found.n) == (exact.low, 1.0, 12)


def test_a_value_that_no_replicate_changes_is_not_certain():
    """Twelve houses with one photograph right and one wrong: one half in every replicate, and twelve trials leave more
    open than that."""
    found, certain = share(np.arange(24) % 2 == 0, np.arange(24) // 2), clopper_pearson(12, 12).low
    assert (found.value, found.low, found.high, found.n) == pytest.approx((0.5, 0.5 * certain, 1 - 0.5 * certain, 12))


@pytest.mark.parametrize(
    "found, words",
    [
        (lambda: proportion(4, 9), "9 of at least 10 needed"),
        (lambda: share(np.ones(40, bool), list("abcde") * 8), "5 of at least 10"),
        (lambda: bootstrap(lambda w: w[:, 0] * np.nan, np.ones((5, 20))), "a class is absent"),
        (
            lambda: bootstrap(
                lambda w: np.where(w[:, 0] > 1, np.nan, 1.0) if len(w) > 1 else w[:, 0], bootstrap_weights(20)
            ),
            "a class has too few images",
        ),
        (
            lambda: classification_estimates(np.zeros(20, int), np.full((20, 2), 0.5), ["a", "b"], "b")["recall"],
            "0 of at least 10",
        ),
        (
            lambda: classification_estimates(np.zeros(20, int), np.full((20, 2), 0.5), ["a", "b"], "b")["auroc"],
            "a class is absent",
        ),
        (
            lambda: classification_estimates(np.zeros(20, int), np.full((20, 2), 0.5), ["a", "b"], "b")[
                "balanced_accuracy"
            ],
            "a class is absent",
        ),
    ],
)
def test_undefined_says_why(found, words):
    e = found()
    assert e.value is e.low is e.high is None and words in e.method and str(e) == e.method and MINIMUM == 10


# ---- the record and the page

hostile = ["<script>alert(1)</script>", r"$\frac$ & \"b\"", "c" * 80]


def test_the_record_is_plain_data_and_complete():
    targets, p = predictions(3, False)
    e = evaluate_predictions(
        targets, p, letters, positive="b", attributes={"town": np.arange(300) % 2}, digests={"bundle": "d"}, looks=2
    )
    record = json.loads(canonical_json(e))
    assert (
        record["metrics"]["f1"] == e.metrics["f1"].to_dict()
        and record["by_class"][1]["recall"] == e.by_class[1]["recall"].to_dict()
        and record["slices"][0]["accuracy"]["n"] == 150
    )
    assert (
        record["confusion"] == sk.confusion_matrix(targets, p.argmax(1)).tolist()
        and record["looks"] == 2
        and record["n"] == 300
    )
    assert record["curves"]["recall"] == threshold_curves(targets == 1, p[:, 1])["recall"]
    two = evaluate_predictions(
        (targets == 1).astype(int), np.column_stack([1 - p[:, 1], p[:, 1]]), ["other", "b"], positive="b"
    )
    assert two.by_class == [] and two.curves == e.curves and "300 images, 2 classes" in str(two)
    assert evaluate_predictions(np.zeros(20, int), np.full((20, 2), 0.5), ["a", "b"], positive="b").curves == {}, (
        "none of the class is there"
    )


def test_errors_in_words():
    def hot(predicted):
        return np.eye(3)[predicted]

    targets = np.repeat([0, 1, 2], 4)
    assert (
        evaluate_predictions(targets, hot(targets), letters).errors()
        == "None of the 12 images was taken for another class."
    )
    predicted = np.array([0, 0, 2, 2, 1, 1, 1, 0, 2, 2, 2, 2])
    assert (
        evaluate_predictions(targets, hot(predicted), letters).errors()
        == "3 of 12 images were taken for another class, most often a for c (2 of 4)."
    )
    assert (
        evaluate_predictions(targets, hot(predicted), letters, positive="a").errors()
        == "Of 4 a images 2 were found and 2 missed; of 8 others 1 were taken for a."
    )


def test_the_page_escapes_what_comes_from_outside(tmp_path):
    targets, p = predictions(3, False)
    e = evaluate_predictions(
        targets,
        p,
        hostile,
        positive=hostile[0],
        attributes={"<i>a</i>": np.array(["<b>x</b>", "y"])[np.arange(300) % 2]},
        digests={"<u>d</u>": "<u>e</u>"},
        published=[dict(source="<p onclick=x>", metric="f1", value=0.5, protocol="<p onclick=y>")],
    )
    page = evaluation_report(e, tmp_path / "deep" / "report.html", "<script>title</script>").read_text()
    for words in ("<script", "<i>a", "<b>x", "<u>", "onclick=x>", "onclick=y>"):
        assert words not in page.replace("&lt;p onclick=x&gt;", "").replace("&lt;p onclick=y&gt;", ""), words
    assert "&lt;script&gt;alert(1)" in page and "&lt;script&gt;title" in page and "<script" not in e._repr_html_()
    drawn = [label.get_text() for label in plot_confusion(e).axes[0].get_yticklabels()]
    assert drawn[1] == hostile[1].replace("$", r"\$"), "matplotlib would read a formula"


def test_the_page_says_what_was_measured(tmp_path):
    targets, p = predictions(2, False, 200)
    e = evaluate_predictions(
        targets,
        p,
        ["good", "bad"],
        positive="bad",
        looks=3,
        published=[dict(source="a paper", metric="auroc", value=0.9, protocol="other images")],
    )
    page, a = evaluation_report(e, tmp_path / "r.html").read_text(), e.metrics["accuracy"]
    for words in (
        f"{a.value:.1%} of 200 held-out",
        f"at least {a.low:.1%} would be",
        "looked at 3 times",
        "Other thresholds",
        "other images",
        e.errors(),
    ):
        assert words in page, words
    assert "Class by class" not in page and "Slices" not in page and page.count("data:image/png") == 3
    few = evaluate_predictions(targets[:8], p[:8], ["good", "bad"], positive="bad")
    page = evaluation_report(few, tmp_path / "r.html").read_text()
    assert "8 images are too few to state an accuracy" in page and "What was evaluated" not in page
    none = evaluate_predictions(np.arange(20) % 2, np.tile([0.9, 0.1], (20, 1)), ["good", "bad"], positive="bad")
    assert "Other thresholds" in evaluation_report(none, tmp_path / "r.html").read_text(), (
        "a class that is never claimed has no precision to draw"
    )


def test_the_surest_mistakes_come_first():
    p = np.array([[0.6, 0.4], [0.2, 0.8], [np.nan, np.nan], [0.1, 0.9], [0.3, 0.7]])
    assert worst_errors(np.array([1, 0, 0, 0, 1]), p).tolist() == [3, 1, 0] and worst_errors(
        np.array([1, 0, 0, 0, 1]), p, most=1
    ).tolist() == [3]


y, q = np.arange(20) % 2, np.full((20, 2), 0.5)
bad = [
    (lambda: wilson(7, 6), "got 7 of 6"),
    (lambda: clopper_pearson(-1, 6), "got -1 of 6"),
    (lambda: wilson(0, 0), "at least one trial"),
    (lambda: bootstrap_weights(5, ["a"]), "each of 5 images, got 1"),
    (lambda: share(np.ones(12, bool), ["a"] * 11), "each of 12 images, got 11"),
    (lambda: classification_estimates([], np.zeros((0, 2)), ["a", "b"]), "is the split empty"),
    (lambda: classification_estimates(y, q[:, :1], ["a", "b"]), r"probabilities \(20, 2\), got \(20, 1\)"),
    (lambda: classification_estimates(y, q * 2, ["a", "b"]), "sum to 1"),
    (lambda: classification_estimates(y, q * np.nan, ["a", "b"]), "sum to 1"),
    (lambda: classification_estimates(y, q + np.array([[0.7, -0.7]]), ["a", "b"]), "from 0 to 1"),
    (lambda: classification_estimates(y + 1, q, ["a", "b"]), "from 0 to 1, got 1 to 2"),
    (lambda: classification_estimates(y.astype(float), q, ["a", "b"]), "float64"),
    (lambda: classification_estimates(y, q, ["a", "b"], "c"), "got 'c'"),
    (lambda: class_estimates(y + 1, q, ["a", "b"]), "from 0 to 1, got 1 to 2"),
    (lambda: slice_table(y, q, {"town": ["x"] * 3}), "'town' for each of 20 images, got 3"),
    (lambda: threshold_curves(y > 5, q[:, 0]), "0 of them of the class"),
    (lambda: threshold_curves(y > -1, q[:, 0]), "20 of them of the class"),
    (lambda: threshold_curves(y > 0, q[:9, 0]), "9 scores for 20 images"),
    (lambda: evaluate_predictions([], q[:0], ["a", "b"]), "is the hold-out empty"),
    (
        lambda: evaluate_predictions(
            y, q, ["a", "b"], published=[dict(source="s", metric="top-5", value=1, protocol="p")]
        ),
        "got top-5",
    ),
]


@pytest.mark.parametrize("call, words", bad)
def test_refusals(call, words):
    with pytest.raises(DataError, match=words):
        call()
