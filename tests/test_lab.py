"The tutorial in JupyterLab, as a data scientist meets it: opened in a browser, run from the menu, seen to the end."

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # the tutorial trains and explains a model
tutorial = Path(__file__).resolve().parents[1] / "nbs/tutorials/first_model.ipynb"
patience = 900  # seconds for all cells, on a machine with other work


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


@pytest.fixture
def lab(tmp_path):
    "JupyterLab on 127.0.0.1 over a folder with the tutorial, its outputs taken out: the folder and the address."
    folder, kept, port, token = tmp_path / "work", tmp_path / "jupyter", free_port(), secrets.token_hex(16)
    folder.mkdir()
    notebook = json.loads(tutorial.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    (folder / tutorial.name).write_text(json.dumps(notebook), encoding="utf-8")
    settings = kept / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')  # all cells stay in the page, so that they can be looked at
    env = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(kept / "config"),
        "JUPYTER_DATA_DIR": str(kept / "data"),
        "JUPYTER_RUNTIME_DIR": str(kept / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(kept / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(kept / "workspaces"),
        "IPYTHONDIR": str(kept / "ipython"),
        "JUPYTER_TOKEN": token,
    }
    for name in ("CVKIT_BATCH", "MLFLOW_TRACKING_URI"):
        env.pop(name, None)
    words = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    with open(tmp_path / "lab.log", "w") as log:
        process = subprocess.Popen(words, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{port}/api/status?token={token}"):
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "lab.log").read_text()
            time.sleep(0.5)
        yield folder, f"http://127.0.0.1:{port}/lab/tree/{tutorial.name}?token={token}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the kernels end with it: they were told to
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    assert not answers(f"http://127.0.0.1:{port}/api/status?token={token}")


def test_the_tutorial_runs_from_the_menu(lab, browser):
    _, address = lab
    cells = [cell for cell in json.loads(tutorial.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    shown = [cell for cell in cells if any("text/html" in output.get("data", {}) for output in cell["outputs"])]
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(address)
    page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=120_000)
    page.wait_for_selector(
        "text=/ipykernel.* Idle/", timeout=120_000
    )  # in the status bar; a run before the kernel is there would be asked for one
    assert page.locator(".jp-CodeCell .jp-OutputArea-child").count() == 0
    page.locator('.lm-MenuBar-item:has-text("Run")').click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    prompts = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.textContent)"
    page.wait_for_function(f"{prompts}.some(prompt => prompt.includes('*'))", timeout=60_000)
    page.wait_for_function(
        f"""
        document.querySelector('[data-mime-type="application/vnd.jupyter.error"]')
            || !{prompts}.some(prompt => prompt.includes('*'))
        """,
        timeout=patience * 1000,
    )
    errors = page.locator('[data-mime-type="application/vnd.jupyter.error"]').all_text_contents()
    assert errors == []
    prompts = [text.strip() for text in page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()]
    assert prompts == [f"[{k}]:" for k in range(1, len(cells) + 1)]
    assert page.locator(".jp-CodeCell:has(.jp-RenderedHTMLCommon .cvkit table)").count() >= 6
    pictures = page.locator(".jp-CodeCell .jp-OutputArea-output img").evaluate_all(
        "images => images.map(image => image.naturalWidth)"
    )
    assert len(pictures) >= 25 and min(pictures) > 32
    assert page.locator(".jp-CodeCell:has(.jp-RenderedHTML)").count() == len(shown)
