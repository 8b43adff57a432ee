"""What crosses the boundaries of a split, and what that does to an accuracy: hand-made data sets in which the answer is
known."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvkit.core import DataError, canonical_json, digest_json
from cvkit.data.checks import ALONE
from cvkit.data.duplicates import NearDuplicates
from cvkit.data.formats.folders import match_paths
from cvkit.data.manifest import COLUMNS, Dataset, Manifest
from cvkit.data.splits import Splits, make_splits
from cvkit.evidence.leak_impact import measure_leak_impact, paired_difference, probe_fit
from cvkit.evidence.leaks import Rehearsal, certify, leak_units, leaked_rows
from cvkit.release.policy import Policy, judge


def manifest_of(contents, groups=None, labels=None):
    "A manifest with no files behind it: row i has contents[i], and an image key of its own."
    n = len(contents)
    table = pd.DataFrame("", index=range(n), columns=[*COLUMNS], dtype=object).assign(
        content=list(contents),
        uri=[f"{i}.png" for i in range(n)],
        image=[f"k{i:03}" for i in range(n)],
        width=8,
        height=8,
    )
    return Manifest(
        table.assign(group=list(groups or [""] * n), label=list(labels or ["a", "b"] * n)[:n]), None, Dataset("made")
    )


def splits_of(manifest, folds):
    return Splits(
        pd.DataFrame({
            "image": manifest.table["image"],
            "part": np.where(np.array(folds) < 0, "holdout", "development"),
            "fold": folds,
        }),
        manifest.digest,
        {"folds": 2},
    )


def pairs_of(*pairs):
    return NearDuplicates(np.array(pairs, int).reshape(-1, 2), np.zeros(len(pairs)), ["mirrored"] * len(pairs))


class Pixels:
    "As much of a scan as certify reads."

    def __init__(self, manifest, pixels):
        self.images, self.pixels = manifest.table["image"].to_numpy(str), np.array(pixels)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, name):
        return {"pixels": self.pixels}[name]


six, none = list("uvwxyz"), ["", "", "", "", "", ""]
# rows 0 and 1 in the hold-out, 2 and 3 in fold 0, 4 and 5 in fold 1
place = [-1, -1, 0, 0, 1, 1]
# contents, groups, pixels, near; (kind, boundary, sets, images, the two images) of all that crosses; hold-out images
# that are linked across, development images likewise
cases = {
    "nothing": (six, none, six, [], [], (0, 0)),
    "a group within each part": (six, list("aabbcc"), six, [(0, 1)], [], (0, 0)),
    "a group across the hold-out": (
        six,
        ["a", "", "a", "", "", ""],
        six,
        [],
        [("groups", "holdout", 1, 2, ["k000", "k002"])],
        (1, 1),
    ),
    "a group across the folds": (
        six,
        ["", "", "", "a", "a", ""],
        six,
        [],
        [("groups", "folds", 1, 2, ["k003", "k004"])],
        (0, 0),
    ),
    "a group across both": (
        six,
        ["a", "", "a", "a", "a", ""],
        six,
        [],
        [("groups", "holdout", 1, 4, ["k000", "k002"]), ("groups", "folds", 1, 3, ["k002", "k004"])],
        (1, 3),
    ),
    "two groups across the hold-out": (
        six,
        list("ababcc"),
        six,
        [],
        [("groups", "holdout", 2, 4, ["k000", "k002"])],
        (2, 2),
    ),
    "equal files": (list("uvuxyz"), none, list("uvuxyz"), [], [("copies", "holdout", 1, 2, ["k000", "k002"])], (1, 1)),
    "equal pixels of other files": (
        six,
        none,
        list("uvwxvz"),
        [],
        [("copies", "holdout", 1, 2, ["k001", "k004"])],
        (1, 1),
    ),
    "equal files in two folds": (
        list("uvwxwz"),
        none,
        list("uvwxwz"),
        [],
        [("copies", "folds", 1, 2, ["k002", "k004"])],
        (0, 0),
    ),
    "near duplicates across the hold-out": (
        six,
        none,
        six,
        [(1, 5)],
        [("near duplicates", "holdout", 1, 2, ["k001", "k005"])],
        (1, 1),
    ),
    "near duplicates across the folds": (
        six,
        none,
        six,
        [(2, 5)],
        [("near duplicates", "folds", 1, 2, ["k002", "k005"])],
        (0, 0),
    ),
    "a copy is not counted as near again": (
        list("uvuxyz"),
        none,
        list("uvuxyz"),
        [(0, 2)],
        [("copies", "holdout", 1, 2, ["k000", "k002"])],
        (1, 1),
    ),
    "a chain: hold-out to one, and that one to another": (
        six,
        none,
        six,
        [(1, 2), (2, 3)],
        [("near duplicates", "holdout", 1, 2, ["k001", "k002"])],
        (1, 2),
    ),
}


@pytest.mark.parametrize("contents, groups, pixels, near, crosses, linked", cases.values(), ids=cases.keys())
def test_what_crosses(contents, groups, pixels, near, crosses, linked):
    manifest = manifest_of(contents, groups)
    splits, scan, near = splits_of(manifest, place), Pixels(manifest, pixels), pairs_of(*near)
    found = certify(manifest, splits, scan, near)
    assert found.verdict == ("fail" if crosses else "pass")
    counted = [
        (kind, boundary, c["sets"], c["images"])
        for boundary in ("holdout", "folds")
        for kind in found.counts
        for c in [found.counts[kind][boundary]]
        if c["sets"]
    ]
    assert counted == [c[:4] for c in crosses]
    first = {(c["kind"], c["boundary"]): c for c in reversed(found.crossing)}
    for kind, boundary, _, _, images in crosses:
        assert first[kind, boundary]["images"] == images and first[kind, boundary]["uris"] == [
            f"{int(k[1:])}.png" for k in images
        ]
        assert {"holdout": "across the hold-out", "folds": "across folds"}[
            boundary
        ] in found.sentence and found.sentence in str(found)
    assert (found.linked["holdout"], found.linked["development"]) == linked
    assert found.linked["holdout_images"] == 2
    assert len(leaked_rows(manifest, splits, near, scan)) == linked[1]
    assert certify(manifest, splits, scan).verdict == (
        "fail" if [c for c in crosses if c[0] != "near duplicates"] else "insufficient"
    )


def test_a_pass_needs_a_search_that_works():
    manifest = manifest_of(six)
    splits, scan = splits_of(manifest, place), Pixels(manifest, six)

    def judged(k, n):
        return certify(manifest, splits, scan, pairs_of(), Rehearsal({"resized": n}, {"resized": k}, n, n)).verdict

    assert [judged(*kn) for kn in ((48, 50), (31, 50), (20, 50), (10, 50), (0, 5))] == [
        "pass",
        "pass",
        "pass",
        "insufficient",
        "pass",
    ]  # 10 of 50: at most 33 %; 20 of 50: up to 54 %; of 5 nothing is known
    few = certify(manifest, splits, scan, pairs_of(), Rehearsal({"resized": 50}, {"resized": 10}, 50, 50))
    assert (
        "10 of 50 copies" in few.sentence
        and "too few to rely on" in few.sentence
        and "10 of 50 resized" in " ".join(few.gaps)
    )
    unsearched = certify(manifest, splits, scan)
    assert "near duplicates were not searched" in unsearched.sentence and "not searched" in unsearched._repr_html_()


def test_gaps_are_said_in_words():
    nobody, some, all_of_them = (
        certify(m, splits_of(m, place)).gaps
        for m in (manifest_of(six), manifest_of(six, ["a", "a", "", "", "", ""]), manifest_of(six, list("abcdef")))
    )
    assert (
        nobody[0].startswith("Nobody declared groups")
        and some[0] == "4 of 6 images belong to no group."
        and "group" not in " ".join(all_of_them)
    )
    assert any("by their bytes" in gap for gap in nobody)
    manifest = manifest_of(six)
    splits, later = splits_of(manifest, place), manifest_of(six, ["a", "", "a", "", "", ""])
    found = certify(later, splits)  # somebody declared a group afterwards
    assert (
        found.verdict == "fail"
        and any(manifest.digest[:12] in gap for gap in found.gaps)
        and found.digests == {"manifest": later.digest, "splits": splits.digest}
    )


def named(uris, groups=None):
    "A manifest of these paths, as many contents."
    manifest = manifest_of(six, groups)
    return replace(manifest, table=manifest.table.assign(uri=uris))


def judged_names(uris, groups=None):
    manifest = named(uris, groups)
    return certify(manifest, splits_of(manifest, place), Pixels(manifest, six), pairs_of())


def leaks_rule(certificate):
    from cvkit.release.policy_rules import JUDGES

    return JUDGES["leaks"]({}, {"leaks": certificate.to_dict()})


def test_groups_of_some_images_only_are_no_pass():
    "Four of six images have no group: three are named, and the policy does not pass."
    found = judged_names([f"a/{k}.png" for k in range(6)], ["g", "g", "", "", "", ""])
    assert found.verdict == "insufficient"
    assert "But 4 of 6 images belong to no group, such as a/2.png, a/3.png, a/4.png; correct" in found.sentence
    answer, sentence = leaks_rule(found)
    assert answer == "insufficient" and sentence.endswith("Then run `cvkit train` again.")


VERSIONS = {
    "digest of a hosted service": ["x/a_jpg.rf." + 16 * "1" + ".jpg", "x/a_jpg.rf." + 16 * "2" + ".jpg"],
    "frame": ["x/a_frame_001.png", "x/a_frame_002.png"],
    "burst": ["x/IMG_1_BURST001.jpg", "x/IMG_1_BURST002_COVER.jpg"],
    "augmented": ["x/a.png", "x/a_aug3.png"],
    "copied": ["x/a.jpg", "x/a (2).jpg"],
}


@pytest.mark.parametrize("name", VERSIONS)
def test_a_split_that_cuts_names_of_one_stem_waits_for_a_decision(name):
    """Version one is held out and version two in a fold; a group for each stem makes it a leak, one for each image a
    pass, and versions on one side leave nothing to decide."""
    one, two = VERSIONS[name]
    others = ["y/p.png", "y/q.png", "y/r.png", "y/s.png"]
    cut = [one, others[0], two, *others[1:]]
    found = judged_names(cut)
    assert found.verdict == "insufficient" and "cuts 1 of 1 sets of names that share a stem" in found.sentence
    assert leaks_rule(found)[0] == "insufficient"
    proposed = re.search(r"group_from '(.+?)' if each", found.sentence)[1]
    assert judged_names(cut, match_paths(cut, proposed, "group_from")).verdict == "fail"
    assert judged_names(cut, match_paths(cut, ALONE, "group_from")).verdict == "pass"
    assert judged_names([one, two, *others]).verdict == "pass"


ORDINARY = {
    "renamed in a folder": [f"x/img ({k}).jpg" for k in range(1, 7)],
    "numbered": [f"x/cell{k:04}.png" for k in range(6)],
    "frames of a folder": [f"x/frame_{k:03}.png" for k in range(6)],
    "dates": [f"x/IMG_20240101_12000{k}.jpg" for k in range(6)],
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_raise_no_doubt(name):
    assert judged_names(ORDINARY[name]).verdict == "pass"


def test_what_is_refused():
    manifest = manifest_of(six)
    splits = splits_of(manifest, place)
    with pytest.raises(DataError, match="expected the 6 images that were split, got 5"):
        certify(manifest.take(range(5)), splits)
    with pytest.raises(DataError, match="expected a scan of the 6 images in their order"):
        certify(manifest, splits, Pixels(manifest.take([1, 0, 2, 3, 4, 5]), six))
    with pytest.raises(DataError, match="among the 6 images, got row 6"):
        certify(manifest, splits, None, pairs_of((0, 6)))


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(6)))
def test_the_digest_knows_no_order(order):
    manifest, order = manifest_of(list("uvuxyx"), ["a", "", "", "a", "a", ""]), np.array(order)
    splits, inverse = splits_of(manifest, place), np.argsort(order)

    def record(rows, *pairs):
        return certify(
            m := manifest.take(rows),
            splits,
            Pixels(m, list(m.table["content"])),
            pairs_of(*sorted(tuple(sorted(p)) for p in pairs)),
        )

    one, other = record(np.arange(6), (1, 4), (1, 5)), record(order, inverse[[1, 4]], inverse[[1, 5]])
    assert one.digest == other.digest and one.verdict == "fail" and len(one.crossing) == 6
    assert json.loads(canonical_json(one.to_dict())) == json.loads(
        canonical_json(other.to_dict())
    ) and one.digest == digest_json(one.to_dict())


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
@given(seed=st.integers(0, 999), size=st.integers(1, 3), copies=st.integers(0, 6), near=st.integers(0, 6))
def test_splits_that_know_the_units_never_leak(seed, size, copies, near):
    random, n = np.random.default_rng(seed), 120
    contents = np.array([f"{i:064x}" for i in range(n)], object)
    contents[random.integers(n, size=copies)] = contents[random.integers(n, size=copies)]
    manifest = manifest_of(contents, [f"g{i // size}" for i in range(n)] if size > 1 else None)
    pairs = np.sort(random.integers(n, size=(near, 2)), 1)
    pairs = pairs_of(*pairs[pairs[:, 0] < pairs[:, 1]].tolist())
    content_label = dict(zip(contents, manifest.labels))  # copies must agree on their label
    manifest.table["label"] = [content_label[c] for c in contents]
    scan = Pixels(manifest, contents)
    aware = make_splits(manifest, folds=3, seed=seed, near_duplicates=pairs.pairs)
    assert certify(manifest, aware, scan, pairs).verdict == "pass" and not len(
        leaked_rows(manifest, aware, pairs, scan)
    )
    drawn = splits_of(manifest, random.integers(-1, 3, n))
    found = certify(manifest, drawn, scan, pairs)
    units, places = leak_units(manifest, pairs, scan), drawn.folds(manifest)
    assert (found.verdict == "fail") == any(len(set(places[units == u])) > 1 for u in units), (
        "crossing links and cut units are the same thing"
    )


def test_the_page_escapes_names_and_counts_in_tables():
    manifest = manifest_of(six, ["<b>", "", "<b>", "", "", ""])
    html = certify(manifest, splits_of(manifest, place))._repr_html_()
    assert "1 (2 images)" in html and "<b>" not in html and "not searched" in html


# ---- leak impact


def by_heart(names, targets, classes=2, otherwise=0):
    "Knows the answer for each name that it has seen, and says `otherwise` for all others."

    def fit(rows):
        known = {names[i]: targets[i] for i in rows}
        return lambda chosen: np.eye(classes)[[known.get(names[i], otherwise) for i in chosen]]

    return fit


def linked_data(linked=20, alone=20):
    """Held out: `linked` images of class 1 linked to one in development, and `alone` of class 0 without; in development
    beside them as many others of each class."""
    names = [f"t{i}" for i in range(linked)] * 2 + [f"h{i}" for i in range(alone)] + [f"d{i}" for i in range(60)]
    targets = np.array([1] * 2 * linked + [0] * alone + [0, 1] * 30)
    folds = np.array([-1] * linked + [0] * linked + [-1] * alone + [0, 1] * 30)
    units = np.unique(names, return_inverse=True)[1]
    return names, targets, folds, units, np.arange(linked, 2 * linked)


def test_the_leak_impact_of_a_model_that_learns_by_heart():
    "All held-out images are right with the linked images, only those of class 0 without: half of 40."
    names, targets, folds, units, leaked = linked_data()
    found = measure_leak_impact(targets, folds, leaked, units, by_heart(names, targets))
    assert found.accuracy["with"] == 1 and found.accuracy["without"] == 0.5 and found.accuracy["controls"] == [1.0] * 5
    assert found.value == found.linked.value == 0.5 and found.fewer.value == 0, "other images are worth nothing to it"
    assert found.low < 0.36 and 0.63 < found.high < 0.7, "the interval of 20 in 40"
    assert found.images == {"holdout": 40, "development": 80, "leaked": 20, "control": 20} and found.changed == {
        "with": 20,
        "without": 0,
    }
    assert "100.0% of 40" in str(found) and "by +50.0 points" in str(found) and "raised" in str(found)
    assert found.to_dict()["value"] == 0.5 and json.loads(canonical_json(found)) and "<table" in found._repr_html_()


def test_a_model_that_does_not_remember_is_not_inflated():
    _, targets, folds, units, leaked = linked_data()
    found = measure_leak_impact(targets, folds, leaked, units, lambda rows: lambda chosen: np.eye(2)[targets[chosen]])
    assert (
        found.value == 0
        and found.low < 0 < found.high
        and found.high == pytest.approx(1 - 0.025 ** (1 / 40)) == -found.low
    )
    assert "contains 0" in str(found)


def test_the_part_of_having_fewer_images():
    """A model that is right on as large a share of the hold-out as it has images of 100, whichever they are: all of the
    difference is due to fewer images."""
    _, targets, folds, units, leaked = linked_data(20, 80)
    held = np.flatnonzero(folds < 0)

    def fit(rows):
        return lambda chosen: np.eye(2)[np.where(np.arange(len(chosen)) < len(rows), targets[held], 1 - targets[held])]

    found = measure_leak_impact(targets, folds, leaked, units, fit)
    assert found.value == pytest.approx(0.2) == found.fewer.value and found.linked.value == 0


def test_what_cannot_be_stated():
    names, targets, folds, units, leaked = linked_data()
    fit = by_heart(names, targets)
    nothing = measure_leak_impact(targets, folds, [], units, fit)
    assert nothing.value is None and "no leak impact to state" in str(nothing) and "<table" not in nothing._repr_html_()
    gone = measure_leak_impact(targets, folds, np.flatnonzero((folds >= 0) & (targets == 1)), units, fit)
    assert gone.value is None and "1 of the classes would have no image" in str(gone)
    few = measure_leak_impact(targets, folds, np.flatnonzero((folds >= 0) & (targets == 1))[:45], units, fit)
    assert few.images["control"] == 5 and "only 5 others" in str(few)
    with pytest.raises(DataError, match="1 of 1 leaked rows elsewhere"):
        measure_leak_impact(targets, folds, [0], units, fit)
    with pytest.raises(DataError, match="0 held out"):
        measure_leak_impact(targets, np.maximum(folds, 0), leaked, units, fit)


def test_units_are_drawn_whole():
    "Ten images of one unit tell as much as one."
    d = np.repeat([1.0, 0.0, 0.0, -1.0] * 5, 10)
    whole, apart = paired_difference(d, np.repeat(np.arange(20), 10)), paired_difference(d, np.arange(200))
    assert (
        whole.n == 20
        and apart.n == 200
        and whole.value == apart.value == 0
        and whole.high - whole.low > 2.5 * (apart.high - apart.low)
    )
    assert paired_difference(d[:40], np.repeat(np.arange(4), 10)).value is None


def test_the_certificate_carries_the_leak_impact_and_the_policy_reads_it():
    manifest = manifest_of(list("uvuxyz"))
    found = certify(manifest, splits_of(manifest, place), None, pairs_of())
    before, (names, targets, folds, units, leaked) = found.digest, linked_data()
    impact = measure_leak_impact(targets, folds, leaked, units, by_heart(names, targets))
    found = replace(found, leak_impact=impact)
    assert (
        found.digest != before
        and found.to_dict()["leak_impact"]["value"] == 0.5
        and "+50.0 points" in str(found)
        and "+50.0 points" in found._repr_html_()
    )
    answer = next(
        a
        for a in judge(Policy.load(), {"leaks": json.loads(canonical_json(found))}, "staging").answers
        if a["rule"] == "leaks"
    )
    assert (
        answer["answer"] == "fail"
        and "It leaks: across the hold-out 1 set of copies (2 images). 1 of 2 held-out images" in answer["text"]
        and "train again" in answer["text"]
    )


def test_the_head_of_training_is_what_training_fits():
    from cvkit.model.probe import fit_probe

    random = np.random.default_rng(0)
    targets = np.arange(90) % 3
    embedding = (random.normal(size=(90, 6)) + 2 * np.eye(6)[targets]).astype(np.float32)
    probe = fit_probe(embedding, targets, np.arange(90) % 4 - 1, list("abc"), C=0.1)
    logits = embedding @ probe.weight.T + probe.bias
    ours = probe_fit(embedding, targets, C=0.1)(np.flatnonzero(np.arange(90) % 4))(np.arange(90))
    np.testing.assert_allclose(ours, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-4)
