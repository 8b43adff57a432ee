"""False alarms by simulation: each test alarms as rarely as it promises, however images are grouped, and finds what is
there."""

import re

import numpy as np
import pytest

from cvkit.core import ParameterError
from cvkit.data.shift import compare_parts
from cvkit.data.shortcuts import find_shortcuts
from cvkit.evidence.false_alarms import LAYOUTS, TESTS, draw_images, false_alarm_table, most_alarms

# Rarely found: few units, or many classes among few groups; what is listed is the least power of 200 draws.
WEAK = {"few groups", "groups over 4 classes", "groups over 8 classes"}


def broken(rows):
    return [(row["layout"], row["test"], row["false alarms"], row["at most"]) for row in rows if not row["holds"]]


@pytest.mark.parametrize("test", TESTS)
def test_false_alarms_of_sixty_draws_are_within_the_bound(test):
    layouts = ("images alone", "groups within a class", "groups over 2 classes", "groups over 8 classes", "few groups")
    rows = false_alarm_table(60, 0, layouts=layouts, tests=[test])
    assert len(rows) == 5 and broken(rows) == []


@pytest.mark.slow
@pytest.mark.parametrize("test", TESTS)
def test_false_alarms_of_a_thousand_draws_are_within_the_bound(test):
    rows = false_alarm_table(tests=[test])
    assert broken(rows) == []
    weak = [(row["layout"], row["power"]) for row in rows if row["power"] < 0.6 and row["layout"] not in WEAK]
    assert weak == []


@pytest.mark.parametrize("draws, most", [(60, 11), (200, 23), (1000, 77)])
def test_bound_is_the_binomial_one(draws, most):
    "P(more than `most`) is at most 1 in 10,000 at a rate of .05, and that of one fewer is above (summed by hand)."
    from math import comb

    def above(k):
        return sum(comb(draws, i) * 0.05**i * 0.95 ** (draws - i) for i in range(k + 1, draws + 1))

    assert above(most) <= 1e-4 < above(most - 1)
    assert most_alarms(draws) == most


def test_a_row_says_that_it_does_not_hold(monkeypatch):
    monkeypatch.setitem(TESTS, "shift", lambda images, seed: seed % 2 == 0)
    (row,) = false_alarm_table(20, 10, layouts=["few groups"], tests=["shift"])
    assert (row["false alarms"], row["rate"], row["power"], row["holds"]) == (10, 0.5, 0.5, False)


def test_same_seed_same_images():
    layout = LAYOUTS["unequal groups"]
    first, again, other = (draw_images(layout, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (first.trait == again.trait).all() and (first.labels == again.labels).all()
    assert len(first.trait) != len(other.trait) or (first.trait != other.trait).any()


def test_unknown_names_are_refused():
    expected = "expected one draw or more, of layouts (images alone"
    with pytest.raises(ParameterError, match=re.escape(expected)):
        false_alarm_table(20, layouts=["few groups"], tests=["luck"])


# ---- the two cases of the world


def test_a_shortcut_is_found_where_each_group_holds_each_class():
    "Sixty walls before and after, one class PNG and the other JPEG: an error with groups as without."
    labels = np.tile(["before", "after"], 60)
    walls = np.repeat(np.arange(60), 2)
    kinds = {"file kind": np.where(labels == "before", "PNG", "JPEG")}
    alone = find_shortcuts(labels, kinds)
    grouped = find_shortcuts(labels, kinds, walls)
    assert {s.severity for s in alone} == {s.severity for s in grouped} == {"error"}
    assert {s.auroc for s in grouped} == {1.0} and max(s.chance for s in grouped) < 0.8


@pytest.mark.parametrize("classes", [1, 2, 4, 8])
def test_a_trait_of_groups_that_span_classes_is_no_shift(classes):
    "A hundred groups, a hold-out by lot, a trait of the group: at most 11 alarms in 60 draws (88 % were seen)."
    groups = np.repeat(np.arange(100), classes)
    labels = np.tile([f"class {k}" for k in range(classes)], 100)
    alarms = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        trait = random.normal(size=100)[groups].astype(np.float32)
        held = (random.permutation(100) < 20)[groups]
        parts = np.where(held, "holdout", "development")
        (shift,) = (
            s
            for s in compare_parts({"trait": trait}, parts, groups, labels, seed=seed, shuffles=199)
            if s.trait == "trait"
        )
        alarms += shift.p <= 0.05
    assert alarms <= most_alarms(60)
