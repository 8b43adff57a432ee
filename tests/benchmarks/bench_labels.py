"""Numbers of 20 labels of 100,000 images with intervals, against a loop that resamples rows for scikit-learn;
thresholds against a loop over them."""

import os
import platform
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn import metrics as sk

from cvkit.evidence import multilabel_metrics
from cvkit.evidence.calibration import cross_fit_label_thresholds
from cvkit.stats import drawn_weights, estimate_from_replicates


@pytest.fixture(scope="module", autouse=True)
def machine():
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )


def predictions(n=100_000, c=20, seed=0):
    random = np.random.default_rng(seed)
    truth = (random.random((n, c)) < random.uniform(0.02, 0.3, c)).astype(np.int8)
    return truth, 1 / (1 + np.exp(-(random.normal(size=(n, c)) + 2 * truth - 2)))


def loop(truth, p, said):
    return {
        "map": sk.average_precision_score(truth, p),
        "micro_f1": sk.f1_score(truth, said, average="micro"),
        "macro_f1": sk.f1_score(truth, said, average="macro"),
        "hamming": sk.hamming_loss(truth, said),
        "ranking_loss": sk.label_ranking_loss(truth, p),
        "brier": ((p - truth) ** 2).mean(),
        "log_loss": sk.log_loss(truth.ravel(), p.ravel()),
    }


def test_intervals_against_a_loop(draws=20, replicates=200):
    truth, p = predictions()
    said, n, clock = p >= 0.4, len(truth), time.process_time
    start, wall = clock(), time.perf_counter()
    found, _rows, _ = multilabel_metrics.measure_labels(truth, p, said)
    fast, wall = clock() - start, time.perf_counter() - wall
    few = multilabel_metrics.label_estimates(truth, p, said, replicates=draws)
    copies = [np.repeat(np.arange(n), w[0].astype(int)) for w in drawn_weights(np.arange(n), draws) for w in w[:, None]]
    start = clock()
    values = [loop(truth[i], p[i], said[i]) for i in copies]
    slow = (clock() - start) / draws * replicates
    for name, value in loop(truth, p, said).items():
        same = estimate_from_replicates(value, np.array([v[name] for v in values]), n)
        assert (few[name].value, few[name].low, few[name].high) == pytest.approx(
            (same.value, same.low, same.high), abs=1e-6
        ), name
    print(
        f"{replicates} replicates of {n} images x {truth.shape[1]} labels, 8 metrics and 5 of each label: {fast:.0f} "
        f"s of CPU, {wall:.0f} s; scikit-learn in a loop, 7 metrics, {draws} draws extrapolated, {slow:.0f} s: "
        f"{slow / fast:.0f} times; bounds of the same {draws} draws equal; map {found['map']}"
    )


def test_cuts_against_a_loop(n=20_000, c=20):
    truth, p = predictions(n, c)
    folds, clock = np.arange(n) % 5, time.process_time
    start = clock()
    found = cross_fit_label_thresholds(truth, p, folds)
    fast = clock() - start

    def best(t, s, tries):
        scores = [sk.f1_score(t, s >= v) for v in tries]
        return max(scores), scores

    tries = np.quantile(p[:, 0], np.linspace(0, 1, 100))
    start = clock()
    best_f1, _ = best(truth[:, 0], p[:, 0], tries)
    slow = (clock() - start) / len(tries) * n * c * 6
    ours = sk.f1_score(truth[:, 0], p[:, 0] >= found.thresholds[0])
    assert ours >= best_f1 - 1e-12
    print(
        f"thresholds of {c} labels, {n} images, 5 folds: {fast:.2f} s of CPU; a loop over all thresholds, "
        f"extrapolated from {len(tries)}: {slow / 3600:.1f} hours; F1 {ours:.4f}, the best of those tried "
        f"{best_f1:.4f}"
    )


def test_memory():
    code = """
import resource, sys, time
sys.path.insert(0, 'tests/benchmarks')
from bench_labels import predictions
from cvkit.evidence.multilabel_metrics import measure_labels
truth, p = predictions(100_000, int(sys.argv[1])); said = p > .4
measure_labels(truth[:50], p[:50], said[:50], replicates=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
measure_labels(truth, p, said, replicates=10)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20, p.nbytes / 2**30)
"""
    for c in (20, 80):
        done = subprocess.run([sys.executable, "-c", code, str(c)], capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr
        print(
            f"100,000 images x {c} labels: {float(done.stdout.split()[0]):.2f} GiB above the peak of drawing the "
            f"predictions, which take {float(done.stdout.split()[1]):.3f}"
        )
