"The bootstrap against a loop that copies rows, at the same bounds; a million predictions in bounded memory."

import os
import platform
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn import metrics as sk

from cvkit.evidence.classification_metrics import (
    class_rates,
    weighted_auroc,
    weighted_average_precision,
)
from cvkit.stats import bootstrap, bootstrap_weights


@pytest.fixture(scope="module", autouse=True)
def machine():
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )


def scored(n, seed=0):
    random = np.random.default_rng(seed)
    t = random.random(n) < 0.3
    return t, 1 / (1 + np.exp(-(random.normal(size=n) + 2 * t - 1)))


@pytest.mark.parametrize("name", ["auroc", "average_precision", "f1"])
def test_bootstrap_against_a_loop(name, n=656, replicates=1000):
    t, s = scored(n)
    ours = {
        "auroc": lambda w: weighted_auroc(w, t, s),
        "average_precision": lambda w: weighted_average_precision(w, t, s),
        "f1": lambda w: class_rates(w, t, s > 0.5)[2],
    }[name]
    theirs = {
        "auroc": lambda i: sk.roc_auc_score(t[i], s[i]),
        "average_precision": lambda i: sk.average_precision_score(t[i], s[i]),
        "f1": lambda i: sk.f1_score(t[i], s[i] > 0.5),
    }[name]
    clock = time.process_time
    start = clock()
    found = bootstrap(ours, bootstrap_weights(n, replicates=replicates))
    fast = clock() - start
    rows = [
        np.repeat(np.arange(n), w.astype(int)) for w in bootstrap_weights(n, replicates=replicates)
    ]  # the same draws, copied
    start = clock()
    draws = np.array([theirs(i) for i in rows])
    slow = clock() - start
    same = bootstrap(
        lambda w: draws[: len(w)] if len(w) > 1 else np.array([theirs(np.arange(n))]), np.empty((replicates, 1)), n
    )
    assert (found.low, found.high) == pytest.approx((same.low, same.high), abs=1e-9)
    print(
        f"{name}: {replicates} replicates of {n} images {fast:.3f} s, scikit-learn in a loop {slow:.2f} s: "
        f"{slow / fast:.0f} times, bounds equal [{found.low:.4f}, {found.high:.4f}]"
    )


def test_a_million_predictions():
    code = """
import numpy as np, resource, sys, time
sys.path.insert(0, 'tests/benchmarks')
from bench_evidence import scored
from cvkit.evidence.classification_metrics import classification_estimates
t, s = scored(1_000_000); p = np.stack([1 - s, s], 1)
def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
before, start = memory(), time.perf_counter()
e = classification_estimates(t.astype(int), p, ['a', 'b'], 'b')
print(
    f"{time.perf_counter() - start:.0f} s, peak {memory():.2f} GiB, {memory() - before:.2f} GiB more than the "
    f"predictions; AUROC {e['auroc']}, average precision {e['average_precision']}"
)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    print("a million predictions, all metrics:", done.stdout.strip())
