"How long an examination takes, and how the search for copies grows."

import os
import platform
import resource
import time

import numpy as np
import pytest
from PIL import Image

import cvkit


@pytest.fixture(scope="module", autouse=True)
def machine():
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )


def test_check_of_solar_cells(tmp_path, monkeypatch):
    monkeypatch.setenv("CVKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    manifest = cvkit.ingest("elpv", out="ingest")
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        found = cvkit.check("ingest", out="check", no_network=True)
        seconds.append(time.perf_counter() - start)
    print(
        f"check of {len(manifest):,} images without embeddings: {seconds[0]:.1f} s (aim 20), unchanged "
        f"{seconds[1]:.2f} s (aim 1); {len(found.findings)} findings"
    )


def pictures(n, random):
    "Small gray pictures of clouds, no two alike, and a hundred copies of some: mirrored, brighter or cropped."
    out = np.empty((n, 64, 64), np.uint8)
    for i in range(0, n, 2048):
        rough = random.normal(size=(min(2048, n - i), 12, 12)).astype(np.float32)
        out[i : i + 2048] = [
            np.asarray(
                Image.fromarray(np.clip(128 + 45 * r, 0, 255).astype(np.uint8)).resize(
                    (64, 64), Image.Resampling.BICUBIC
                )
            )
            for r in rough
        ]
    pairs = random.choice(n, 200, replace=False).reshape(100, 2)
    for k, (a, b) in enumerate(pairs):
        copy = out[a]
        out[b] = (
            copy[:, ::-1],
            np.clip(copy * 1.15, 0, 255),
            np.asarray(Image.fromarray(copy).crop((2, 1, 63, 62)).resize((64, 64), Image.Resampling.BICUBIC)),
        )[k % 3]
    return out, {tuple(sorted(map(int, p))) for p in pairs}


def test_the_search_grows_slower_than_the_square():
    from cvkit.data.duplicates import find_near_duplicates

    before, told = None, []
    for n in (1_000, 10_000, 100_000):
        thumbnails, planted = pictures(n, np.random.default_rng(n))
        start = time.perf_counter()
        found = {tuple(p) for p in find_near_duplicates(thumbnails).pairs.tolist()}
        seconds, memory = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        told.append(
            (
                f"{n:,}: {seconds:.1f} s, {len(found & planted)} of 100 copies, {len(found - planted)} others, at "
                f"most {memory:.1f} GiB so far"
            )
            + (f", {seconds / before:.1f} times the time of a tenth" if before else "")
        )
        before = seconds
        assert len(found & planted) >= 90
    print("\n".join(told))
