"""Detection: COCO's numbers to the last digit, intervals that hold, thresholds out of fold, each kind of error, and
the page."""

import contextlib
import io
import json

import numpy as np
import pytest

from cvkit.core import DataError, ParameterError, canonical_json
from cvkit.evidence.detection_errors import (
    KINDS,
    boxes_above_threshold,
    cross_fit_box_thresholds,
    error_kinds,
    error_pictures,
    precision_recall_curves,
)
from cvkit.evidence.detection_metrics import (
    class_detections,
    detection_estimates,
    detection_values,
    flat_boxes,
    match_boxes,
    overlaps,
)
from cvkit.evidence.detection_report import detection_report, evaluate_detections, plot_box_curves, slice_detections
from cvkit.stats import bootstrap_weights

STATS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_1",
    "ar_10",
    "ar_100",
    "ar_small",
    "ar_medium",
    "ar_large",
)  # COCO's order
letters = "abcdefgh"
empty = {"boxes": [], "labels": [], "ignore": []}
silent = {"boxes": [], "labels": [], "scores": []}


def scenes(n, seed=0, classes=3, crowd=0.0, most=8, noise=0.08, grid=None):
    """Random truth, and detections that jitter it, repeat it, forget it, and see what is not there; on a grid, sides
    and scores tie."""
    random = np.random.default_rng(seed)
    truth = []
    detections = []
    for _ in range(n):
        g = random.integers(0, most)
        corner = random.uniform(0, 400, (g, 2))
        side = np.exp(random.uniform(2, 5.3, (g, 2)))
        boxes = np.hstack([corner, corner + side])
        labels = random.integers(0, classes, g)
        source = np.repeat(np.arange(g), random.integers(0, 4, g))
        corner = random.uniform(0, 400, (random.integers(0, 4), 2))
        moved = boxes[source] + random.normal(0, noise, (len(source), 4)) * np.tile(side[source], 2)
        background = np.hstack([corner, corner + random.uniform(8, 150, corner.shape)])
        detected = np.concatenate([moved, background])
        right_class = random.random(len(source)) < 0.9
        as_class = np.where(right_class, labels[source], random.integers(0, classes, len(source)))
        as_class = np.concatenate([as_class, random.integers(0, classes, len(corner))])
        scores = random.random(len(detected))
        if grid:
            boxes = np.round(boxes / grid) * grid
            detected = np.round(detected / grid) * grid
            scores = scores.round(1)
        for b in (boxes, detected):
            b[:, 2:] = np.maximum(b[:, 2:], b[:, :2] + (grid or 2))
        truth.append({"boxes": boxes, "labels": labels, "ignore": random.random(g) < crowd})
        detections.append({"boxes": detected, "labels": as_class, "scores": scores})
    return truth, detections


def surer(truth, detections, seed=0):
    "The same, and what is right mostly has the higher score."
    random = np.random.default_rng(seed)
    for true, detected in zip(truth, detections):
        iou = np.zeros((len(detected["labels"]), 1))
        if len(true["labels"]):
            iou = overlaps(detected["boxes"][:, None], true["boxes"][None])
            iou = iou * (detected["labels"][:, None] == true["labels"])
        right = iou.max(1, initial=0) > 0.5
        detected["scores"] = np.where(right, random.beta(5, 2, len(right)), random.beta(2, 4, len(right)))
    return truth, detections


def coco_rows(images):
    "Boxes in COCO's notation, with image, category and the row in the image."
    rows = []
    for i, one in enumerate(images):
        for j, ((x1, y1, x2, y2), k) in enumerate(zip(np.asarray(one["boxes"], float).tolist(), one["labels"])):
            rows.append({"image_id": i + 1, "category_id": int(k) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "row": j})
    return rows


def coco(truth, detections, classes, program="pycocotools"):
    "COCO's twelve numbers by one of two programs; -1 where undefined."
    if program == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval

    annotations = coco_rows(truth)
    for i, row in enumerate(annotations):
        row["id"] = i + 1
        row["area"] = row["bbox"][2] * row["bbox"][3]
        row["iscrowd"] = int(truth[row["image_id"] - 1]["ignore"][row["row"]])
    results = coco_rows(detections)
    for row in results:
        row["score"] = float(detections[row["image_id"] - 1]["scores"][row["row"]])
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO()
        whole.dataset = {
            "images": [{"id": i + 1} for i in range(len(truth))],
            "annotations": annotations,
            "categories": [{"id": k + 1, "name": str(c)} for k, c in enumerate(classes)],
        }
        whole.createIndex()
        evaluation = COCOeval(whole, whole.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats[:12])


def ours(truth, detections, classes, weights=None):
    "The same twelve numbers by cvkit."
    weights = np.ones((1, len(truth))) if weights is None else weights
    values = detection_values(match_boxes(truth, detections, classes), weights)
    means = []
    for name in STATS:
        of_classes = values[name][:, 0]
        defined = of_classes[np.isfinite(of_classes)]
        means.append(defined.mean() if len(defined) else -1.0)
    return np.array(means)


# ---- COCO's numbers


@pytest.mark.parametrize("program", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize(
    "case",
    [
        {},
        dict(crowd=0.3),
        dict(grid=8),
        dict(grid=32, crowd=0.2),
        dict(classes=8, most=3),
        dict(noise=0.3, most=20),
        dict(noise=0.01),
    ],
    ids=str,
)
def test_numbers_are_cocos(case, program):
    for seed in range(4):
        truth, detections = scenes(25, seed, **case)
        classes = letters[: case.get("classes", 3)]
        assert ours(truth, detections, classes) == pytest.approx(coco(truth, detections, classes, program), abs=1e-12)


def box(x, y, w=40, h=40):
    return [x, y, x + w, y + h]


adversarial = {
    "a class never detected": (
        [dict(boxes=[box(0, 0), box(100, 0)], labels=[0, 1], ignore=[False] * 2)],
        [dict(boxes=[box(0, 0)], labels=[0], scores=[0.9])],
    ),
    "a class never there": (
        [dict(boxes=[box(0, 0)], labels=[0], ignore=[False])],
        [dict(boxes=[box(0, 0), box(0, 0)], labels=[0, 1], scores=[0.5, 0.9])],
    ),
    "empty images, and one with false alarms only": (
        [empty, empty, dict(boxes=[box(0, 0)], labels=[0], ignore=[False])],
        [silent, dict(boxes=[box(5, 5)], labels=[0], scores=[0.99]), dict(boxes=[box(1, 0)], labels=[0], scores=[0.5])],
    ),
    "all scores equal": (
        [dict(boxes=[box(0, 0), box(60, 0)], labels=[0, 0], ignore=[False] * 2)] * 3,
        [dict(boxes=[box(200, 0), box(0, 0), box(62, 0)], labels=[0, 0, 0], scores=[0.5] * 3)] * 3,
    ),
    "two boxes at the same overlap": (
        [dict(boxes=[box(0, 0), box(20, 0)], labels=[0, 0], ignore=[False] * 2)],
        [dict(boxes=[box(10, 0), box(10, 0), box(20, 0)], labels=[0] * 3, scores=[0.9, 0.8, 0.7])],
    ),
    "an overlap that is the threshold": (
        [dict(boxes=[[0, 0, 100, 100]] * 2, labels=[0, 1], ignore=[False] * 2)],
        [dict(boxes=[[0, 0, 100, 50], [0, 0, 100, 75]], labels=[0, 1], scores=[0.9, 0.9])],
    ),
    "a crowd that forgives several, and a box in it": (
        [dict(boxes=[box(0, 0, 200, 200), box(10, 10)], labels=[0, 0], ignore=[True, False])],
        [
            dict(
                boxes=[box(10, 10), box(50, 50), box(90, 90), box(150, 150, 100, 100)],
                labels=[0] * 4,
                scores=[0.5, 0.9, 0.8, 0.7],
            )
        ],
    ),
    "the crowd alone": (
        [
            dict(boxes=[box(0, 0, 200, 200)], labels=[0], ignore=[True]),
            dict(boxes=[box(0, 0)], labels=[1], ignore=[False]),
        ],
        [dict(boxes=[box(10, 10)], labels=[0], scores=[0.9]), dict(boxes=[box(0, 0)], labels=[1], scores=[0.9])],
    ),
    "areas that are the limits of sizes": (
        [dict(boxes=[box(0, 0, 32, 32), box(100, 0, 96, 96), box(300, 0, 31, 33)], labels=[0] * 3, ignore=[False] * 3)],
        [
            dict(
                boxes=[box(0, 0, 32, 32), box(100, 0, 96, 97), box(300, 0, 31, 33), box(0, 300, 32, 32)],
                labels=[0] * 4,
                scores=[0.9, 0.8, 0.7, 0.95],
            )
        ],
    ),
    "a small detection on a large box": (
        [dict(boxes=[box(0, 0, 33, 33)], labels=[0], ignore=[False])],
        [dict(boxes=[box(0, 0, 30, 30), box(0, 0, 33, 33)], labels=[0, 0], scores=[0.9, 0.8])],
    ),
}


@pytest.mark.parametrize("name", adversarial)
def test_numbers_are_cocos_in_odd_cases(name):
    truth, detections = adversarial[name]
    for program in ("pycocotools", "faster_coco_eval"):
        assert ours(truth, detections, "ab") == pytest.approx(coco(truth, detections, "ab", program), abs=1e-12)


def test_a_class_at_a_time_is_cocos():
    truth, detections = scenes(60, 3, crowd=0.1)

    def only(images, k):
        return [{key: np.asarray(v)[np.asarray(one["labels"]) == k] for key, v in one.items()} for one in images]

    for k, row in enumerate(class_detections(truth, detections, "abc", draws=20)):
        expected = dict(zip(STATS, coco(only(truth, k), only(detections, k), "abc")))
        assert {name: row[name].value for name in ("ap", "ap50", "ap75", "ar_100")} == pytest.approx(
            {name: expected[name] for name in ("ap", "ap50", "ap75", "ar_100")}, abs=1e-12
        )
        assert row["boxes"] == sum(int((np.asarray(t["labels"]) == k)[~t["ignore"]].sum()) for t in truth)


def test_ten_thousand_boxes_in_an_image():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 2000, (10_000, 2))
    truth = [
        dict(boxes=np.hstack([corner[:300], corner[:300] + 30]), labels=np.arange(300) % 2, ignore=np.zeros(300, bool))
    ]
    detections = [
        dict(boxes=np.hstack([corner, corner + 30]), labels=np.arange(10_000) % 2, scores=random.random(10_000))
    ]
    m = match_boxes(truth, detections, "ab")
    assert np.bincount(m.label).tolist() == [100, 100], "the hundred surest of each class"
    assert ours(truth, detections, "ab") == pytest.approx(coco(truth, detections, "ab"), abs=1e-12)


def test_pieces_and_blocks_change_nothing(monkeypatch):
    from cvkit.evidence import detection_metrics

    truth, detections = scenes(30, 5, crowd=0.1)
    whole, small = match_boxes(truth, detections, "abc"), detection_metrics._pieces
    monkeypatch.setattr(detection_metrics, "_pieces", lambda key, count: small(key, count, 7))
    pieces = match_boxes(truth, detections, "abc")
    for name in ("matched", "ignored", "true_box", "score"):
        assert (getattr(whole, name) == getattr(pieces, name)).all()


# ---- weights and intervals


def test_a_weight_is_a_copy():
    truth, detections = scenes(12, 1, crowd=0.1)
    random = np.random.default_rng(2)
    for _ in range(5):
        w = random.multinomial(12, [1 / 12] * 12)
        rows = np.repeat(np.arange(12), w)
        assert ours(truth, detections, "abc", w[None].astype(float)) == pytest.approx(
            coco([truth[i] for i in rows], [detections[i] for i in rows], "abc"), abs=1e-12
        )


def test_chunks_of_draws_change_nothing():
    truth, detections = scenes(40, 4)
    m, w = match_boxes(truth, detections, "abc"), bootstrap_weights(40, replicates=30)
    together, alone = detection_values(m, w), [detection_values(m, one[None]) for one in w]
    for name, v in together.items():
        np.testing.assert_allclose(v, np.concatenate([a[name] for a in alone], axis=1), atol=1e-12)


def test_value_of_the_estimates_is_cocos():
    truth, detections = scenes(120, 6, crowd=0.1)
    for groups in (None, [f"house {i // 2}" for i in range(120)]):
        found = detection_estimates(truth, detections, "abc", groups, draws=50)
        assert [found[name].value for name in STATS] == pytest.approx(coco(truth, detections, "abc"), abs=1e-12)
        assert all(e.low <= e.value <= e.high for e in found.values())
    assert detection_estimates(truth, detections, "abc", draws=50) == detection_estimates(
        truth, detections, "abc", draws=50
    ), "the same seed, the same draws"


def test_twins_say_no_more_than_one_of_them():
    truth, detections = scenes(40, 7)
    once = detection_estimates(truth, detections, "abc", draws=400)["ap50"]
    twice, pairs = truth * 2, detections * 2
    apart, together = (
        detection_estimates(twice, pairs, "abc", groups, draws=400)["ap50"]
        for groups in (None, [f"{i % 40}" for i in range(80)])
    )

    def width(e):
        return e.high - e.low

    assert width(together) == pytest.approx(width(once), rel=0.1)
    assert width(apart) < 0.85 * width(once)


def test_intervals_hold_what_they_say():
    truth, detections = surer(*scenes(2400, 8, classes=2, most=5))
    of_all = detection_values(match_boxes(truth, detections, "ab"), np.ones((1, 2400)))
    known = np.array([of_all[name].mean() for name in ("ap", "ap50", "ar_100")])
    inside = []
    for i in range(60):
        rows = slice(40 * i, 40 * i + 40)
        found = detection_estimates(truth[rows], detections[rows], "ab", sizes={}, draws=200, seed=i)
        inside.append([
            found[name].low <= value <= found[name].high for name, value in zip(("ap", "ap50", "ar_100"), known)
        ])
    assert (np.mean(inside, axis=0) >= 0.85).all(), np.mean(
        inside, axis=0
    )  # 60 trials of .95: fewer than 51 in one of 500
    assert np.mean(inside) > 0.9


def test_what_cannot_be_said_is_undefined():
    truth, detections = scenes(30, 9)
    nothing = detection_estimates([empty] * 30, detections, "abc", draws=20)
    assert {e.method for e in nothing.values()} == {"undefined: no box in the truth"} | {
        f"undefined: no {s} box in the truth" for s in ("small", "medium", "large")
    }
    assert all(e.value is None for e in nothing.values())
    assert detection_estimates(truth, [silent] * 30, "abc", draws=20)["ap"].value == 0
    absent = class_detections(truth, detections, "abcd", draws=20)[3]
    assert (absent["ap"].value, absent["ap"].method) == (None, "undefined: no box of d in the truth")
    crowd_only = [{**t, "ignore": np.ones(len(t["labels"]), bool)} for t in truth]
    assert detection_estimates(crowd_only, detections, "abc", draws=20)["ap"].value is None
    assert "of at least 10" in detection_estimates(truth[:6], detections[:6], "abc", draws=20)["ap50"].method


def test_a_faultless_detector_is_not_certain():
    truth = [dict(boxes=[box(10, 10), box(90, 90)], labels=[0, 1], ignore=[False] * 2)] * 30
    perfect = [dict(boxes=t["boxes"], labels=t["labels"], scores=[0.9, 0.8]) for t in truth]
    found = detection_estimates(truth, perfect, "ab", draws=50)["ap"]
    assert found.value == pytest.approx(1) and found.low < 0.95 and found.method.startswith("exact")


# ---- what is refused

good_truth = [dict(boxes=[box(10, 10)], labels=[0], ignore=[False])]
good_detections = [dict(boxes=[box(10, 10)], labels=[0], scores=[0.9])]
bad = [
    (dict(boxes=[[np.nan, 0, 5, 5]]), None, "not a number"),
    (dict(boxes=[[10, 10, 10, 50]]), None, "no area"),
    (dict(boxes=[[100, 100, 30, 40]]), None, "(x, y, width, height)"),
    (dict(boxes=[[0.1, 0.2, 0.5, 0.6]]), None, "shares of the picture"),
    (dict(labels=[2]), None, "from 0 to 1, got 2 to 2"),
    (dict(labels=[-1]), None, "got -1 to -1"),
    (dict(labels=[0.5]), None, "whole numbers"),
    (dict(boxes=[[1, 2, 3]]), None, "(k,4) boxes"),
    (dict(ignore=[False, True]), None, "(k,4) boxes with k labels and k ignore"),
    (None, dict(scores=[1.2]), "per cent"),
    (None, dict(scores=[-3.0]), "logits"),
    (None, dict(scores=[np.nan]), "not a number"),
    (None, dict(boxes=[[5, 5, 5, 9]]), "no area"),
    (None, dict(labels=[7]), "in detections"),
]


@pytest.mark.parametrize("true, detected, words", bad, ids=[words for *_, words in bad])
def test_bad_boxes_are_named(true, detected, words):
    with pytest.raises(DataError) as error:
        detection_estimates([good_truth[0] | (true or {})], [good_detections[0] | (detected or {})], "ab")
    assert words in str(error.value)


def test_other_bad_inputs():
    with pytest.raises(DataError, match="counted from 1"):
        flat_boxes([dict(boxes=[box(1, 1)] * 2, labels=[1, 2], ignore=[False] * 2)], good_detections, "ab")
    with pytest.raises(DataError, match="box 1 of truth 1"):
        flat_boxes([*good_truth, dict(boxes=[box(1, 1), [4, 4, 4, 9]], labels=[0, 0])], good_detections * 2, "a")
    with pytest.raises(DataError, match="turned round"):
        flat_boxes([dict(boxes=[box(1, 1)] * 99 + [[50, 50, 20, 80]], labels=[0] * 100)], good_detections, "a")
    with pytest.raises(DataError, match="has no scores"):
        flat_boxes(good_truth, [dict(boxes=[], labels=[])], "a")
    with pytest.raises(DataError, match="got 1 and 2"):
        flat_boxes(good_truth, good_detections * 2, "a")
    with pytest.raises(DataError, match="hold-out empty"):
        flat_boxes([], [], "a")
    with pytest.raises(ParameterError, match="rising IoU"):
        match_boxes(good_truth, good_detections, "a", ious=(0.7, 0.5))
    with pytest.raises(ParameterError, match="one a class"):
        error_kinds(good_truth, good_detections, "a", [1.0])
    with pytest.raises(DataError, match="a fold for each"):
        cross_fit_box_thresholds(good_truth, good_detections, [0, 1], "a")


# ---- kinds of errors

kinds = {
    "right": (box(100, 100), 0, box(100, 100, 40, 30), 0),
    "wrong class": (box(100, 100), 0, box(100, 100), 1),
    "bad box": (box(100, 100), 0, box(120, 100), 0),
    "wrong class and box": (box(100, 100), 0, box(120, 100), 1),
    "background": (box(100, 100), 0, box(138, 100), 0),
}


@pytest.mark.parametrize("kind", kinds)
def test_each_kind_by_hand(kind):
    true, a, detected, b = kinds[kind]
    count, cases = error_kinds(
        [dict(boxes=[true], labels=[a], ignore=[False])],
        [dict(boxes=[detected], labels=[b], scores=[0.8])],
        "ab",
        [0.5, 0.5],
    )
    assert count == {**dict.fromkeys(KINDS, 0), kind: 1, "missed": int(kind != "right")}
    row, shown, name = cases[0]
    assert (row, name, shown["label"], shown["score"], shown["x1"]) == (0, kind, "ab"[b], 0.8, detected[0])
    assert shown["iou"] == pytest.approx(float(overlaps(np.array(true, float), np.array(detected, float))))


def test_duplicates_ignored_boxes_and_thresholds():
    truth = [dict(boxes=[box(0, 0), box(200, 200, 100, 100)], labels=[0, 0], ignore=[False, True])]
    boxes = [box(0, 0), box(1, 0), box(210, 210), box(0, 1)]
    detections = [dict(boxes=boxes, labels=[0] * 4, scores=[0.9, 0.8, 0.7, 0.2])]
    counts, _ = error_kinds(truth, detections, "a", [0.5])
    assert counts == {**dict.fromkeys(KINDS, 0), "right": 1, "duplicate": 1}, (
        "a detection on an ignored box counts as nothing, one below the threshold is not predicted"
    )
    assert error_kinds(truth, detections, "a", [0.95])[0]["missed"] == 1
    near = [dict(boxes=[box(0, 0), box(20, 0)], labels=[0, 1], ignore=[False] * 2)]
    cases = error_kinds(near, [dict(boxes=[box(18, 0)], labels=[0], scores=[0.9])], "ab", [0.5, 0.5])[1]
    assert cases[0][2] == "wrong class", "the greater overlap decides"


def test_every_box_has_one_kind():
    truth, detections = scenes(40, 11)
    count, cases = error_kinds(truth, detections, "abc", [0.3] * 3)
    assert count["right"] + count["missed"] == sum(len(t["labels"]) for t in truth)
    assert sum(count.values()) - count["missed"] == sum(int((d["scores"] >= 0.3).sum()) for d in detections)
    assert len(cases) == sum(count.values()) and min(count.values()) > 0


# ---- thresholds


def by_hand(truth, detections, k, threshold):
    "F1 of one class at one threshold, by counting kinds."

    def only(images):
        return [{key: np.asarray(v)[np.asarray(one["labels"]) == k] for key, v in one.items()} for one in images]

    counts, _ = error_kinds(only(truth), only(detections), "abc", [threshold] * 3)
    right = counts["right"]
    return 2 * right / (sum(counts.values()) + right)


@pytest.fixture
def scored():
    "Sixty scenes with scores in hundredths, their folds, and the thresholds chosen out of fold."
    truth, detections = scenes(60, 12, noise=0.12)
    for d in detections:
        d["scores"] = d["scores"].round(2).clip(0.01, 0.99)
    folds = np.arange(60) % 3
    return truth, detections, folds, cross_fit_box_thresholds(truth, detections, folds, "abc")


def test_thresholds_have_the_best_f1(scored):
    truth, detections, _, chosen = scored
    for k in range(3):
        best = max(by_hand(truth, detections, k, threshold) for threshold in np.arange(0.005, 1, 0.01))
        assert by_hand(truth, detections, k, chosen.thresholds[k]) == pytest.approx(best, abs=1e-12)


def test_a_fold_has_no_part_in_its_own_threshold(scored):
    truth, detections, folds, chosen = scored
    changed = [d if fold else {**d, "scores": 1 - d["scores"]} for d, fold in zip(detections, folds)]
    again = cross_fit_box_thresholds(truth, changed, folds, "abc")
    assert again.by_fold[0] == chosen.by_fold[0]
    assert again.thresholds != chosen.thresholds


def test_rates_are_scored_at_thresholds_of_other_folds(scored):
    truth, detections, folds, chosen = scored
    predicted = [boxes_above_threshold([d], chosen.by_fold[fold])[0] for d, fold in zip(detections, folds)]
    counts, _ = error_kinds(truth, predicted, "abc", [1e-9] * 3)
    of_true = counts["right"] / (counts["right"] + counts["missed"])
    of_predicted = counts["right"] / sum(len(d["scores"]) for d in predicted)
    assert chosen.pooled["recall"].value == pytest.approx(of_true, abs=1e-12)
    assert chosen.pooled["precision"].value == pytest.approx(of_predicted, abs=1e-12)
    json.loads(canonical_json(chosen.to_dict()))


def test_a_class_without_boxes_chooses_nothing():
    truth, detections = scenes(30, 13)
    folds = np.where(np.arange(30) < 3, -1, np.arange(30) % 3)
    chosen = cross_fit_box_thresholds(truth, detections, folds, "abcd")
    assert chosen.thresholds[3] == 0.5
    assert chosen.by_class[3]["f1"].method == "undefined: no box in the truth of d"
    assert chosen.images == 27
    assert all(0 < t < 1 for t in chosen.thresholds)


def test_curves_are_those_of_scikit_learn():
    from sklearn.metrics import precision_recall_curve

    truth, detections = scenes(40, 14)
    m = match_boxes(truth, detections, "abc", {}, (0.5,))
    for k, name in enumerate("abc"):
        rows = m.label == k
        precision, _, scores = precision_recall_curve(m.matched[0, 0, rows], m.score[rows])
        curve = precision_recall_curves(truth, detections, "abc", most=10_000)[name]
        assert curve["precision"] == pytest.approx(precision[:-1][::-1]) and curve["score"] == pytest.approx(
            scores[::-1]
        )
        assert curve["recall"][-1] == pytest.approx(m.matched[0, 0, rows].sum() / (m.truth_label == k).sum())


# ---- the evaluation and its page


@pytest.fixture(scope="module")
def judged():
    truth, detections = scenes(48, 15, crowd=0.05)
    camera = np.array(["old", "new", "new", "rare"])[np.where(np.arange(48) < 4, 3, np.arange(48) % 3)]
    return (
        truth,
        detections,
        evaluate_detections(
            truth,
            detections,
            "abc",
            [0.2, 0.3, 0.4],
            attributes={"camera": camera, "one": np.zeros(48)},
            looks=2,
            digests={"bundle": "ab12"},
            draws=100,
            published=[dict(source="a paper", metric="ap50", value=0.5, protocol="other images")],
        ),
    )


def test_evaluation(judged):
    truth, detections, e = judged
    assert e.metrics["ap"].value == pytest.approx(coco(truth, detections, "abc")[0], abs=1e-12)
    assert (
        e.metrics["recall"].value == pytest.approx(e.kinds["right"] / e.boxes)
        and e.boxes == e.kinds["right"] + e.kinds["missed"]
    )
    assert [r["threshold"] for r in e.by_class] == [0.2, 0.3, 0.4] and sum(r["boxes"] for r in e.by_class) == e.boxes
    plain = json.loads(canonical_json(e.to_dict()))
    assert (
        plain["task"] == "detection"
        and plain["metrics"]["ap"]["value"] == e.metrics["ap"].value
        and plain["errors"] == e.kinds
    )
    values = {r["value"]: r for r in e.slices}
    assert set(values) == {"old", "new", "rare"} and values["rare"]["ap50"].value is None, (
        "an attribute of one value is no slice; four images are too few"
    )
    rows = [i for i in range(4, 48) if i % 3]
    assert values["new"]["ap50"].value == pytest.approx(
        coco([truth[i] for i in rows], [detections[i] for i in rows], "abc")[1], abs=1e-12
    )
    assert str(e.kinds["missed"]) in e.errors() and "AP50" in e._repr_html_() and str(e.metrics["ap"]) in str(e)
    with pytest.raises(DataError, match="'camera'"):
        slice_detections(truth, detections, "abc", {"camera": ["x"]})


def test_report(judged, tmp_path):
    truth, detections, e = judged
    cases = error_kinds(truth, detections, "abc", e.thresholds)[1]
    shown = error_pictures(cases, lambda row: np.full((600, 600, 3), row, np.uint8), truth, "abc", most=1)
    assert [c.split(":")[0] for _, c in shown] == [k for k in KINDS if k != "right" and e.kinds[k]]
    veiled = error_pictures(
        cases, lambda row: np.full((600, 600, 3), row, np.uint8), truth, "abc", most=1, visible=lambda row: False
    )
    assert [c for _, c in veiled] == [c for _, c in shown] and all(
        len(np.unique(picture)) == 1 for picture, _ in veiled
    ), "where a page may not show the image it shows no boxes either"
    html = detection_report(
        e,
        tmp_path / "page.html",
        "A <b>title",
        shown,
        [("Thresholds", cross_fit_box_thresholds(truth, detections, np.arange(48) % 4, "abc"))],
    ).read_text()
    for words in (
        "A &lt;b&gt;title",
        "a 0.20, b 0.30, c 0.40",
        "95 % interval",
        "other images",
        "looked at 2 times",
        "By size",
        "Errors to look at",
        "undefined here",
        "cross-fitted",
    ):
        assert words in html, words
    assert "<script" not in html and f"{e.metrics['recall'].low:.1%}" in html


def test_report_of_nothing(tmp_path):
    for truth, detections in (
        ([empty] * 12, [silent] * 12),
        (scenes(12, 1)[0], [silent] * 12),
        ([empty] * 12, scenes(12, 1)[1]),
    ):
        e = evaluate_detections(truth, detections, "abc", draws=20)
        assert "Metrics" in detection_report(e, tmp_path / "page.html").read_text() and e.errors()
        assert plot_box_curves(e) is not None


def test_many_classes_are_drawn():
    truth, detections = scenes(30, 16, classes=8, most=12)
    e = evaluate_detections(truth, detections, letters, draws=20)
    labels = [t.get_text() for t in plot_box_curves(e).axes[0].get_legend().get_texts()]
    assert len(labels) == 6 and set(labels) <= set(letters)
