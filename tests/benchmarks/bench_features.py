"""From JPEG files to features: cvkit, with an empty cache and its graph exported before, beside timm's transform, a
DataLoader and the network in torch, float32; on equal pixels the features are equal."""

import os
import platform
import time

import numpy as np
import pytest
from PIL import Image

IMAGES, SIZE = 192, 224


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    "Crops of photographs (scikit-image), 640 x 480."
    from skimage import data

    from cvkit.data.ingest import ingest_folder

    top, random, grounds = (
        tmp_path_factory.mktemp("features"),
        np.random.default_rng(0),
        [Image.fromarray(getattr(data, name)()) for name in ("coffee", "rocket", "astronaut", "chelsea")],
    )
    for i in range(IMAGES):
        ground = grounds[i % 4]
        x, y = (int(random.integers(0, side // 4)) for side in ground.size)
        (top / "images" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        ground.crop((x, y, x + ground.width * 3 // 4, y + ground.height * 3 // 4)).resize((640, 480)).save(
            top / "images" / "ab"[i % 2] / f"{i:03}.jpg", quality=90
        )
    return ingest_folder(top / "images")


def timm_features(manifest, model):
    "What timm's own scripts do: files, transform, batches, network."
    import timm.data
    import torch

    transform = timm.data.create_transform(
        **timm.data.resolve_data_config({"input_size": (3, SIZE, SIZE)}, model=model)
    )

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return len(manifest)

        def __getitem__(self, i):
            return transform(Image.open(manifest.path(i)).convert("RGB"))

    with torch.no_grad():
        return np.concatenate([
            model.forward_features(images).mean((2, 3)).numpy()
            for images in torch.utils.data.DataLoader(Files(), 32, num_workers=1)
        ])


@pytest.mark.parametrize(
    "name, aim, decoder",
    [
        ("tf_efficientnet_lite0", 4, "pillow"),
        ("tf_efficientnet_lite0", 4, "simplejpeg"),
        ("resnet18", 6, "pillow"),
        ("resnet18", 6, "simplejpeg"),
    ],
)
def test_files_to_features(manifest, name, aim, decoder, tmp_path, monkeypatch):
    import torch

    if decoder == "simplejpeg":
        pytest.importorskip("simplejpeg")
    from cvkit.model.backbones import backbone_graph, load_backbone
    from cvkit.model.features import extract_features

    threads, backbone = (
        len(os.sched_getaffinity(0)),
        load_backbone(name, weights="packaged" if "lite0" in name else None, size=SIZE, decoder=decoder),
    )
    torch.set_num_threads(threads)
    monkeypatch.setenv("CVKIT_CACHE", str(tmp_path / "graph"))
    graph, best = backbone_graph(backbone), {"timm": np.inf, "cvkit": np.inf}
    timm_features(manifest.take(range(32)), backbone.module)
    for turn in range(3):
        start = time.perf_counter()
        timm_features(manifest, backbone.module)
        best["timm"] = min(best["timm"], time.perf_counter() - start)
        monkeypatch.setenv("CVKIT_CACHE", str(tmp_path / str(turn)))
        (tmp_path / str(turn) / "backbones").mkdir(parents=True)
        os.link(graph, tmp_path / str(turn) / "backbones" / graph.name)
        start = time.perf_counter()
        found = extract_features(manifest, backbone)
        best["cvkit"] = min(best["cvkit"], time.perf_counter() - start)
    with torch.no_grad():
        same = (
            backbone.module
            .forward_features(torch.from_numpy(backbone.preprocess.tensor(np.array(found.pixels[:8]))))
            .mean((2, 3))
            .numpy()
        )
    assert np.allclose(found.embedding[:8], same, atol=2e-3 * max(1, np.abs(same).max()))
    print(
        f"\n{platform.machine()}, {threads} threads, load {os.getloadavg()[0]:.1f}: {IMAGES} JPEG files of 640 x 480 "
        f"to features of {name}@{SIZE}, float32: timm, Pillow and a DataLoader {best['timm']:.1f} s, cvkit with "
        f"{decoder} {best['cvkit']:.1f} s: {best['timm'] / best['cvkit']:.1f}x (aim {aim})"
    )
