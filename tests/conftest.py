"What several files of tests share: the site, built once, and a browser."
import os, shutil, subprocess, sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def html(tmp_path_factory):
    "The folder of the documentation's pages."
    out = tmp_path_factory.mktemp("docs")
    done = subprocess.run([sys.executable, root / "docs" / "build.py", "--out", out], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "html"


@pytest.fixture(scope="module") # not longer: while it is open, nothing else in this process can run an event loop
def browser():
    "Debian's Chromium without a window; what needs it is skipped where it is absent."
    playwright = pytest.importorskip("playwright.sync_api", reason="no browser tests: the package playwright is not installed, see dev_requirements in settings.ini")
    chromium = shutil.which("chromium")
    if not chromium: pytest.skip("no browser tests: no chromium on the PATH, `apt-get install chromium` has it")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()
