"Splits: what is never cut, how far a share may be off, what neither order nor machine may change, and what is refused."

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cvkit.core import DataError, ParameterError, digest_bytes, rng
from cvkit.data.manifest import COLUMNS, Dataset, Manifest
from cvkit.data.splits import Splits, assign_parts, make_splits

quick = settings(max_examples=25, deadline=None, derandomize=True)


def manifest_of(labels, groups=None, contents=None, root=None, uris=None, **columns):
    "A manifest without files; a column that a manifest does not have is an attribute."
    n = len(labels)
    table = pd.DataFrame(
        {c: [""] * n for c in COLUMNS}
        | {
            "label": list(labels),
            "group": list(groups or [""] * n),
            "uri": list(uris or [f"{i:03}.png" for i in range(n)]),
            "content": [digest_bytes(str(c).encode()) for c in (contents if contents is not None else range(n))],
        }
        | {k if k in COLUMNS else f"attribute.{k}": list(v) for k, v in columns.items()}
    )
    repeat = table.groupby("content").cumcount()
    table["image"] = [c[:16] + (f"-{r}" if r else "") for c, r in zip(table["content"], repeat)]
    return Manifest(table, root, Dataset("test"))


@st.composite
def drawn(draw):
    "A manifest with groups, copies, two columns and pairs of near duplicates."
    n, random = draw(st.integers(30, 70)), np.random.default_rng(draw(st.integers(0, 10**6)))
    labels, size = ["ab"[i % 2] for i in range(n)], draw(st.integers(1, 4))
    groups = [f"{labels[i]}{random.integers(0, n // size)}" if random.random() < 0.6 else "" for i in range(n)]
    contents = [f"{labels[i]}{random.integers(0, 9)}" if random.random() < 0.1 else i for i in range(n)]
    months = [f"2024-{random.integers(1, 7):02}-{random.integers(1, 29):02}" for _ in range(n)]
    near_duplicates = random.integers(0, n, (draw(st.integers(0, 5)), 2))
    return manifest_of(
        labels,
        groups,
        contents,
        captured_at=months,
        source=random.choice(["x", "y", "z"], n),
        light=random.choice(["", "dim"], n),
    ), near_duplicates


def split(manifest, **arguments):
    "Splits, or nothing where these few units cannot be everywhere."
    try:
        return make_splits(manifest, folds=2, **arguments)
    except DataError as error:
        assert re.search(
            "independent groups|did not reach|all its images are held out|at least 2 months", str(error)
        ), error


def parts_of_units(manifest, near_duplicates, place):
    "How many places each connected component has: scipy's own."
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    content, group = manifest.table["content"].to_numpy(str), manifest.groups.astype(str)
    same = (content[:, None] == content) | ((group[:, None] == group) & (group != ""))
    for a, b in near_duplicates:
        same[a, b] = True
    unit = connected_components(coo_matrix(same), directed=False)[1]
    return pd.Series(place).groupby(unit).nunique(), unit


# ---- what is never cut


@quick
@given(
    drawn(),
    st.sampled_from([
        {},
        {"by": "source"},
        {"by": ("source", "light")},
        {"method": "temporal"},
        {"method": "temporal", "by": "light"},
    ]),
    st.integers(0, 2),
)
def test_no_unit_is_ever_cut(case, arguments, seed):
    manifest, near_duplicates = case
    splits = split(manifest, near_duplicates=near_duplicates, seed=seed, **arguments)
    if not splits:
        return
    places, _ = parts_of_units(manifest, near_duplicates, splits.folds(manifest))
    assert (places == 1).all()
    assert not [row for row in splits.shortfall if "cut" in row["what"]]
    held, rest = (set(splits.rows(manifest, part)) for part in ("holdout", "development"))
    assert held and rest and held | rest == set(range(len(manifest))) and not held & rest


# ---- how far a share may be off


@quick
@given(
    st.integers(0, 10**6), st.integers(1, 8), st.integers(8, 200), st.lists(st.integers(1, 9), min_size=2, max_size=5)
)
def test_overlapping_labels_stay_within_the_bound_of_the_units(seed, labels, n, parts):
    "No share is off by more than sqrt(s_p (k-1) sum |w_u|^2), whatever the units, the labels and the shares."
    random, goal = np.random.default_rng(seed), np.array(parts) / sum(parts)
    marks, units = random.random((n, labels)) < random.uniform(0.05, 0.9, labels), random.integers(0, max(2, n // 3), n)
    marks[:, 0] = random.random(n) < 0.5
    assume((marks.sum(1) != 1).any())
    marks = marks[:, marks.any(0)]
    place = assign_parts(units, marks, goal, rng(seed, "draw"))
    counted = np.column_stack([marks, np.ones(n)])
    weight = pd.DataFrame(counted).groupby(units).sum().to_numpy() / counted.sum(0)
    for p, share in enumerate(goal):
        off = abs(counted[place == p].sum(0) / counted.sum(0) - share)
        assert off.max() <= (share * (len(goal) - 1) * (weight**2).sum()) ** 0.5 + 1e-6
    assert (pd.Series(place).groupby(units).nunique() == 1).all()


@quick
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=2, max_size=6))
def test_a_class_of_whole_groups_is_off_by_less_than_its_largest_group(seed, parts):
    random, goal = np.random.default_rng(seed), np.array(parts) / sum(parts)
    sizes, owner = random.integers(1, 9, 40), random.integers(0, 3, 40)
    units, targets = np.repeat(np.arange(40), sizes), np.repeat(owner, sizes)
    place = assign_parts(units, np.eye(3, dtype=bool)[targets], goal, rng(seed, "draw"))
    for c in set(owner):
        got = np.bincount(place[targets == c], minlength=len(goal))
        assert (abs(got - goal * (targets == c).sum()) < sizes[owner == c].max()).all()


@quick
@given(drawn(), st.sampled_from([{}, {"by": ("source", "light")}]))
def test_what_is_off_by_more_than_a_unit_is_listed_and_nothing_else(case, arguments):
    "Counted again from the manifest: labels and values of `by`, in the hold-out and in both folds."
    manifest, near_duplicates = case
    splits = split(manifest, near_duplicates=near_duplicates, **arguments)
    if not splits:
        return
    fold = splits.folds(manifest)
    unit = parts_of_units(manifest, near_duplicates, fold)[1]
    told = {row["what"]: row for row in splits.shortfall}
    for name, words in {
        "label": manifest.labels,
        **({"source": manifest.table["source"], "light": manifest.attributes["light"]} if arguments else {}),
    }.items():
        for value in set(words):
            mask = np.asarray(words == value)
            for part, inside, among, share in (
                ("the hold-out", fold < 0, fold > -9, 0.2),
                *((f"fold {k}", fold == k, fold >= 0, 0.5) for k in range(2)),
            ):
                n, got = (mask & among).sum(), (mask & inside).sum()
                row = told.get(f"share of {name} {value or 'not given'} ({n} images) in {part}")
                missed = n and abs(got - share * n) > max(np.bincount(unit[mask & among]).max() + 1e-6, 0.005 * n)
                assert bool(row) == bool(missed)
                if row:
                    assert (
                        row["wanted"] == share
                        and abs(row["got"] - got / n) < 1e-4
                        and abs(row["by"] - abs(got / n - share)) < 1e-4
                    )
            places = told.get(f"parts with {name} {value or 'not given'} ({mask.sum()} images)")
            assert bool(places) == (len(set(fold[mask])) < 3) and (
                not places
                or (places["wanted"], places["got"], places["by"])
                == (3, len(set(fold[mask])), 3 - len(set(fold[mask])))
            )


def test_what_changes_no_conclusion_is_not_listed():
    "An image or two too many in hundreds are nothing to read; a month that is a quarter instead of a fifth is."
    splits = make_splits(
        manifest_of("ab" * 1000, light=["", "dim", "dim"] * 666 + ["", "dim"], source=[*"xyzzz"] * 400),
        by=("light", "source"),
    )
    assert splits.shortfall == []
    months = ["2024-01-01"] * 1500 + ["2024-02-01"] * 500
    assert {
        (r["what"], r["wanted"], r["got"], r["by"])
        for r in make_splits(manifest_of("ab" * 1000, captured_at=months), method="temporal").shortfall
    } == {("share of all 2000 images in the hold-out", 0.2, 0.25, 0.05)}


def sechidis(marks, shares, random):
    "Algorithm 1 of Sechidis et al. 2011, one image at a time, written from the paper."
    left, desired = set(range(len(marks))), np.outer(shares, marks.sum(0))
    size, place = np.array(shares) * len(marks), np.full(len(marks), -1)
    while left:
        rest = np.array(sorted(left))
        count = marks[rest].sum(0)
        label = min((k for k in range(marks.shape[1]) if count[k]), key=lambda k: count[k], default=None)
        for i in rest if label is None else rest[marks[rest, label]]:
            most = size if label is None else desired[:, label]
            best = np.flatnonzero(most == most.max())
            best = best[size[best] == size[best].max()]
            place[i] = random.choice(best)
            desired[place[i]] -= marks[i]
            size[place[i]] -= 1
            left.remove(i)
    return place


def distribution_error(marks, place, shares):
    "How far the shares of labels are off, in the mean."
    return np.mean([abs(marks[place == p].sum(0) / marks.sum(0) - s) for p, s in enumerate(shares)])


def multilabel(seed, n=300, labels=10):
    random = np.random.default_rng(seed)
    marks = random.normal(size=(n, 3)) @ random.normal(size=(3, labels)) + random.normal(
        size=(n, labels)
    ) > random.uniform(0.5, 3, labels)
    return marks[:, marks.sum(0) >= 8]


@pytest.mark.parametrize("shares", [[0.8, 0.2], [0.2] * 5, [0.6, 0.3, 0.1]])
def test_multilabel_draw_is_as_even_as_the_published_one(shares):
    ours, theirs, plain = [], [], []
    for seed in range(8):
        marks = multilabel(seed)
        place = assign_parts(np.arange(len(marks)), marks, shares, rng(seed, "draw"))
        random = np.random.default_rng(seed)
        ours.append(distribution_error(marks, place, shares))
        theirs.append(distribution_error(marks, sechidis(marks, shares, random), shares))
        plain.append(
            distribution_error(
                marks,
                random.permutation(np.searchsorted(np.cumsum(shares), (np.arange(len(marks)) + 0.5) / len(marks))),
                shares,
            )
        )
        assert ours[-1] < plain[-1] and abs(np.bincount(place) - np.array(shares) * len(marks)).max() <= 2
    assert np.mean(ours) <= 1.25 * np.mean(theirs) and np.mean(ours) < np.mean(plain) / 3


def test_multilabel_draw_is_as_even_as_the_package():
    from iterstrat import ml_stratifiers as package

    for seed in range(4):
        marks, shares = multilabel(seed), np.array([0.8, 0.2])
        theirs = package.IterativeStratification(
            labels=marks, r=shares.copy(), random_state=np.random.RandomState(seed)
        )
        assert (
            distribution_error(marks, assign_parts(np.arange(len(marks)), marks, shares, rng(seed)), shares)
            <= distribution_error(marks, theirs, shares) + 0.005
        )


def test_columns_are_spread_and_so_is_their_crossing():
    random = np.random.default_rng(1)
    labels, source = (
        random.choice(["a", "b"], 600, p=[0.8, 0.2]),
        random.choice(["x", "y", "z"], 600, p=[0.6, 0.3, 0.1]),
    )
    manifest = manifest_of(labels, source=source)
    splits = make_splits(manifest, by="source")
    held = splits.folds(manifest) < 0
    assert splits.parameters["by"] == ["source"] and splits.shortfall == []
    for c in "ab":
        for s in "xyz":
            cell = (labels == c) & (source == s)
            assert abs(held[cell].sum() - 0.2 * cell.sum()) <= 2
            assert abs(np.bincount(splits.folds(manifest)[cell & ~held]) - (cell & ~held).sum() / 5).max() <= 2


# ---- digests

ARGUMENTS = [{}, {"by": ("light", "source")}, {"method": "temporal"}, {"method": "temporal", "by": "light"}]


@quick
@given(drawn(), st.randoms(), st.sampled_from(ARGUMENTS))
def test_digest_knows_no_order_no_folder_and_no_names(case, random, arguments):
    manifest, near_duplicates = case
    first = split(manifest, near_duplicates=near_duplicates, **arguments)
    assume(first)
    order = random.sample(range(len(manifest)), len(manifest))
    other = manifest.take(order)
    other.table["uri"] = [f"elsewhere/{random.random()}.jpg" for _ in order]
    other.root = Path("elsewhere")
    again = split(other, near_duplicates=np.argsort(order)[near_duplicates[::-1, ::-1]], **arguments)
    assert (
        again.digest == first.digest
        and again.holdout_digest == first.holdout_digest
        and again.shortfall == first.shortfall
    )
    if "by" in arguments:
        assert (
            split(
                manifest,
                near_duplicates=near_duplicates,
                **{**arguments, "by": sorted(np.atleast_1d(arguments["by"]), reverse=True)},
            ).digest
            == first.digest
        )


SCRIPT = """
import sys; sys.path.insert(0, {tests!r})
from test_data_splits import ARGUMENTS, make_splits, usual
print(*[make_splits(usual(), **a).digest for a in ARGUMENTS])
"""


def usual():
    "Ninety images of three classes, in groups, with sources, light and dates."
    return manifest_of(
        "abc" * 30,
        [f"{'abc'[i % 3]}{i // 6}" for i in range(90)],
        source=["xyz"[i * i % 7 % 3] for i in range(90)],
        light=["", "dim"] * 45,
        captured_at=[f"2024-{i % 8 + 1:02}-03" for i in range(90)],
    )


def test_digest_knows_no_process():
    "Another process, another seed of hashes, threads or none."
    here = [make_splits(usual(), **a).digest for a in ARGUMENTS]
    assert len(set(here)) == 4
    for seed, threads in (("1", "1"), ("77", "2")):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(tests=str(Path(__file__).parent))],
            capture_output=True,
            text=True,
            timeout=120,
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "OMP_NUM_THREADS": threads,
                "PYTHONPATH": os.pathsep.join(
                    filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])
                ),
            },
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == here


def test_the_draws_stay_what_they_are():
    assert [make_splits(usual(), **a).digest[:12] for a in ARGUMENTS] == PINNED, (
        "the same data and seed are the same splits tomorrow"
    )


PINNED = ["7c01b982f9bd", "baa5f7124984", "897892e44d2a", "a1508b3280c1"]


# ---- the newest


@quick
@given(drawn(), st.floats(0.05, 0.6))
def test_nothing_in_development_is_as_new_as_the_boundary(case, holdout):
    manifest, near_duplicates = case
    splits = split(manifest, near_duplicates=near_duplicates, method="temporal", holdout=holdout)
    if not splits:
        return
    months, held = manifest.table["captured_at"].str[:7].to_numpy(str), splits.folds(manifest) < 0
    start, unit = splits.parameters["from"], parts_of_units(manifest, near_duplicates, held)[1]
    assert (months[~held] < start).all()
    assert splits.parameters["moved"] == (months[held] < start).sum()
    assert set(unit[held]) == set(unit[months >= start]), "a unit is held out exactly when one of its images is new"
    newest = pd.Series(months).groupby(unit).transform("max").to_numpy(str)
    best = min(abs((newest >= m).mean() - holdout) for m in sorted(set(newest))[1:])
    assert abs(held.mean() - holdout) <= best + 1e-8, "no other month comes nearer"


@pytest.mark.parametrize(
    "early, late, expected",
    [
        ("2024-01-31", "2024-02-01", "2024-02"),
        ("2024-01", "2024-03", "2024-03"),
        ("2023-12-31T23:59:59Z", "2024-01-01T00:00:00Z", "2024-01"),
        ("2024-01-31T20:00:00+00:00", "2024-01-31T23:30:00-05:00", "2024-02"),
        ("20240131", "2024-02-01 08:00", "2024-02"),
    ],
)
def test_dates_are_read_as_they_are_written(early, late, expected):
    manifest = manifest_of("ab" * 20, captured_at=[early] * 30 + [late] * 10)
    splits = make_splits(manifest, method="temporal", folds=2)
    assert splits.parameters["from"] == expected and splits.rows(manifest, "holdout").tolist() == list(range(30, 40))


def test_an_attribute_may_hold_the_dates_and_a_class_may_be_new():
    manifest = manifest_of("ab" * 20 + "b" * 10, taken=["2024-01-02"] * 40 + ["2024-05-02"] * 10)
    splits = make_splits(manifest, method="temporal", column="taken", folds=2)
    assert splits.parameters == {
        "holdout": 0.2,
        "folds": 2,
        "seed": 0,
        "method": "temporal",
        "column": "taken",
        "from": "2024-05",
        "moved": 0,
    }
    assert {(r["what"], r["got"]) for r in splits.shortfall} == {
        ("parts with label a (20 images)", 2),
        ("share of label a (20 images) in the hold-out", 0),
        ("share of label b (30 images) in the hold-out", 0.3333),
    }
    assert repr(splits).startswith(
        f"Splits {splits.digest[:12]}: 40 for development in 2 folds, 10 held out from 2024-05 on; not as wanted: "
        "share of label a (20 images) in the hold-out: 0.2, got 0, and 2 more"
    )


# ---- as somebody else has drawn

WORDS = ["train"] * 24 + ["Val "] * 6 + ["TEST"] * 10


def test_predefined_parts_are_taken_as_they_are():
    manifest = manifest_of("ab" * 20, split=WORDS)
    splits = make_splits(manifest, method="predefined", folds=3)
    assert splits.rows(manifest, "holdout").tolist() == list(range(30, 40)) and set(splits.folds(manifest)) == {
        -1,
        0,
        1,
        2,
    }
    assert splits.table["given"].tolist() == ["train"] * 24 + ["val"] * 6 + ["test"] * 10
    assert (
        splits.parameters == {"holdout": None, "folds": 3, "seed": 0, "method": "predefined", "column": "split"}
        and splits.shortfall == []
    )
    assert make_splits(manifest, method="predefined", column="attribute.split", folds=3).rows(
        manifest, "holdout"
    ).tolist() == list(range(30, 40))


def test_predefined_folds_are_taken_as_they_are(tmp_path):
    manifest = manifest_of("ab" * 20, fold=[str(i // 2 % 5 - 1) for i in range(40)])
    splits = make_splits(manifest, method="predefined", column="fold")
    assert splits.folds(manifest).tolist() == [i // 2 % 5 - 1 for i in range(40)] and splits.parameters["folds"] == 4
    splits.save(tmp_path / "splits")
    assert (
        make_splits(manifest, method="predefined", column="fold", folds=3, stored=tmp_path / "splits").digest
        == splits.digest
    ), "folds that were given are not drawn"


def test_a_leak_is_refused_or_put_on_record(tmp_path):
    contents = [*range(39), 0]
    manifest = manifest_of(
        "ab" * 19 + "ba",
        ["g1" if i in (2, 32) else "g2" if i in (4, 6) else "" for i in range(40)],
        contents,
        split=WORDS,
    )
    with pytest.raises(
        DataError,
        match=re.escape(
            "expected each group and each set of copies in one part of split, but it cuts 1 groups, 1 copies, 1 near "
            "duplicates (002.png, 032.png, 000.png); correct the column, or say allow_leak=True"
        ),
    ):
        make_splits(
            manifest_of("ab" * 19 + "aa", manifest.groups.tolist(), contents, split=WORDS),
            method="predefined",
            near_duplicates=[[7, 33], [1, 3]],
        )
    manifest = manifest_of("ab" * 19 + "aa", manifest.groups.tolist(), contents, split=WORDS)
    leaky = make_splits(manifest, method="predefined", near_duplicates=[[7, 33], [1, 3]], allow_leak=True, folds=3)
    assert leaky.rows(manifest, "holdout").tolist() == list(range(30, 40))
    assert leaky.parameters["leaks"] == {"groups": 1, "copies": 1, "near duplicates": 1}
    assert [(r["what"], r["got"]) for r in leaky.shortfall][:3] == [
        ("groups that are cut", 1),
        ("copies that are cut", 1),
        ("near duplicates that are cut", 1),
    ]
    folds = leaky.folds(manifest)
    assert folds[4] == folds[6] and folds[1] == folds[3], "what it does not cut is not cut by the folds"
    about = json.loads((leaky.save(tmp_path / "splits") / "splits.json").read_text())
    assert (
        Splits.load(tmp_path / "splits").to_dict() == leaky.to_dict()
        and "1 near duplicates" in leaky._repr_html_()
        and about["shortfall"] == leaky.shortfall
    )
    again = make_splits(manifest, method="predefined", folds=4, stored=tmp_path / "splits")
    assert (
        again.parameters["leaks"] == leaky.parameters["leaks"]
        and again.holdout_digest == leaky.holdout_digest
        and again.table["given"].tolist() == leaky.table["given"].tolist()
    )
    del about["parameters"]["leaks"]
    (tmp_path / "splits" / "splits.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="the table was changed"):
        Splits.load(tmp_path / "splits")


# ---- stored


def test_stored_splits_are_never_redrawn_whatever_the_method(tmp_path):
    manifest = usual()
    for arguments in ARGUMENTS:
        place = make_splits(manifest, seed=1, **arguments).save(tmp_path / "splits")
        first = Splits.load(place)
        assert make_splits(manifest, seed=5, stored=place, **arguments).to_dict() == first.to_dict()
        fewer = make_splits(manifest, seed=5, folds=3, stored=place, **arguments)
        assert (
            fewer.holdout_digest == first.holdout_digest
            and fewer.digest != first.digest
            and fewer.folds(manifest).max() == 2
        )
        for other in ARGUMENTS:
            if other == arguments:
                continue
            with pytest.raises(
                DataError,
                match=(
                    r"that is stored in .*splits, got (method|by|column)=.*; a hold-out is drawn once, use another "
                    r"folder for another one"
                ),
            ):
                make_splits(manifest, stored=place, **other)
    with pytest.raises(DataError, match="hold-out of column 'captured_at' that is stored in .*got column='source'"):
        make_splits(manifest, stored=place, method="temporal", column="source", by="light")


def test_near_duplicates_that_are_found_later_do_not_redraw_but_are_said(tmp_path):
    manifest = usual()
    first = make_splits(manifest)
    place, pair = (
        first.save(tmp_path / "splits"),
        [int(first.rows(manifest, part)[0]) for part in ("holdout", "development")],
    )
    again = make_splits(manifest, stored=place, near_duplicates=[pair])
    assert again.digest == first.digest and again.shortfall == [
        {"what": "near duplicates that are cut", "wanted": 0, "got": 1, "by": 1}
    ]
    assert (
        make_splits(manifest, stored=place, near_duplicates=[pair], folds=3).shortfall[0]["what"]
        == "near duplicates that are cut"
    )
    assert "near duplicates that are cut" not in repr(make_splits(manifest, near_duplicates=[pair]))


def test_splits_of_before_are_read(tmp_path):
    "A splits.json without a list of what was missed."
    first = make_splits(usual())
    place = first.save(tmp_path / "splits")
    about = json.loads((place / "splits.json").read_text())
    del about["shortfall"]
    (place / "splits.json").write_text(json.dumps(about))
    assert Splits.load(place).digest == first.digest and Splits.load(place).shortfall == []


# ---- what is refused


def split_by(words):
    return manifest_of("ab" * 20, split=words)


REFUSED = {
    "method": (
        usual,
        {"method": "newest"},
        ParameterError,
        "expected method random, temporal, predefined, got 'newest'; correct it",
    ),
    "column without a method": (
        usual,
        {"column": "source"},
        ParameterError,
        "expected method 'temporal' or 'predefined' with a column, got column='source' for a random draw",
    ),
    "unknown by": (
        usual,
        {"by": "sorce"},
        ParameterError,
        "expected by to be one of image, content, uri, label, group, source,",
    ),
    "a name is no property": (
        usual,
        {"by": "content"},
        ParameterError,
        "in the column 'content' to stratify by, got 90 values in 90 images, none of them in more than 1 groups",
    ),
    "unknown column": (usual, {"method": "predefined"}, ParameterError, "expected column to be one of image, content,"),
    "near duplicates of another shape": (
        usual,
        {"near_duplicates": [[1, 2, 3]]},
        ParameterError,
        "expected near_duplicates (k,2), each a row of the manifest from 0 to 89, got shape (1, 3) from 1 to 3",
    ),
    "near duplicates outside": (usual, {"near_duplicates": [[0, 90]]}, ParameterError, "got shape (1, 2) from 0 to 90"),
    "near duplicates below": (usual, {"near_duplicates": [[0, -1]]}, ParameterError, "got shape (1, 2) from -1 to 0"),
    "no dates": (
        lambda: manifest_of("ab" * 20),
        {"method": "temporal"},
        DataError,
        (
            "expected a date such as 2024-05-31 in captured_at of every image, got '' (000.png, 001.png, 002.png and "
            "37 more)"
        ),
    ),
    "EXIF dates": (
        lambda: manifest_of("ab" * 20, captured_at=["2024-01-01"] * 39 + ["2024:01:05 10:00:00"]),
        {"method": "temporal"},
        DataError,
        "got '2024:01:05 10:00:00' (039.png); add the dates",
    ),
    "no such day": (
        lambda: manifest_of("ab" * 20, captured_at=["2024-01-01"] * 38 + ["2024-02-30"] * 2),
        {"method": "temporal"},
        DataError,
        "got '2024-02-30' (038.png, 039.png)",
    ),
    "one month": (
        lambda: manifest_of("ab" * 20, captured_at=["2024-01-01", "2024-01-31"] * 20),
        {"method": "temporal"},
        DataError,
        "expected units of at least 2 months in captured_at, got 2024-01 only",
    ),
    "a class is new": (
        lambda: manifest_of("ab" * 20 + "c" * 10, captured_at=["2024-01-01"] * 40 + ["2024-05-01"] * 10),
        {"method": "temporal"},
        DataError,
        "expected class 'c' in every part, but it did not reach fold 0, fold 1",
    ),
    "a word": (
        lambda: split_by(["train"] * 30 + ["dev"] * 5 + ["test"] * 5),
        {"method": "predefined"},
        DataError,
        "in split of every image, got 'dev' (030.png, 031.png, 032.png and 2 more); correct the column",
    ),
    "no word": (
        lambda: split_by(["train"] * 30 + ["test"] * 9 + [""]),
        {"method": "predefined"},
        DataError,
        "got '' (039.png)",
    ),
    "no hold-out": (
        lambda: split_by(["train"] * 40),
        {"method": "predefined"},
        DataError,
        "expected images of the hold-out and others in split, got 0 of 40 in the hold-out",
    ),
    "all held out": (
        lambda: split_by(["test"] * 40),
        {"method": "predefined"},
        DataError,
        "got 40 of 40 in the hold-out",
    ),
    "a fold is missing": (
        lambda: split_by((["0", "2", "2", "test"] * 10)),
        {"method": "predefined"},
        DataError,
        "expected all folds from 0 on, at least two, and no other word but test in split, got 0, 2, test",
    ),
    "one fold": (
        lambda: split_by((["0", "0", "0", "test"] * 10)),
        {"method": "predefined"},
        DataError,
        "at least two, and no other word",
    ),
    "folds and words": (
        lambda: split_by((["0", "1", "train", "-1"] * 10)),
        {"method": "predefined"},
        DataError,
        "got -1, 0, 1, train",
    ),
    "a class is only tested": (
        lambda: split_by(["0", "test", "1", "test"] * 10),
        {"method": "predefined"},
        DataError,
        "expected class 'b' in development, but all its images are held out",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    make, arguments, error, message = REFUSED[name]
    with pytest.raises(error, match=re.escape(message)):
        make_splits(make(), **{"folds": 2} | arguments)


@pytest.mark.parametrize(
    "units, marks, shares, message",
    [
        ([0, 1], np.ones(2), [0.5, 0.5], "expected indicators (n,l) for 2 rows, got shape (2,)"),
        ([0, 1], np.ones((3, 1)), [0.5, 0.5], "got shape (3, 1)"),
        ([0, 1], np.ones((2, 1)), [0.5, 0.6], "expected shares above 0 that add up to 1, got [0.5, 0.6]"),
        ([0, 1], np.ones((2, 1)), [1, 0], "got [1, 0]"),
    ],
)
def test_a_draw_that_is_refused(units, marks, shares, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        assign_parts(units, marks, shares, rng(0))


@pytest.mark.parametrize("column", ["labels", "boxes"])
def test_several_labels_an_image_are_spread_each_by_itself(column):
    random, n = np.random.default_rng(0), 300
    present = random.random((n, 3)) < [0.5, 0.2, 0.1]
    show = {
        "labels": lambda row: [w for w, p in zip("abc", row) if p],
        "boxes": lambda row: [
            {"label": w, "x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0, "ignore": False} for w, p in zip("abc", row) if p
        ],
    }[column]
    manifest = manifest_of([""] * n, [f"house {i // 3}" for i in range(n)])
    manifest.table[column] = [show(row) for row in present]
    assert manifest.classes == ("a", "b", "c") and (manifest.presence == present).all()
    fold = make_splits(manifest, holdout=0.25, folds=4).folds(manifest)
    for here in present.T:
        assert abs((here & (fold < 0)).sum() / here.sum() - 0.25) < 0.06
        assert np.ptp(np.bincount(fold[here & (fold >= 0)])) <= 4
    assert all(len(set(fold[manifest.groups == g])) == 1 for g in set(manifest.groups))
