"""Shortcuts: what is planted is found, what is nature is not called an error, and chance is what it says; on solar
cells, clean and brightened."""

import json
import re
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from cvkit.core import DataError, ParameterError
from cvkit.data.scan import Scan, histogram_traces, measure_image
from cvkit.data.shortcuts import _aurocs, _out_of_fold, _steps, auroc_interval, find_shortcuts, shuffle_units

quick = settings(max_examples=40, deadline=None, derandomize=True)
LABELS = np.repeat(["a", "b"], 200)
POSITIVE = LABELS == "a"


def one(values, labels=LABELS, name="t", **options):
    "The test of one trait for class a."
    return next(s for s in find_shortcuts(labels, {name: values}, **options) if s.label in ("a", "all"))


# ---- references


@quick
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40))
def test_auroc_is_that_of_scikit_learn(pairs):
    truth, scores = (np.array(x) for x in zip(*pairs))
    expected = roc_auc_score(truth, scores) if 0 < truth.sum() < len(truth) else 0.5
    assert _aurocs(scores[:, None], truth[:, None])[0] == pytest.approx(expected, abs=1e-9)


def test_interval_is_the_published_one():
    """Ends solve |A - end| = 1.96 sd(end), with the variance of Hanley and McNeil and N* = (m + n) / 2 - 1 (Newcombe
    2006, method 5); the second is the mirror of the first."""
    for auroc, m, n in ((0.8, 40, 60), (0.55, 12, 200), (0.99, 50, 50)):
        for end in auroc_interval(auroc, m, n):
            q1, q2, star = end / (2 - end), 2 * end**2 / (1 + end), (m + n) / 2 - 1
            variance = (end * (1 - end) + star * (q1 - end**2 + q2 - end**2)) / (m * n)  # Hanley and McNeil 1982, eq. 1
            assert abs(auroc - end) == pytest.approx(1.959964 * variance**0.5, rel=1e-5)
        assert auroc_interval(1 - auroc, n, m) == pytest.approx(
            tuple(1 - e for e in auroc_interval(auroc, m, n)[::-1]), abs=1e-9
        )


def test_interval_covers():
    "Normal scores a standard deviation apart: the AUROC is known."
    from scipy.stats import norm

    true, random = norm.cdf(1 / 2**0.5), np.random.default_rng(0)
    scores, truth = random.normal(size=(100, 400)), np.arange(100) < 40
    found = _aurocs(scores + truth[:, None], np.tile(truth[:, None], 400))
    held = np.mean([low <= true <= high for low, high in (auroc_interval(a, 40, 60) for a in found)])
    assert held >= 0.95 - 2 * (0.95 * 0.05 / 400) ** 0.5


def test_no_image_is_scored_by_a_model_that_saw_it():
    "A trait that names each image tells nothing out of fold, whatever the model remembers."
    fold = np.arange(60) % 5
    targets = (np.random.default_rng(0).random((60, 1)) < 0.5).astype(np.float32)
    assert not _out_of_fold(_steps(np.array([f"image {i}" for i in range(60)])), targets, fold).std(0) > 0.02
    changed = targets.copy()
    changed[fold == 0] = 1 - changed[fold == 0]
    steps = _steps(np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32))
    assert (_out_of_fold(steps, targets, fold)[fold == 0] == _out_of_fold(steps, changed, fold)[fold == 0]).all()


def test_small_model_is_as_good_as_boosted_trees():
    "A band, and a sum of two traits: within .03 of gradient boosting on the same folds."
    from sklearn.ensemble import HistGradientBoostingClassifier

    random = np.random.default_rng(0)
    x = random.normal(size=(600, 2)).astype(np.float32)
    for y in (np.abs(x[:, 0] + random.normal(0, 0.3, 600)) < 0.6, x.sum(1) + random.normal(0, 1, 600) > 0):
        fold, boosted = np.zeros(600, int), np.zeros(600)
        for k, (train, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(x, y)):
            fold[test] = k
            boosted[test] = (
                HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=4, random_state=0)
                .fit(x[train], y[train])
                .predict_proba(x[test])[:, 1]
            )
        ours = roc_auc_score(y, _out_of_fold(_steps(x), y[:, None].astype(np.float32), fold)[:, 0])
        assert ours > roc_auc_score(y, boosted) - 0.03 > 0.6


# ---- chance


def test_false_alarms_are_as_rare_as_promised():
    """100 data sets with nothing in four traits, three classes, units of several sizes: one test above chance in at
    most one of twenty."""
    alarms = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        units = np.repeat(np.arange(60), random.integers(1, 4, 60))
        labels, own = random.choice(list("abc"), 60)[units], random.normal(size=(60, 4))[units]
        traits = {
            "one": own[:, 0],
            "two": own[:, 1:3],
            "text": np.where(own[:, 3] > 0, "x", "y"),
            "noise": random.normal(size=len(units)),
        }
        alarms += any(
            s.severity not in ("chance", "skipped") for s in find_shortcuts(labels, traits, units, seed=seed, least=5)
        )
    assert alarms / 100 <= 0.05 + 2 * (0.05 * 0.95 / 100) ** 0.5


def test_units_are_never_cut():
    """Ten images of each of forty houses, every house of one class and one brightness: by image brightness would tell
    all, by house it tells nothing."""
    random = np.random.default_rng(0)
    units = np.repeat(np.arange(40), 10)
    values, labels = random.normal(size=40)[units], np.where(random.permutation(40) < 20, "a", "b")[units]
    assert one(values, labels, units=units).severity == "chance"
    assert one(values, labels).severity == "natural", "as if above chance, were the units not told"


@quick
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(0, 9))
def test_a_shuffled_unit_takes_the_labels_of_one_unit(units, seed):
    units = np.array(units)
    for rows in shuffle_units(units, 3, np.random.default_rng(seed)):
        taken = {u: set(units[rows[units == u]]) for u in set(units)}
        assert all(len(t) == 1 for t in taken.values())
        assert sorted(t.pop() for t in taken.values()) == sorted(set(units))


HOUSES = {
    "one label each": ([0, 0, 1, 1, 2], list("aabbb")),
    "each holds both": ([0, 0, 1, 1, 2, 2], list("ababab")),
    "mixed and unequal": ([0, 0, 0, 1, 1, 1, 2, 2, 3, 4], list("aabbbaccbc")),
    "alone": ([0, 1, 2, 3], list("aabc")),
}


@pytest.mark.parametrize("name", HOUSES)
def test_exchanged_labels_keep_what_the_groups_fix(name):
    """Units of one label hold one label again; of the others, the label counts of units of one size are those that were
    there."""
    units, labels = (np.array(x) for x in HOUSES[name])
    mixed = {u for u in units if len(set(labels[units == u])) > 1}

    def counts(values, size):
        of_size = [u for u in mixed if (units == u).sum() == size]
        return sorted("".join(sorted(values[units == u])) for u in of_size)

    for rows in shuffle_units(units, 30, np.random.default_rng(0), labels):
        exchanged = labels[rows]
        assert all(len(set(exchanged[units == u])) == 1 for u in set(units) - mixed)
        for size in (2, 3):
            assert counts(exchanged, size) == counts(labels, size)


def test_each_order_of_what_may_be_exchanged_is_as_likely():
    "Two houses of two images, a and b in one, b and c in the other: two orders of houses by four inside."
    units, labels = np.array([0, 0, 1, 1]), np.array(list("abbc"))
    rows = shuffle_units(units, 8000, np.random.default_rng(0), labels)
    orders, times = np.unique(rows, axis=0, return_counts=True)
    assert len(orders) == 8
    assert np.abs(times - 1000).max() < 5 * 1000**0.5


def test_without_differing_labels_the_draws_are_as_before():
    "The labels are read only where they differ inside a unit."
    units = np.repeat(np.arange(20), np.arange(20) % 3 + 1)
    labels = np.array(list("ab") * 10)[units]
    plain = shuffle_units(units, 9, np.random.default_rng(5))
    assert (shuffle_units(units, 9, np.random.default_rng(5), labels) == plain).all()


def test_a_trait_of_whole_groups_is_seen_where_groups_of_one_size_differ():
    "Sixty houses of ten images, nine of one class: the camera of the house tells the class."
    units = np.repeat(np.arange(60), 10)
    mostly = np.where(units % 2 == 0, "a", "b")
    labels = np.where(np.tile(np.arange(10), 60) == 0, np.where(mostly == "a", "b", "a"), mostly)
    camera = np.where(mostly == "a", "A", "B")
    found = one(camera, labels, "camera", units=units)
    assert found.severity in ("error", "warning") and found.auroc == pytest.approx(0.9, abs=0.01)


def test_what_exchange_cannot_tell_is_no_pass():
    "Twenty houses, each of another size and nearly of one class: no exchange changes what the camera of a house tells."
    sizes = np.arange(20, 40)
    units = np.repeat(np.arange(20), sizes)
    first = np.append(True, np.diff(units) != 0)
    labels = np.where((units % 2 == 0) ^ first, "a", "b")
    camera = np.where(units % 2 == 0, "A", "B")
    found = one(camera, labels, "camera", units=units)
    assert found.auroc <= found.chance and found.severity == "warning"
    assert "too few groups of one size differ" in found.detail


# ---- what is found


def noisy(seed=0):
    return np.random.default_rng(seed).normal(size=400)


FOUND = {
    "higher": (noisy() + 9 * POSITIVE, "t", "warning"),
    "a band": (np.where(POSITIVE, 0.2, 2) * np.sign(noisy()) + 0.01 * noisy(1), "t", "warning"),
    "a comb": (np.where(POSITIVE, 1.0, 0.8 + 0.05 * np.sign(noisy())), "histogram", "error"),
    "missing": (np.where(POSITIVE, np.nan, noisy()), "t", "warning"),
    "infinite": (np.where(POSITIVE, np.inf, noisy()), "t", "warning"),
    "another camera": (np.where(POSITIVE, "A", "B"), "camera", "error"),
    "mostly another camera": (
        np.where(POSITIVE ^ (np.random.default_rng(0).random(400) < 0.1), "A", "B"),
        "camera",
        "warning",
    ),
    "a camera more": (np.where(POSITIVE & (np.random.default_rng(0).random(400) < 0.4), "A", "B"), "camera", "natural"),
    "text that is not of the recording": (np.where(POSITIVE, "poly", "mono"), "cell type", "warning"),
    "a little darker": (noisy() - POSITIVE, "brightness", "natural"),
    "nothing": (noisy(), "t", "chance"),
    "one constant": (np.ones(400), "t", "skipped"),
    "a name of its own": (np.array([f"{i}" for i in range(400)]), "source", "skipped"),
}


@pytest.mark.parametrize("case", FOUND)
def test_found(case):
    values, name, severity = FOUND[case]
    assert one(values, name=name).severity == severity


def test_limits_are_arguments():
    values = np.where(POSITIVE, "poly", "mono")
    assert one(values, name="cell type", recording=("cell type",)).severity == "error"
    assert one(noisy() - 1.5 * POSITIVE, limit=0.75).severity == "warning"


def test_examples_are_the_surest_of_both_sides_one_a_unit():
    units = np.arange(400) // 2
    found = one(noisy() + 4 * POSITIVE, units=units)
    assert (LABELS[found.examples] == "a").all() and (LABELS[found.others] == "b").all()
    assert len(found.examples) == len(set(units[found.examples])) == 4 == len(set(units[found.others]))
    values = noisy() + 4 * POSITIVE
    assert values[found.examples].min() > values.max() - 4 and values[found.others].max() < values.min() + 4


def test_three_classes_one_of_which_is_told():
    labels = np.repeat(["a", "b", "c"], 100)
    found = find_shortcuts(
        labels, {"camera": np.where(labels == "c", "X", "Y"), "light": np.random.default_rng(0).normal(size=300)}
    )
    assert [(s.trait, s.label) for s in found.errors] == [("camera", "c")]
    assert {s.severity for s in found if s.trait == "light"} == {"chance"}
    assert (
        json.loads(json.dumps(found.to_dict())) == found.to_dict()
        and "camera" in repr(found)
        and "what to do" in found._repr_html_()
    )


def test_rare_classes_are_listed():
    labels = np.array(["rare"] * 4 + ["a"] * 100 + ["b"] * 100)
    found = find_shortcuts(labels, {"light": np.random.default_rng(0).normal(size=204)})
    rare = [s for s in found if s.severity == "skipped"]
    assert [(s.trait, s.label) for s in rare] == [("all", "rare")] and "4 independent units" in rare[0].detail
    assert {s.label for s in found} == {"rare", "a", "b"}


@pytest.mark.parametrize("images", [1, 3, 9])
def test_sets_too_small_to_test_are_listed(images):
    found = find_shortcuts(np.repeat(["a", "b"], images), {"light": np.arange(2.0 * images)})
    assert {(s.label, s.severity) for s in found} == {("a", "skipped"), ("b", "skipped")}


def test_same_seed_same_answer():
    values = noisy() - 0.3 * POSITIVE
    tests = [find_shortcuts(LABELS, {"t": values}, seed=seed).to_dict() for seed in (3, 3, 4)]
    assert tests[0] == tests[1] != tests[2]


def test_large_sets_are_thinned_by_unit():
    found = one(noisy() + 9 * POSITIVE, units=np.arange(400) // 4, most=200)
    assert found.severity != "chance" and max(found.examples) < 400 and (LABELS[found.examples] == "a").all()


# ---- traces in the histogram


def test_traces_do_not_depend_on_how_many_pixels_or_which_order():
    gray = np.random.default_rng(0).normal(120, 30, (64, 64)).clip(0, 255).astype(np.uint8)
    assert histogram_traces(np.tile(gray, (3, 2))) == pytest.approx(histogram_traces(gray), abs=2e-3)
    assert (histogram_traces(gray[::-1]) == histogram_traces(gray)).all()


@pytest.mark.parametrize(
    "gray",
    [
        np.zeros((8, 8), np.uint8),
        np.full((8, 8), 77, np.uint8),
        np.full((8, 8), 255, np.uint8),
        np.array([[3]], np.uint8),
    ],
)
def test_traces_of_a_blank_picture_are_numbers(gray):
    assert np.isfinite(histogram_traces(gray)).all()


@pytest.mark.parametrize("gain", [1.07, 1.12, 1.25, 0.9])
def test_a_gain_leaves_its_frequency(gain):
    gray = np.random.default_rng(0).normal(120, 30, (256, 256)).clip(0, 255)
    place = 20 + histogram_traces((gray.astype(np.uint8) * gain).clip(0, 255).astype(np.uint8))[1:].argmax()
    waves = 256 * abs(gain - 1) / gain
    multiples = np.arange(1, 30) * waves % 256
    assert np.abs(np.minimum(multiples, 256 - multiples) - place).min() <= 1


# ---- solar cells


def encode(gray, **options):
    out = BytesIO()
    Image.fromarray(gray).save(out, **options)
    return out.getvalue()


def cell_traits(files):
    "What a scan knows, with the traces."
    scan = Scan(np.arange(len(files)), np.stack([measure_image(f) for f in files]))
    return scan.traits


@pytest.fixture(scope="module")
def cells():
    "400 cells by lot (of 2,624, to be quick), as gray images, and their labels."
    pytest.importorskip("elpv_dataset")
    from cvkit.data.examples import load_elpv

    manifest = load_elpv().manifest
    rows = np.sort(np.random.default_rng(0).permutation(len(manifest))[:400])
    return [np.asarray(Image.open(BytesIO(manifest.read(i))).convert("L")) for i in rows], manifest.labels[rows].astype(
        str
    )


@pytest.mark.parametrize(
    "options", [dict(format="PNG", compress_level=1), dict(format="JPEG", quality=90)], ids=["PNG", "JPEG"]
)
def test_cells_brightened_by_twelve_percent(cells, options):
    "Neither class of the cells as they were published can be told by a shortcut; each can where it was brightened."
    grays, labels = cells
    brighter = [np.minimum(255, g * 1.12).astype(np.uint8) for g in grays]
    plain, changed = (cell_traits([encode(g, **options) for g in some]) for some in (grays, brighter))
    clean = find_shortcuts(labels, plain)
    assert clean.found == [] and clean[0].auroc > 0.65, "nature is above chance and no shortcut"
    for label in ("defective", "functional"):
        planted = {
            name: np.where((labels == label).reshape(-1, *[1] * (t.ndim - 1)), changed[name], t)
            for name, t in plain.items()
        }
        found = find_shortcuts(labels, planted)
        assert {s.trait for s in found.errors} == {"histogram"}
        print(
            f"\n{options['format']}, {label} 12 % brighter:",
            *(f"{s.trait} {s.auroc:.3f} [{s.low:.3f}, {s.high:.3f}] {s.severity}" for s in found if s.label == label),
            sep="\n  ",
        )
    print(
        f"\n{options['format']}, clean:",
        *(f"{s.trait} {s.auroc:.3f} [{s.low:.3f}, {s.high:.3f}] {s.severity}" for s in clean if s.label == label),
        sep="\n  ",
    )


def test_cells_of_another_format(cells):
    grays, labels = cells
    grays, labels = grays[:120], labels[:120]
    traits = cell_traits([
        encode(g, format="JPEG" if label == "defective" else "PNG") for g, label in zip(grays, labels)
    ])
    assert {s.trait for s in find_shortcuts(labels, traits).found} >= {"file kind", "file size"}


# ---- bad input

BAD = {
    "shorter trait": (
        lambda: find_shortcuts(LABELS, {"t": np.ones(3)}),
        "expected 't' of 400 images as there are labels, got 3; measure the same images",
    ),
    "shorter units": (
        lambda: find_shortcuts(LABELS, {"t": np.ones(400)}, units=[1, 2]),
        "expected 'units' of 400 images",
    ),
    "one class": (lambda: find_shortcuts(["a"] * 9, {"t": np.ones(9)}), "expected at least two classes, got ['a']"),
    "no labels": (lambda: find_shortcuts([], {"t": []}), "expected at least two classes, got []"),
    "limit in percent": (
        lambda: find_shortcuts(LABELS, {"t": np.ones(400)}, limit=90),
        "expected .5 < watch <= limit <= 1, got watch=0.75, limit=90",
    ),
    "few units": (
        lambda: find_shortcuts(LABELS, {"t": np.ones(400)}, least=2),
        "expected least to be 5 or more, got 2",
    ),
    "watch above limit": (lambda: find_shortcuts(LABELS, {"t": np.ones(400)}, watch=0.95), "got watch=0.95, limit=0.9"),
    "colour": (
        lambda: histogram_traces(np.zeros((4, 4, 3), np.uint8)),
        "expected one gray image (h,w) uint8, got (4, 4, 3) uint8",
    ),
    "floats": (lambda: histogram_traces(np.zeros((4, 4))), "got (4, 4) float64; convert it to mode L"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises((DataError, ParameterError), match=re.escape(message)):
        call()
