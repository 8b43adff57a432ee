"The verbs fairness, stress and compare: what they write, that no look is spent unasked, and what they refuse."

import json
from dataclasses import replace

import numpy as np
import pytest

from cvkit.commands.compare import compare
from cvkit.commands.fairness import fairness
from cvkit.commands.ingest import ingest
from cvkit.commands.stress import stress
from cvkit.commands.train import train
from cvkit.core import DataError, ParameterError
from cvkit.data.ledger import Ledger
from cvkit.tasks.base import read_out_of_fold
from cvkit.tasks.classification import label_index


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A trained model of the surfaces, small, in a folder of its own."
    top = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{top / 'mlflow.db'}")
        patch.chdir(top)
        manifest = ingest("surfaces", out="ingest")
        train("ingest", out="train", size=32)
        yield top, manifest


def test_fairness_reads_the_record_and_spends_no_look(run):
    top, manifest = run
    half = np.array(["upper" if int(u.split("_")[-1][:2]) < 8 else "lower" for u in manifest.table["uri"]])
    found = fairness(
        "train", replace(manifest, table=manifest.table.assign(**{"attribute.half": half})), out="fairness"
    )
    record, oof = json.loads((top / "fairness/fairness.json").read_text()), read_out_of_fold("train", manifest)
    rows = oof["folds"] >= 0
    right = oof["probabilities"].argmax(1) == manifest.targets
    gap = next(g for g in record["gaps"] if g["metric"] == "accuracy")
    assert (
        gap["value"]["value"] == pytest.approx(right[rows & (half == "lower")].mean())
        and record["n"] == rows.sum() == found.n
    )
    assert record["verdict"] in (top / "fairness/report.html").read_text() or record["verdict"] == "insufficient"
    assert record["digests"]["manifest"] and not (top / "train/ledger.jsonl").exists()
    assert json.loads((top / "fairness/run.json").read_text())["stage"] == "fairness"


def test_without_attributes_nothing_can_be_told(run):
    assert fairness("train", "ingest", out="none").verdict[0] == "insufficient"
    with pytest.raises(ParameterError, match="got camera"):
        fairness("train", "ingest", out="none", by="camera")


def test_stress_is_out_of_fold_unless_told(run):
    top, _ = run
    found = stress("train", "ingest", out="stress", images=20)
    assert not (top / "train/ledger.jsonl").exists() and "Out of fold" in found.judged
    record = json.loads((top / "stress/stress.json").read_text())
    assert set(record["curves"]) == {
        "noise",
        "blur",
        "jpeg",
        "brightness",
        "contrast",
        "rotation",
        "occlusion",
    } and all(len(v) == 5 for v in record["curves"].values())
    held = stress("train", "ingest", out="held", images=20, on="holdout")
    looks = Ledger(top / "train/ledger.jsonl").looks
    assert [look["purpose"] for look in looks] == ["stress"] and "look 1" in held.judged
    (top / "train/ledger.jsonl").unlink()


def test_stress_refuses_heads_that_are_not_the_trainings(run, tmp_path):
    import shutil

    top, _ = run
    shutil.copytree(top / "train", tmp_path / "other")
    kept = dict(np.load(tmp_path / "other/oof.npz"))
    kept["embedding"] = kept["embedding"] + np.random.default_rng(0).normal(0, 1, kept["embedding"].shape)
    np.savez(tmp_path / "other/oof.npz", **kept)
    with pytest.raises(DataError, match="on='holdout'"):
        stress(str(tmp_path / "other"), "ingest", images=20)
    for images, on, words in ((5, "folds", "got 5"), (20, "all", "got 'all'")):
        with pytest.raises(ParameterError, match=words):
            stress("train", "ingest", images=images, on=on)


def test_compare_pairs_the_folds(run):
    top, manifest = run
    train("ingest", out="wider", size=48, splits="train/splits")
    found = compare("ingest", "train", "wider", out="compare")
    record = json.loads((top / "compare/comparison.json").read_text())
    assert record["holdout"] is None and {(r["first"], r["second"]) for r in record["pairs"]} == {("train", "wider")}
    right = [
        (read_out_of_fold(t, manifest)["probabilities"].argmax(1) == manifest.targets)[
            read_out_of_fold(t, manifest)["folds"] >= 0
        ].mean()
        for t in ("train", "wider")
    ]
    assert next(r["difference"] for r in found.pairs if r["score"] == "accuracy").value == pytest.approx(
        right[0] - right[1]
    )
    train("ingest", out="otherwise", size=32, folds=3, splits="", seed=5)
    with pytest.raises(DataError, match="otherwise has others than train"):
        compare("ingest", "train", "otherwise")
    with pytest.raises(DataError, match="got one twice"):
        compare("ingest", "train", "train")


def test_labels_outside_the_set():
    assert label_index(["b", "a"], ["a", "b"]).tolist() == [1, 0]
    with pytest.raises(DataError, match="got c as well"):
        label_index(["a", "c"], ["a", "b"])
