"""Numbers of many labels equal scikit-learn's and torchmetrics', read nothing that is not known, and no threshold
judges the images that chose it."""

import json

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from sklearn import metrics as sk

from cvkit.core import DataError, ParameterError, canonical_json
from cvkit.evidence import multilabel_metrics
from cvkit.evidence.calibration import choose_threshold, cross_fit_label_thresholds
from cvkit.evidence.multilabel_metrics import label_estimates, measure_labels, ranking_losses
from cvkit.evidence.multilabel_report import (
    evaluate_labels,
    label_report,
    plot_cooccurrence,
    plot_label_curves,
    plot_label_reliability,
    worst_labels,
)
from cvkit.stats import drawn_weights, estimate_from_replicates, units_of, wilson

names = ["cat", "dog", "bird", "fish"]


def predictions(n=240, ties=False, seed=0, c=4):
    "Truth, and probabilities that know something of it; with ties, multiples of a tenth."
    random = np.random.default_rng(seed)
    truth = (random.random((n, c)) < np.linspace(0.2, 0.6, c)).astype(np.int8)
    p = 1 / (1 + np.exp(-(random.normal(0, 1, (n, c)) + 2 * truth - 1)))
    return truth, p.round(1).clip(0.1, 0.9) if ties else p


def hide(truth, share=0.2, seed=1):
    return np.where(np.random.default_rng(seed).random(truth.shape) < share, -1, truth).astype(np.int8)


def reference(truth, p, predicted):
    "Metrics by scikit-learn, where everything is known."
    return {
        "map": sk.average_precision_score(truth, p, average="macro"),
        "exact_match": sk.accuracy_score(truth, predicted),
        "micro_f1": sk.f1_score(truth, predicted, average="micro"),
        "macro_f1": sk.f1_score(truth, predicted, average="macro", zero_division=0),
        "hamming": sk.hamming_loss(truth, predicted),
        "ranking_loss": sk.label_ranking_loss(truth, p),
        "brier": sk.mean_squared_error(truth, p),
        "log_loss": sk.log_loss(truth.ravel(), p.ravel()),
    }


# ---- values


@pytest.mark.parametrize("ties", [False, True])
def test_values_are_those_of_scikit_learn(ties):
    truth, p = predictions(ties=ties)
    metrics, rows, _ = measure_labels(truth, p, p >= 0.4, replicates=20, classes=names)
    assert {k: v.value for k, v in metrics.items()} == pytest.approx(reference(truth, p, p >= 0.4), abs=1e-9)
    for k, row in enumerate(rows):
        t, s = truth[:, k], p[:, k] >= 0.4
        expected = {
            "average_precision": sk.average_precision_score(t, p[:, k]),
            "auroc": sk.roc_auc_score(t, p[:, k]),
            "precision": sk.precision_score(t, s),
            "recall": sk.recall_score(t, s),
            "f1": sk.f1_score(t, s),
        }
        assert {m: row[m].value for m in expected} == pytest.approx(expected, abs=1e-9)
        assert (row["class"], row["images"], row["claimed"], row["missed"], row["wrongly_predicted"]) == (
            names[k],
            t.sum(),
            s.sum(),
            (t & ~s).sum(),
            (s & (1 - t)).sum(),
        )


def test_values_are_those_of_torchmetrics():
    truth, p = predictions(seed=2)
    found = {k: v.value for k, v in label_estimates(truth, p, p >= 0.3, replicates=20).items()}
    t, q = torch.tensor(truth.astype(int)), torch.tensor(p)
    cut = dict(num_labels=4, threshold=0.3)
    assert found["map"] == pytest.approx(float(tm.multilabel_average_precision(q, t, 4)), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(float(tm.multilabel_f1_score(q, t, average="macro", **cut)), abs=1e-6)
    assert found["micro_f1"] == pytest.approx(float(tm.multilabel_f1_score(q, t, average="micro", **cut)), abs=1e-6)
    assert found["exact_match"] == pytest.approx(float(tm.multilabel_exact_match(q, t, **cut)), abs=1e-6)
    assert found["hamming"] == pytest.approx(float(tm.multilabel_hamming_distance(q, t, **cut)), abs=1e-6)
    mixed = (t.sum(1) > 0) & (t.sum(1) < 4)
    assert ranking_losses(truth, p)[mixed.numpy()].mean() == pytest.approx(
        float(tm.multilabel_ranking_loss(q[mixed], t[mixed], 4)), abs=1e-6
    )


def test_where_labels_are_not_known_each_label_is_judged_where_it_is():
    full, p = predictions(seed=3)
    truth, predicted = hide(full), p >= 0.5
    metrics, rows, _ = measure_labels(truth, p, predicted, replicates=20)
    known = truth >= 0
    assert metrics["map"].value == pytest.approx(
        np.mean([sk.average_precision_score(truth[known[:, k], k], p[known[:, k], k]) for k in range(4)])
    )
    assert metrics["hamming"].value == pytest.approx((predicted != full)[known].mean())
    assert metrics["micro_f1"].value == pytest.approx(sk.f1_score(full[known], predicted[known]))
    assert metrics["log_loss"].value == pytest.approx(sk.log_loss(full[known], p[known]))
    some = known.any(1)
    assert (
        metrics["exact_match"].value == pytest.approx((~(known & (predicted != full)).any(1))[some].mean())
        and metrics["exact_match"].n == some.sum()
    )
    pairs = [
        [p[i, a] <= p[i, b] for a in range(4) for b in range(4) if truth[i, a] == 1 and truth[i, b] == 0]
        for i in np.flatnonzero(some)
    ]
    assert metrics["ranking_loss"].value == pytest.approx(np.mean([np.mean(x) if x else 0 for x in pairs]))
    assert [row["auroc"].value for row in rows] == pytest.approx([
        sk.roc_auc_score(truth[known[:, k], k], p[known[:, k], k]) for k in range(4)
    ])


@pytest.mark.parametrize("groups", [None, np.arange(240) // 3])
def test_what_is_not_known_changes_nothing(groups):
    full, p = predictions(seed=4)
    truth = hide(full)
    truth[:5] = -1
    other = truth < 0
    first = evaluate_labels(truth, p, [0.4] * 4, names, p >= 0.4, groups=groups)
    second = evaluate_labels(
        truth,
        np.where(other, np.random.default_rng(0).random(p.shape), p),
        [0.4] * 4,
        names,
        (p >= 0.4) ^ other,
        groups=groups,
    )
    assert canonical_json(first) == canonical_json(second)
    without = measure_labels(truth[5:], p[5:], p[5:] >= 0.4, None if groups is None else groups[5:], classes=names)
    assert without[0] == first.metrics, "an image of which nothing is known is as if it were not there"
    assert worst_labels(truth, p).tolist() == worst_labels(truth, np.where(other, 0.5, p)).tolist()


@pytest.mark.parametrize("c, n", [(1, 5), (2, 1), (7, 300)])
def test_ranking_loss(c, n):
    truth, p = predictions(n, True, c=c)
    expected = sk.label_ranking_loss(truth, p) if c > 1 else 0
    assert ranking_losses(truth, p).mean() == pytest.approx(expected)


# ---- intervals


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_copied_rows(grouped, monkeypatch):
    truth, p = predictions(150, ties=True, seed=5)
    groups = np.arange(150) // 2 if grouped else None
    units, n = units_of(150, groups), 75 if grouped else 150
    found, rows, _ = measure_labels(truth, p, p >= 0.4, groups, 3, replicates=200)
    copies = [np.repeat(np.arange(150), w.astype(int)) for w in np.concatenate(list(drawn_weights(units, 200, 3)))]
    draws = [reference(truth[i], p[i], p[i] >= 0.4) for i in copies]
    for name, e in found.items():
        if name == "exact_match" and not grouped:
            assert e == wilson(int((truth == (p >= 0.4)).all(1).sum()), 150)
            continue
        expected = estimate_from_replicates(e.value, np.array([d[name] for d in draws]), n)
        assert (e.low, e.high, e.n) == pytest.approx((expected.low, expected.high, n), abs=1e-6), name
    one = estimate_from_replicates(
        rows[2]["average_precision"].value,
        np.array([sk.average_precision_score(truth[i, 2], p[i, 2]) for i in copies]),
        n,
    )
    assert (rows[2]["average_precision"].low, rows[2]["average_precision"].high) == pytest.approx(
        (one.low, one.high), abs=1e-6
    )
    if grouped:
        two = estimate_from_replicates(
            rows[1]["f1"].value, np.array([sk.f1_score(truth[i, 1], p[i, 1] >= 0.4) for i in copies]), n
        )
        assert (rows[1]["f1"].low, rows[1]["f1"].high) == pytest.approx((two.low, two.high), abs=1e-6)
    else:
        assert rows[1]["recall"] == wilson(int((truth[:, 1] * (p[:, 1] >= 0.4)).sum()), int(truth[:, 1].sum()))


def test_labels_taken_a_block_at_a_time_give_the_same():
    truth, p = predictions(120, seed=6, c=7)
    truth = hide(truth)
    columns, units = multilabel_metrics._image_columns(truth, p, p > 0.5), np.arange(120)
    whole = multilabel_metrics._draws(truth, p, p > 0.5, columns, units, replicates=30, seed=0)
    step = [
        multilabel_metrics._draws(truth[:, a:b], p[:, a:b], p[:, a:b] > 0.5, columns, units, replicates=30, seed=0)[0]
        for a, b in ((0, 3), (3, 6), (6, 7))
    ]
    assert np.array_equal(whole[0], np.concatenate(step, 2), equal_nan=True)
    n = 2_000_001 // 3  # three labels a block
    long = np.tile(truth[:1], (n, 1))
    long[1] = 1 - long[1].clip(0)
    long[2] = 0
    long[3] = 1
    scores = np.random.default_rng(0).random((n, 7))
    found, sums = multilabel_metrics._draws(
        long, scores, scores > 0.5, np.ones((n, 1)), np.zeros(n, int), replicates=1, seed=0
    )
    assert found.shape == (2, 4, 7) and np.array_equal(found[0], found[1]) and sums.tolist() == [[n], [n]], (
        "one unit is drawn as it is"
    )
    assert found[0, 3, 6] == pytest.approx(
        sk.average_precision_score(long[known := long[:, 6] >= 0, 6], scores[known, 6])
    )


# ---- undefined, not 0


def test_a_label_that_nobody_has_is_named():
    truth, p = predictions()
    truth[:, 2] = np.where(truth[:, 2] == 1, -1, 0)
    metrics, rows, _ = measure_labels(truth, p, p >= 0.5, classes=names, replicates=50)
    assert metrics["map"].value is metrics["macro_f1"].value is None
    assert metrics["map"].method == metrics["macro_f1"].method == "undefined: no image has 'bird'"
    assert metrics["micro_f1"].value > 0 and metrics["hamming"].value > 0
    assert [rows[2][k].value for k in ("average_precision", "auroc", "recall")] == [None] * 3 and rows[1][
        "recall"
    ].value > 0


def test_a_label_that_everybody_has_is_named():
    truth, p = predictions()
    truth[:, 0] = 1
    metrics, rows, _ = measure_labels(truth, p, p >= 0.5, classes=names, replicates=50)
    assert metrics["map"].method == "undefined: every image has 'cat'" and metrics["macro_f1"].value > 0
    assert rows[0]["auroc"].value is rows[0]["average_precision"].value is None and rows[0]["recall"].value > 0


def test_a_label_of_two_images_is_named():
    truth, p = predictions()
    truth[2:, 3] = 0
    truth[:2, 3] = 1
    metrics, rows, _ = measure_labels(truth, p, p >= 0.5, classes=names)
    assert metrics["map"].method == metrics["macro_f1"].method == "undefined: 'fish' has too few images, 2"
    assert rows[3]["average_precision"].method.startswith("undefined: 2 of at least 5")


def test_faultless_is_not_certain():
    truth, _ = predictions(200)
    metrics, rows, bins = measure_labels(truth, np.where(truth == 1, 0.9, 0.1), truth == 1)
    assert metrics["exact_match"].value == 1 and 0.97 < metrics["exact_match"].low < 1
    assert (
        metrics["hamming"].value == 0 < metrics["hamming"].high < 0.03
        and metrics["map"].value == 1 > metrics["map"].low
    )
    assert metrics["log_loss"].method.startswith("undefined: no error was seen")
    assert rows[0]["average_precision"].low < 1 and max(bins["low"]) < 1


def test_bins_count_every_known_label():
    truth, p = predictions(400, seed=7)
    truth = hide(truth)
    bins = measure_labels(truth, p, p > 0.5, replicates=50)[2]
    known = truth >= 0
    assert sum(bins["count"]) == known.sum() and len(bins["count"]) == 10
    assert np.dot(bins["present"], bins["count"]) == pytest.approx((truth[known] == 1).sum()) and np.dot(
        bins["probability"], bins["count"]
    ) == pytest.approx(p[known].sum())
    tied = measure_labels(truth, np.where(p > 0.7, 0.9, 0.1), p > 0.7, replicates=50)[2]
    assert tied["count"] == [(p[known] <= 0.7).sum(), (p[known] > 0.7).sum()] and tied["probability"] == pytest.approx([
        0.1,
        0.9,
    ])
    assert all(a <= b <= c for a, b, c in zip(bins["low"], bins["present"], bins["high"]))


# ---- thresholds

folds = np.arange(240) % 4


@pytest.mark.parametrize(
    "rule, options",
    [("f1", {}), ("recall", {"floor": 0.8}), ("cost", {"miss": 5}), ("recall", {"floor": [0.6, 0.7, 0.8, 0.9]})],
)
def test_cuts_are_those_of_each_label_alone(rule, options):
    truth, p = predictions()
    truth = hide(truth)
    found = cross_fit_label_thresholds(truth, p, folds, rule, names, **options)
    for k in range(4):
        rows, own = (
            truth[:, k] >= 0,
            {"by": rule} | {name: v[k] if isinstance(v, list) else v for name, v in options.items()},
        )
        assert found.thresholds[k] == choose_threshold(truth[rows, k] == 1, p[rows, k], **own)
        assert found.by_fold[2, k] == choose_threshold(
            truth[rows & (folds != 2), k] == 1, p[rows & (folds != 2), k], **own
        )
        assert found.f1[k] == pytest.approx([
            sk.f1_score(truth[rows, k], s[rows, k]) for s in (found.decisions, p >= found.thresholds)
        ])
    assert ((found.thresholds > 0) & (found.thresholds < 1)).all() and found.by == rule and canonical_json(found)


def test_cuts_never_see_their_own_fold():
    truth, p = predictions()
    first = cross_fit_label_thresholds(truth, p, folds, classes=names)
    own = (folds == 1)[:, None]
    flipped = cross_fit_label_thresholds(np.where(own, 1 - truth, truth), p, folds, classes=names)
    assert np.array_equal(first.decisions[folds == 1], flipped.decisions[folds == 1]) and np.array_equal(
        first.by_fold[1], flipped.by_fold[1]
    )
    assert not np.array_equal(first.thresholds, flipped.thresholds) and not np.array_equal(
        first.by_fold[0], flipped.by_fold[0]
    )
    moved = cross_fit_label_thresholds(truth, np.where(own, p**3, p), folds)
    assert np.array_equal(moved.decisions[folds == 1], p[folds == 1] ** 3 >= first.by_fold[1]), (
        "its scores are only compared"
    )


def test_on_noise_cross_fitted_cuts_do_not_flatter():
    gains = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        gains.append(
            cross_fit_label_thresholds(
                (random.random((60, 3)) < 0.2).astype(int), random.random((60, 3)), np.arange(60) % 3
            ).f1.mean(0)
        )
    honest, selected = np.mean(gains, axis=0)
    assert selected > honest + 0.03


def test_images_without_part_and_labels_without_knowledge_choose_nothing():
    truth, p = predictions()
    truth = hide(truth)
    out = np.where(np.arange(240) % 5 == 0, -1, folds)
    q = np.where((out < 0)[:, None], np.nan, p)
    found = cross_fit_label_thresholds(truth, q, out)
    changed = cross_fit_label_thresholds(truth, np.where((out >= 0)[:, None] & (truth < 0), 0, q), out)
    assert np.array_equal(found.thresholds, changed.thresholds) and np.array_equal(found.by_fold, changed.by_fold)
    assert not found.decisions[out < 0].any()


def test_a_cut_below_all_scores_lies_above_0():
    truth = np.array([[1], [0], [1], [0]] * 5)
    found = cross_fit_label_thresholds(truth, np.where(truth, 0.0, 1.0), np.arange(20) // 4 % 2, "recall", floor=1)
    assert 0 < found.thresholds[0] <= 1e-9 and "LabelThresholds of 1 labels by recall" in repr(found)
    low = cross_fit_label_thresholds(truth, np.where(truth, 0.2, 0.9), np.arange(20) // 4 % 2, "recall", floor=1)
    assert 0 < low.thresholds[0] < 0.2 and low.decisions.all()


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(truth=np.zeros((240, 3), int)), r"got \(240, 3\), \(240, 4\)"),
        (dict(folds=np.zeros(240, int)), "at least 2 folds, got 1"),
        (dict(probabilities=np.full((240, 4), 1.5)), "from 0 to 1 wherever a label is known"),
        (
            dict(truth=np.where(folds[:, None] == 2, 1, 0) * np.ones((1, 4), int)),
            "'cat' and others known not to outside fold 2, got 0 of 180",
        ),
        (dict(classes=["a"]), "and 1 names"),
    ],
)
def test_bad_input_of_cuts(change, message):
    truth, p = predictions()
    with pytest.raises(DataError, match=message):
        cross_fit_label_thresholds(**{"truth": truth, "probabilities": p, "folds": folds, "classes": names} | change)


def test_bad_rule():
    truth, p = predictions()
    with pytest.raises(ParameterError, match="got 'best'"):
        cross_fit_label_thresholds(truth, p, folds, "best")
    with pytest.raises(ParameterError, match="a floor above 0"):
        cross_fit_label_thresholds(truth, p, folds, "recall", floor=2)


# ---- the evaluation and its page


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(truth=np.zeros((0, 4), int)), "is the split empty"),
        (dict(probabilities=np.zeros((240, 3))), r"\(240, 3\)"),
        (dict(truth=np.full((240, 4), 2)), "got 2; make it with label_truth"),
        (dict(truth=np.full((240, 4), -1)), "labels that are known, got none"),
        (dict(probabilities=np.full((240, 4), np.nan)), "wherever a label is known"),
        (dict(predicted=np.zeros((240, 4))), "as True and False, got float64"),
        (dict(thresholds=[0.5] * 3), "for each of 4 labels"),
        (dict(thresholds=[0.5, 0.5, 0.5, 1.0]), "between 0 and 1"),
        (dict(published=[dict(source="a", metric="accuracy", value=1, protocol="b")]), "got accuracy"),
    ],
)
def test_bad_input(change, message):
    truth, p = predictions()
    with pytest.raises(DataError, match=message):
        evaluate_labels(**{"truth": truth, "probabilities": p, "thresholds": [0.5] * 4, "classes": names} | change)


def test_evaluation_counts_by_hand():
    truth, p = predictions()
    hidden = hide(truth)
    e = evaluate_labels(hidden, p, [0.3, 0.4, 0.5, 0.6], names, looks=2, digests={"bundle": "x"})
    predicted, known = p >= [0.3, 0.4, 0.5, 0.6], hidden >= 0
    wrong = known & (predicted != truth)
    assert (
        e.images == known.any(1).sum()
        and e.wrong == wrong.any(1).sum()
        and not e.cross_fitted
        and e.thresholds == [0.3, 0.4, 0.5, 0.6]
    )
    assert e.errors().startswith(
        f"In {e.wrong} of {e.images} images a label is wrong: {(wrong & (truth == 1)).sum()} were missed and "
        f"{(wrong & (truth == 0)).sum()} wrongly predicted, most often "
    )
    both = known[:, 1] & known[:, 3]
    assert (
        e.cooccurrence["known"][1, 3] == both.sum()
        and e.cooccurrence["truth"][1, 3] == (truth[both][:, [1, 3]].all(1)).sum()
        and e.cooccurrence["predicted"][3, 1] == predicted[both][:, [1, 3]].all(1).sum()
    )
    assert (
        e.cooccurrence["truth_given"][1, 3] == truth[both, 1].sum()
        and e.cooccurrence["predicted_given"][3, 1] == predicted[both, 3].sum()
    )
    record = json.loads(canonical_json(e))
    assert (
        record["metrics"]["map"]["value"] == e.metrics["map"].value
        and record["by_class"][1]["threshold"] == 0.4
        and record["looks"] == 2
    )
    assert "map" in str(e) and "Mean average precision" in e._repr_html_()
    faultless = evaluate_labels(truth, truth * 0.8 + 0.1, [0.5] * 4, names)
    assert faultless.errors() == "In none of the 240 images is a label wrong."
    assert evaluate_labels(truth, 1 - p, [0.5] * 4, names).errors() != e.errors()


def test_page_shows_what_was_measured(tmp_path):
    truth, p = predictions()
    truth = hide(truth)
    cuts = cross_fit_label_thresholds(truth, p, folds, classes=names)
    e = evaluate_labels(
        truth,
        p,
        cuts.thresholds,
        ["<b>cat</b>", "$dog$", "bird", "fish"],
        cuts.decisions,
        looks=1,
        digests={"bundle": "abc"},
        published=[dict(source="a paper", metric="micro_f1", value=0.9, protocol="other pictures")],
    )
    html = label_report(
        e, tmp_path / "page.html", "Animals", [(np.zeros((8, 8), np.uint8), "cat missed")], [("Thresholds", cuts)]
    ).read_text()
    a = e.metrics["exact_match"]
    for words in (
        f"{a.value:.1%} of {e.images} images",
        f"at least {a.low:.1%}",
        "other pictures",
        "cat missed",
        "&lt;b&gt;cat",
        "looked at once",
        f"{cuts.thresholds[1]:.3f}",
        "other folds chose",
        f"{e.metrics['micro_f1'].value:.3f}",
        "abc",
    ):
        assert words in html
    assert "<b>cat</b>" not in html and "<script" not in html and html.count("<img") == 4
    assert (
        "thresholds of each label stand"
        in label_report(evaluate_labels(truth, p, cuts.thresholds, names), tmp_path / "page.html").read_text()
    )


def test_page_of_many_labels_and_of_labels_that_nobody_has(tmp_path):
    truth, p = predictions(60, c=35)
    truth[:, 3], truth[:, 4] = 0, -1
    e = evaluate_labels(truth, p, [0.5] * 35, [f"label {k}" for k in range(35)])
    assert (
        e.curves[3] == e.curves[4] == {}
        and "The 30 labels of most images" in label_report(e, tmp_path / "page.html").read_text()
    )
    few = evaluate_labels(truth[:6, :2], p[:6, :2], [0.5] * 2, ["a", "b"])
    assert "6 images are too few" in label_report(few, tmp_path / "few.html").read_text()


def test_plots_draw_the_numbers():
    truth, p = predictions()
    e = evaluate_labels(truth, p, [0.5] * 4, names)
    left, right = plot_cooccurrence(e).axes[:2]
    assert left.images[0].get_array()[0, 1] == pytest.approx(
        truth[:, :2].all(1).sum() / truth[:, 0].sum()
    ) and right.images[0].get_array()[1, 0] == pytest.approx((p >= 0.5)[:, :2].all(1).sum() / (p >= 0.5)[:, 1].sum())
    assert sorted(
        line.get_label().split(":")[0] for line in plot_label_curves(e).axes[0].lines if line.get_label()[0] != "_"
    ) == sorted(names)
    assert list(plot_label_reliability(e).axes[0].containers[0].lines[0].get_xdata()) == pytest.approx(
        e.bins["probability"]
    )


def test_worst_labels():
    truth = np.array([[1, 0, -1], [0, 1, 1], [1, 1, 0], [0, 0, 0]])
    p = np.array([[0.4, 0.9, 1.0], [0.1, 0.02, 0.3], [0.9, 0.8, 0.2], [np.nan, 1, 1]])
    assert worst_labels(truth, p).tolist() == [[1, 1], [0, 1]]
    assert worst_labels(truth, p, 1).tolist() == [[1, 1]]
    assert worst_labels(truth, p, thresholds=[0.3, 0.95, 0.5]).tolist() == [[1, 1], [2, 1]]
    assert worst_labels(truth[2:3], p[2:3]).shape == (0, 2)


def test_a_faultless_order_leaves_room_for_a_fault():
    truth = np.tile([[1], [0]], (15, 1)).astype(np.int8)
    found = evaluate_labels(truth, np.where(truth == 1, 0.9, 0.1) + np.linspace(0, 0.05, 30)[:, None], [0.5], ["crack"])
    (row,) = found.by_class
    for metric in ("average_precision", "auroc"):
        assert row[metric].value == 1 and 0.7 < row[metric].low < 0.8 and row[metric].high == 1, metric
