"What several files of tests share: a small data set and its cache, the site, built once, and a browser."

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

root = Path(__file__).resolve().parents[1]

settings.register_profile("cvkit", deadline=None)  # time decides no test
settings.load_profile("cvkit")


# Files that start Seldon, pipelines or other environments, and with each test that opens a browser `make test-servers`.
SERVERS = (
    "test_walk",
    "test_walk_tasks",
    "test_serving_seldon",
    "test_access",
    "test_lab",
    "test_project",
    "test_wheel",
)
# Started first, so that no process ends long after the other.
LONGEST = ("test_walk", "test_walk_tasks", "test_site", "test_access", "test_forget", "test_check", "test_flow")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in SERVERS or "browser" in item.fixturenames:
            item.add_marker(pytest.mark.servers)
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CVKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def manifest(tmp_path):
    "Twenty pictures of noise in two classes, and a copy of the first."
    from cvkit.data.ingest import ingest_folder

    random = np.random.default_rng(0)
    for i in range(20):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (24, 20, 3), np.uint8)).save(path)
    (tmp_path / "images/a/twin.png").write_bytes((tmp_path / "images/a/00.png").read_bytes())
    return ingest_folder(tmp_path / "images")


@pytest.fixture
def decoded(monkeypatch):
    "The files that are decoded, as they come."
    from cvkit.data.preprocess import Preprocess

    seen, pixels = [], Preprocess.pixels
    monkeypatch.setattr(Preprocess, "pixels", lambda self, image: seen.append(image) or pixels(self, image))
    return seen


@pytest.fixture(scope="session")
def html(tmp_path_factory):
    "The folder of the documentation's pages."
    out = tmp_path_factory.mktemp("docs")
    done = subprocess.run(
        [sys.executable, root / "docs" / "build.py", "--out", out], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


@pytest.fixture(scope="module")  # not longer: while it is open, nothing else in this process can run an event loop
def browser():
    "Debian's Chromium without a window; what needs it is skipped where it is absent."
    playwright = pytest.importorskip(
        "playwright.sync_api",
        reason="no browser tests: the package playwright is not installed, see dev_requirements in settings.ini",
    )
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("no browser tests: no chromium on the PATH, `apt-get install chromium` has it")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()
