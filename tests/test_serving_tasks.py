"""Several labels and boxes: what the graph makes is what is answered, drawn, logged, counted, watched and proved, in
the process and by a real Seldon server."""

import base64
import json
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from test_serving import encode, photo

from cvkit.core import BundleError, DataError, ServeError
from cvkit.data.boxes import place_detections
from cvkit.data.preprocess import decode_image, letterbox_geometry
from cvkit.monitoring.drift import drift_test
from cvkit.release.bundle import check_spec, write_bundle
from cvkit.serving.parity import serving_parity
from cvkit.serving.predictions import (
    Detections,
    LabelPredictions,
    Predictions,
    boxes_above_threshold,
    class_probabilities,
    detection_outputs,
    monitored_output_names,
    monitored_outputs,
)
from cvkit.serving.predictor import Predictor, PyfuncModel, upright_size
from cvkit.serving.reference import fit_reference, project
from cvkit.serving.seldon_component import SeldonModel
from cvkit.serving.seldon_server import SeldonServer, seldon_python
from cvkit.stats import sigmoid, softmax

random = np.random.default_rng(0)
side, names = 64, ["crack", "stain", "hole"]
matrix = np.float32([[6, -4, 2], [-2, -2, 2], [-4, 6, 2]])
nms = {"iou": 0.5, "score": 0.3, "most": 14}
base = dict(name="Fliesen", classes=names, temperature=1.0, licence="CC0-1.0", digests={}, thresholds=[0.5, 0.45, 0.6])
label_spec = {**base, "task": "multilabel", "preprocess": {"size": side}}
box_spec = {**base, "task": "detection", "preprocess": {"size": side, "resize": "letterbox"}, "nms": nms}
places = np.sort(np.float32(random.uniform(0, side, (12, 2, 2))), 1).reshape(12, 4) + np.float32([
    0,
    0,
    3,
    3,
])  # of 12 anchors: x1, y1, x2, y2


def label_graph(width=3):
    "The mean of each colour, times a matrix."

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "matrix"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "labels",
        [value("images", "n", 3, side, side)],
        [value("logits", "n", width), value("embedding", "n", 3)],
        [numpy_helper.from_array(matrix[:, :width], "matrix")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def box_graph(outputs=("boxes", "scores", "selected", "embedding"), classes=3):
    "Twelve anchors that stay where they are, with scores from the mean of each colour, and ONNX's own suppression."

    def value(name, *shape):
        return helper.make_tensor_value_info(
            name, TensorProto.INT64 if name == "selected" else TensorProto.FLOAT, shape
        )

    weights = np.random.default_rng(1).normal(-0.3, 2, (3, classes * 12)).astype(np.float32)
    kept = {
        "places": places[None],
        "weights": weights,
        "flat": np.array([0, classes, 12]),
        "tail": np.array([12, 4]),
        "most": np.array([50]),
        "iou": np.float32([nms["iou"]]),
        "least": np.float32([nms["score"]]),
    }
    nodes = [
        helper.make_node(kind, given.split(), [made], **more)
        for kind, given, made, more in [
            ("GlobalAveragePool", "images", "pooled", {}),
            ("Flatten", "pooled", "embedding", {}),
            ("MatMul", "embedding weights", "logits", {}),
            ("Reshape", "logits flat", "wide", {}),
            ("Sigmoid", "wide", "scores", {}),
            ("Shape", "images", "many", dict(start=0, end=1)),
            ("Concat", "many tail", "shape", dict(axis=0)),
            ("Expand", "places shape", "boxes", {}),
            ("NonMaxSuppression", "boxes scores most iou least", "selected", {}),
        ]
    ]
    made = {
        "boxes": value("boxes", "n", 12, 4),
        "scores": value("scores", "n", classes, 12),
        "selected": value("selected", "m", 3),
        "embedding": value("embedding", "n", 3),
    }
    graph = helper.make_graph(
        nodes,
        "boxes",
        [value("images", "n", 3, side, side)],
        [made[o] for o in outputs],
        [numpy_helper.from_array(a, n) for n, a in kept.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def reference(answers):
    return fit_reference(
        np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32), np.random.default_rng(2).random((60, answers))
    )


@pytest.fixture(scope="module")
def labeller(tmp_path_factory):
    return Predictor(
        write_bundle(tmp_path_factory.mktemp("labels") / "bundle", label_graph(), label_spec, reference(3)), threads=1
    )


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Predictor(
        write_bundle(tmp_path_factory.mktemp("boxes") / "bundle", box_graph(), box_spec, reference(4)), threads=1
    )


pictures = [
    photo(i, *size) for i, size in enumerate([(40, 160), (160, 40), (64, 64), (200, 240), (8, 80), (80, 48), (120, 80)])
]


# ---- what a bundle must say

wrong_specs = [
    ({**label_spec, "task": "segmentation"}, "expected a task (classification, multilabel, detection)"),
    ({**label_spec, "task": None}, "expected a task"),
    (
        {k: v for k, v in label_spec.items() if k != "thresholds"},
        "`thresholds`, a number between 0 and 1 for each of crack, stain, hole",
    ),
    ({**label_spec, "thresholds": [0.5, 0.5]}, "`thresholds`"),
    ({**box_spec, "thresholds": [0.5, 0, 0.5]}, "`thresholds`"),
    ({**box_spec, "thresholds": [0.5, True, 0.5]}, "`thresholds`"),
    ({**box_spec, "thresholds": [0.5, float("nan"), 0.5]}, "`thresholds`"),
    ({**box_spec, "thresholds": 0.5}, "`thresholds`"),
    ({**label_spec, "temperature": 1.2}, "temperature 1 for multilabel"),
    ({**box_spec, "temperature": 2}, "temperature 1 for detection"),
    ({k: v for k, v in box_spec.items() if k != "nms"}, "`nms` with iou and score"),
    ({**box_spec, "nms": {**nms, "iou": 1}}, "`nms`"),
    ({**box_spec, "nms": {**nms, "most": 0}}, "`nms`"),
    ({**box_spec, "nms": {**nms, "most": 10.5}}, "`nms`"),
    ({**box_spec, "nms": {"iou": 0.5, "most": 3}}, "`nms`"),
    ({**box_spec, "nms": {**nms, "score": -0.1}}, "`nms`"),
    ({**box_spec, "preprocess": {"size": 64}}, "resize letterbox"),
    ({**box_spec, "preprocess": None}, "resize letterbox"),
    ({**box_spec, "classes": []}, "one or more different class names"),
    ({**label_spec, "classes": ["crack"], "thresholds": [0.5]}, "two or more different class names"),
    ({**label_spec, "nms": nms}, "`nms` for detection only"),
    ({**box_spec, "threshold": 0.5}, "`threshold` for classification only"),
]
two = dict(
    name="Fliesen",
    task="classification",
    classes=["sound", "crack"],
    positive="crack",
    preprocess={"size": side},
    temperature=1.5,
    licence="CC0-1.0",
    digests={},
)
stairs = {"x": [0.1, 0.4, 0.9], "y": [0.0, 0.5, 0.5]}
wrong_specs += [
    ({**two, **more}, words)
    for more, words in [
        ({"threshold": 0}, "a `threshold` between 0 and 1"),
        ({"threshold": "0.5"}, "a `threshold`"),
        ({"threshold": 0.5, "positive": None}, "which is `positive`"),
        ({"threshold": 0.5, "classes": ["sound", "crack", "stain"]}, "two classes and which is `positive`"),
        ({"isotonic": {"x": [0.1, 0.1], "y": [0, 1]}}, "rising x"),
        ({"isotonic": {"x": [0.1, 0.2], "y": [0.5, 0.4]}}, "y that do not fall"),
        ({"isotonic": {"x": [0.1, 0.2], "y": [0.5, 1.1]}}, "from 0 to 1"),
        ({"isotonic": {"x": [0.1], "y": [0.5]}}, "`isotonic`"),
        ({"isotonic": {"x": [0.1, 0.2, 0.3], "y": [0.5, 0.6]}}, "as many y"),
        ({"isotonic": [[0.1, 0.2], [0.1, 0.2]]}, "`isotonic`"),
        ({"thresholds": [0.5, 0.5]}, "`thresholds` for multilabel or detection only"),
    ]
]


@pytest.mark.parametrize("spec, words", wrong_specs)
def test_what_a_server_could_misread_is_refused(spec, words):
    with pytest.raises(BundleError) as caught:
        check_spec(spec)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        label_spec,
        box_spec,
        two,
        {**two, "threshold": 0.2},
        {**two, "isotonic": stairs, "threshold": 0.7},
        {**two, "isotonic": None},
        {**box_spec, "classes": ["crack"], "thresholds": [0.5]},
    ],
)
def test_what_can_be_served(spec):
    assert check_spec(spec) is spec


# ---- one label of two


def test_threshold_and_calibration_of_two_classes(tmp_path):
    plain, wary = (
        Predictor(write_bundle(tmp_path / name, label_graph(2), {**two, **more}))
        for name, more in (("plain", {}), ("wary", {"isotonic": stairs, "threshold": 0.3}))
    )
    images = [photo(i) for i in range(30)]
    before, after = plain.predict(images), wary.predict(images)
    p = softmax(before.logits, 1.5)[:, 1]
    assert np.array_equal(before.probabilities[:, 1], p) and before.labels == [
        two["classes"][i] for i in before.probabilities.argmax(1)
    ], "nothing has changed where there is neither"
    assert np.allclose(after.probabilities[:, 1], np.interp(p, stairs["x"], stairs["y"]), atol=1e-12) and np.allclose(
        after.probabilities.sum(1), 1
    )
    assert after.labels == ["crack" if q >= 0.3 else "sound" for q in after.probabilities[:, 1]] and after.labels != [
        two["classes"][i] for i in after.probabilities.argmax(1)
    ]
    assert str(after).splitlines()[0].split() == [
        after.labels[0],
        f"{after.probabilities[0, two['classes'].index(after.labels[0])]:.3f}",
    ]


def test_a_threshold_belongs_to_the_positive_class_wherever_it_stands():
    p = np.array([[0.3, 0.7], [0.2, 0.8], [0.6, 0.4]])
    assert Predictions(["crack", "sound"], p, p, p, "crack", 0.3).labels == ["crack", "sound", "crack"] and Predictions(
        ["crack", "sound"], p, p, p
    ).labels == ["sound", "sound", "crack"]
    swapped = class_probabilities(
        np.log(p), {**two, "classes": ["crack", "sound"], "temperature": 1, "isotonic": stairs}
    )
    assert np.allclose(swapped[:, 0], np.interp(p[:, 0], stairs["x"], stairs["y"]))


# ---- several labels


def test_labels_by_hand(labeller):
    found = labeller.predict([photo(i) for i in range(12)])
    mean = np.array([(labeller.preprocess.pixels(photo(i)) / 127.5 - 1).mean((0, 1)) for i in range(12)])
    expected = 1 / (1 + np.exp(-(mean @ matrix.astype(float))))
    assert (
        isinstance(found, LabelPredictions)
        and np.allclose(found.probabilities, expected, atol=1e-5)
        and np.allclose(found.embedding, mean, atol=1e-5)
    )
    assert found.labels == [
        [n for n, p, t in zip(names, row, base["thresholds"]) if p >= t] for row in found.probabilities
    ] and {len(labels) for labels in found.labels} > {1}
    again = json.loads(json.dumps(found.to_dict()))["predictions"]
    assert [a["labels"] for a in again] == found.labels and [
        list(a["probabilities"].values()) for a in again
    ] == found.probabilities.tolist()
    assert len(str(found).splitlines()) == len(found) == 12 and found._repr_html_().count("<tr>") == 13


@given(st.floats(-1e6, 1e6))
def test_a_sigmoid_of_anything(z):
    p, q = sigmoid(np.array([z, -z]))
    assert 0 <= p <= 1 and p + q == pytest.approx(1) and (p >= 0.5) == (z >= 0 or p == 0.5)


# ---- boxes


def by_hand(scores, picture):
    "Greedy suppression, class by class, back to the picture, in plain Python."
    h, w = picture.shape[:2]
    place, found = letterbox_geometry(w, h, side), []

    def area(b):
        return max(0, b[2] - b[0]) * max(0, b[3] - b[1])

    for c in range(len(scores)):
        kept = []
        for a in np.argsort(-scores[c], kind="stable"):
            both = [
                area((*np.maximum(places[a][:2], places[k][:2]), *np.minimum(places[a][2:], places[k][2:])))
                for k in kept
            ]
            if scores[c][a] > nms["score"] and all(
                i / (area(places[a]) + area(places[k]) - i) <= nms["iou"] for i, k in zip(both, kept)
            ):
                kept.append(a)
        for a in kept:
            x1, y1, x2, y2 = (
                (places[a][k] - (place.left, place.top)[k % 2]) / (place.scale_x, place.scale_y)[k % 2]
                for k in range(4)
            )
            box = [min(max(x1, 0), w), min(max(y1, 0), h), min(max(x2, 0), w), min(max(y2, 0), h)]
            if box[2] > box[0] and box[3] > box[1]:
                found.append((-scores[c][a], c, a, box))
    return sorted(found)[: nms["most"]]


def test_boxes_by_hand(detector):
    found = detector.predict(pictures)
    assert isinstance(found, Detections) and found.sizes == [p.shape[1::-1] for p in pictures]
    tensor = detector.preprocess.tensor(np.stack([detector.preprocess.pixels(p) for p in pictures]))
    (scores,) = detector.run(tensor, ["scores"])
    for row, s, picture in zip(found.rows, scores, pictures):
        expected = by_hand(s, picture)
        assert (
            row["labels"].tolist() == [e[1] for e in expected]
            and np.allclose(row["scores"], [-e[0] for e in expected])
            and np.allclose(row["boxes"], [e[3] for e in expected], atol=1e-3)
        )
        assert (row["boxes"].dtype, row["labels"].dtype, row["scores"].dtype) == (
            "float32",
            "int64",
            "float32",
        ) and len(row["boxes"]) <= nms["most"]
    assert (
        sum(map(len, found.boxes)) < sum(len(r["boxes"]) for r in found.rows)
        and max(len(r["boxes"]) for r in found.rows) == nms["most"]
    )
    assert [[b["label"] for b in row] for row in found.boxes] == [
        [names[k] for k, s in zip(r["labels"], r["scores"]) if s >= base["thresholds"][k]] for r in found.rows
    ]
    assert (
        json.loads(json.dumps(found.to_dict()))["predictions"] == [{"boxes": b} for b in found.boxes]
        and len(str(found).splitlines()) == len(found) == 7
        and found._repr_html_().count("<tr>") == 8
    )


@pytest.mark.parametrize("batch", [1, 2, 3, 32])
def test_any_batch_finds_the_same_boxes(detector, batch):
    alone, found = [detector.predict(p) for p in pictures], detector.predict(pictures, batch=batch)
    for one, row in zip(alone, found.rows):
        assert all(np.array_equal(one.rows[0][k], row[k]) for k in row)
    assert np.array_equal(found.embedding, np.concatenate([a.embedding for a in alone]))


def test_pixels_with_and_without_the_size_of_their_pictures(detector):
    pixels = np.stack([detector.preprocess.pixels(p) for p in pictures])
    sized, square = (
        detector.predict_pixels(pixels, sizes=[p.shape[1::-1] for p in pictures]),
        detector.predict_pixels(pixels),
    )
    assert (
        all(np.array_equal(a["boxes"], b["boxes"]) for a, b in zip(sized.rows, detector.predict(pictures).rows))
        and square.sizes == [(side, side)] * 7
    )
    assert np.array_equal(square.rows[2]["boxes"], sized.rows[2]["boxes"]) and not np.array_equal(
        square.rows[0]["boxes"], sized.rows[0]["boxes"]
    )
    for sizes in ([(9, 9)], [], [(9, 9)] * 8):
        with pytest.raises(DataError, match=f"expected a size for each of 7 images, got {len(sizes)}"):
            detector.predict_pixels(pixels, sizes=sizes)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(9))
def test_a_box_lies_where_a_viewer_shows_it(detector, kind, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    file = encode(photo(1, 40, 160), kind, exif=exif)
    upright = decode_image(file)
    assert upright_size(file) == upright.shape[1::-1] == ((40, 160) if turn > 4 else (160, 40))
    assert np.array_equal(
        detector.predict(file).rows[0]["boxes"], detector.predict(upright).rows[0]["boxes"]
    ) and detector.predict(bytearray(file)).sizes == [upright.shape[1::-1]]


def test_nothing_found_is_an_answer():
    (empty,) = place_detections(
        places[None],
        np.zeros((1, 3, 12), np.float32),
        np.zeros((0, 3), np.int64),
        [letterbox_geometry(9, 9, side)],
        [(9, 9)],
    )
    assert {k: (v.shape, v.dtype.name) for k, v in empty.items()} == {
        "boxes": ((0, 4), "float32"),
        "labels": ((0,), "int64"),
        "scores": ((0,), "float32"),
    }
    found = Detections(names, [0.5] * 3, [empty], [(9, 9)], np.zeros((1, 3)))
    assert found.boxes == [[]] and str(found) == "no box" and monitored_outputs(found).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    "graph, words",
    [
        (
            box_graph(["boxes", "scores", "embedding"]),
            (
                "expected input images and outputs boxes, scores, selected and embedding in .*, got images and boxes, "
                "scores, embedding;"
            ),
        ),
        (label_graph(), "got images and logits, embedding;"),
        (box_graph(classes=2), "expected 3 scores in .*, one for each of crack, stain, hole, got 2"),
    ],
)
def test_a_graph_that_finds_no_boxes(tmp_path, graph, words):
    with pytest.raises(BundleError, match=words):
        Predictor(write_bundle(tmp_path / "bundle", graph, box_spec))


def test_tables_for_mlflow(labeller, detector):
    files = [encode(p) for p in pictures]
    labels, boxes = (PyfuncModel(p).predict(files) for p in (labeller, detector))
    assert (
        list(labels) == ["labels", "p.crack", "p.stain", "p.hole"]
        and labels["labels"].tolist() == labeller.predict(files).labels
        and boxes["boxes"].tolist() == detector.predict(files).boxes
    )


def test_boxes_need_numpy_pillow_and_onnxruntime_only(detector):
    code = (
        "import sys, numpy\nfrom cvkit.serving.seldon_component import SeldonModel\nfrom cvkit.serving.parity import "
        "serving_parity\nm = SeldonModel(sys.argv[1]); m.load()\nfrom io import BytesIO; from PIL import Image\nout = "
        "BytesIO(); Image.new('RGB', (9, 9)).save(out, 'PNG')\nassert m.answer(out.getvalue(), "
        "draw=True)[0]['png']\nprint(*{m.split('.')[0] for m in sys.modules})"
    )
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", code, detector.bundle.folder], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    assert {"numpy", "PIL", "onnxruntime"} <= loaded and not loaded & {
        "torch",
        "timm",
        "pandas",
        "scipy",
        "sklearn",
        "matplotlib",
        "mlflow",
        "pyarrow",
        "cv2",
    }


# ---- monitor


def test_four_numbers_of_boxes_by_hand():
    row = {
        "boxes": np.float32([[0, 0, 10, 10], [5, 5, 15, 15], [0, 0, 20, 40]]),
        "labels": np.array([0, 1, 1]),
        "scores": np.float32([0.75, 0.5, 0.25]),
    }
    found = detection_outputs([row, {k: v[2:] for k, v in row.items()}], [(20, 40), (20, 40)], [0.5, 0.5])
    assert (
        np.allclose(found, [[2, 0.625, 175 / 800, 10 / np.sqrt(800)], [0, 0, 0, 0]])
        and len(monitored_output_names("detection", names)) == 4
    )
    assert np.allclose(detection_outputs([row], [(20, 40)], [0.5, 0.2])[0, [0, 2]], [3, 1]) and [
        len(r["boxes"]) for r in boxes_above_threshold([row], [0.8, 0.4])
    ] == [1]


@given(st.integers(0, 10_000))
def test_what_boxes_cover_is_counted_once(seed):
    corners = np.sort(np.random.default_rng(seed).integers(0, 25, (9, 2, 2)), 1).reshape(9, 4)
    painted = np.zeros((25, 25), bool)
    for x1, y1, x2, y2 in corners:
        painted[y1:y2, x1:x2] = True
    row = {"boxes": corners.astype(np.float32), "labels": np.zeros(9, int), "scores": np.ones(9, np.float32)}
    assert detection_outputs([row], [(25, 25)], [0.5])[0, 2] == pytest.approx(painted.sum() / 625)


def test_drift_of_boxes_is_named(detector):
    "Fewer boxes, from the same embeddings."
    n = np.random.default_rng(3).poisson(6, 300) + 1
    rows = [
        {"boxes": np.float32([[0, 0, 8, 8]] * k), "labels": np.zeros(k, int), "scores": np.full(k, 0.9, np.float32)}
        for k in n
    ]
    answers, seen = (
        detection_outputs(rows, [(80, 80)] * 300, [0.5]),
        np.random.default_rng(4).normal(size=(300, 5)).astype(np.float32),
    )
    kept = fit_reference(seen[:200], answers[:200])
    there, channel = (kept["projected"], kept["answers"]), monitored_output_names("detection", ["nut"])
    fewer = answers[200:] * [0.5, 1, 1, 1]
    quiet, moved = (drift_test(there, (project(seen[200:], kept), a), channel) for a in (answers[200:], fewer))
    assert not quiet.alarm and moved.alarm and max(moved.channels, key=moved.channels.get) == "boxes"
    assert list(drift_test(there, there).channels)[-4:] == ["answer 1", "answer 2", "answer 3", "answer 4"]
    with pytest.raises(DataError, match="expected names of 4 answers, got 1"):
        drift_test(there, there, ["boxes"])


# ---- component


def test_lines_and_counters_of_labels(labeller, tmp_path):
    model = SeldonModel(str(labeller.bundle.folder), log=str(tmp_path / "log"))
    model.load()
    for _i, file in enumerate(encode(photo(i)) for i in range(12)):
        answer, metrics = model.answer(file, draw=True)
        expected, line = labeller.predict(file), json.loads((tmp_path / "log").read_text().splitlines()[-1])
        assert answer == {
            **expected.to_dict()["predictions"][0],
            "model": "Fliesen",
            "bundle": labeller.bundle.digest,
        } and (line["labels"], line["answers"]) == (expected.labels[0], expected.probabilities[0].tolist())
        assert [(m["key"], m["value"], m.get("tags")) for m in metrics if m["type"] == "COUNTER"] == [
            ("cvkit_images", 1, None),
            *(("cvkit_labels", 1, {"label": name}) for name in expected.labels[0]),
        ]


# ---- a real server


@pytest.fixture(scope="module")
def served(detector, tmp_path_factory):
    try:
        seldon_python()
    except ServeError as error:
        pytest.skip(str(error))
    log = tmp_path_factory.mktemp("log") / "requests.jsonl"
    with SeldonServer(detector.bundle.folder, log=log, digest=detector.bundle.digest) as server:
        yield server, log


files = [encode(p) for p in pictures] + [encode(photo(9, 200, 80), "JPEG", quality=90)]


def test_served_boxes_are_the_predictors_over_both_protocols(served, detector):
    server, log = served
    before = len(log.read_text().splitlines())
    rest, grpc, found = server.rest(files), server.grpc(files), [detector.predict(f) for f in files]
    expected = [
        {
            "boxes": f.boxes[0],
            "width": f.sizes[0][0],
            "height": f.sizes[0][1],
            "model": "Fliesen",
            "bundle": detector.bundle.digest,
        }
        for f in found
    ]
    assert rest == expected and grpc == expected and len({len(a["boxes"]) for a in rest}) > 1
    together = detector.predict(files)
    assert serving_parity(rest, grpc, together.rows, names, base["thresholds"]) == {
        "n": 8,
        "max_abs_diff": 0.0,
        "rest": 0.0,
        "grpc": 0.0,
        "score": 0.0,
        "pixels": 0.0,
    }
    lines = [json.loads(line) for line in log.read_text().splitlines()[before:]]
    assert {tuple(line) for line in lines} == {
        ("answers", "at", "boxes", "bundle", "milliseconds", "projected")
    } and np.allclose([line["answers"] for line in lines], [monitored_outputs(f)[0] for f in found] * 2, rtol=1e-12)
    assert [line["boxes"] for line in lines[:8]] == [
        {n: f.labels[0].count(n) for n in names if n in f.labels[0]} for f in found
    ]


def test_a_picture_is_drawn_on_request_over_both_protocols(served):
    server, _ = served
    plain, (rest,), (grpc,) = (
        server.rest(files[3:4])[0],
        server.rest(files[3:4], draw=True),
        server.grpc(files[3:4], draw=True),
    )
    assert rest == grpc and {k: v for k, v in rest.items() if k != "png"} == plain and plain["boxes"]
    drawn, before = (
        np.asarray(Image.open(BytesIO(f)).convert("RGB").resize((512, 427), Image.Resampling.LANCZOS), int)
        for f in (base64.b64decode(rest["png"]), files[3])
    )
    changed = np.abs(drawn - before).max(2) > 40
    for x1, y1, x2, y2 in (np.array(b["box"]) * 512 / 240 for b in plain["boxes"]):
        rows, columns = (slice(max(0, int(v) - 4), int(v) + 5) for v in (y1, x1))
        assert (
            changed[rows, int(x1) : int(x2)].any(0).mean() > 0.9
            and changed[int(y1) : int(y2), columns].any(1).mean() > 0.9
        ), "the upper and the left side"
    assert 0.001 < changed.mean() < 0.6
    with pytest.raises(ServeError, match="expected grpc for drawn boxes"):
        server.with_seldon_client(files[:1], "rest", draw=True)
    with pytest.raises(ServeError, match="image 0 over grpc: expected an image"):
        server.grpc([b"Dear Sir"], draw=True)


def test_what_a_detector_refuses_and_counts(served, detector):
    server, _ = served

    def count():
        return {
            n: sum(
                float(line.split()[-1])
                for line in server.metrics().splitlines()
                if line.startswith("cvkit_boxes_total") and f'label="{n}"' in line
            )
            for n in names
        }

    before, boxes = count(), [b["label"] for a in server.rest(files) for b in a["boxes"]]
    now = count()
    assert {n: now[n] - before[n] for n in names} == {n: boxes.count(n) for n in names}
    for body, words in (
        ({"binData": "Dear Sir"}, "400: expected base64"),
        ({"binData": base64.b64encode(files[0]).decode(), "meta": {"tags": [1]}}, '400: expected {"tags"'),
        ({"binData": base64.b64encode(files[0]).decode(), "meta": None}, '400: expected {"tags"'),
    ):
        with pytest.raises(ServeError) as caught:
            server._get("/api/v1.0/predictions", body)
        assert words in str(caught.value)
    for tag in ("yes", 1, False, None):
        assert (
            "png"
            not in json.loads(
                server._get(
                    "/api/v1.0/predictions",
                    {"binData": base64.b64encode(files[0]).decode(), "meta": {"tags": {"draw": tag}}},
                )
            )["jsonData"]
        )
    custom = server.metadata()["custom"]
    assert (
        custom["task"] == "detection"
        and custom["thresholds"] == "0.5,0.45,0.6"
        and custom["classes"] == "crack,stain,hole"
    )


# ---- parity

row = {
    "boxes": np.float32([[0, 0, 10, 10], [5, 5, 15, 15]]),
    "labels": np.array([0, 1]),
    "scores": np.float32([0.75, 0.5]),
}


def answer(move=0, less=0, **more):
    return {
        "boxes": [
            {"label": names[k], "score": float(s) - less, "box": [float(v) + move for v in b]}
            for k, s, b in zip(row["labels"], row["scores"], row["boxes"])
        ],
        "width": 200,
        "height": 50,
        **more,
    }


def test_parity_of_boxes_is_the_largest_difference_anywhere():
    found = serving_parity([answer(move=3)], [answer(less=0.03)], [row], names, [0.5] * 3)
    assert found == {
        "n": 1,
        "max_abs_diff": pytest.approx(0.03),
        "rest": pytest.approx(3 / 200),
        "grpc": pytest.approx(0.03),
        "score": pytest.approx(0.03),
        "pixels": pytest.approx(3),
    }
    assert serving_parity([], [], [], names, [0.5] * 3)["max_abs_diff"] == 0


def test_boxes_with_nearly_one_score_may_change_places():
    "Another version of onnxruntime makes .99999994 of .9999999; each box still finds its own."
    three = {
        "boxes": np.float32([[0, 0, 10, 10], [50, 5, 60, 15], [90, 0, 95, 9]]),
        "labels": np.array([0, 0, 1]),
        "scores": np.float32([0.9999, 0.99989, 0.8]),
    }
    served = [
        {"label": names[k], "score": float(s), "box": b.tolist()}
        for k, s, b in zip(three["labels"], three["scores"], three["boxes"])
    ]
    found = [
        serving_parity(
            [{"boxes": [served[i] for i in order], "width": 100, "height": 20}],
            [{"boxes": served, "width": 100, "height": 20}],
            [three],
            names,
            [0.5] * 3,
        )["max_abs_diff"]
        for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0))
    ]
    assert found == [0, 0, 0]
    served[1] = {**served[1], "box": served[0]["box"]}
    assert (
        serving_parity(
            [{"boxes": served, "width": 100, "height": 20}],
            [{"boxes": served, "width": 100, "height": 20}],
            [three],
            names,
            [0.5] * 3,
        )["max_abs_diff"]
        == 0.5
    ), "two on one place are not two"


relabelled = answer(boxes=[{**b, "label": "stain"} for b in answer()["boxes"]])


@pytest.mark.parametrize(
    "rest, grpc, words",
    [
        ([], [answer()], "expected 1 answers over rest, got 0"),
        ([answer()], [answer(boxes=answer()["boxes"][:1])], "image 0 over grpc: .*1 crack, 1 stain.*, got 1 crack;"),
        ([relabelled], [answer()], "image 0 over rest: .*1 crack, 1 stain.*, got 2 stain;"),
        ([answer()], [{"label": "crack"}], "expected boxes over grpc"),
        ([answer(move=np.nan)], [answer()], "expected finite boxes over rest, got 8 numbers"),
    ],
)
def test_parity_of_other_boxes_is_refused(rest, grpc, words):
    with pytest.raises(ServeError, match=words):
        serving_parity(rest, grpc, [row], names, [0.5] * 3)
