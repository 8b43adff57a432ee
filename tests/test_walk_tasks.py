"""The walk of `cvkit demo` over boxes, and over several labels an image: the same verbs, pages and rules, to answers of
a real Seldon server."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvkit
from cvkit.commands.ingest import load_manifest
from cvkit.core import DataError
from cvkit.model.detector_training import unpack_detections


def read(*parts):
    return json.loads(Path(*map(str, parts)).read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A folder, a cache and a store of their own."
    top, patch = tmp_path_factory.mktemp("tasks"), pytest.MonkeyPatch()
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{top / 'mlflow.db'}")
    patch.setenv("CVKIT_CACHE", str(top / "cache"))
    patch.chdir(top)
    yield top
    patch.undo()


@pytest.fixture(scope="module")
def boxes(place):
    "Pasted digits in a COCO folder, walked: a training that is too short to be good."
    from cvkit.data.boxes import paste_digits

    paste_digits(place / "digits", images=110)
    (place / "digits/dataset.yaml").write_text("pii_status: none\n")
    return cvkit.demo(data=str(place / "digits"), out="boxes", size=96, recipe="detector:epochs=1")


@pytest.fixture(scope="module")
def labels(place):
    "Two surfaces side by side in each picture, in a table, walked."
    from cvkit.commands.ingest import ingest

    source, random = load_manifest(ingest("surfaces", out="surfaces"))[0], np.random.default_rng(0)
    (place / "mixed").mkdir()
    lines = ["image,labels"]
    for i in range(110):
        pair = random.choice(source.classes, 2)
        tiles = [source.picture(int(random.choice(np.flatnonzero(source.labels == name)))) for name in pair]
        Image.fromarray(np.concatenate(tiles, 1)).save(place / f"mixed/{i:03}.png")
        lines.append(f"{i:03}.png,{'|'.join(sorted(set(pair)))}")
    (place / "mixed/labels.csv").write_text("\n".join(lines) + "\n")
    (place / "mixed/dataset.yaml").write_text("pii_status: none\n")
    return cvkit.demo(data=str(place / "mixed"), out="labels", size=64)


def test_a_coco_folder_is_walked_to_a_seldon_answer_with_boxes(boxes):
    values = boxes.to_dict()
    assert values["task"] == "detection" and list(values["seconds"]) == [
        "ingest",
        "train",
        "evaluate",
        "explain",
        "check",
        "register",
        "serve",
        "monitor",
    ]
    held, spec = dict(np.load("boxes/evaluate/holdout.npz")), read("boxes/train/bundle/bundle.json")
    assert values["parity"]["n"] == len(held["images"]) and values["parity"]["max_abs_diff"] <= 1e-4
    logged = [json.loads(line) for line in Path("boxes/serve/requests.jsonl").read_text().splitlines()]
    drawn = [int((d["scores"] >= np.array(spec["thresholds"])[d["labels"]]).sum()) for d in unpack_detections(held)]
    assert sorted(line["answers"][0] for line in logged) == sorted(2 * drawn), (
        "REST and gRPC say as many boxes as were evaluated"
    )


def test_numbers_of_a_detector_are_those_of_its_predictor(boxes):
    from cvkit.data.boxes import true_boxes
    from cvkit.evidence.detection_metrics import detection_estimates
    from cvkit.serving.predictor import Predictor

    manifest, held = load_manifest("boxes/ingest")[0], dict(np.load("boxes/evaluate/holdout.npz"))
    place = {key: i for i, key in enumerate(manifest.table["image"])}
    rows = [place[key] for key in held["images"]]
    found = Predictor("boxes/train/bundle").predict([manifest.path(i) for i in rows])
    truth = true_boxes(manifest.take(rows))
    e = detection_estimates(truth, found.rows, manifest.classes, draws=2)["ap50"]
    assert boxes.to_dict()["holdout"]["ap50"]["value"] == pytest.approx(e.value, abs=1e-6)


def test_every_fold_of_a_detector_is_judged_by_one_that_had_not_seen_it(boxes):
    cv, oof = read("boxes/train/cv.json"), dict(np.load("boxes/train/oof.npz"))
    assert cv["metric"] == "ap50" and [f["images"] for f in cv["folds"]] == [
        int((oof["folds"] == f["fold"]).sum()) for f in cv["folds"]
    ]
    assert not (oof["labels"][oof["folds"] < 0] >= 0).any(), "nothing is kept of the hold-out"
    assert {"ap50", "ap", "precision", "recall"} <= set(cv["pooled"]) and cv["pooled"]["ap50"]["low"] <= cv["pooled"][
        "ap50"
    ]["value"]


def test_a_detector_is_governed_by_rules_of_its_own(boxes):
    verdict = cvkit.why("boxes", stage="development")
    answers = {a["rule"]: a["answer"] for a in verdict.answers}
    assert "boxes" in answers and not {"accuracy", "auroc"} & set(answers)
    card = Path("boxes/register/model_card.md").read_text()
    assert "pipeline_tag: object-detection" in card and "AP50" in card and "thresholds" in card


def test_pages_of_a_detector_state_the_threshold_and_show_mistakes(boxes):
    page = Path("boxes/evaluate/report.html").read_text()
    assert "threshold" in page and "Errors to look at" in page and "Precision and recall" in page
    assert read("boxes/explain/explanation.json")["methods"] == ["occlusion", "integrated gradients", "shap partition"]


def test_drift_of_a_detector_looks_at_its_boxes(boxes):
    channels = read("boxes/monitor/drift.json")["requests"]["channels"]
    assert {"boxes", "mean score", "share covered", "mean size"} <= set(channels) and "direction 1" in channels


def test_several_labels_are_walked_to_a_seldon_answer(labels):
    values, spec = labels.to_dict(), read("labels/train/bundle/bundle.json")
    assert (
        values["task"] == spec["task"] == "multilabel"
        and len(spec["thresholds"]) == 3
        and values["parity"]["max_abs_diff"] <= 1e-4
    )
    from sklearn.metrics import average_precision_score

    manifest, held = load_manifest("labels/ingest")[0], dict(np.load("labels/evaluate/holdout.npz"))
    place = {key: i for i, key in enumerate(manifest.table["image"])}
    truth = manifest.presence[[place[key] for key in held["images"]]]
    assert values["holdout"]["map"]["value"] == pytest.approx(
        average_precision_score(truth, held["probabilities"], average="macro")
    )
    assert {a["rule"] for a in cvkit.why("labels", stage="production").answers} >= {"labels", "labels decided"}


def test_verbs_for_one_label_say_so(boxes, labels):
    for run in ("boxes", "labels"):
        with pytest.raises(DataError, match="expected a model that gives an image one label"):
            cvkit.fairness(f"{run}/train", f"{run}/ingest")
        with pytest.raises(DataError, match="expected a model that gives an image one label"):
            cvkit.stress(f"{run}/train", f"{run}/ingest")


def test_the_box_that_is_explained_is_outlined_on_the_page_and_nowhere_else():
    from cvkit.tasks.detection import DetectionExplainer

    asked, pixels = DetectionExplainer.__new__(DetectionExplainer), np.full((2, 64, 64, 3), 100, np.uint8)
    asked.boxes = [(np.array([10.0, 20, 40, 50]), 0), (np.array([-5.0, -5, 70, 30]), 1)]
    changed = (asked.pictured(pixels) != 100).any(-1)
    assert (pixels == 100).all(), "what the network sees stays as it is"
    assert (
        changed[0, 20, 10:41].all()
        and changed[0, 20:51, 40].all()
        and not changed[0, 26:44, 16:34].any()
        and not changed[0, :15].any()
    )
    assert changed[1, 30].sum() > 50 and changed[1, 1:30, 1].all(), "a box beyond the picture ends at its edge"
