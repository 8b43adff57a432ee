"""What training costs: a tail beside a full network, a full network beside timm's loop, a cross-validated probe beside
a loop that keeps nothing. CVKIT_BENCH=long takes more images and epochs."""

import dataclasses
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

size, threads, long = 224, 1, os.environ.get("CVKIT_BENCH") == "long"
images, timed, batch = (192, 2, 32) if long else (64, 1, 32)


@pytest.fixture(scope="module", autouse=True)
def machine():
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if f" {flag}" in info]
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, {' '.join(flags)}, load {os.getloadavg()[0]:.1f}, {threads} "
        f"thread of torch, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    "Crops of brick, grass and gravel, as JPEG files of 320 x 240."
    from skimage import data

    from cvkit.data.ingest import ingest_folder

    top = tmp_path_factory.mktemp("bench")
    os.environ["CVKIT_CACHE"] = str(top / "cache")
    random = np.random.default_rng(0)
    for i in range(images):
        name = ("brick", "grass", "gravel")[i % 3]
        y, x = random.integers(0, 512 - 240), random.integers(0, 512 - 320)
        (top / "images" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(getattr(data, name)()[y : y + 240, x : x + 320]).convert("RGB").save(
            top / "images" / name / f"{i:03}.jpg", quality=90
        )
    return ingest_folder(top / "images")


def best_of(ways, rounds=2):
    "The least seconds of each way, taken in turn so that a busy machine is busy for all."
    best = dict.fromkeys(ways, np.inf)
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def trainer(manifest, backbone, recipe, plan, folder):
    "One training by cvkit, everything that is kept for it already there; and its network."
    from cvkit.model import cross_validation

    recipe = dataclasses.replace(recipe, head="random")
    labels = np.eye(3, dtype=np.float32)[manifest.targets]
    work = cross_validation._Trainings(
        backbone=backbone,
        recipe=recipe,
        folder=folder,
        data=cross_validation._training_data(manifest, backbone, recipe, labels),
        embedding=np.zeros((len(manifest), backbone.width), np.float32),
        units=np.arange(len(manifest)),
        classes=manifest.classes,
        seed=0,
        report=None,
    )
    work.keep_plan(plan)
    rounds = iter(range(99))
    return lambda: work.train(f"round {next(rounds)}", np.arange(len(manifest)), np.zeros(0, int))[1]


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_tail_beside_full(manifest, tmp_path, name):
    from cvkit.model.backbones import load_backbone
    from cvkit.model.plan import propose_plan
    from cvkit.model.recipe import RECIPES

    backbone = load_backbone(name, weights=None, size=size)
    plan = dataclasses.replace(propose_plan(backbone.module, size, batch=batch), threads=threads)
    ways = {
        kind: trainer(manifest, backbone, RECIPES[kind](epochs=timed, patience=0), plan, tmp_path / kind)
        for kind in ("tail", "full")
    }
    ways["tail"]()  # decodes, looks and writes what is kept: once for all folds, epochs and recipes
    best = best_of(ways, 2)
    print(
        f"{name}@{size}, {images} images, {timed} epoch(s), batch {batch}, {plan.layout}, {plan.precision}: full "
        f"{best['full']:.1f} s, tail {best['tail']:.1f} s: {best['full'] / best['tail']:.1f}x (aim 4)"
    )


def timm_epochs(manifest, model, mean, std, epochs, batch, best_flags):
    """timm's loop: ImageFolder files, its transform, its optimiser, its loss; at its best flags also channels last,
    bfloat16 and a worker that decodes ahead."""
    import timm.data
    import timm.optim
    import torch

    transform = timm.data.create_transform(size, is_training=True, mean=mean, std=std)

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return len(manifest)

        def __getitem__(self, i):
            return transform(Image.open(manifest.path(i)).convert("RGB")), int(manifest.targets[i])

    loader = torch.utils.data.DataLoader(
        Files(), batch, shuffle=True, drop_last=True, num_workers=int(best_flags), persistent_workers=best_flags
    )
    if best_flags:
        model = model.to(memory_format=torch.channels_last)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw" if best_flags else "sgd", lr=1e-3, weight_decay=2e-5)
    model.train()
    for _ in range(epochs):
        for pixels, truth in loader:
            if best_flags:
                pixels = pixels.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, best_flags):
                loss = torch.nn.functional.cross_entropy(model(pixels), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def full_training(who, folder):
    """Seconds of a whole training by one of the three, in this process; what is decoded or compiled once is there
    before."""
    import timm
    import torch

    from cvkit.data.manifest import Manifest
    from cvkit.model.backbones import load_backbone
    from cvkit.model.plan import propose_plan
    from cvkit.model.recipe import RECIPES

    manifest, backbone = Manifest.load(Path(folder) / "manifest"), load_backbone("resnet18", weights=None, size=size)
    torch.set_num_threads(threads)
    if who == "cvkit":
        plan = dataclasses.replace(propose_plan(backbone.module, size, batch=batch), threads=threads)
        way, about = (
            trainer(
                manifest,
                backbone,
                RECIPES["full"](epochs=timed, patience=0),
                plan,
                Path(folder) / f"full {os.getpid()}",
            ),
            f"{plan.layout}, {plan.precision}, allocator {plan.allocator}, EMA, layer-wise rates, checkpoint an epoch",
        )
        way()  # decodes, compiles
    else:

        def way(manifest=manifest, epochs=timed):
            timm_epochs(
                manifest,
                timm.create_model("resnet18", num_classes=3),
                backbone.preprocess.mean,
                backbone.preprocess.std,
                epochs,
                batch,
                "best" in who,
            )

        about = ""
        way(manifest.take(range(batch)), 1)
    start = time.perf_counter()
    way()
    print(f"{time.perf_counter() - start:.3f}|{about}")


def test_full_beside_timm(manifest, tmp_path):
    "Each in a process of its own, in turn."
    manifest.save(tmp_path / "manifest")
    seconds, told, names = {}, {}, ("timm at its defaults", "timm at its best flags", "cvkit")
    for who in names * 2:
        child = subprocess.run(
            [
                sys.executable,
                "-c",
                (
                    "import sys; sys.path.insert(0, sys.argv[3]); import bench_train; "
                    "bench_train.full_training(*sys.argv[1:3])"
                ),
                who,
                str(tmp_path),
                str(Path(__file__).parent),
            ],
            capture_output=True,
            text=True,
        )
        assert child.returncode == 0, child.stderr
        found, told[who] = child.stdout.strip().split("\n")[-1].split("|")
        seconds[who] = min(seconds.get(who, np.inf), float(found))
    for who, aim, what in (
        (names[0], 3.5, "float32, contiguous, SGD, files decoded in each epoch"),
        (names[1], 1.1, "bfloat16, channels last, AdamW, files decoded ahead by a worker"),
    ):
        print(
            f"resnet18@{size}, {images} images, {timed} epoch(s), batch {batch}, {threads} thread: {who} ({what}) "
            f"{seconds[who]:.1f} s, cvkit full ({told['cvkit']}) {seconds['cvkit']:.1f} s: "
            f"{seconds[who] / seconds['cvkit']:.2f}x (aim {aim})"
        )


def test_folds_of_a_probe(manifest):
    """Five folds and the last fit on features that are kept, beside a loop that looks at every image again in every
    epoch of every fold; the heads agree."""
    import torch

    from cvkit.model.backbones import load_backbone
    from cvkit.model.features import extract_features
    from cvkit.model.probe import fit_probe

    backbone, folds = load_backbone(size=size), np.arange(len(manifest)) // 3 % 5
    start = time.perf_counter()
    features = extract_features(manifest, backbone)
    once = time.perf_counter() - start
    epochs = 3 if long else 1

    def cached():
        return fit_probe(extract_features(manifest, backbone).embedding, manifest.targets, folds, manifest.classes)

    def loop():
        "Frozen backbone, linear head, AdamW; decoded and looked at anew."
        right = []
        torch.set_num_threads(threads)
        for fold in range(5):
            head = torch.nn.Linear(backbone.width, 3)
            optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)

            def look(rows):
                return backbone.module.forward_features(
                    torch.from_numpy(
                        backbone.preprocess.tensor(
                            np.stack([backbone.preprocess.pixels(manifest.read(i)) for i in rows])
                        )
                    )
                ).mean((2, 3))

            for _ in range(epochs):
                for rows in np.array_split(
                    np.random.default_rng(0).permutation(np.flatnonzero(folds != fold)),
                    max(1, int((folds != fold).sum() / 16)),
                ):
                    with torch.no_grad():
                        seen = look(rows)
                    loss = torch.nn.functional.cross_entropy(head(seen), torch.from_numpy(manifest.targets[rows]))
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            with torch.no_grad():
                right += (
                    head(look(np.flatnonzero(folds == fold))).argmax(1).numpy() == manifest.targets[folds == fold]
                ).tolist()
        return float(np.mean(right))

    probe, uncached = cached(), {}
    best = best_of({"cached": cached}, 5) | best_of({"loop": lambda: uncached.update(score=loop())}, 1)
    print(
        f"five folds, lite0@{size}, {images} images: loop of {epochs} epoch(s) {best['loop']:.1f} s "
        f"({uncached['score']:.3f}), probe on kept features {best['cached']:.3f} s ({probe.accuracies.mean():.3f}), "
        f"and {once:.1f} s to look at each image once: "
        f"{best['loop'] / best['cached']:.0f}x (aim 100), {best['loop'] / (best['cached'] + once):.1f}x with the "
        f"looking; {epochs} epoch(s) is what the loop got, more cost it in proportion"
    )
    assert probe.accuracies.mean() >= uncached["score"] - 0.05
    with torch.no_grad():
        seen = (
            backbone.module
            .forward_features(torch.from_numpy(backbone.preprocess.tensor(features.pixels[:4])))
            .mean((2, 3))
            .numpy()
        )
    assert np.allclose(features.embedding[:4], seen, atol=1e-3)
