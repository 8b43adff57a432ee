"""The verbs on networks that were trained: the bundle of a tail or of a whole network is judged and explained like any
other."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import cvkit
from cvkit.core import DataError, read_json

pytestmark = pytest.mark.slow
PLAN = "device=cpu,layout=channels_last,precision=float32,threads=1,batch=16"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A third of the surfaces, with the share of three people who called it brick."
    from cvkit.data.examples import load_surfaces

    top, before = (
        tmp_path_factory.mktemp("verbs"),
        {name: os.environ.get(name) for name in ("CVKIT_CACHE", "MLFLOW_TRACKING_URI")},
    )
    os.environ |= {"CVKIT_CACHE": str(top / "cache"), "MLFLOW_TRACKING_URI": f"sqlite:///{top / 'mlflow.db'}"}
    manifest = load_surfaces(top / "images").manifest
    manifest = manifest.take([i for i, label in enumerate(manifest.labels) if label != "gravel" and i % 256 < 128])
    manifest.table["attribute.votes"] = np.where(manifest.labels == "brick", 0.9, 0.1)
    yield top, manifest
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.mark.parametrize(
    "recipe, backbone, options",
    [
        ("tail", "test_resnet", "epochs=2,patience=0,rate=2e-3"),
        ("full", "test_efficientnet", "epochs=2,patience=0,rate=2e-3,turns=True"),
    ],
)
def test_trained_judged_and_explained(made, recipe, backbone, options):
    top, manifest = made
    out = top / recipe
    trained = cvkit.train(
        manifest,
        out=out,
        recipe=f"{recipe}:{options}",
        backbone=backbone,
        weights="none",
        size=64,
        folds=2,
        plan=PLAN,
        soft_labels="votes=brick",
    )
    cv, bundle = read_json(out / "cv.json"), trained.bundle
    assert (
        {"folds", "pooled", "seconds", "peak_memory_mib"} <= set(cv)
        and {"value", "low", "high"} <= set(cv["pooled"]["accuracy"])
        and cv["pooled"]["auroc"]["low"] <= cv["pooled"]["auroc"]["value"]
    )
    assert cv["peak_memory_mib"]["process"] > 100 and [t["epoch"] for t in cv["trainings"]] == [2, 2, 2]
    assert bundle.spec["plan"]["training"] == dict(
        device="cpu",
        layout="channels_last",
        precision="float32",
        threads=1,
        batch=16,
        allocator=bundle.spec["plan"]["training"]["allocator"],
    )
    assert (
        bundle.spec["digests"]["backbone"] != bundle.spec["digests"]["network"]
        and bundle.spec["weights"]["source"] == "random, trained further here"
    )
    assert [o.name for o in onnxruntime.InferenceSession(bundle.folder / "model.onnx").get_outputs()] == [
        "logits",
        "embedding",
        "feature_map",
    ]
    evaluation = cvkit.evaluate(trained, manifest, out=top / f"{recipe}-evaluate")  # as the folder
    (predicted,) = cvkit.predict(trained, manifest.path(0)).predictions.values()
    assert predicted["label"] in manifest.classes and Path(trained) == out
    assert 0 <= evaluation.metrics["accuracy"].low <= evaluation.metrics["accuracy"].value
    oof, held = np.load(out / "oof.npz"), np.load(top / f"{recipe}-evaluate" / "holdout.npz")
    row = {key: i for i, key in enumerate(oof["images"])}
    ours = oof["embedding"][[row[key] for key in held["images"]]]
    assert np.abs(ours - held["embedding"]).max() < (1e-2 if recipe == "tail" else 1e-3) * max(
        1, np.abs(ours).max()
    )  # the embedding that is kept is that of the network that ships
    faithfulness = cvkit.explain(out, manifest, out=top / f"{recipe}-explain", images=2, judged=4)
    assert (
        read_json(top / f"{recipe}-explain" / "explanation.json")["digests"]["bundle"] == bundle.digest
        and faithfulness.verdict
    )


def test_a_probe_with_a_hidden_layer_is_judged_and_explained(made):
    top, manifest = made
    manifest = replace(manifest, dataset=replace(manifest.dataset, name="photos:2024"))
    trained = cvkit.train(
        manifest,
        out=top / "mlp",
        backbone="test_resnet",
        weights="none",
        size=64,
        folds=2,
        recipe="probe:hidden=6,C=.1",
    )
    assert (
        trained.bundle.spec["recipe"]["hidden"] == 6
        and read_json(trained.bundle.folder / "train" / "architecture.json")["hidden"] == 6
    )
    assert trained.bundle.spec["name"] == "photos-2024", "a name that MLflow takes"
    assert trained.bundle.spec["parity_torch"]["max_abs_logit"] < 1e-4
    assert cvkit.evaluate(top / "mlp", manifest, out=top / "mlp-evaluate").metrics["accuracy"].n
    assert cvkit.explain(top / "mlp", manifest, out=top / "mlp-explain", images=2, judged=4).verdict


def test_refusals(made):
    top, manifest = made
    with pytest.raises(
        DataError,
        match="expected to know which class votes is the probability of; "
        "write soft_labels=votes=CLASS, one of brick, grass",
    ):
        cvkit.train(manifest, out=top / "no", soft_labels="votes")
    with pytest.raises(DataError, match="expected an attribute with probabilities, got 'vote'; there are votes"):
        cvkit.train(manifest, out=top / "no", soft_labels="vote")


CHILD = """
import os, signal, sys
import torch, cvkit
from cvkit.data.manifest import Manifest
from cvkit.model import cross_validation
calls, real = [0], cross_validation.augment
def augment(*given):
    calls[0] += 1
    if calls[0] == int(sys.argv[3]): os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)
cross_validation.augment = augment
trained = cvkit.train(
    Manifest.load(sys.argv[1]),
    out=sys.argv[2],
    recipe="full:epochs=2,patience=1",
    backbone="test_resnet",
    weights=sys.argv[4],
    size=32,
    folds=2,
    plan="device=cpu,layout=channels_last,precision=float32,threads=1,batch=16",
)
print(trained.bundle.digest)
"""


def test_a_killed_verb_run_again_writes_the_same_bundle(made):
    from safetensors.torch import save_file

    from cvkit.model.backbones import load_backbone

    top, manifest = made
    manifest.save(top / "manifest")
    save_file(load_backbone("test_resnet", weights=None, size=32).module.state_dict(), top / "start.safetensors")

    def child(out, die_at):
        return subprocess.run(
            [
                sys.executable,
                "-c",
                CHILD,
                str(top / "manifest"),
                str(top / out),
                str(die_at),
                str(top / "start.safetensors"),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    assert child("killed", 16).returncode == -9 and not (top / "killed" / "bundle").exists()
    assert child("killed", 9).returncode == -9
    digests = [child(out, 0) for out in ("killed", "whole")]
    assert all(found.returncode == 0 for found in digests), digests[0].stderr
    assert digests[0].stdout.split()[-1] == digests[1].stdout.split()[-1]


def test_a_name_that_cannot_be_registered_is_refused_before_anything_is_computed(made):
    top, manifest = made
    with pytest.raises(cvkit.core.TrackingError, match="expected a model name without / and :, got 'photos:2024'"):
        cvkit.train(manifest, out=top / "named", name="photos:2024")
    assert not (top / "named").exists()
