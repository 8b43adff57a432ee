"""What a training of one label an image decides by: a threshold, a calibration and a head reach the bundle, the
evaluation, the audit and the damage alike."""

import os

import numpy as np
import pytest
from PIL import Image

import cvkit
from cvkit.core import ParameterError, read_json
from cvkit.data.manifest import Manifest
from cvkit.data.pixel_cache import cached_pixels
from cvkit.evidence.calibration import cross_fit_threshold
from cvkit.evidence.classification_metrics import classification_estimates, predict_labels
from cvkit.evidence.threshold_rules import CostRatio, MaxF1, MinRecall, parse_threshold_rule
from cvkit.serving.predictor import Predictor
from cvkit.tasks.base import read_out_of_fold
from cvkit.tasks.classification import Classification


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    "Gray squares of 24 pixels; a scratch on a third of them, hard to see; two cameras."
    top, before = (
        tmp_path_factory.mktemp("scratched"),
        {name: os.environ.get(name) for name in ("CVKIT_CACHE", "MLFLOW_TRACKING_URI")},
    )
    os.environ |= {"CVKIT_CACHE": str(top / "cache"), "MLFLOW_TRACKING_URI": f"sqlite:///{top / 'mlflow.db'}"}
    random = np.random.default_rng(0)
    for i in range(240):
        pixels = random.normal(128, 30, (24, 24))
        if i % 3 == 0:
            pixels[random.integers(4, 20)] += 55 * random.random() ** 0.5
        name = "scratched" if i % 3 == 0 else "whole"
        (top / "images" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB").save(
            top / "images" / name / f"cam{i % 2}_{i:03}.png"
        )
    (top / "images" / "dataset.yaml").write_text(
        "name: scratches\nowner: drawn here\nlicence: CC0-1.0\npositive: scratched\npii_status: none\n"
    )
    cvkit.ingest(top / "images", out=top / "ingest")
    yield top
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def trained(top, name, **options):
    if not (top / name / "train").exists():
        cvkit.train(
            top / "ingest",
            out=top / name / "train",
            backbone="test_resnet",
            weights="none",
            size=32,
            **options,
        )
        cvkit.evaluate(top / name / "train", top / "ingest", out=top / name / "evaluate")
    return top / name / "train"


def test_a_threshold_is_chosen_out_of_fold_and_decides_everywhere(ingested):
    folder = trained(ingested, "recall", threshold="recall=.9")
    manifest, record, predictor = (
        Manifest.load(ingested / "ingest"),
        read_json(folder / "cv.json"),
        Predictor(folder / "bundle"),
    )
    oof = read_out_of_fold(folder, manifest)
    used, k = np.flatnonzero(oof["folds"] >= 0), manifest.classes.index("scratched")
    p, folds, truth = oof["probabilities"][used], oof["folds"][used], manifest.labels[used] == "scratched"
    cut = cross_fit_threshold(truth, p[:, k], folds, "scratched", by="recall", floor=0.9)
    assert (
        predictor.bundle.spec["threshold"] == pytest.approx(cut.threshold)
        and cut.threshold < 0.5
        and f"scratched (from {cut.threshold:.3g})" in predictor.bundle._repr_html_()
    )
    by_fold = dict(zip(np.unique(folds), cut.by_fold))
    assert np.array_equal(oof["predicted"][used], predict_labels(p, k, np.array([by_fold[f] for f in folds]))) and set(
        oof["predicted"][oof["folds"] < 0]
    ) == {-1}
    assert (oof["predicted"][used] != p.argmax(1)).any(), "the threshold changes something"
    expected = classification_estimates(
        manifest.targets[used], p, manifest.classes, "scratched", predicted=oof["predicted"][used]
    )
    for name in ("accuracy", "recall", "precision", "auroc"):
        assert record["pooled"][name] == expected[name].to_dict()
    assert record["threshold"]["by"] == "recall" and record["accuracy_mean"] == pytest.approx(
        np.mean([(oof["predicted"] == manifest.targets)[oof["folds"] == f].mean() for f in by_fold])
    )
    evaluation, held = (
        read_json(folder.parent / "evaluate" / "evaluation.json"),
        manifest.take(np.flatnonzero(oof["folds"] < 0)),
    )
    words = np.array(predictor.predict_pixels(cached_pixels(held, predictor.preprocess)).labels)
    assert evaluation["metrics"]["accuracy"]["value"] == pytest.approx((words == held.labels).mean()) and evaluation[
        "metrics"
    ]["recall"]["value"] == pytest.approx((words[held.labels == "scratched"] == "scratched").mean())
    assert np.sum(evaluation["confusion"], 0)[k] == (words == "scratched").sum()
    assert f"The model predicts scratched from {cut.threshold:.3f} on." in (
        folder.parent / "evaluate" / "report.html"
    ).read_text(encoding="utf-8")


def test_the_verdict_of_a_threshold_is_balanced_accuracy(ingested):
    folder, likelier = trained(ingested, "recall", threshold="recall=.9"), trained(ingested, "likelier")
    b = read_json(folder / "cv.json")["pooled"]["balanced_accuracy"]
    assert f"Balanced accuracy {b['value']:.3f}" in (folder / "report.html").read_text(
        encoding="utf-8"
    ) and "always saying whole" in (likelier / "report.html").read_text(encoding="utf-8")
    assert (
        "threshold" not in read_json(likelier / "cv.json")
        and "threshold" not in Predictor(likelier / "bundle").bundle.spec
    )


def test_fairness_stress_and_explanation_use_what_was_predicted(ingested):
    folder, manifest = trained(ingested, "recall", threshold="recall=.9"), Manifest.load(ingested / "ingest")
    manifest.table["attribute.camera"] = [uri.split("cam")[1][0] for uri in manifest.table["uri"]]
    oof, spec, k = (
        read_out_of_fold(folder, manifest),
        Predictor(folder / "bundle").bundle.spec,
        manifest.classes.index("scratched"),
    )
    used, right = np.flatnonzero(oof["folds"] >= 0), oof["predicted"] == manifest.targets
    fair = cvkit.fairness(folder, manifest, out=ingested / "fair")
    for camera in "01":
        assert fair.shares["camera"][camera]["accuracy"] == pytest.approx(
            right[used][manifest.table["attribute.camera"].to_numpy()[used] == camera].mean()
        )

    def decided(threshold):
        return (predict_labels(oof["probabilities"][used], k, threshold) == manifest.targets[used]).mean()

    hard = cvkit.stress(folder, manifest, out=ingested / "hard", images=len(used))
    assert (
        hard.n == len(used)
        and hard.clean.value == pytest.approx(decided(spec["threshold"]), abs=0.02)
        and abs(decided(spec["threshold"]) - decided(0.5)) > 0.04
    ), "by the threshold that ships, not by the likelier class"
    explainer = Classification().explainer(folder, manifest)
    assert np.array_equal(explainer.explained(used), oof["predicted"][used])
    row = next(i for i in used if oof["predicted"][i] == k and oof["probabilities"][i, k] < 0.5)
    assert f"{oof['probabilities'][row, k]:.0%} sure" in explainer.title(row) and "scratched" in explainer.title(row)


def test_a_part_of_a_data_set_may_lack_the_class_that_is_looked_for(ingested):
    from cvkit.commands.ingest import load_manifest

    manifest = Manifest.load(ingested / "ingest")
    assert (
        load_manifest(manifest)[1]["positive"] == "scratched"
        and load_manifest(manifest.take(manifest.labels == "whole"))[1]["positive"] == ""
    )


@pytest.mark.parametrize(
    "name, options",
    [
        ("hidden", dict(recipe="probe:hidden=5,C=.1")),
        ("C", dict(recipe="probe:C=.3")),
        ("isotonic alone", dict(calibration="isotonic")),
    ],
)
def test_heads_of_the_folds_are_found_again(ingested, name, options):
    folder = trained(ingested, name, **options)
    assert cvkit.stress(folder, ingested / "ingest", out=folder.parent / "stress", images=20).n == 20


def test_isotonic_calibration_is_served_as_it_was_fitted(ingested):
    folder = trained(ingested, "isotonic", calibration="isotonic", threshold="f1")
    manifest, predictor = Manifest.load(ingested / "ingest"), Predictor(folder / "bundle")
    stairs, k = predictor.bundle.spec["isotonic"], manifest.classes.index("scratched")
    predictions = predictor.predict_pixels(cached_pixels(manifest.take(range(40)), predictor.preprocess))
    raw = np.exp(predictions.logits) / np.exp(predictions.logits).sum(1, keepdims=True)
    assert (
        np.allclose(predictions.probabilities[:, k], np.interp(raw[:, k], stairs["x"], stairs["y"]))
        and predictor.bundle.spec["temperature"] == 1
    )
    p = read_out_of_fold(folder, manifest)["probabilities"]
    assert np.isnan(p).any(1).sum() == 48 and len(np.unique(np.round(p[~np.isnan(p).any(1), k], 9))) < 80, "stairs"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", None),
        ("f1", MaxF1()),
        ("recall=.95", MinRecall(0.95)),
        (" cost = 10 ", CostRatio(10.0)),
        (MinRecall(0.9), MinRecall(0.9)),
    ],
)
def test_threshold_rules(text, expected):
    assert parse_threshold_rule(text) == expected


@pytest.mark.parametrize(
    "text", ["best", "recall", "recall=", "recall=2", "recall=nan", "cost=-1", "cost=inf", "f1=.5", "=.5"]
)
def test_threshold_rules_refused(text):
    with pytest.raises(
        ParameterError, match="expected a threshold by f1, recall=SHARE or cost=PRICE, as in recall=.95 or cost=10, got"
    ):
        parse_threshold_rule(text)


def test_refusals(ingested, tmp_path, monkeypatch):
    monkeypatch.setattr("cvkit.tasks.classification._fit_probe", lambda *a: pytest.fail("learned before it refused"))
    for options, words in (
        (
            dict(threshold="f1"),
            (
                "expected two classes, and which is positive, for a threshold or isotonic calibration, got brick, "
                "grass, gravel and none"
            ),
        ),
        (dict(calibration="isotonic"), "expected two classes"),
        (dict(calibration="platt"), "expected calibration by temperature or isotonic, got 'platt'"),
    ):
        with pytest.raises(ParameterError, match=words):
            cvkit.train(
                surfaces(tmp_path), out=tmp_path / "train", backbone="test_resnet", weights="none", size=32, **options
            )


def surfaces(top):
    from cvkit.data.examples import load_surfaces

    return load_surfaces(top / "images").manifest.take(range(0, 768, 8))
