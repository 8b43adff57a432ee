"An image that is forgotten: searched for with other means than those that erased it, in a run as people make them."
import base64, io, json, os, re, shutil, sqlite3, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvkit.core import DataError, ParameterError, digest_bytes, read_json

WHO = "crack/ann_smith 07.png"


def scene(seed, size=48):
    "A smooth picture that is like no other."
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)).resize((size, size), Image.Resampling.BICUBIC)


def make_data(folder, each=20):
    for k, c in enumerate(("crack", "whole")):
        (folder / c).mkdir(parents=True)
        for i in range(each): scene(100 * k + i).save(folder / c / (Path(WHO).name if (k, i) == (0, 7) else f"{i:02}.png"))
    (folder / "dataset.yaml").write_text("owner: Ada\nlicence: CC0-1.0\npii_status: none\n")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "Two runs, a notebook, a cache and a store that used the image; copied for each test."
    top = tmp_path_factory.mktemp("made")
    return build(top)


def build(top):
    import time
    t0 = time.time()
    before = {k: os.environ.get(k) for k in ("CVKIT_CACHE", "MLFLOW_TRACKING_URI")}
    os.environ |= {"CVKIT_CACHE": str(top / "cache"), "MLFLOW_TRACKING_URI": f"sqlite:///{top/'mlflow.db'}"}
    import cvkit
    from cvkit.flow.notebooks import run_notebook
    from cvkit.flow.records import add_to_record
    from cvkit.release.registry import register
    data = make_data(top / "data")
    say = lambda what: print(f"{what} {time.time() - t0:.1f}", file=sys.stderr)
    cvkit.ingest(str(data), str(top / "runs/small/ingest")); say("ingest")
    cvkit.train(str(top / "runs/small/ingest"), size=32); say("train")
    cvkit.evaluate(str(top / "runs/small/train"), str(top / "runs/small/ingest")); say("evaluate")
    cvkit.check(str(top / "runs/small/ingest"), trained=str(top / "runs/small/train")); say("check")
    register(top / "runs/small/train/bundle", "small"); say("register")
    say("end")
    os.environ.update({k: v for k, v in before.items() if v}) 
    return top

if __name__ == "__main__": build(Path(sys.argv[1]))
