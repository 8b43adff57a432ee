"""What the predictor costs beside a bare onnxruntime on the same pixels: normalisation and the graph, and for boxes
their way back to the picture; one thread each."""

import os
import platform
import time

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from cvkit.release.bundle import write_bundle
from cvkit.serving.predictor import Predictor
from cvkit.task_info import TASK_INFO

size, classes, anchors, most = 320, ["red", "white", "platelet"], 2100, 100


@pytest.fixture(scope="module", autouse=True)
def machine():
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )


def graph(task):
    "Four convolutions, the size of a small backbone; a head for classes, or for 2,100 anchors and ONNX's suppression."
    random, c = np.random.default_rng(0), len(classes)
    arrays, nodes, last = {}, [], "images"
    for i, (a, b) in enumerate([(3, 32), (32, 64), (64, 96), (96, 128)]):
        arrays[f"w{i}"] = random.normal(0, np.sqrt(2 / (9 * a)), (b, a, 3, 3)).astype(np.float32)
        nodes += [("Conv", f"{last} w{i}", f"c{i}", dict(strides=[2, 2], pads=[1] * 4)), ("Relu", f"c{i}", f"r{i}", {})]
        last = f"r{i}"
    nodes += [("GlobalAveragePool", last, "pooled", {}), ("Flatten", "pooled", "embedding", {})]
    width = c * anchors if task == "detection" else c
    arrays["head"] = random.normal(0, 0.3, (128, width)).astype(np.float32)
    nodes += [("MatMul", "embedding head", "flat" if task == "detection" else "logits", {})]
    made = {"logits": ("n", c), "embedding": ("n", 128)}
    if task == "detection":
        corner = random.uniform(0, size - 40, (anchors, 2))
        arrays |= {
            "places": np.hstack([corner, corner + random.uniform(10, 40, (anchors, 2))])[None].astype(np.float32),
            "wide": np.array([0, c, anchors]),
            "tail": np.array([anchors, 4]),
            "most": np.array([most]),
            "iou": np.float32([0.5]),
            "least": np.float32([0.5]),
        }
        nodes += [
            ("Reshape", "flat wide", "raw", {}),
            ("Sigmoid", "raw", "scores", {}),
            ("Shape", "images", "many", dict(start=0, end=1)),
            ("Concat", "many tail", "shape", dict(axis=0)),
            ("Expand", "places shape", "boxes", {}),
            ("NonMaxSuppression", "boxes scores most iou least", "selected", {}),
        ]
        made = {"boxes": ("n", anchors, 4), "scores": ("n", c, anchors), "selected": ("m", 3), "embedding": ("n", 128)}

    def value(name, shape):
        return helper.make_tensor_value_info(
            name, TensorProto.INT64 if name == "selected" else TensorProto.FLOAT, shape
        )

    whole = helper.make_graph(
        [helper.make_node(k, g.split(), [o], **more) for k, g, o, more in nodes],
        "bench",
        [value("images", ("n", 3, size, size))],
        [value(*m) for m in made.items()],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


@pytest.mark.parametrize("n", [1, 16])
@pytest.mark.parametrize("task", TASK_INFO)
def test_predictor_beside_onnxruntime(task, n, tmp_path):
    more = {"thresholds": [0.5] * 3} if task != "classification" else {}
    if task == "detection":
        more |= {"nms": {"iou": 0.5, "score": 0.5, "most": most}}
    spec = dict(
        name="bench",
        task=task,
        classes=classes,
        preprocess={"size": size, "resize": "letterbox"},
        temperature=1.0,
        licence="CC0-1.0",
        digests={},
        **more,
    )
    predictor = Predictor(write_bundle(tmp_path / "bundle", graph(task), spec), threads=1)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(tmp_path / "bundle" / "model.onnx"), options, providers=["CPUExecutionProvider"])
    pixels, sizes = np.random.default_rng(1).integers(0, 256, (n, size, size, 3), np.uint8), [(640, 480)] * n
    ways = {
        "bare": lambda: session.run(list(TASK_INFO[task].outputs), {"images": predictor.preprocess.tensor(pixels)}),
        "predictor": lambda: predictor.predict_pixels(pixels, sizes=sizes),
    }
    bare, found = (way() for way in ways.values())
    assert np.array_equal(found.embedding, bare[-1]), "the same graph"
    best = dict.fromkeys(ways, np.inf)
    for _ in range(60 if n == 1 else 12):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - start) / n)
    print(
        f"{task}, {n} at a time: "
        + ", ".join(f"{k} {v:.2f} ms an image" for k, v in best.items())
        + f", ratio {best['predictor'] / best['bare']:.3f}"
        + (f", {np.mean([len(r['boxes']) for r in found.rows]):.0f} boxes an image" if task == "detection" else "")
    )
    assert best["predictor"] < 1.1 * best["bare"]
