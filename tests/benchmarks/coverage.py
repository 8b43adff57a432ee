"""Do the 95 % intervals hold, and how often does the gate pass a model that sits on its bar? A seeded simulation.

python tests/benchmarks/coverage.py [--sets 2000] [--out tests/benchmarks/coverage.json]
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from scipy.stats import binom, norm

from cvkit.evidence.classification_metrics import classification_estimates
from cvkit.evidence.estimates import decide
from cvkit.stats import proportion

SIZES = (50, 200, 1000)


def model(auroc, share):
    "Scores of a class and the others, normal, a known AUROC apart, cut where the error is least: what is true of it."
    apart = np.sqrt(2) * norm.ppf(auroc)
    cut = apart / 2 + np.log((1 - share) / share) / apart
    hit, alarm = share * norm.sf(cut - apart), (1 - share) * norm.sf(cut)
    return apart, cut, {"auroc": auroc, "accuracy": hit + 1 - share - alarm, "f1": 2 * hit / (share + hit + alarm)}


def draw(random, n, apart, cut, share):
    "One test set: targets, and probabilities that are right about themselves."
    targets = (random.random(n) < share).astype(int)
    scores = random.normal(0, 1, n) + apart * targets
    p = 1 / (1 + np.exp(-(apart * (scores - cut))))
    return targets, np.stack([1 - p, p], 1)


def estimates(targets, p):
    "Accuracy, AUROC and F1 as `classification_estimates` makes them, without the bootstrap of the others."
    found = classification_estimates(targets, p, ["no", "yes"], "yes", replicates=2)
    return {k: found[k] for k in ("accuracy", "auroc", "f1")}


def coverage(sets=2000, sizes=SIZES, models=((0.8, 0.3), (0.9, 0.3), (0.9, 0.5), (0.95, 0.3)), seed=0):
    "By metric, model and size: how often the interval holds the truth, and on which side it misses."
    rows = []
    for auroc, share in models:
        apart, cut, truth = model(auroc, share)
        for n in sizes:
            random, held = np.random.default_rng([seed, n, int(100 * auroc), int(100 * share)]), {k: [] for k in truth}
            for _ in range(sets):
                for k, e in estimates(*draw(random, n, apart, cut, share)).items():
                    if e.value is not None:
                        held[k].append((e.low <= truth[k] <= e.high, truth[k] < e.low, decide(e, truth[k]) == "pass"))
            rows += [
                {
                    "metric": k,
                    "auroc": auroc,
                    "share": share,
                    "n": n,
                    "truth": round(float(truth[k]), 4),
                    "sets": len(v),
                    "undefined": sets - len(v),
                    "covered": float(np.mean([x[0] for x in v])),
                    "above": float(np.mean([x[1] for x in v])),
                    "passed": float(np.sum([x[2] for x in v]) / sets),
                }
                for k, v in held.items()
            ]
    return rows


def by_group(sets=400, houses=60, seed=0):
    "Photographs of one house tend to be right together: accuracy and AUROC by house, F1 by house."
    random = np.random.default_rng(seed)
    held = {"accuracy": [], "auroc": [], "f1": []}

    def sample(count):
        size, share = random.integers(1, 6, count), 0.4
        groups, ease = np.repeat(np.arange(count), size), np.repeat(random.normal(0, 0.7, count), size)
        targets = (random.random(len(groups)) < share).astype(int)
        return targets, random.normal(0, 1, len(groups)) + (2 * targets - 1) * (1 + ease), groups

    t, s, _ = sample(400_000)  # the truth, from a very large sample
    order = np.argsort(s)
    rank = np.empty(len(s))
    rank[order] = np.arange(1, len(s) + 1)
    m, q = t.sum(), (1 - t).sum()
    truth = {
        "accuracy": ((s > 0) == t).mean(),
        "auroc": (rank[t == 1].sum() - m * (m + 1) / 2) / (m * q),
        "f1": 2 * ((s > 0) & (t == 1)).sum() / (m + (s > 0).sum()),
    }
    for i in range(sets):
        t, s, groups = sample(houses)
        p = 1 / (1 + np.exp(-s))
        found = classification_estimates(
            t, np.stack([1 - p, p], 1), ["no", "yes"], "yes", groups, seed=i, replicates=400
        )
        for k in held:
            if found[k].value is not None:
                held[k].append(found[k].low <= truth[k] <= found[k].high)
    return [
        {
            "metric": k,
            "houses": houses,
            "truth": round(float(truth[k]), 4),
            "sets": len(v),
            "covered": float(np.mean(v)),
        }
        for k, v in held.items()
    ]


def false_pass(sets=4000, sizes=SIZES, bars=(0.7, 0.8, 0.85, 0.9, 0.95), seed=0):
    "How often a model whose accuracy is exactly the bar passes the gate."
    rows = []
    for n in sizes:
        random = np.random.default_rng([seed, n])
        for bar in bars:
            passes = np.array([decide(proportion(k, n), bar) == "pass" for k in range(n + 1)])
            rows.append({
                "metric": "accuracy",
                "n": n,
                "bar": bar,
                "sets": sets,
                "passed": float(passes[random.binomial(n, bar, sets)].mean()),
                "exact": float(binom.pmf(np.arange(n + 1), n, bar)[passes].sum()),
            })
    return rows


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--sets", type=int, default=2000)
    words.add_argument("--out", default=str(Path(__file__).with_name("coverage.json")))
    asked = words.parse_args()
    start = time.perf_counter()
    found = {
        "command": f"python tests/benchmarks/coverage.py --sets {asked.sets}",
        "intervals": coverage(asked.sets),
        "by_group": by_group(max(asked.sets // 2, 50)),
        "gate": false_pass(2 * asked.sets),
    }
    for r in found["intervals"]:
        print(
            f"{r['metric']:9} AUROC {r['auroc']:.2f}, class {r['share']:.0%}, n {r['n']:5}: true {r['truth']:.3f}, "
            f"covered {r['covered']:.1%} (truth below {r['above']:.1%}), gate at the truth passed {r['passed']:.2%}, "
            f"{r['undefined']} undefined"
        )
    for r in found["by_group"]:
        print(f"{r['metric']:9} by group, {r['houses']} houses: true {r['truth']:.3f}, covered {r['covered']:.1%}")
    for r in found["gate"]:
        print(f"gate on accuracy, n {r['n']:5}, bar {r['bar']:.2f}: passed {r['passed']:.2%}, exactly {r['exact']:.2%}")
    Path(asked.out).write_text(json.dumps(found, indent=1) + "\n")
    print(f"{time.perf_counter() - start:.0f} s, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; in {asked.out}")


if __name__ == "__main__":
    main()
