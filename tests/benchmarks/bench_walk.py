"Where the seconds of the walk go, and what cross-validation costs beside one fit."

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

command = Path(sys.executable).with_name("cvkit")


@pytest.fixture(scope="module", autouse=True)
def machine():
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = sorted({
        flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if f" {flag} " in info
    })
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, {' '.join(flags)}, load {os.getloadavg()[0]:.1f}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )


def walk(folder, cache):
    start = time.perf_counter()
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "CVKIT_CACHE": str(cache)}
    subprocess.run([command, "demo", "--out", folder / "run"], cwd=folder, env=env, check=True, capture_output=True)
    return time.perf_counter() - start, json.loads((folder / "run/summary.json").read_text())["seconds"]


def test_walk_by_stage(tmp_path):
    for state in ("first walk, empty cache", "new folder, features in the cache"):
        folder = tmp_path / state.split(",")[0].replace(" ", "-")
        folder.mkdir()
        total, stages = walk(folder, tmp_path / "cache")
        print(
            f"{state}: {total:.0f} s (aim 90, then 60): "
            + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items())
        )
    again, _ = walk(folder, tmp_path / "cache")
    print(f"the same walk again: {again:.1f} s")


def test_five_folds_for_the_price_of_one_fit(tmp_path, monkeypatch):
    from cvkit.commands.ingest import load_elpv
    from cvkit.data.splits import make_splits
    from cvkit.model.backbones import backbone_graph, load_backbone
    from cvkit.model.features import extract_features
    from cvkit.model.probe import fit_head, fit_probe

    monkeypatch.setenv("CVKIT_CACHE", str(tmp_path))
    manifest, backbone = load_elpv().manifest, load_backbone()
    backbone_graph(backbone)
    start = time.perf_counter()
    features = extract_features(manifest, backbone)
    extracted = time.perf_counter() - start
    folds = make_splits(manifest).folds(manifest)
    fit_head(features.embedding[:200], manifest.targets[:200])  # the first fit imports
    start = time.perf_counter()
    fit_head(features.embedding[folds >= 0], manifest.targets[folds >= 0])
    one = time.perf_counter() - start
    start = time.perf_counter()
    fit_probe(features.embedding, manifest.targets, folds, manifest.classes)
    both = time.perf_counter() - start
    print(
        f"extraction {extracted:.1f} s, one fit {one:.2f} s, five folds with calibration and the last fit {both:.2f} "
        f"s: ratio {(extracted + both) / (extracted + one):.3f} (aim 1.10)"
    )
