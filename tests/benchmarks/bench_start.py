"""How quick it is to start: seconds of a new process, and a trivial notebook against papermill's own command in the
same run."""

import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

tools = Path(sys.executable).parent


def seconds(command, runs=5, **settings):
    "Median seconds of a command."
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, **settings)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


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


def test_import_and_help():
    bare = seconds([sys.executable, "-c", "pass"])
    light = seconds([sys.executable, "-c", "import cvkit"])
    shown = seconds([tools / "cvkit", "--help"])
    print(f"python {bare:.3f} s, import cvkit +{light - bare:.3f} s (aim 0.10), cvkit --help {shown:.3f} s (aim 0.20)")


def test_import_of_nbformat():
    plain = seconds([sys.executable, "-c", "import nbformat"])
    ours = seconds([sys.executable, "-c", "from cvkit.core import need; need('nbformat', 'train')"])
    print(f"import nbformat {plain:.2f} s, by cvkit's need {ours:.2f} s (it keeps jsonschema from rfc3987_syntax)")


def test_trivial_notebook_against_papermill(tmp_path):
    import nbformat

    notebook = tmp_path / "trivial.ipynb"
    cells = [
        nbformat.v4.new_code_cell("number = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("print(number + 1)"),
    ]
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
        ),
        notebook,
    )
    ours, theirs = tmp_path / "ours.ipynb", tmp_path / "theirs.ipynb"
    peer = seconds([tools / "papermill", notebook, theirs, "-p", "number", "2"], runs=3, cwd=tmp_path)
    own = seconds([tools / "cvkit", "run", notebook, "-p", "number=2", "--out", ours], runs=3, cwd=tmp_path)
    shown = [
        "".join(cell.outputs[0].text)
        for path in (ours, theirs)
        for cell in nbformat.read(path, 4).cells
        if cell.get("outputs")
    ]
    assert shown == ["3\n", "3\n"], "both give the same output"
    print(f"trivial notebook: papermill {peer:.2f} s, cvkit run {own:.2f} s, ratio {own / peer:.2f} (aim 0.50)")
    from cvkit.pipeline.notebooks import run_notebook

    taken = []
    for _ in range(4):
        start = time.perf_counter()
        run_notebook(notebook, ours, {"number": 2}, progress=False)
        taken.append(time.perf_counter() - start)
    up = statistics.median(taken[1:])  # the first imports papermill
    print(f"trivial notebook from a process that is up: {up:.2f} s, ratio {up / peer:.2f} (aim 0.35)")
