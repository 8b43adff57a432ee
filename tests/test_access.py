"Another user of the same machine cannot read what a run, an erasure and the caches keep."

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvkit.core import cache_folder

NOBODY = 65534
ask = """
import json, os, sys
os.setgid(int(sys.argv[1])), os.setuid(int(sys.argv[1]))
def can(path):
    try: return bool(os.listdir(path)) if os.path.isdir(path) else bool(open(path, "rb").read(1))
    except PermissionError: return False
print(json.dumps([path for path in sys.argv[2:] if can(path)]))
"""


def readable_by_another(paths):
    "Those of the paths that somebody else can list or read."
    done = subprocess.run(
        [sys.executable, "-c", ask, str(NOBODY), *map(str, paths)], cwd="/", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [Path(p) for p in json.loads(done.stdout)]


@pytest.fixture
def top(monkeypatch):
    "A folder that everybody can enter, unlike pytest's own."
    if os.geteuid() != 0:
        pytest.skip("not tried as another user: only root can become one; run the tests as root, in a container")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for name, value in {
            "CVKIT_CACHE": f"{folder}/cache",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)
        before = os.umask(0o022)
        yield Path(folder)
        monkeypatch.chdir("/")
        os.umask(before)


@pytest.mark.parametrize("there", [False, True], ids=["a new runs folder", "one that everybody can enter"])
def test_another_user_reads_nothing(top, there, monkeypatch):
    from cvkit.commands.forget import forget
    from cvkit.commands.ingest import ingest
    from cvkit.data.manifest import Manifest
    from cvkit.data.pixel_cache import cached_pixels
    from cvkit.data.preprocess import Preprocess
    from cvkit.data.scan import scan_images
    from cvkit.data.splits import make_splits

    if there:
        monkeypatch.setenv("CVKIT_LOG_LATER", "1")  # without MLflow
    if there:
        (top / "runs").mkdir(mode=0o755), (top / "cache").mkdir(mode=0o755)
    for i in range(16):
        path = top / "data" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (24, 24, 3), np.uint8)).save(path)
        os.utime(path, (0, 0))
    ingest("data", out="runs/mine/ingest")
    manifest = Manifest.load("runs/mine/ingest")
    make_splits(manifest, folds=2).save("runs/mine/split")
    cached_pixels(manifest, Preprocess(size=32)), scan_images(manifest)
    forget("a/00.png", reason="asked")
    (top / "open.txt").write_text("for everybody")
    kept = [p for folder in (top / "runs", cache_folder(), top / "mlruns") for p in folder.rglob("*")]
    names = {p.name for p in kept}
    assert {
        "gallery.html",
        "manifest.parquet",
        "splits.parquet",
        "erasure.json",
        "erasures.jsonl",
        "pixels",
        "scan",
        "forgotten.txt",
    } <= names and any(p.suffix == ".npy" for p in kept)
    shared = readable_by_another([top / "open.txt", top / "data/b/01.png", *kept])
    assert shared == [top / "open.txt", top / "data/b/01.png"], "what is open can be read, what is kept cannot"
    if not there:
        assert [oct((top / name).stat().st_mode & 0o777) for name in ("runs", "cache", "mlruns")] == ["0o700"] * 3
