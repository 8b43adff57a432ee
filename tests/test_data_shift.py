"""Shift: distances are scipy's, false alarms are as rare as promised, planted shifts are found, and the answers know
what they could not see."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cvkit.core import DataError, ParameterError
from cvkit.data.shift import (
    Representation,
    _chi_square,
    _more_of_each,
    _part_weights,
    _shuffled,
    compare_parts,
    distances,
    represents,
    represents_sample,
)
from cvkit.data.shortcuts import shuffle_units

quick = settings(max_examples=40, deadline=None, derandomize=True)


def column(values):
    return np.asarray(values, np.float32)[:, None]


def weights_of(first):
    first = np.asarray(first, bool)
    return np.where(first, 1 / first.sum(), -1 / (~first).sum()).astype(np.float32)[:, None]


# ---- references


@quick
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=40), st.lists(st.integers(-3, 3), min_size=2, max_size=40))
def test_distance_of_numbers_is_that_of_scipy(a, b):
    weights = weights_of([True] * len(a) + [False] * len(b))
    assert distances(column(a + b), weights)[0] == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-5)


@quick
@given(
    st.lists(st.sampled_from("abcd"), min_size=2, max_size=40),
    st.lists(st.sampled_from("abcd"), min_size=2, max_size=40),
)
def test_distance_of_text_is_total_variation(a, b):
    by_hand = sum(abs(a.count(v) / len(a) - b.count(v) / len(b)) for v in "abcd") / 2
    assert distances(np.array(a + b), weights_of([True] * len(a) + [False] * len(b)))[0] == pytest.approx(
        by_hand, abs=1e-5
    )


def test_distance_of_several_numbers_is_the_largest():
    random = np.random.default_rng(0)
    trait, weights = random.normal(size=(60, 3)).astype(np.float32), weights_of(np.arange(60) < 25)
    assert distances(trait, weights)[0] == max(distances(trait[:, [k]], weights)[0] for k in range(3))


def test_chi_square_is_that_of_scipy():
    random = np.random.default_rng(0)
    trait, first = random.choice(list("abc"), 200, p=[0.5, 0.3, 0.2]), random.random((3, 200)) < 0.4
    for row, found in zip(first, _chi_square(trait, first)):
        table = [[int((row[trait == v] == side).sum()) for v in "abc"] for side in (True, False)]
        assert found == pytest.approx(stats.chi2_contingency(table, correction=False).statistic, rel=1e-9)


@pytest.mark.parametrize("kind", ["numbers", "text"])
def test_probability_is_near_that_of_scipy_for_single_images(kind):
    "A shift that is neither sure nor absent; a thousand shuffles know a probability to about .016."
    random = np.random.default_rng(3)
    first = np.arange(300) < 120
    if kind == "numbers":
        trait = random.normal(0, 1, 300) + 0.15 * first
        expected = stats.ks_2samp(trait[first], trait[~first]).pvalue
    else:
        trait = np.where(random.random(300) < 0.4 + 0.06 * first, "a", "b")
        expected = stats.chi2_contingency(
            [[int((trait[side] == v).sum()) for v in "ab"] for side in (first, ~first)], correction=False
        ).pvalue
    assert 0.02 < expected < 0.98
    assert compare_parts({"t": trait}, np.where(first, "a", "b"))[0].p == pytest.approx(expected, abs=0.06)


# ---- calibration


def test_false_alarms_are_as_rare_as_promised():
    "200 data sets without a shift, three traits each, units of unequal size whose images are alike."
    alarms = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        units = np.repeat(np.arange(40), random.integers(1, 5, 40))
        own = random.normal(size=(40, 2))[units]
        traits = {
            "one": own[:, 0],
            "two": own + 0.1 * random.normal(size=own.shape),
            "text": np.where(own[:, 1] > 0, "a", "b"),
        }
        parts = np.where(random.random(40) < 0.5, "a", "b")[units]
        alarms += any(s.p <= 0.05 for s in compare_parts(traits, parts, units, seed=seed, shuffles=99))
    assert alarms / 200 <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_images_taken_for_independent_would_raise_false_alarms():
    "What the units are for: the same data, the units not told."
    alarms = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        units = np.repeat(np.arange(20), 10)
        parts = np.where(random.permutation(20) < 10, "a", "b")[units]
        alarms += compare_parts({"t": random.normal(size=20)[units]}, parts, shuffles=99)[0].p <= 0.05
    assert alarms > 20


def test_detectable_is_found_in_eight_of_ten():
    "Shares that differ by just as much as was said to be detectable."
    found, difference = (
        [],
        compare_parts({"t": np.tile([0.0, 1.0], 200)}, np.repeat(["a", "b"], 200), shuffles=499)[0].detectable,
    )
    for seed in range(60):
        random = np.random.default_rng(seed)
        trait = random.random(400) < np.repeat([0.5 - difference / 2, 0.5 + difference / 2], 200)
        found.append(
            compare_parts({"t": trait.astype(float)}, np.repeat(["a", "b"], 200), seed=seed, shuffles=199)[0].p <= 0.05
        )
    assert np.mean(found) >= 0.8 - 2 * (0.8 * 0.2 / 60) ** 0.5


def test_a_planted_shift_is_found_and_named():
    random = np.random.default_rng(0)
    parts = np.repeat(["holdout", "development"], [300, 700])
    traits = {
        "plain": random.normal(size=1000),
        "moved": random.normal(size=1000) + (parts == "holdout"),
        "camera": np.where(random.random(1000) < 0.2 + 0.4 * (parts == "holdout"), "A", "B"),
    }
    found = compare_parts(traits, parts)
    assert {s.trait: s.answer for s in found} == {"moved": "fail", "camera": "fail", "plain": "pass"}
    assert found.answer == "fail" and json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert "camera" in repr(found) and "would have seen" in found._repr_html_()


def test_a_shift_too_small_to_matter_is_a_warning():
    random = np.random.default_rng(0)
    parts = np.repeat(["a", "b"], 3000)
    assert (
        compare_parts({"t": random.normal(size=6000) + 0.15 * (parts == "a")}, parts, shuffles=199)[0].answer
        == "warning"
    )


def test_labels_take_the_share_of_classes_out():
    """A trait that is the class: another share of classes is a shift of the label, and not of the trait within the
    classes."""
    random = np.random.default_rng(0)
    parts = np.repeat(["a", "b"], 500)
    labels = np.where(random.random(1000) < np.where(parts == "a", 0.3, 0.7), "dark", "light")
    trait = {"t": np.where(labels == "dark", -1, 1) + random.normal(0, 0.3, 1000)}
    assert compare_parts(trait, parts)[0].answer == "fail"
    assert {s.trait: s.answer for s in compare_parts(trait, parts, labels=labels)} == {"label": "fail", "t": "pass"}


def test_same_seed_same_answer():
    random = np.random.default_rng(0)
    traits, parts = {"t": random.normal(size=90)}, random.choice(["a", "b"], 90)
    assert (
        compare_parts(traits, parts, seed=4).to_dict()
        == compare_parts(traits, parts, seed=4).to_dict()
        != compare_parts(traits, parts, seed=5).to_dict()
    )


@quick
@given(st.lists(st.integers(0, 6), min_size=4, max_size=30), st.integers(0, 5))
def test_shuffles_keep_units_whole(units, seed):
    units = np.array(units)
    parts = _shuffled((units % 2 == 0), units, np.zeros(len(units), int), 5, np.random.default_rng(seed))
    for unit in set(units):
        assert all(len(set(row[units == unit])) == 1 for row in parts)
    if parts[0].any() and not parts[0].all():
        assert _part_weights(parts[:1], np.zeros(len(units), int)).sum() == pytest.approx(0, abs=1e-5)
    assert shuffle_units(units, 3, np.random.default_rng(seed)).max() < len(units)


def test_a_unit_takes_its_side_with_all_its_classes():
    "Houses that hold one image of each class, others of one class: no unit is cut, and each kind keeps its count."
    units = np.concatenate([np.repeat(np.arange(30), 2), np.arange(30, 50)])
    labels = np.concatenate([np.tile(["a", "b"], 30), np.repeat(["a", "b"], 10)])
    first = np.isin(units, [*range(9), 30, 31, 45])
    parts = _shuffled(first, units, labels, 20, np.random.default_rng(0))
    for row in parts:
        assert all(len(set(row[units == unit])) == 1 for unit in set(units))
        assert [row[:60].sum(), row[60:70].sum(), row[70:].sum()] == [18, 2, 1]
    assert (parts[1:] != first).any(1).all()


def test_rare_combinations_of_classes_are_exchanged_together():
    "Nine houses over a and b, nine over b and c: neither has ten, so one permutation takes both."
    units = np.repeat(np.arange(18), 2)
    labels = np.concatenate([np.tile(["a", "b"], 9), np.tile(["b", "c"], 9)])
    parts = _shuffled(units < 6, units, labels, 50, np.random.default_rng(0))
    assert (parts.sum(1) == 12).all()
    assert len(set(parts[1:, :18].sum(1))) > 1


def test_a_class_that_is_absent_from_a_part_weighs_nothing():
    first = np.array([[True, False, True, True], [True, False, True, False]])
    weights = _part_weights(first, np.array(list("aabb")))
    assert weights.T.tolist() == [[1, -1, 0, 0], [0.5, -0.5, 0.5, -0.5]]


def test_a_planted_shift_is_found_in_groups_that_span_classes():
    random = np.random.default_rng(0)
    units = np.repeat(np.arange(100), 4)
    labels = np.tile(list("abcd"), 100)
    held = (random.permutation(100) < 30)[units]
    trait = random.normal(size=100)[units] + random.normal(size=400) + 1.5 * held
    found = compare_parts({"t": trait}, np.where(held, "holdout", "development"), units, labels)
    assert {s.trait: s.answer for s in found} == {"t": "fail", "label": "pass"}


# ---- representation

DECLARED = {"a": 0.5, "b": 0.3, "c": 0.2}
SHARES = {
    "as declared": ([1000, 600, 400], DECLARED, {"a": "pass", "b": "pass", "c": "pass"}, "pass"),
    "too few to tell": (
        [20, 12, 8],
        DECLARED,
        {"a": "insufficient", "b": "insufficient", "c": "insufficient"},
        "insufficient",
    ),
    "off": ([1400, 300, 300], DECLARED, {"a": "fail", "b": "fail", "c": "insufficient"}, "fail"),
    "declared and absent": (
        [1000, 1000, 0],
        {"a": 0.5, "b": 0.46, "c": 0.04},
        {"a": "pass", "b": "insufficient", "c": "fail"},
        "fail",
    ),
    "absent, perhaps by chance": (
        [10, 10, 0],
        {"a": 0.48, "b": 0.48, "c": 0.04},
        {"a": "insufficient", "b": "insufficient", "c": "insufficient"},
        "insufficient",
    ),
    "present and undeclared": ([1000, 990, 10], {"a": 0.5, "b": 0.5}, {"a": "pass", "b": "pass", "c": "fail"}, "fail"),
    "declared as none, and none": (
        [1000, 1000, 0],
        {"a": 0.5, "b": 0.5, "c": 0.0},
        {"a": "pass", "b": "pass", "c": "pass"},
        "pass",
    ),
}


@pytest.mark.parametrize("name", SHARES)
def test_shares(name):
    counts, declared, answers, answer = SHARES[name]
    found = represents(np.repeat(["a", "b", "c"], counts), declared)
    assert ({r["name"]: r["answer"] for r in found.rows}, found.answer) == (answers, answer)


@pytest.mark.parametrize("counts, declared", [([130, 270], 0.3), ([110, 290], 0.2), ([0, 40], 0.02)])
def test_as_many_more_images_as_it_says_would_tell(counts, declared):
    "The share that was found, in as many images: no longer insufficient, and with a fifth fewer it still is."

    def says(counts):
        return represents(np.repeat(["a", "b"], counts), {"a": declared, "b": 1 - declared}).rows[0]

    row, n = says(counts), sum(counts)
    assert row["answer"] == "insufficient"
    more = int(re.search(r"about (\d+) more", row["detail"])[1])

    def grown(total):
        return [round(total * counts[0] / n), total - round(total * counts[0] / n)]

    assert says(grown(int(1.03 * (n + more)) + 5))["answer"] != "insufficient"
    assert says(grown(int(n + 0.75 * more)))["answer"] == "insufficient"


def test_a_hold_out_of_few_units_cannot_pass():
    values = np.repeat(np.array(["a", "b"] * 10), 100)
    assert represents(values, {"a": 0.5, "b": 0.5}).answer == "pass"
    assert represents(values, {"a": 0.5, "b": 0.5}, units=np.repeat(np.arange(20), 100)).answer == "insufficient"


def test_sample_of_production():
    random = np.random.default_rng(0)

    def draw(n, moved=0.0):
        return {
            "light": random.normal(moved, 1, n),
            "camera": random.choice(["A", "B"], n, p=[0.6 - moved / 4, 0.4 + moved / 4]),
        }

    alike, other, few = (
        represents_sample(draw(6000), draw(6000)),
        represents_sample(draw(1500), draw(1500, 1.0)),
        represents_sample(draw(60), draw(60)),
    )
    assert [[r["answer"] for r in f.rows] for f in (alike, other, few)] == [
        ["pass"] * 2,
        ["fail"] * 2,
        ["insufficient"] * 2,
    ]
    assert all(0 <= r["low"] <= r["found"] <= r["high"] <= 1 for f in (alike, other, few) for r in f.rows)
    assert isinstance(few, Representation) and json.loads(json.dumps(few.to_dict())) == few.to_dict()
    assert "more images of each" in repr(few) and "at most" in few._repr_html_()


def test_interval_of_a_distance_covers():
    "Two normal laws a standard deviation apart: their distance is known."
    true, held = 2 * stats.norm.cdf(0.5) - 1, 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        row = represents_sample(
            {"t": random.normal(0, 1, 120)}, {"t": random.normal(1, 1, 150)}, replicates=200, seed=seed
        ).rows[0]
        held += row["low"] <= true <= row["high"]
    assert held / 60 >= 0.95 - 2 * (0.95 * 0.05 / 60) ** 0.5


def test_units_widen_the_interval_of_a_distance():
    random = np.random.default_rng(0)
    a, b = ({"t": np.repeat(random.normal(size=50), 10)} for _ in range(2))

    def width(**units):
        return np.ptp([represents_sample(a, b, **units).rows[0][end] for end in ("low", "high")])

    assert width(units=np.repeat(np.arange(50), 10), production_units=np.repeat(np.arange(50), 10)) > 1.3 * width()


@pytest.mark.parametrize("n, m, shrink", [(100, 100, 0.5), (50, 4000, 0.4), (30, 30, 0.99)])
def test_more_of_each_solves_its_equation(n, m, shrink):
    more = _more_of_each(shrink, n, m)

    def rate(x):
        return 1 / (n + x) + 1 / (m + x)

    assert rate(more) <= shrink**2 * rate(0) <= rate(more - 1)


# ---- bad input

TWO = np.repeat(["a", "b"], 5)
BAD = {
    "one part": (
        lambda: compare_parts({"t": np.arange(10.0)}, ["a"] * 10),
        "expected two parts, got ['a']; compare two at a time",
    ),
    "three parts": (
        lambda: compare_parts({"t": np.arange(3.0)}, list("abc")),
        "expected two parts, got ['a', 'b', 'c']",
    ),
    "no trait": (lambda: compare_parts({}, TWO), "expected at least one trait, got none"),
    "shorter trait": (
        lambda: compare_parts({"t": np.arange(9.0)}, TWO),
        "expected trait 't' of 10 images, got 9; measure the same images",
    ),
    "shorter units": (
        lambda: compare_parts({"t": np.arange(10.0)}, TWO, units=[1]),
        "expected units of 10 images, got 1",
    ),
    "shorter labels": (
        lambda: compare_parts({"t": np.arange(10.0)}, TWO, labels=["x"]),
        "expected labels of 10 images, got 1",
    ),
    "classes apart": (
        lambda: compare_parts({"t": np.arange(10.0)}, TWO, labels=TWO),
        "expected a class in both parts, got none",
    ),
    "missing number": (
        lambda: compare_parts({"t": [np.nan, *range(9)]}, TWO),
        "expected numbers in trait 't', got 1 that are missing or infinite",
    ),
    "shares too small": (lambda: represents(TWO, {"a": 0.5}), "expected shares from 0 to 1 that add up to 1"),
    "negative share": (lambda: represents(TWO, {"a": 1.5, "b": -0.5}), "expected shares from 0 to 1 that add up to 1"),
    "margin in percent": (
        lambda: represents(TWO, {"a": 0.5, "b": 0.5}, margin=5),
        "expected a margin between 0 and 1, got 5",
    ),
    "units of others": (
        lambda: represents(TWO, {"a": 0.5, "b": 0.5}, units=[1, 2]),
        "expected a unit for each of 10 values, at least one, got 2",
    ),
    "nobody": (lambda: represents([], {"a": 1.0}), "expected a unit for each of 0 values, at least one"),
    "other traits": (
        lambda: represents_sample({"t": [1.0]}, {"u": [1.0]}),
        "expected the same traits of both, got ['t'] and ['u']",
    ),
    "other kind": (lambda: represents_sample({"t": [1.0]}, {"t": ["1"]}), "expected trait 't' of one kind"),
    "empty sample": (lambda: represents_sample({"t": [1.0]}, {"t": []}), "expected images on both sides, got none"),
    "limit in percent": (
        lambda: represents_sample({"t": [1.0]}, {"t": [1.0]}, limit=10),
        "expected a limit between 0 and 1, got 10",
    ),
    "units of nobody": (
        lambda: represents_sample({"t": [1.0]}, {"t": [1.0]}, units=[1, 2]),
        "expected units of 1 images, got 2",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, message = BAD[name]
    with pytest.raises((DataError, ParameterError), match=re.escape(message)):
        call()
