"""Blood cells (BCCD, 364 pictures, MIT licence): a detector in five folds, judged out of fold by AP50.

    python tests/benchmarks/bccd.py FOLDER                  # FOLDER holds Annotations and JPEGImages; --size 256 --epochs 8 by default
    python tests/benchmarks/bccd.py FOLDER --only 0         # one fold alone, to see what it costs

Trainings lie in --work (runs/bccd) and go on where they were killed. AP is by faster-coco-eval, over all pictures, each by the one network that had not seen it."""
import argparse, dataclasses, os, time
from pathlib import Path

import numpy as np

from bench_detector import average_precision, told


def main():
    from cvkit.core import rng
    from cvkit.data.boxes import true_boxes
    from cvkit.flow.datasets import open_source
    from cvkit.model.backbones import load_backbone
    from cvkit.model.detect import NMS, letterboxed
    from cvkit.model.detector import BATCH, DETECTOR, _Trainings, cross_fit_detector
    from cvkit.model.plan import Plan
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder")
    options.add_argument("--work", type=Path, default=Path("runs/bccd"))
    options.add_argument("--size", type=int, default=256)
    options.add_argument("--epochs", type=int, default=8)
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options.add_argument("--only", type=int, help="train the detector of this fold, say its AP, and stop")
    asked = options.parse_args()
    manifest = open_source(asked.folder, asked.work/"images").manifest
    truths, folds = true_boxes(manifest), rng(0, "bccd", "folds").permutation(len(manifest)) % 5
    backbone, recipe = letterboxed(load_backbone(size=asked.size)), dataclasses.replace(DETECTOR, epochs=asked.epochs, flip=True, turns=True)
    plan = dict(device="cpu", layout="channels_last", precision="float32", threads=asked.threads, batch=BATCH)
    start, cpu = time.perf_counter(), time.process_time()
    if asked.only is not None:
        rows = np.flatnonzero(folds == asked.only)
        work = _Trainings(manifest, backbone, recipe, Plan(**plan), asked.work/f"only-{asked.size}-{asked.epochs}", 0, NMS, told)
        found, _ = work.fold(f"fold {asked.only}", np.flatnonzero(folds != asked.only), rows)
        truths = [truths[i] for i in rows]
    else: found = cross_fit_detector(manifest, backbone, recipe, folds, asked.work, plan=plan, report=told).detections
    best, mean, by_class = average_precision(truths, found, manifest.classes)
    print(f"{len(truths)} pictures at {asked.size} pixels, {asked.epochs} epochs: AP50 {best:.3f}, AP {mean:.3f}, AP50 {', '.join(f'{c} {v:.3f}' for c, v in by_class.items())}; {time.perf_counter() - start:.0f} s, {time.process_time() - cpu:.0f} CPU s")


if __name__ == "__main__": main()
