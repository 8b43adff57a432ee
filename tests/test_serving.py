"""The predictor gives the same bits however it is asked, the monitor raises alarms as often as it says, and a manifest
is what the cluster's schema takes."""

import copy
import inspect
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy.stats import binom, ks_2samp

from cvkit.core import BundleError, DataError, ParameterError
from cvkit.monitoring.drift import (
    Drift,
    drift_report,
    drift_test,
    false_alarm_rate,
    null_distances,
    smallest_visible_shift,
)
from cvkit.release.bundle import write_bundle
from cvkit.serving.deployment import _print_manifest, manifest_text, seldon_v1, seldon_v1_findings
from cvkit.serving.predictor import Predictor
from cvkit.serving.reference import fit_reference, project
from cvkit.serving.seldon_component import SeldonModel
from cvkit.stats import softmax

root = Path(__file__).resolve().parents[1]
classes = ["cracked", "sound", "dirty"]
spec = dict(
    name="Fliesen",
    task="classification",
    classes=classes,
    preprocess={"size": 32},
    temperature=1.7,
    licence="CC0-1.0",
    digests={},
)


def small_graph(width=3, inputs="images", outputs=("logits", "embedding")):
    "A convolution, a mean and a matrix with random weights, as bytes."
    random = np.random.default_rng(0)
    weights = {
        "kernel": random.normal(0, 0.4, (8, 3, 3, 3)),
        "matrix": random.normal(0, 2, (8, width)),
        "offset": random.normal(size=width),
    }
    nodes = [
        helper.make_node("Conv", [inputs, "kernel"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "matrix", "offset"], ["logits"]),
    ]

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    made = {"logits": value("logits", "n", width), "embedding": value("embedding", "n", 8)}
    graph = helper.make_graph(
        nodes,
        "small",
        [value(inputs, "n", 3, 32, 32)],
        [made[o] for o in outputs],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def small_bundle(folder, graph=None, **changes):
    "A bundle as `cvkit train` writes it, in small."
    reference = fit_reference(
        np.random.default_rng(1).normal(size=(120, 8)).astype(np.float32),
        np.random.default_rng(2).dirichlet(np.ones(3), 120),
    )
    return write_bundle(folder, graph or small_graph(), spec | changes, reference)


def photo(i, h=40, w=50):
    "Squares of eight pixels around a colour of its own."
    random = np.random.default_rng(i)
    return (
        np
        .clip(random.integers(0, 256, 3) + random.integers(-60, 60, (h // 8, w // 8, 3)), 0, 255)
        .astype(np.uint8)
        .repeat(8, 0)
        .repeat(8, 1)
    )


def encode(image, format="PNG", **options):
    out = BytesIO()
    Image.fromarray(image).save(out, format, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(small_bundle(tmp_path_factory.mktemp("bundle") / "bundle"), threads=1)


# ---- predictor


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 64])
def test_any_batch_gives_the_same_bits(predictor, batch):
    images = [photo(i) for i in range(23)]
    alone = np.concatenate([predictor.predict(i).logits for i in images])
    found = predictor.predict(images, batch=batch)
    assert np.array_equal(found.logits, alone) and len(found) == 23 and len(set(found.labels)) > 1


def test_files_bytes_and_arrays_agree(predictor, tmp_path):
    png, jpeg = encode(photo(1)), encode(photo(2), "JPEG", quality=90)
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    for path, data in zip(paths, (png, jpeg)):
        path.write_bytes(data)
    arrays = [photo(1), np.asarray(Image.open(paths[1]))]
    expected = predictor.predict(arrays)
    for given in (paths, list(map(str, paths)), [png, jpeg], [bytearray(png), jpeg], [paths[0], jpeg]):
        found = predictor.predict(given)
        assert np.array_equal(found.logits, expected.logits) and np.array_equal(found.embedding, expected.embedding)
    one, stack = predictor.predict(photo(1)), predictor.predict(np.stack([photo(1), photo(3)]))
    assert (
        np.array_equal(one.logits[0], expected.logits[0])
        and len(stack) == 2
        and np.array_equal(stack.logits[0], one.logits[0])
    )
    gray = photo(4)[..., 0]
    assert np.array_equal(predictor.predict(gray).logits, predictor.predict(np.dstack([gray] * 3)).logits)


def test_the_graph_is_what_is_answered(predictor):
    "By hand, in numpy: convolution, mean, matrix, temperature."
    w = {
        n.name: numpy_helper.to_array(n).astype(np.float64)
        for n in onnx.load_from_string(small_graph()).graph.initializer
    }
    x = predictor.preprocess.tensor(predictor.preprocess.pixels(photo(5))[None])[0].astype(np.float64)
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2]
    embedding = np.maximum(np.einsum("cijyx,kcyx->kij", patches, w["kernel"]), 0).mean((1, 2))
    logits, found = embedding @ w["matrix"] + w["offset"], predictor.predict(photo(5))
    assert np.allclose(found.embedding[0], embedding, atol=1e-5) and np.allclose(found.logits[0], logits, atol=1e-5)
    e = np.exp(logits / 1.7)
    assert np.allclose(found.probabilities[0], e / e.sum(), atol=1e-6)


def test_temperature_changes_how_sure_and_not_what(tmp_path):
    found = {
        t: Predictor(small_bundle(tmp_path / str(t), temperature=t)).predict([photo(i) for i in range(30)])
        for t in (0.5, 1.0, 4.0)
    }
    assert found[0.5].labels == found[1.0].labels == found[4.0].labels and np.array_equal(
        found[0.5].logits, found[4.0].logits
    )
    assert (found[0.5].probabilities.max(1) > found[1.0].probabilities.max(1)).all() and (
        found[1.0].probabilities.max(1) > found[4.0].probabilities.max(1)
    ).all()
    assert np.allclose(found[4.0].probabilities.sum(1), 1, atol=1e-12)


def test_softmax_of_anything_finite():
    assert np.array_equal(softmax([[1e300, -1e300]]), [[1, 0]]) and softmax(np.float32([[3, 3, 3]])).dtype == np.float64
    assert softmax([[-1e4, -1e4]])[0].tolist() == [0.5, 0.5]


def test_answers_as_plain_data(predictor):
    found = predictor.predict([photo(1), photo(2)])
    again = json.loads(json.dumps(found.to_dict()))["predictions"]
    assert [a["label"] for a in again] == found.labels and [
        list(a["probabilities"].values()) for a in again
    ] == found.probabilities.tolist()
    assert [line.split()[0] for line in str(found).splitlines()] == found.labels and found._repr_html_().count(
        "<tr>"
    ) == 3


bad_images = [
    ([b""], DataError, "image 0: expected an image, got an empty file"),
    ([encode(photo(0)), b"GIF89a"], DataError, "image 1: expected an image"),
    ([encode(photo(0))[:200]], DataError, "image 0: expected a whole image"),
    (["no such file.png"], DataError, "no such file.png: cannot be read (no such file"),
    (["."], DataError, "cannot be read (is a directory"),
    ([None], DataError, "image 0: expected bytes, a path or an array, got NoneType"),
    (7, DataError, "image 0: expected bytes, a path or an array, got int"),
    ([np.zeros((4, 4, 3))], DataError, "image 0: expected one image (h,w,3) or (h,w) uint8, got (4, 4, 3) float64"),
    ([np.zeros((4, 4, 4), np.uint8)], DataError, "got (4, 4, 4) uint8"),
    ([], DataError, "expected at least one image to predict, got none"),
]


@pytest.mark.parametrize("images, error, words", bad_images)
def test_what_cannot_be_predicted_is_named(predictor, images, error, words):
    with pytest.raises(error) as caught:
        predictor.predict(images)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "pixels, batch, words",
    [
        (np.zeros((2, 16, 16, 3), np.uint8), 4, "expected pixels (n,32,32,3), got (2, 16, 16, 3)"),
        (np.zeros((2, 32, 32, 3)), 4, "got (2, 32, 32, 3) float64"),
        (np.zeros((2, 32, 32), np.uint8), 4, "got (2, 32, 32)"),
        (np.zeros((2, 32, 32, 3), np.uint8), 0, "expected a batch of at least one image, got 0"),
    ],
)
def test_pixels_of_another_shape(predictor, pixels, batch, words):
    with pytest.raises((DataError, ParameterError)) as caught:
        predictor.predict_pixels(pixels, batch)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "graph, words",
    [
        (small_graph(outputs=["logits"]), "outputs logits and embedding in .*, got images and logits;"),
        (small_graph(outputs=["embedding"]), "got images and embedding;"),
        (small_graph(inputs="pictures"), "expected input images and outputs .*, got pictures and"),
        (small_graph(width=2), "expected 3 logits in .*, one for each of cracked, sound, dirty, got 2"),
        (b"\x08\x09", "expected an ONNX graph in"),
    ],
)
def test_a_graph_that_breaks_its_promise(tmp_path, graph, words):
    with pytest.raises(BundleError, match=words):
        Predictor(small_bundle(tmp_path / "bundle", graph))


def test_a_changed_byte_is_noticed_before_the_graph_is_opened(tmp_path):
    path = small_bundle(tmp_path / "bundle").folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(BundleError, match="model.onnx in .* was changed"):
        Predictor(tmp_path / "bundle")


def test_prediction_needs_numpy_pillow_and_onnxruntime_only(predictor):
    code = (
        "import sys, numpy\nfrom cvkit.serving.predictor import Predictor\nfrom cvkit.serving.seldon_component import "
        "SeldonModel\nPredictor(sys.argv[1]).predict(numpy.zeros((9, 9, 3), 'uint8'))\nprint(*{m.split('.')[0] for m "
        "in sys.modules})"
    )
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", code, predictor.bundle.folder], capture_output=True, text=True, check=True
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
    }


def test_processes_that_log_at_once_do_not_mix_lines(tmp_path):
    "Four processes, 6,000 lines of the length of a request's."
    log, code = (
        tmp_path / "requests.jsonl",
        (
            "import sys\nfrom cvkit.serving.seldon_component import _append\nsys.stdin.readline()\n"
            "for i in range(1500): _append(sys.argv[1], f'{sys.argv[2]}{i:04}' + sys.argv[2] * 500 + chr(10))"
        ),
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, log, letter], stdin=subprocess.PIPE, text=True)
        for letter in "abcd"
    ]
    for w in writers:
        w.stdin.write("go\n"), w.stdin.flush()
    assert [w.wait(60) for w in writers] == [0] * 4
    for w in writers:
        w.stdin.close()
    assert sorted(log.read_text().splitlines()) == sorted(f"{c}{i:04}" + c * 500 for c in "abcd" for i in range(1500))


# ---- monitor


def correlated(n, seed, shift=0.0, k=12, factors=4):
    """Channels that move together: directions `(n,k-3)` and three class probabilities, the first direction moved by
    `shift` of its own deviation."""
    mix, random = np.random.default_rng(99).normal(size=(factors, k)), np.random.default_rng(seed)
    x = random.normal(size=(n, factors)) @ mix + random.normal(size=(n, k))
    x[:, 0] += shift * np.sqrt((mix[:, 0] ** 2).sum() + 1)
    return x[:, :-3], softmax(x[:, -3:])


def test_what_chance_does_is_what_windows_of_the_reference_show():
    reference = tuple(x.round(1) for x in correlated(90, 1))
    found, joined = null_distances(reference, 20, windows=2000), np.concatenate(reference, 1).astype(np.float32)
    random, root, byhand = np.random.default_rng(5), np.sqrt(70 * 20 / 90), []
    for _ in range(200):
        rows = random.permutation(90)
        byhand.append(
            max(ks_2samp(joined[rows[20:], i], joined[rows[:20], i], method="asymp").statistic for i in range(12))
            * (root + 0.12 + 0.11 / root)
        )
    assert ks_2samp(found, byhand).pvalue > 0.01 and abs(np.quantile(found, 0.9) - np.quantile(byhand, 0.9)) < 0.1
    assert np.array_equal(found, null_distances(reference, 20, windows=2000)), (
        "the same reference has the same alarm line"
    )


def test_false_alarms_are_as_many_as_allowed():
    "1,000 null windows, reference and pool drawn anew for each hundred of them; channels move together."
    rates = [
        false_alarm_rate(correlated(400, 100 + i), correlated(300, 500 + i), window=30, windows=100) for i in range(10)
    ]
    value = np.mean([r["value"] for r in rates])
    assert value <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000) and value >= 0.02, (
        "neither a wolf too many nor a monitor asleep"
    )


def test_every_single_window_drawn_anew():
    "No pool at all: a fresh reference and a fresh window each time, through `drift_test` itself."
    rings = [drift_test(correlated(120, 10_000 + i), correlated(30, 20_000 + i)).alarm for i in range(150)]
    assert binom.sf(sum(rings) - 1, 150, 0.05) > 0.01 and sum(rings) > 2


def test_the_interval_covers_the_draw_of_the_pool():
    "What one pool says scatters more than a thousand independent windows would; the interval knows."
    rates = [false_alarm_rate(correlated(250, 1000 + i), correlated(200, 2000 + i), window=20) for i in range(30)]
    assert sum(r["low"] <= 0.05 <= r["high"] for r in rates) >= 27
    assert sum(abs(r["value"] - 0.05) > 1.96 * np.sqrt(0.05 * 0.95 / 1000) for r in rates) >= 6, (
        "as if independent, far more than one in twenty would miss"
    )
    assert all(r["n"] < 400 and r["windows"] == 1000 and r["pool"] == 200 for r in rates)


def test_a_larger_pool_is_worth_more_and_windows_stay_small_beside_it():
    world = correlated(3000, 0)
    few, many = (
        false_alarm_rate(correlated(1000, 1), tuple(x[:n] for x in world), window=50, windows=200) for n in (100, 3000)
    )
    assert few["window"] == 10 and many["window"] == 50 and many["n"] > 130
    assert false_alarm_rate(correlated(1000, 1), tuple(x[:600] for x in world), windows=200)["n"] < many["n"]


def test_images_that_chose_the_directions_are_not_in_the_reference():
    "With more dimensions than images, new images would ring along directions of the reference's own choice."
    rings, own_choice = [], []
    for i in range(20):
        noise, answers = (
            np.random.default_rng(i).normal(size=(210, 300)).astype(np.float32),
            softmax(np.random.default_rng(50 + i).normal(size=(210, 2))),
        )
        kept = fit_reference(noise[:150], answers[:150])
        rings.append(
            drift_test((kept["projected"], kept["answers"]), (project(noise[150:], kept), answers[150:])).alarm
        )
        own = np.linalg.svd(noise[:150] - noise[:150].mean(0), full_matrices=False)[2][:16]
        own_choice.append(drift_test((noise[:150] @ own.T, answers[:150]), (noise[150:] @ own.T, answers[150:])).alarm)
    assert sum(rings) <= 4 and sum(own_choice) >= 15, "the second is what the split is for"


def test_reference_is_the_same_for_the_same_images():
    x, p = np.random.default_rng(0).normal(size=(90, 20)).astype(np.float32), np.full((90, 2), 0.5)
    one, two, other = fit_reference(x, p), fit_reference(x, p), fit_reference(x, p, seed=1)
    assert all(np.array_equal(one[k], two[k]) for k in one) and not np.array_equal(one["projected"], other["projected"])
    assert {k: (v.shape, v.dtype.name) for k, v in one.items()} == {
        "centre": ((20,), "float32"),
        "directions": ((16, 20), "float32"),
        "projected": ((60, 16), "float32"),
        "answers": ((60, 2), "float32"),
    }
    assert (
        np.allclose(one["directions"] @ one["directions"].T, np.eye(16), atol=1e-5)
        and len(fit_reference(x, p, most=25)["projected"]) == 25
    )


@pytest.mark.parametrize("shift, least, most", [(0.0, 0, 4), (0.5, 8, 24), (1.0, 24, 25)])
def test_a_shift_is_found_and_none_is_not(shift, least, most):
    reference = correlated(250, 3)
    assert least <= sum(drift_test(reference, correlated(60, 300 + i, shift)).alarm for i in range(25)) <= most


def test_the_line_in_the_picture_is_where_the_alarm_rings():
    reference = correlated(150, 1)
    found = [
        drift_test(reference, correlated(30, 700 + i, 0.6), alpha=alpha) for i in range(20) for alpha in (0.01, 0.1)
    ]
    assert {d.alarm for d in found} == {True, False} and all(
        d.alarm == (max(d.channels.values()) > round(d.limit, 4))
        for d in found
        if abs(max(d.channels.values()) - d.limit) > 1e-4
    )
    assert all(d.alarm == (d.p < d.alpha) and 0 < d.p <= 1 for d in found) and all(
        a.limit > b.limit for a, b in zip(found[::2], found[1::2])
    )


def test_power_grows_with_the_window_and_is_printed():
    reference, pool = correlated(900, 1), correlated(1200, 2)
    small, large = (smallest_visible_shift(reference, pool, window=window) for window in (20, 120))
    assert large <= 0.4 < small <= 1.5
    blind = correlated(30, 1)
    assert smallest_visible_shift(tuple(x[:20] for x in blind), correlated(20, 5), window=10) in (None, 1.25, 1.5, 2.0)


def test_a_confident_model_of_other_precision_is_no_drift():
    "The bundle keeps float32, the log says float64: 0.99999999 and 1 are one answer."
    sure = np.where(np.random.default_rng(0).random(400) < 0.5, 1 - 1e-9, 0.3)
    answers, places = np.column_stack([sure, 1 - sure]), np.random.default_rng(1).normal(size=(400, 3))
    assert not drift_test(
        (places[:300].astype(np.float32), answers[:300].astype(np.float32)), (places[300:], answers[300:])
    ).alarm


whole = correlated(100, 0)


def few(n):
    return tuple(x[:n] for x in whole)


bad_windows = [
    (lambda: drift_test(whole, few(9)), DataError, "expected at least 10 images in a window, got 9"),
    (lambda: drift_test(few(19), whole), DataError, "expected at least 20 images in the reference, got 19"),
    (lambda: drift_test(whole, (whole[0][:, :5], whole[1])), DataError, "in the reference (12), got 8"),
    (lambda: drift_test((whole[0] * np.nan, whole[1]), whole), DataError, "in the reference, got 900 that are not"),
    (lambda: drift_test(whole, whole, alpha=0.0), ParameterError, "got 0; it is the share of windows"),
    (lambda: drift_test(whole, whole, alpha=1.0), ParameterError, "below 1, got 1"),
    (lambda: false_alarm_rate(whole, few(19)), DataError, "expected at least 20 images outside the reference, got 19"),
    (lambda: smallest_visible_shift(whole, few(3)), DataError, "got 3; hold more images out"),
    (
        lambda: fit_reference(np.ones((5, 4), np.float32), np.ones((5, 2))),
        DataError,
        "the same six or more images, got 5 and 5",
    ),
    (lambda: fit_reference(np.ones((9, 4), np.float32), np.ones((8, 2))), DataError, "got 9 and 8"),
    (
        lambda: project(np.ones(4), {"centre": np.ones(4), "directions": np.ones((1, 4))}),
        DataError,
        "expected an embedding (n,4), got (4,)",
    ),
]


@pytest.mark.parametrize("call, error, words", bad_windows)
def test_what_cannot_be_compared_is_refused(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_the_report_says_what_was_measured(tmp_path):
    reference, pool = correlated(400, 1), correlated(300, 2)
    windows = {
        "<b>today</b>": (drift_test(reference, correlated(40, 3)), correlated(40, 3)),
        "moved": (drift_test(reference, correlated(40, 4, 3.0)), correlated(40, 4, 3.0)),
    }
    rate = false_alarm_rate(reference, pool, window=30, alpha=0.05)
    html = drift_report(tmp_path / "report.html", reference, windows, rate=rate, visible=0.4).read_text()
    expected = (
        f"{rate['value']:.1%}".replace("%", " %"),
        f"count as about {rate['n']} independent",
        "1,000 windows of 30 images",
        "drawn from 300",
        "once in 20 days",
        "A shift of 0.4 standard deviations",
        "images that come in series",
        "&lt;b&gt;today",
        ">quiet<",
        ">alarm<",
        "below 0.001",
    )
    assert (
        [word for word in expected if word not in html] == []
        and "<b>today" not in html
        and html.count("<img") == 1
        and "://" not in html
    )
    assert (
        json.loads(json.dumps(windows["moved"][0].to_dict()))["alarm"] is True
        and isinstance(windows["moved"][0], Drift)
        and str(windows["moved"][0]).startswith("alarm: p ")
    )


# ---- manifests

bundle = {"name": "Fliesen 2 (Bad)", "digest": "ab" * 32}


def example(**changes):
    return copy.deepcopy(seldon_v1(bundle, "registry.example/cvkit-seldon:0.1.0", "pvc://bundles/fliesen/2") | changes)


crd = root / "../shared/schemas/seldon-core-1.17.1-seldondeployment.crd.yaml"


def strict(schema):
    "The schema of a cluster that refuses fields it does not know."
    if isinstance(schema, list):
        return [strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    made = {k: strict(v) for k, v in schema.items()}
    if (
        isinstance(made.get("properties"), dict)
        and "additionalProperties" not in made
        and not made.get("x-kubernetes-preserve-unknown-fields")
    ):
        made["additionalProperties"] = False
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


@pytest.fixture(scope="module")
def complaints():
    "What the strict schema of Seldon Core 1.17.1 says of a manifest."
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    if not crd.exists():
        pytest.skip(f"{crd.name} is not in ../shared/schemas")
    versions = yaml.load(crd.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    schema = strict(next(v for v in versions if v["name"] == "v1")["schema"]["openAPIV3Schema"])
    graph = schema["properties"]["spec"]["properties"]["predictors"]["items"]["properties"]["graph"]
    graph["properties"]["children"]["items"] = graph
    return lambda manifest: [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(manifest)]


def test_the_manifest_fits_the_schema_of_the_cluster(complaints):
    assert complaints(example()) == []
    assert complaints(seldon_v1(bundle, "cvkit@sha256:" + "0" * 64, replicas=3, cpus=2, memory="512Mi")) == []
    assert complaints(yaml.safe_load(manifest_text(example()))) == []


def changed(path, value):
    made = example()
    *steps, last = path
    place = made
    for step in steps:
        place = place[step]
    place[last] = value
    return made


main = ("spec", "predictors", 0)
pod = (*main, "componentSpecs", 0, "spec")
misspelt = [
    ((*main, "trafic"), 100),
    ((*main, "traffic"), "100"),
    ((*main, "graph", "modelURI"), "pvc://b"),
    ((*main, "graph", "children"), [{"nme": "x"}]),
    ((*main, "graph", "type"), 1),
    ((*main, "replicas"), "one"),
    ((*pod, "containers", 0, "enviroment"), []),
    ((*pod, "securityContext", "runAsRoot"), False),
    ((*pod, "volumes", 0, "emptyDirectory"), {}),
    (("spec", "predictor"), []),
]


@pytest.mark.parametrize("path, value", misspelt, ids=[".".join(map(str, p)) for p, _ in misspelt])
def test_the_schema_notices_what_is_misspelt(complaints, path, value):
    assert complaints(changed(path, value)), "the check above would be worth nothing"


good = example()["spec"]["predictors"][0]
wrong = [
    (changed(("kind",), "Deployment"), ["expected kind SeldonDeployment, got Deployment"]),
    (changed(("metadata", "name"), "2fliesen"), ["that starts with a letter, got '2fliesen'"]),
    (changed(("metadata",), {}), ["got None"]),
    (changed(("metadata", "name"), "a" * 51), ["at most 50"]),
    (changed(("spec", "predictors"), []), ["expected a predictor that is no shadow, got none"]),
    ({"kind": "SeldonDeployment"}, ["got None", "no shadow, got none"]),
    (changed((*main, "traffic"), 90), ["expected traffic of 100 in all, got 90"]),
    (changed((*main, "traffic"), 0), ["got 0"]),
    (
        changed(("spec", "predictors"), [{**good, "traffic": 130}, {**good, "name": "new", "traffic": -30}]),
        ["got 130 + -30"],
    ),
    (changed(("spec", "predictors"), [good, {**good, "name": "new", "traffic": 10}]), ["got 100 + 10"]),
    (changed(("spec", "predictors"), [{**good, "shadow": True}]), ["no shadow, got none"]),
    (
        changed(("spec", "predictors"), [good, *({**good, "name": n, "shadow": True} for n in "ab")]),
        ["expected at most one shadow, got 2"],
    ),
    (
        changed(("spec", "predictors"), [{**good, "traffic": 50}, {**good, "traffic": 50}]),
        ["expected different names of predictors, got main, main"],
    ),
    (
        changed((*main, "graph", "name"), "fleisen"),
        ["expected a container named fleisen for the graph of main, or implementation and modelUri, got fliesen-2-bad"],
    ),
    (changed((*main, "graph", "type"), "MODLE"), ["expected fliesen-2-bad in the graph of main to be one of MODEL"]),
    (changed((*main, "graph", "children"), [{"name": "router"}]), ["expected a container named router"]),
    (changed((*main, "componentSpecs"), []), ["got none"]),
    (changed((*main, "graph"), {}), ["a container named None"]),
    (
        changed((*pod, "containers", 0, "image"), "cvkit-seldon"),
        ["expected an image with a digest or a version, got cvkit-seldon"],
    ),
    (changed((*pod, "containers", 0, "image"), "registry:5000/cvkit-seldon"), ["got registry:5000/cvkit-seldon"]),
    (changed((*pod, "containers", 0, "image"), "cvkit-seldon:latest"), ["got cvkit-seldon:latest"]),
    (changed((*pod, "containers", 0, "image"), ""), ["got none"]),
]


@pytest.mark.parametrize("manifest, words", wrong)
def test_wrong_manifests_and_what_is_found(manifest, words):
    found = seldon_v1_findings(manifest)
    assert len(found) == len(words) and all(w in f for w, f in zip(words, found)), found


right = [
    changed(("spec", "predictors"), [{**good, "traffic": 80}, {**good, "name": "new", "traffic": 20}]),
    changed(("spec", "predictors"), [good, {**good, "name": "trial", "shadow": True}]),
    changed((*main, "graph"), {"name": "ready", "implementation": "SKLEARN_SERVER", "modelUri": "pvc://bundles/x"}),
    changed((*pod, "containers", 0, "image"), "registry:5000/cvkit@sha256:" + "1" * 64),
]


@pytest.mark.parametrize("manifest", right)
def test_right_manifests_have_no_findings(manifest):
    assert seldon_v1_findings(manifest) == []


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(uri="s3://bundles/x"), "expected pvc://CLAIM/PATH"),
        (dict(uri="pvc://"), "got 'pvc://'"),
        (dict(uri="pvc://bundles/../secrets"), "got 'pvc://bundles/../secrets'"),
        (dict(image="cvkit"), "a digest or a version, got cvkit; correct the manifest of"),
        (dict(cpus=0), "replicas=1 and cpus=0"),
        (dict(replicas=0), "replicas=0 and cpus=1"),
        (dict(bundle={"name": "2", "digest": "ab"}), "that starts with a letter, got '2'"),
    ],
)
def test_what_no_manifest_is_made_of(changes, words):
    with pytest.raises(ParameterError) as caught:
        seldon_v1(**{"bundle": bundle, "image": "cvkit:1", **changes})
    assert words in str(caught.value)


def test_the_manifest_names_the_approved_bundle_and_closes_the_pod(predictor):
    made = seldon_v1(predictor.bundle, "cvkit:1", "pvc://bundles/fliesen/2/")
    main = made["spec"]["predictors"][0]
    parameters, spec = {p["name"]: p["value"] for p in main["graph"]["parameters"]}, main["componentSpecs"][0]["spec"]
    container = spec["containers"][0]
    mounts = {m["name"]: m for m in container["volumeMounts"]}
    assert (
        parameters["digest"] == predictor.bundle.digest
        and main["labels"]["bundle"] == predictor.bundle.digest[:12]
        and made["metadata"]["name"] == "fliesen"
    )
    assert (
        parameters["bundle"] == mounts["bundle"]["mountPath"]
        and mounts["bundle"]["subPath"] == "fliesen/2"
        and mounts["bundle"]["readOnly"]
    )
    assert container["env"][0]["value"].startswith(mounts["log"]["mountPath"] + "/"), (
        "the log lies on the volume that can be written"
    )
    assert (
        spec["automountServiceAccountToken"] is False
        and spec["securityContext"]["runAsNonRoot"]
        and container["securityContext"]["readOnlyRootFilesystem"]
        and container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    )
    assert "bundle" not in {
        m["name"]
        for m in seldon_v1(bundle, "cvkit:1")["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0][
            "volumeMounts"
        ]
    }


def test_the_component_takes_the_parameters_of_the_manifest():
    taken, mounted = (
        inspect.signature(SeldonModel).parameters,
        example()["spec"]["predictors"][0]["graph"]["parameters"],
    )
    assert {p["name"] for p in mounted} <= set(taken) and taken["bundle"].default == mounted[0]["value"]


def test_the_command_writes_what_lies_in_deploy(tmp_path, capsys, predictor):
    _print_manifest(["--out", str(tmp_path / "made.yaml")])
    assert (tmp_path / "made.yaml").read_text() == (root / "deploy/seldon/example-v1.yaml").read_text(), (
        "write it again: python -m cvkit.serving.deployment --out deploy/seldon/example-v1.yaml"
    )
    capsys.readouterr()
    _print_manifest(["--bundle", str(predictor.bundle.folder), "--image", "cvkit:1"])
    assert yaml.safe_load(capsys.readouterr().out) == seldon_v1(predictor.bundle, "cvkit:1")
    with pytest.raises(SystemExit):
        _print_manifest(["--bundle", str(predictor.bundle.folder)])
    assert "--bundle needs --image" in capsys.readouterr().err
