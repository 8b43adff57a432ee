"""COCO's numbers against pycocotools and faster-coco-eval in the same run, equal to the last digit; memory of a
thousand and of four thousand images."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from test_evidence_detection import coco, ours, scenes


@pytest.fixture(scope="module", autouse=True)
def machine():
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )


def taken(f, *given):
    start = time.process_time()
    found = f(*given)
    return found, time.process_time() - start


@pytest.mark.parametrize("classes", [3, 20])
def test_against_pycocotools(classes, n=1000):
    truth, detections = scenes(n, 1, classes=classes, crowd=0.05)
    names = [f"class {k}" for k in range(classes)]
    (own, fast), (slow_values, slow), (other, peer) = (
        taken(ours, truth, detections, names),
        taken(coco, truth, detections, names),
        taken(coco, truth, detections, names, "faster_coco_eval"),
    )
    assert own == pytest.approx(slow_values, abs=1e-12) and own == pytest.approx(other, abs=1e-12)
    print(
        f"{n} images, {classes} classes, {sum(len(d['scores']) for d in detections)} detections: {fast:.2f} s, "
        f"pycocotools {slow:.2f} s: {slow / fast:.0f} times; faster-coco-eval {peer:.2f} s: {peer / fast:.1f} times; "
        f"twelve numbers equal to 1e-12, AP {own[0]:.4f}"
    )
    assert slow / fast >= 5


def test_memory():
    code = """
import sys, tracemalloc
sys.path.insert(0, 'tests')
from test_evidence_detection import scenes
from cvkit.evidence.detection_metrics import detection_estimates
n, draws = int(sys.argv[1]), int(sys.argv[2])
truth, detections = scenes(n, 1)
detection_estimates(truth[:20], detections[:20], 'abc', draws=2)
tracemalloc.start() # the peak of the process would be that of the one that started it
detection_estimates(truth, detections, 'abc', draws=draws)
print(tracemalloc.get_traced_memory()[1] / 2**20)
"""
    more = {}
    for n, draws in ((1000, 200), (1000, 2000), (4000, 200)):
        done = subprocess.run(
            [sys.executable, "-c", code, str(n), str(draws)], capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr
        more[n, draws] = float(done.stdout)
        print(f"{n} images, {draws} draws: at most {more[n, draws]:.0f} MiB beside the boxes")
    assert more[1000, 2000] < 1.5 * more[1000, 200] + 10 and more[4000, 200] < 2 * more[1000, 200] + 20
