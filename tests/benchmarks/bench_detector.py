"""What a detector learns and costs, on data that anybody can make: digits pasted on photographs, judged out of fold.

    python -m pytest -s -q tests/benchmarks/bench_detector.py

240 pictures of 160 x 120 in four folds and the network that ships, eight epochs each, one thread; the aim is AP50
0.9 out of fold within ten minutes on two cores. CPU seconds are printed too, as wall time on a busy machine says
little.
"""

import os
import platform
import time

import numpy as np

IMAGES, SIZE, FOLDS, AIM = 240, 160, 4, 0.9


def average_precision(truths, found, classes):
    "AP50, AP, and AP50 by class, by faster-coco-eval."
    from faster_coco_eval import COCO, COCOeval_faster

    def wide(b):
        return [float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])]

    marks = [
        {
            "image_id": i,
            "category_id": int(k) + 1,
            "bbox": wide(b),
            "area": float((b[2] - b[0]) * (b[3] - b[1])),
            "iscrowd": int(g),
        }
        for i, t in enumerate(truths)
        for b, k, g in zip(t["boxes"], t["labels"], t["ignore"])
    ]
    said = [
        {"image_id": i, "category_id": int(k) + 1, "bbox": wide(b), "score": float(s)}
        for i, d in enumerate(found)
        for b, k, s in zip(d["boxes"], d["labels"], d["scores"])
    ]
    truth = COCO({
        "images": [{"id": i} for i in range(len(truths))],
        "annotations": [{"id": k, **m} for k, m in enumerate(marks, 1)],
        "categories": [{"id": k, "name": c} for k, c in enumerate(classes, 1)],
    })
    judge = COCOeval_faster(truth, truth.loadRes(said), "bbox", print_function=lambda *a: None)
    judge.run()
    by_class = judge.eval["precision"][0, :, :, 0, 2]
    return (
        float(judge.stats[1]),
        float(judge.stats[0]),
        {c: float(column[column > -1].mean()) for c, column in zip(classes, by_class.T)},
    )


def told(step, values):
    print(f"{step}: loss {values['loss']:.3f}, {time.process_time():.0f} CPU s", flush=True)


def test_pasted_digits(tmp_path, monkeypatch):
    monkeypatch.setenv("CVKIT_CACHE", str(tmp_path / "cache"))
    from cvkit.data.boxes import true_boxes
    from cvkit.data.examples import load_pasted_digits
    from cvkit.model.backbones import load_backbone
    from cvkit.model.detector_network import letterboxed
    from cvkit.model.detector_training import cross_fit_detector
    from cvkit.model.plan import PlanOptions
    from cvkit.model.recipe import Detector

    manifest = load_pasted_digits(tmp_path / "digits", IMAGES, size=SIZE).manifest
    cores, wall, cpu = len(os.sched_getaffinity(0)), time.perf_counter(), time.process_time()
    fit = cross_fit_detector(
        manifest,
        letterboxed(load_backbone(size=SIZE)),
        Detector(epochs=8, mirror=False),
        folds=np.arange(IMAGES) % FOLDS,
        folder=tmp_path / "fit",
        plan=PlanOptions(device="cpu", layout="channels_last", threads=1),
        report=told,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    best, mean, by_class = average_precision(true_boxes(manifest), fit.detections, manifest.classes)
    print(
        f"\n{platform.machine()}, {cores} cores, load {os.getloadavg()[0]:.1f}: {IMAGES} pictures, {FOLDS} folds and "
        f"the final network, {fit.recipe.epochs} epochs: AP50 {best:.3f} (aim {AIM}), AP {mean:.3f}, "
        f"{', '.join(f'{c} {v:.3f}' for c, v in by_class.items())}; {wall:.0f} s (aim 600), {cpu:.0f} CPU s"
    )
    assert best >= AIM
