"The model room: weights, graphs, the store of features, and the probe against scikit-learn."
import subprocess, sys

import numpy as np
import pytest

from cvkit.core import DataError, ParameterError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def backbone(cache):
    from cvkit.model.backbones import load_backbone
    return load_backbone(size=64)


def surfaces(root, size=64, count=4):
    "A folder of classes: crops of three materials, all different."
    from PIL import Image
    from skimage import data
    for name in ("brick", "grass", "gravel"):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(getattr(data, name)()[:size, i * size:(i + 1) * size]).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("module", ["backbones", "features", "train"])
def test_import_is_light(module):
    heavy = "{'torch', 'timm', 'sklearn', 'pandas', 'onnxruntime', 'matplotlib', 'mlflow'}"
    done = subprocess.run([sys.executable, "-c", f"import sys, cvkit.model.{module}; print(sorted({heavy} & set(sys.modules)))"],
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_imagenet_head_calls_chelsea_a_cat():
    import timm, torch
    from skimage import data
    from cvkit.model.backbones import load_backbone, packaged_weights
    spec, model = load_backbone().preprocess, timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(packaged_weights(model))
    assert (spec.mean, spec.std, spec.size) == ((.5,) * 3, (.5,) * 3, 224)
    with torch.no_grad(): likely = model(torch.from_numpy(spec.tensor(spec.pixels(data.chelsea())[None])))
    assert 281 <= int(likely.argmax()) <= 285


@pytest.mark.parametrize("settings, said", [
    (dict(name="efficientnet_lite0x"), "did you mean"),
    (dict(name="resnet18"), "expected weights for resnet18"),
])
def test_backbone_refused(settings, said):
    from cvkit.model.backbones import load_backbone
    with pytest.raises(ParameterError, match=said): load_backbone(**settings)


@pytest.mark.parametrize("classes", [2, 7])
def test_head_attached_to_the_graph_is_torch(backbone, classes):
    from cvkit.core import rng
    from cvkit.model.backbones import attach_head, backbone_graph, make_network, parity
    draw = rng(0, "head", str(classes))
    weight, bias = draw.normal(0, .05, (classes, backbone.width)).astype(np.float32), draw.normal(size=classes).astype(np.float32)
    graph = backbone_graph(backbone)
    before = graph.read_bytes()
    model = attach_head(graph, weight, bias)
    images = draw.normal(size=(3, 3, 64, 64)).astype(np.float32)
    found = parity(make_network(backbone, weight, bias), model, images)
    assert found["n"] == 3 and found["max_abs_probability"] < 1e-5 and found["max_abs_logit"] < 1e-3
    assert graph.read_bytes() == before and attach_head(graph, weight, bias) == model


def test_graph_bytes_are_equal_in_another_process(backbone, tmp_path):
    import os
    from cvkit.core import digest_file
    from cvkit.model.backbones import backbone_graph
    code = ("from cvkit.core import digest_file; from cvkit.model.backbones import load_backbone, backbone_graph; "
            "print(digest_file(backbone_graph(load_backbone(size=64))))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
                          env={**os.environ, "CVKIT_CACHE": str(tmp_path / "other")})
    assert done.stdout.split()[-1] == digest_file(backbone_graph(backbone))
    assert b"site-packages" not in backbone_graph(backbone).read_bytes()


def test_features_equal_torch_and_the_second_call_decodes_nothing(backbone, tmp_path, monkeypatch):
    import shutil, torch
    from cvkit.data import preprocess
    from cvkit.data.manifest import ingest_folder
    from cvkit.model.features import extract_features
    root = surfaces(tmp_path / "surfaces")
    manifest = ingest_folder(root)
    first = extract_features(manifest, backbone)
    tensor = torch.from_numpy(backbone.preprocess.tensor(np.array(first.pixels[:])))
    with torch.no_grad(): expected = backbone.module.forward_features(tensor).mean((2, 3)).numpy()
    np.testing.assert_allclose(first.embedding, expected, atol=1e-4)
    shutil.rmtree(root)
    monkeypatch.setattr(preprocess, "decode_image", lambda *a, **k: pytest.fail("decoded again"))
    order = np.array([7, 0, 11, 3])
    again = extract_features(manifest.take(order), backbone)
    np.testing.assert_array_equal(again.embedding, first.embedding[order])
    np.testing.assert_array_equal(again.pixels[:], np.array(first.pixels[:])[order])
    assert again.images.tolist() == [first.images[i] for i in order]


def test_a_file_changed_after_ingest_is_refused(backbone, tmp_path):
    from cvkit.data.manifest import ingest_folder
    from cvkit.model.features import cached_pixels
    root = surfaces(tmp_path / "surfaces", size=48)
    manifest = ingest_folder(root)
    (root / "grass" / "2.png").write_bytes((root / "brick" / "0.png").read_bytes())
    with pytest.raises(DataError, match="grass/2.png"): cached_pixels(manifest, backbone.preprocess)


def blobs(n=240, d=20, c=3, seed=0):
    from cvkit.core import rng
    draw = rng(seed, "blobs")
    targets = np.arange(n) % c
    return (draw.normal(size=(c, d))[targets] + draw.normal(0, 1.5, (n, d))).astype(np.float32), targets, np.arange(n) // c % 5


@pytest.mark.parametrize("classes", [2, 3])
def test_probe_is_scikit_learns_optimum_and_its_temperature_is_cross_fitted(classes):
    from sklearn.linear_model import LogisticRegression
    from cvkit.model.train import fit_probe, fit_temperature
    x, y, folds = blobs(c=classes)
    folds = np.where(np.arange(len(y)) % 12 == 11, -1, folds)
    probe = fit_probe(x, y, folds, [f"c{i}" for i in range(classes)])
    assert np.isnan(probe.oof_probabilities[folds < 0]).all() and np.isfinite(probe.oof_probabilities[folds >= 0]).all()
    softmax = lambda z: np.exp(z - z.max(1, keepdims=True)) / np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)
    for k in range(5):
        learn, ask = (folds >= 0) & (folds != k), folds == k
        spread = x[learn].std(0, dtype=float)
        scaled = (x - x[learn].mean(0, dtype=float)) / np.maximum(spread, np.median(spread))
        expected = LogisticRegression(C=.01, tol=1e-9, max_iter=9999).fit(scaled[learn], y[learn]).predict_proba(scaled[ask])
        np.testing.assert_allclose(softmax(probe.oof_logits[ask]), expected, atol=1e-3)
        temperature = fit_temperature(probe.oof_logits[learn], y[learn])
        np.testing.assert_allclose(probe.oof_probabilities[ask], softmax(probe.oof_logits[ask] / temperature), atol=1e-9)


def test_images_that_take_no_part_change_nothing():
    from cvkit.model.train import fit_probe
    x, y, folds = blobs()
    folds = np.where(np.arange(len(y)) % 10 == 9, -1, folds)
    one, louder = fit_probe(x, y, folds, "abc"), np.where((folds < 0)[:, None], x * 100, x)
    two = fit_probe(louder, y, folds, "abc")
    np.testing.assert_array_equal(one.weight, two.weight)
    np.testing.assert_array_equal(one.oof_probabilities, two.oof_probabilities)


def spoil(x, y, folds, what):
    if what == "nan": x[3, 0] = np.nan
    if what == "short": y = y[:-1]
    if what == "one fold": folds = np.zeros_like(folds)
    if what == "hold-out only": folds = np.full_like(folds, -1)
    if what == "class in one fold": folds = np.where(y == 2, 0, folds)
    return x, y, folds


@pytest.mark.parametrize("what, said", [
    ("nan", "row 3"), ("short", "239 targets"), ("one fold", "at least 2 folds, got 1"),
    ("hold-out only", "at least 2 folds, got 0"), ("class in one fold", "outside fold 0, but 'c'"),
])
def test_probe_refuses(what, said):
    from cvkit.model.train import fit_probe
    with pytest.raises(DataError, match=said): fit_probe(*spoil(*blobs(), what), "abc")
