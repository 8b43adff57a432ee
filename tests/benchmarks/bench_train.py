"What training costs: a tail beside a full network, a full network beside timm's loop, a cross-validated probe beside a loop that keeps nothing. CVKIT_BENCH=long takes more images and epochs."
import copy, dataclasses, os, platform, time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

size, threads, long = 224, 1, os.environ.get("CVKIT_BENCH") == "long"
images, timed = (96, 3) if long else (48, 1)


@pytest.fixture(scope="module", autouse=True)
def machine():
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if f" {flag}" in info]
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, {' '.join(flags)}, load {os.getloadavg()[0]:.1f}, {threads} thread of torch, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    "Crops of brick, grass and gravel, as JPEG files of 320 x 240."
    from skimage import data
    from cvkit.data.ingest import ingest_folder
    top = tmp_path_factory.mktemp("bench")
    os.environ["CVKIT_CACHE"] = str(top/"cache")
    random = np.random.default_rng(0)
    for i in range(images):
        name = ("brick", "grass", "gravel")[i % 3]
        y, x = random.integers(0, 512 - 240), random.integers(0, 512 - 320)
        (top/"images"/name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(getattr(data, name)()[y:y + 240, x:x + 320]).convert("RGB").save(top/"images"/name/f"{i:03}.jpg", quality=90)
    return ingest_folder(top/"images")


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
    from cvkit.model import crossfit, fit
    recipe = dataclasses.replace(recipe, head="random")
    work = crossfit._Trainings(manifest, backbone, recipe, plan, folder, np.eye(3, dtype=np.float32)[manifest.targets], 0, None, None)
    rounds = iter(range(99))
    return lambda: work.train(f"round {next(rounds)}", np.arange(len(manifest)), np.zeros(0, int))[1]


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_tail_beside_full(manifest, tmp_path, name):
    from cvkit.model.backbones import load_backbone
    from cvkit.model.plan import propose_plan
    from cvkit.model.recipe import Recipe
    backbone = load_backbone(name, weights=None, size=size)
    plan = dataclasses.replace(propose_plan(backbone.module, size, batch=16), threads=threads)
    ways = {kind: trainer(manifest, backbone, Recipe(kind, epochs=timed, patience=0), plan, tmp_path/kind) for kind in ("tail", "full")}
    ways["tail"]() # decodes, looks and writes what is kept: once for all folds, epochs and recipes
    best = best_of(ways, 2)
    print(f"{name}@{size}, {images} images, {timed} epoch(s), {plan.layout}, {plan.precision}: full {best['full']:.1f} s, tail {best['tail']:.1f} s: {best['full'] / best['tail']:.1f}x (aim 4)")


def timm_epochs(manifest, model, mean, std, epochs, batch, best_flags):
    "timm's loop: ImageFolder files, its transform, its optimiser, its loss; at its best flags also channels last, bfloat16 and a cached data set."
    import torch, timm.data, timm.optim
    transform = timm.data.create_transform(size, is_training=True, mean=mean, std=std)
    class Files(torch.utils.data.Dataset):
        def __len__(self): return len(manifest)
        def __getitem__(self, i): return transform(Image.open(manifest.path(i)).convert("RGB")), int(manifest.targets[i])
    loader = torch.utils.data.DataLoader(Files(), batch, shuffle=True, drop_last=True)
    if best_flags: model = model.to(memory_format=torch.channels_last)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw" if best_flags else "sgd", lr=1e-3, weight_decay=2e-5)
    model.train()
    for _ in range(epochs):
        for pixels, truth in loader:
            if best_flags: pixels = pixels.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, best_flags): loss = torch.nn.functional.cross_entropy(model(pixels), truth)
            optimizer.zero_grad(); loss.backward(); optimizer.step()
    return model


def test_full_beside_timm(manifest, tmp_path):
    import timm, torch
    from cvkit.model.backbones import load_backbone
    from cvkit.model.plan import propose_plan, threads_of
    from cvkit.model.recipe import Recipe
    backbone = load_backbone("resnet18", weights=None, size=size)
    plan = dataclasses.replace(propose_plan(backbone.module, size, batch=16), threads=threads)
    ours = trainer(manifest, backbone, Recipe("full", epochs=timed, patience=0), plan, tmp_path/"full")
    def peer(best_flags):
        with threads_of(plan): timm_epochs(manifest, timm.create_model("resnet18", num_classes=3), backbone.preprocess.mean, backbone.preprocess.std, timed, plan.batch, best_flags)
    ours() # decodes once
    best = best_of({"timm, defaults": lambda: peer(False), "timm, channels last + bfloat16": lambda: peer(True), "cvkit": ours})
    for who in list(best)[:2]: print(f"resnet18@{size}, {images} images, {timed} epoch(s), batch {plan.batch}: {who} {best[who]:.1f} s, cvkit full ({plan.layout}, {plan.precision}, EMA, layer-wise rates, checkpoint an epoch) {best['cvkit']:.1f} s: {best[who] / best['cvkit']:.2f}x (aim {3.5 if 'defaults' in who else 1.1})")


def test_folds_of_a_probe(manifest):
    "Five folds and the last fit on features that are kept, beside a loop that looks at every image again in every epoch of every fold; the heads agree."
    import torch
    from cvkit.model.backbones import load_backbone
    from cvkit.model.features import extract_features
    from cvkit.model.plan import Plan, threads_of
    from cvkit.model.train import fit_probe
    backbone, folds = load_backbone(size=size), np.arange(len(manifest)) // 3 % 5
    start = time.perf_counter()
    features = extract_features(manifest, backbone)
    once = time.perf_counter() - start
    epochs = 3 if long else 1
    def cached(): return fit_probe(extract_features(manifest, backbone).embedding, manifest.targets, folds, manifest.classes)
    def loop():
        "Frozen backbone, linear head, AdamW; decoded and looked at anew."
        right = []
        with threads_of(Plan(threads=threads)):
            for fold in range(5):
                head = torch.nn.Linear(backbone.width, 3)
                optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
                look = lambda rows: backbone.module.forward_features(torch.from_numpy(backbone.preprocess.tensor(np.stack([backbone.preprocess.pixels(manifest.read(i)) for i in rows])))).mean((2, 3))
                for _ in range(epochs):
                    for rows in np.array_split(np.random.default_rng(0).permutation(np.flatnonzero(folds != fold)), max(1, int((folds != fold).sum() / 16))):
                        with torch.no_grad(): seen = look(rows)
                        loss = torch.nn.functional.cross_entropy(head(seen), torch.from_numpy(manifest.targets[rows]))
                        optimizer.zero_grad(); loss.backward(); optimizer.step()
                with torch.no_grad(): right += (head(look(np.flatnonzero(folds == fold))).argmax(1).numpy() == manifest.targets[folds == fold]).tolist()
        return float(np.mean(right))
    probe, uncached = cached(), {}
    best = best_of({"cached": cached}, 5) | best_of({"loop": lambda: uncached.update(score=loop())}, 1)
    print(f"five folds, lite0@{size}, {images} images: loop of {epochs} epoch(s) {best['loop']:.1f} s ({uncached['score']:.3f}), probe on kept features {best['cached']:.3f} s ({probe.accuracies.mean():.3f}), and {once:.1f} s to look at each image once: "
          f"{best['loop'] / best['cached']:.0f}x (aim 100), {best['loop'] / (best['cached'] + once):.1f}x with the looking; {epochs} epoch(s) is what the loop got, more cost it in proportion")
    assert probe.accuracies.mean() >= uncached["score"] - .05
    with torch.no_grad(): seen = backbone.module.forward_features(torch.from_numpy(backbone.preprocess.tensor(features.pixels[:4]))).mean((2, 3)).numpy()
    assert np.allclose(features.embedding[:4], seen, atol=1e-3)
