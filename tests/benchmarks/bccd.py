"""Blood cells (BCCD, 364 pictures, MIT licence), by the commands: a detector in five folds with its intervals, and
which kinds of cells are there as labels.

    python tests/benchmarks/bccd.py FOLDER   # FOLDER holds Annotations and JPEGImages; bccd.json beside this file

Trainings lie in --work (runs/bccd) and go on where they were killed. All numbers are out of fold: each picture is
judged by the one network that had not seen it. The baseline needs no network: the boxes that are commonest in the
pictures of the other folds, wherever they lie there, said of every picture.
"""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

here = Path(__file__).resolve().parent


def three(e):
    return {
        k: round(v, 4) if isinstance(v, float) else v
        for k, v in (e if isinstance(e, dict) else e.to_dict()).items()
        if k in ("value", "low", "high", "n")
    }


def as_labels(manifest):
    "The same pictures, labelled with the kinds that are in them."
    from cvkit.data.manifest import Manifest

    table = manifest.table.assign(labels=manifest.label_sets, label="").drop(columns="boxes")
    return Manifest(table, manifest.root, manifest.dataset)


def main():
    import cvkit
    from cvkit.core import write_json
    from cvkit.data.boxes import true_boxes
    from cvkit.evidence.detection_metrics import detection_estimates
    from cvkit.evidence.detection_report import commonest_boxes

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder")
    options.add_argument("--work", type=Path, default=Path("runs/bccd"))
    options.add_argument("--size", type=int, default=256)
    options.add_argument("--epochs", type=int, default=6)
    asked = options.parse_args()
    manifest = cvkit.ingest(asked.folder, out=str(asked.work / "ingest"))
    bad = [
        box
        for finding in cvkit.check(manifest, out=str(asked.work / "check")).findings
        if finding.kind == "bad_box"
        for box in finding.paths
    ]
    trained = cvkit.train(
        manifest,
        out=str(asked.work / "train"),
        size=asked.size,
        recipe=f"detector:epochs={asked.epochs},flip=True,turns=True",
        plan="device=cpu,layout=channels_last,precision=float32,threads=1",
        allow_leak=True,
    )
    used, truth = np.flatnonzero(trained.folds >= 0), true_boxes(manifest)
    seen = [truth[i] for i in used]
    blind = detection_estimates(
        seen,
        commonest_boxes(seen, manifest.table[["width", "height"]].to_numpy()[used], trained.folds[used]),
        manifest.classes,
        draws=400,
    )
    labels = cvkit.train(
        as_labels(manifest),
        out=str(asked.work / "labels"),
        size=224,
        splits=str(asked.work / "train" / "splits"),
        allow_leak=True,
    )
    found = {
        "protocol": (
            f"{len(manifest)} pictures, a fifth held out and not looked at; {len(used)} in five folds, all numbers "
            "out of fold"
        ),
        "bad_boxes_in": bad,
        "detection": {
            "size": asked.size,
            "epochs": asked.epochs,
            **{k: three(trained.cv["pooled"][k]) for k in ("ap50", "ap", "ap75", "precision", "recall", "f1")},
            "folds": [round(f["ap50"], 4) for f in trained.cv["folds"]],
        },
        "baseline": {
            "what": "the commonest boxes of the other folds, said of every picture",
            **{k: three(blind[k]) for k in ("ap50", "ap")},
        },
        "multilabel_by_presence": {
            k: three(labels.cv["pooled"][k])
            for k in ("map", "micro_f1", "macro_f1", "exact_match")
            if k in labels.cv["pooled"]
        },
        "leaks": trained.leaks.verdict,
        "seconds_of_training": round(sum(trained.cv["seconds"].values())),
        "command": shlex.join(["python", "tests/benchmarks/bccd.py", "FOLDER", *sys.argv[2:]]),
    }
    write_json(here / "bccd.json", found)
    print(trained, labels, *(f"{k}: {v}" for k, v in found.items()), sep="\n")


if __name__ == "__main__":
    main()
