"Where the seconds of a pipeline run go, what forked kernels save, and what cross-validation costs beside one fit."

import json
import os
import platform
import resource
import statistics
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


def run_demo(folder, cache):
    start = time.perf_counter()
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "CVKIT_CACHE": str(cache)}
    subprocess.run([command, "demo", "--out", folder / "run"], cwd=folder, env=env, check=True, capture_output=True)
    return time.perf_counter() - start, json.loads((folder / "run/summary.json").read_text())["seconds"]


def test_pipeline_by_stage(tmp_path):
    for state in ("first run, empty cache", "new folder, features in the cache"):
        folder = tmp_path / state.split(",")[0].replace(" ", "-")
        folder.mkdir()
        total, stages = run_demo(folder, tmp_path / "cache")
        print(
            f"{state}: {total:.0f} s (aim 90, then 60): "
            + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items())
        )
    again, _ = run_demo(folder, tmp_path / "cache")
    print(f"the same run again: {again:.1f} s")


ORDINARY_KERNELS = """
import contextlib, sys
from cvkit.pipeline import graph
graph.warm_kernels = lambda commands: contextlib.nullcontext()
from cvkit.commands.cli import main
sys.exit(main())
"""


def test_forked_kernels_against_ordinary_ones(tmp_path):
    "Wall and processor seconds of the same run, in turn; both give the same bundle."
    words = ["demo", "--data", "surfaces", "--size", "96", "--quiet"]
    kinds = {"forked": [command], "ordinary": [sys.executable, "-c", ORDINARY_KERNELS]}
    runs = 3
    wall = {kind: [] for kind in kinds}
    cpu = {kind: [] for kind in kinds}
    digests = set()
    for i in range(runs + 1):
        for kind, start_of_command in kinds.items():
            folder = tmp_path / f"{kind}-{i}"
            folder.mkdir()
            store = f"sqlite:///{folder / 'mlflow.db'}"
            env = {**os.environ, "MLFLOW_TRACKING_URI": store, "CVKIT_CACHE": str(tmp_path / "cache")}
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            subprocess.run([*start_of_command, *words], cwd=folder, env=env, check=True, capture_output=True)
            seconds = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            summary = json.loads((folder / "runs/demo/summary.json").read_text())
            digests.add(summary["model"]["bundle_digest"])
            if i:  # the first of each fills the caches
                wall[kind].append(seconds)
                cpu[kind].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert len(digests) == 1, "both give the same bundle"
    for name, taken in (("wall", wall), ("processor", cpu)):
        forked = statistics.median(taken["forked"])
        ordinary = statistics.median(taken["ordinary"])
        print(f"{name}: forked {forked:.1f} s, ordinary {ordinary:.1f} s, ratio {forked / ordinary:.2f} of {runs} runs")


def test_five_folds_for_the_price_of_one_fit(tmp_path, monkeypatch):
    from cvkit.data.examples import load_elpv
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
