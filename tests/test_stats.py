"Intervals of shares and metrics, an interval to decide by, differences, distributions, replicates in bounded memory."

import numpy as np
import pytest
from scipy.stats import binom, binomtest, ks_2samp
from sklearn import metrics as sk
from statsmodels.stats.multitest import multipletests

from cvkit.core import DataError
from cvkit.evidence.classification_metrics import (
    auroc_estimate,
    class_estimates,
    classification_estimates,
    weighted_auroc,
)
from cvkit.evidence.estimates import decide, to_decide
from cvkit.stats import (
    Estimate,
    bootstrap,
    bootstrap_weights,
    bootstraps,
    clopper_pearson,
    detectable_gap,
    difference_p,
    drawn_weights,
    effective_count,
    holm,
    ks_p_values,
    ks_statistics,
    logit_interval,
    proportion,
    share_difference,
    units_of,
    widen_constant,
    wilson,
    wilson_interval,
)


def scored(n, seed=0, classes=2, apart=1.5):
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, n)
    z = random.normal(0, 1, (n, classes)) + apart * np.eye(classes)[targets]
    return targets, np.exp(z) / np.exp(z).sum(1, keepdims=True)


# ---- AUROC


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_auroc_is_that_of_scikit_learn_and_its_error_that_of_the_bootstrap(classes):
    targets, p = scored(400, classes=classes)
    found = auroc_estimate(targets, p)
    assert found.value == pytest.approx(
        sk.roc_auc_score(targets, p if classes > 2 else p[:, 1], multi_class="ovr"), abs=1e-9
    )
    weights = bootstrap_weights(400, replicates=1500, seed=1)
    by_draws = np.std(np.mean([weighted_auroc(weights, targets == k, p[:, k]) for k in range(classes)], axis=0))
    by_formula = (found.high - found.low) / 2 / 1.96
    assert by_formula == pytest.approx(by_draws, rel=0.12)


def test_auroc_by_group_is_as_wide_as_its_groups_are_few():
    targets, p = scored(150)
    alone, thrice = (
        auroc_estimate(targets, p, 1),
        auroc_estimate(np.tile(targets, 3), np.tile(p, (3, 1)), 1, np.tile(np.arange(150).astype(str), 3)),
    )
    assert thrice.value == pytest.approx(alone.value) and thrice.n == 150
    assert thrice.high - thrice.low == pytest.approx(alone.high - alone.low, rel=0.03), (
        "three copies of each image are no more evidence"
    )
    assert auroc_estimate(np.tile(targets, 3), np.tile(p, (3, 1)), 1).high - thrice.low < 0.75 * (
        thrice.high - thrice.low
    ) + (alone.value - thrice.low)


def test_auroc_of_folds_is_their_mean():
    targets, p = scored(200)
    folds = np.arange(200) % 4
    shifted = p.copy()
    shifted[:, 1] = np.clip(p[:, 1] + 0.2 * folds - 0.3, 0, 1)
    shifted[:, 0] = 1 - shifted[:, 1]  # each fold's scores on another scale
    expected = np.mean([sk.roc_auc_score(targets[folds == f], shifted[folds == f, 1]) for f in range(4)])
    assert auroc_estimate(targets, shifted, 1, folds=folds).value == pytest.approx(expected)
    assert classification_estimates(targets, shifted, "ab", "b", replicates=20, folds=folds)[
        "auroc"
    ].value == pytest.approx(expected)
    assert "from a fold" in auroc_estimate(targets, p, 1, folds=np.where(targets == 1, 0, folds + 1)).method


@pytest.mark.parametrize(
    "case, words", [("one class only", "a class is absent"), ("three of a class", "3 of at least 5")]
)
def test_auroc_is_undefined_where_it_is(case, words):
    targets, p = scored(60)
    targets = np.zeros(60, int) if case == "one class only" else (np.arange(60) < 3).astype(int)
    assert words in auroc_estimate(targets, p, 1).method and auroc_estimate(targets, p, 1).value is None


def test_faultless_auroc_is_not_certain():
    targets = np.arange(40) % 2
    p = np.eye(2)[targets] * 0.8 + 0.1
    found = classification_estimates(targets, p, "ab", "b", replicates=50)["auroc"]
    assert (found.value, found.high, found.low) == (1.0, 1.0, clopper_pearson(20, 20).low)


# ---- F1


def test_f1_is_a_share_of_the_union():
    targets, p = scored(300)
    found, predicted = classification_estimates(targets, p, "ab", "b", replicates=20)["f1"], p.argmax(1)
    union, hit = ((predicted == 1) | (targets == 1)).sum(), ((predicted == 1) & (targets == 1)).sum()
    e, f = wilson(int(hit), int(union)), lambda x: 2 * x / (1 + x)
    assert found.value == pytest.approx(sk.f1_score(targets, predicted)) and (
        found.low,
        found.high,
        found.n,
    ) == pytest.approx((f(e.low), f(e.high), union))
    assert class_estimates(targets, p, "ab")[1]["f1"] == found
    exact = to_decide(found)
    assert exact.low == pytest.approx(f(clopper_pearson(int(hit), int(union)).low)) and exact.low < found.low


def test_f1_of_a_class_that_is_hardly_there_is_undefined():
    targets, p = np.r_[np.ones(4, int), np.zeros(96, int)], np.tile([0.9, 0.1], (100, 1))
    found = classification_estimates(targets, p, ["no", "yes"], "yes", replicates=20)
    assert (
        found["f1"].value is None and "4 of at least 10" in found["f1"].method and found["precision"].value is None
    ), "all-one-class predictions say nothing of the other"


# ---- deciding


@pytest.mark.parametrize("n", [40, 50, 200, 1000])
def test_the_gate_passes_no_more_than_it_says(n):
    answers = [proportion(k, n) for k in range(n + 1)]
    for bar in np.arange(0.5, 0.995, 0.01):
        passed = binom.pmf(np.arange(n + 1), n, bar)[[decide(e, bar) == "pass" for e in answers]].sum()
        assert passed <= 0.025, bar


def test_decide_on_each_side():
    e = Estimate(0.1, 0.05, 0.15, 99, "bootstrap")
    assert [decide(e, bar, at_least=False) for bar in (0.2, 0.15, 0.1, 0.05, 0.04)] == [
        "pass",
        "pass",
        "insufficient",
        "insufficient",
        "fail",
    ]
    assert [decide(e, bar) for bar in (0.05, 0.04, 0.1, 0.15, 0.16)] == [
        "pass",
        "pass",
        "insufficient",
        "insufficient",
        "fail",
    ]
    assert decide(Estimate(None, None, None, 3, "undefined: few").to_dict(), 0.5) == "insufficient"
    assert to_decide(e) == e and to_decide(wilson(9, 50).to_dict()) == clopper_pearson(9, 50)


# ---- proportions


@pytest.mark.parametrize("hits, n", [(0, 20), (3, 20), (10, 20), (20, 20), (1, 1000)])
def test_wilson_is_that_of_scipy(hits, n):
    expected = tuple(binomtest(hits, n).proportion_ci(method="wilson"))
    estimate = wilson(hits, n)
    assert wilson_interval(hits / n, n) == pytest.approx(expected, abs=1e-9)
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=1e-9)


# ---- differences


def test_newcombe_and_its_p():
    assert share_difference((56 / 70, 70), (48 / 80, 80)) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4), (
        "Newcombe 1998, table II, (a), method 10"
    )
    assert share_difference((9 / 10, 10), (3 / 10, 10)) == pytest.approx((0.6, 0.1705, 0.8090), abs=1e-4), "(b)"
    p = difference_p((56 / 70, 70), (48 / 80, 80))
    assert share_difference((56 / 70, 70), (48 / 80, 80), 1 - p)[1] == pytest.approx(0, abs=1e-6) and 0.005 < p < 0.02
    assert (
        difference_p((0.5, 40), (0.5, 40)) == pytest.approx(1, abs=1e-6)
        and difference_p((1.0, 4000), (0.0, 4000)) < 1e-12
    )


def test_copies_are_worth_no_more():
    hits = np.random.default_rng(0).random(50) < 0.6
    assert effective_count(hits, np.arange(50)) == 50
    assert effective_count(np.tile(hits, 4), np.tile(np.arange(50), 4)) == pytest.approx(49, abs=1e-6)


def test_images_of_a_unit_that_differ_by_chance_are_worth_nearly_all():
    random = np.random.default_rng(0)
    assert 700 < effective_count(random.random(1000) < 0.3, np.repeat(np.arange(200), 5)) <= 1000


def test_a_share_of_all_is_worth_as_many_images_as_there_are_units():
    assert effective_count(np.ones(30, bool), np.arange(30) // 3) == 10


def test_the_detectable_gap_is_detected():
    "Two subgroups apart by the stated gap: found in four of five audits."
    random, n, m = np.random.default_rng(0), 150, 250
    gap = detectable_gap(0.85 - 0.5 * 0.12, n, m)
    first = 0.85
    second = first - gap
    found = np.mean([
        difference_p((random.binomial(n, second) / n, n), (random.binomial(m, first) / m, m)) < 0.05 for _ in range(400)
    ])
    assert 0.72 < found < 0.88


@pytest.mark.parametrize(
    "p, adjusted",
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_by_hand(p, adjusted):
    assert holm(p) == pytest.approx(adjusted)


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_holm_is_that_of_statsmodels(n):
    for seed in range(5):
        p = np.random.default_rng(seed).random(n).round(seed)  # with ties, zeros and ones where it is rounded
        assert holm(p).tolist() == multipletests(p, method="holm")[1].tolist()


# ---- two distributions


@pytest.mark.parametrize(
    "n, m, ties", [(400, 80, False), (400, 80, True), (60, 60, False), (2000, 50, True), (31, 500, False)]
)
def test_statistics_and_p_values_are_those_of_scipy(n, m, ties):
    """Statistics to rounding. P-values: within 0.02 of SciPy's asymptotic ones and 0.04 of the exact ones, 0.012 where
    these are below 0.1."""
    random = np.random.default_rng(n)
    a, b = random.normal(0, 1, (n, 6)), random.normal([0, 0.1, 0.2, 0.4, 0.8, 0], [1, 1, 1, 1, 1, 1.5], (m, 6))
    if ties:
        a, b = a.round(1), b.round(1)
    expected = [ks_2samp(a[:, i], b[:, i], method="asymp") for i in range(6)]
    assert np.allclose(ks_statistics(a, b), [e.statistic for e in expected], atol=1e-12)
    exact = np.array([ks_2samp(a[:, i], b[:, i], method="exact").pvalue for i in range(6)])
    found = ks_p_values(ks_statistics(a, b), n, m)
    assert np.abs(found - [e.pvalue for e in expected]).max() < 0.02
    assert np.abs(found - exact).max() < 0.04 and np.abs(found - exact)[exact < 0.1].max() < 0.012


def test_p_values_from_none_to_all():
    assert ks_p_values([0.0, 1e-9, 1.0], 500, 500).tolist()[:2] == [1, 1] and ks_p_values([1.0], 500, 500)[0] < 1e-100
    assert (np.diff(ks_p_values(np.linspace(0, 1, 200), 300, 40)) <= 1e-12).all()


# ---- in bounded memory


def test_pieces_are_the_whole():
    units = units_of(900, [f"{i // 3}" for i in range(900)])
    pieces = list(drawn_weights(units, 1200, seed=4))
    assert (
        len(pieces) > 1
        and (np.concatenate(pieces) == bootstrap_weights(900, [f"{i // 3}" for i in range(900)], 1200, seed=4)).all()
    )
    x = np.random.default_rng(0).normal(size=900)

    def mean(w):
        return w @ x / w.sum(1)

    assert bootstraps({"m": mean}, units, 1200, 4)["m"] == bootstrap(mean, np.concatenate(pieces), 300)


@pytest.mark.slow
def test_a_million_predictions_fit_into_memory(tmp_path):
    import subprocess
    import sys

    code = """
import numpy as np, resource
from cvkit.evidence.classification_metrics import classification_estimates
random = np.random.default_rng(0)
t = (random.random(1_000_000) < .3).astype(int); s = 1 / (1 + np.exp(-(random.normal(size=1_000_000) + 2 * t - 1)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
e = classification_estimates(t, np.stack([1 - s, s], 1), ["a", "b"], "b", replicates=4)
more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(more / 1024, e["auroc"].low < e["auroc"].value < e["auroc"].high)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    grown, inside = done.stdout.split()
    assert float(grown) < 700 and inside == "True", (
        "MiB beyond the predictions; a thousand replicates at once would be 8,000"
    )


@pytest.mark.slow
@pytest.mark.parametrize("n", [50, 200, 1000])
def test_intervals_hold(n):
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location(
        "coverage_table", Path(__file__).parent / "benchmarks" / "coverage.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for row in module.coverage(1000, (n,), ((0.9, 0.3),), seed=1):
        assert 0.93 <= row["covered"] <= 0.97, row


def test_refusals():
    with pytest.raises(DataError, match="each of 3 images, got 2"):
        units_of(3, ["a", "b"])
    assert logit_interval(1.0, [0.0], [5], n=5, method="m") == Estimate(1.0, 1.0, 1.0, 5, "m")
    assert widen_constant(Estimate(1.0, 1.0, 1.0, 12, "m"), 12).low == clopper_pearson(12, 12).low
