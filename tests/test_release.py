"""What leaves training: a bundle that notices every byte, a store that several may use, and an alias that must be
earned."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from cvkit.core import BundleError, PolicyError, TrackingError, digest_file
from cvkit.release.bundle import Bundle, array_bytes, check_spec, write_bundle
from cvkit.release.policy import Verdict
from cvkit.release.registry import find_version, promote, register
from cvkit.release.tracking import mlflow_module, ping, tracked_run

spec = dict(
    name="colour",
    task="classification",
    classes=["reddish", "bluish"],
    positive=None,
    preprocess={"size": 64, "resize": "squash"},
    temperature=1.0,
    licence="CC0-1.0",
    digests={"manifest": "c" * 64},
)
reference = {"mean": np.arange(3, dtype=np.float32), "names": np.array(["a", "ü"])}


def colour_model():
    "Four times red minus blue, each its mean in -1 to 1, and the negative of it."

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    weight = helper.make_tensor("weight", TensorProto.FLOAT, (3, 2), [4.0, -4.0, 0.0, 0.0, -4.0, 4.0])
    nodes = [
        helper.make_node("Identity", ["images"], ["feature_map"]),
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "weight"], ["logits"]),
    ]
    outputs = [value("logits", ("n", 2)), value("embedding", ("n", 3)), value("feature_map", ("n", 3, 64, 64))]
    graph = helper.make_graph(nodes, "colour", [value("images", ("n", 3, 64, 64))], outputs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def whole_bundle(folder):
    "With everything that may lie in one."
    import torch

    return write_bundle(
        folder,
        colour_model(),
        spec,
        reference,
        ({"head": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}, {"name": "colour", "size": 64}),
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return whole_bundle(tmp_path_factory.mktemp("release") / "bundle")


@pytest.fixture
def copy(bundle, tmp_path):
    return Path(shutil.copytree(bundle.folder, tmp_path / "bundle"))


# ---- bundle

files = [
    "MANIFEST.sha256",
    "bundle.json",
    "model.onnx",
    "reference.npz",
    "train/architecture.json",
    "train/weights.safetensors",
]


@given(name=st.sampled_from(files), where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_any_changed_byte_is_noticed(bundle, name, where, change):
    path = bundle.folder / name
    kept = path.read_bytes()
    changed = bytearray(kept)
    changed[int(where * len(kept))] ^= change
    path.write_bytes(changed)
    try:
        with pytest.raises(BundleError):
            Bundle.load(bundle.folder)
    finally:
        path.write_bytes(kept)
    assert Bundle.load(bundle.folder).digest == bundle.digest


@pytest.mark.parametrize(
    "old, new", [(b"\n", b"\r"), (b"\n", b"\x0b"), (b"\n", b"\r\n"), (b"model", "mödel".encode()), (b"model", b"\xff")]
)
def test_a_manifest_has_one_form(copy, old, new):
    path = copy / "MANIFEST.sha256"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(BundleError):
        Bundle.load(copy)


def test_lines_of_a_manifest_that_changed_places_or_were_cut(copy):
    path = copy / "MANIFEST.sha256"
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in (lines[::-1], lines[:-1], [*lines, lines[-1]], [*lines[:-1], lines[-1][:-1]], []):
        path.write_bytes(b"".join(changed))
        with pytest.raises(BundleError):
            Bundle.load(copy)
    path.write_bytes(b"".join(lines))
    Bundle.load(copy)


def link_with_the_same_content(folder, far):
    shutil.move(folder / "model.onnx", far / "model.onnx")
    (folder / "model.onnx").symlink_to(far / "model.onnx")


def link_instead_of_a_folder(folder, far):
    shutil.move(folder / "train", far / "train")
    (folder / "train").symlink_to(far / "train")


other = {
    "added": (
        lambda folder, far: (folder / "train" / "more.py").write_text("print(1)"),
        "train/more.py in .* is not in the manifest",
    ),
    "removed": (lambda folder, far: (folder / "reference.npz").unlink(), "reference.npz .* found nothing"),
    "needed": (lambda folder, far: (folder / "model.onnx").unlink(), "model.onnx is missing"),
    "folder": (
        lambda folder, far: ((folder / "reference.npz").unlink(), (folder / "reference.npz").mkdir()),
        "reference.npz .* found nothing",
    ),
    "link": (link_with_the_same_content, "model.onnx in .* is a link"),
    "link to a folder": (link_instead_of_a_folder, "train in .* is a link"),
    "link beside": (lambda folder, far: (folder / "more").symlink_to(far), "more in .* is a link"),
}


@pytest.mark.parametrize("name", other)
def test_a_folder_that_is_not_its_manifest(copy, tmp_path, name):
    change, words = other[name]
    (tmp_path / "far").mkdir()
    change(copy, tmp_path / "far")
    with pytest.raises(BundleError, match=words):
        Bundle.load(copy)


def test_a_server_needs_no_train_folder(copy, bundle):
    shutil.rmtree(copy / "train")
    assert Bundle.load(copy).verify().digest == bundle.digest


def test_anybody_can_check_it_without_cvkit(bundle):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "MANIFEST.sha256"], cwd=bundle.folder, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.count(": OK") == len(files) - 1
    assert bundle.digest == digest_file(bundle.folder / "MANIFEST.sha256")


def test_a_full_disk_leaves_the_old_bundle(copy, bundle):
    "A limit on the size of files, in place of a disk that is full: the write fails in the middle."
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, kept[1]))
    try:
        with pytest.raises(OSError):
            write_bundle(copy, b"x" * 60_000, spec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert Bundle.load(copy).digest == bundle.digest and [p.name for p in copy.parent.iterdir()] == ["bundle"]
    new = write_bundle(copy, colour_model(), {**spec, "name": "other"})
    assert (
        new.digest != bundle.digest
        and set(new.files) == {"bundle.json", "model.onnx"}
        and [p.name for p in copy.parent.iterdir()] == ["bundle"]
    )


def test_another_process_writes_the_same_digest_and_no_pickle_is_opened(bundle, tmp_path):
    "Python tells of each class that a pickle asks for; loading a bundle must not make it say anything."
    code = """
import sys
sys.path.insert(0, sys.argv[2])
import safetensors.torch
from test_release import whole_bundle, Bundle, pickle_says
print(whole_bundle(sys.argv[1]).digest)
sys.addaudithook(lambda event, args: print(event) if event == "pickle.find_class" else None)
bundle = Bundle.load(sys.argv[1])
bundle.reference, safetensors.torch.load_file(bundle.folder/"train"/"weights.safetensors")
print("opened")
pickle_says()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "other", Path(__file__).parent],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.split() == [bundle.digest, "opened", "pickle.find_class"], done.stderr


def pickle_says():
    "What shows that the hook above hears pickles."
    import pickle

    pickle.loads(pickle.dumps(BytesIO))


def test_a_pickle_in_its_place_is_not_opened(copy):
    "Whoever plants one can also write the manifest anew."
    out = BytesIO()
    np.savez(out, rows=np.array([{}], object))
    with pytest.raises(BundleError, match="only a pickle"):
        array_bytes({"rows": np.array([{}], object)})
    for data in (out.getvalue(), b"\x80\x04N.", b"PK\x03\x04"):
        (copy / "reference.npz").write_bytes(data)
        digests = {n: digest_file(copy / n) for n in files[1:]}
        (copy / "MANIFEST.sha256").write_text("".join(f"{d}  {n}\n" for n, d in sorted(digests.items())))
        with pytest.raises(BundleError, match="expected plain arrays"):
            _ = Bundle.load(copy).reference


broken_specs = [
    (dict(classes="ab"), "different class names in .*, got 'ab'"),
    (dict(classes=["a"]), "got .*'a'"),
    (dict(classes=["a", "a"]), "two or more different"),
    (dict(positive="c"), "one of the classes"),
    (dict(temperature=float("nan")), "a temperature above 0 in .*, got nan"),
    (dict(temperature=True), "a temperature above 0"),
    (dict(temperature=float("inf")), "a temperature above 0"),
    (dict(digests=["c"]), "a mapping of names to digests"),
    (dict(format=3), "format 2"),
    (dict(more=float("nan")), "plain data without nan"),
    (dict(more=object()), "plain data"),
]


@pytest.mark.parametrize("change, words", broken_specs)
def test_what_a_bundle_must_not_say(tmp_path, change, words):
    with pytest.raises(BundleError, match=words):
        write_bundle(tmp_path / "new", colour_model(), {**spec, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_description_that_is_no_mapping():
    with pytest.raises(BundleError, match="a mapping of names to values"):
        check_spec([spec])


def test_what_was_given_comes_back(bundle):
    assert (
        {**spec, "format": 2} == bundle.spec
        and bundle.to_dict()["digest"] == bundle.digest
        and "ü" in bundle.reference["names"]
    )
    assert (bundle.reference["mean"] == reference["mean"]).all() and bundle.reference["mean"].dtype == np.float32
    onnx.checker.check_model(str(bundle.folder / "model.onnx"))


# ---- tracking


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module", autouse=True)
def racing(tmp_path_factory):
    "Two processes that log into a fresh store at once; they start first, and the tests of bundles run meanwhile."
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'Läufe 1' / 'mlflow.db'}"
    code = (
        "import sys\nfrom cvkit.release.tracking import tracked_run\nwith tracked_run('race', params={'i': "
        "sys.argv[1]}) as run: run.metrics({'i': int(sys.argv[1])})\nprint(run.id)"
    )
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(i)],
            env=env,
            cwd=tmp_path_factory.getbasetemp(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    yield uri, both
    for process in both:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def raced(racing):
    "The store, and what the two had to say."
    return racing[0], [(*p.communicate(timeout=120), p.returncode) for p in racing[1]]


@pytest.fixture(scope="module")
def started(raced, tmp_path_factory):
    "MLflow's own server over the same store; it takes its time to start, and meanwhile other tests run."
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    words = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        raced[0],
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    env = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=env,
        )
    try:
        yield f"http://127.0.0.1:{port}", folder
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def store(raced, started, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", raced[0])
    return raced[0]


def test_two_processes_log_into_one_fresh_store(raced, store):
    assert [code for *_, code in raced[1]] == [0, 0], raced[1]
    for i, (out, *_) in enumerate(raced[1]):
        found = mlflow_module().get_run(out.strip())
        assert found.data.params == {"i": str(i)} and found.data.metrics == {"i": i} and found.info.status == "FINISHED"
    assert [e.name for e in mlflow_module().search_experiments()].count("cvkit") == 1


def test_a_run_in_a_folder_with_a_space(store, tmp_path):
    (tmp_path / "page.html").write_text("<p>kept</p>")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.txt").write_text("a")
    with tracked_run("train", params={"long": "x" * 600}, tags={"mine": 1}) as run:
        run.metrics({
            "accuracy": {"value": 0.9, "low": 0.8, "high": None},
            "gone": None,
            "nothing": float("nan"),
            "np": np.float32(2),
        })
        run.file(tmp_path / "page.html", "evidence")
        run.file(tmp_path / "more", "evidence")
    found, kept = (
        mlflow_module().get_run(run.id),
        Path(store.removeprefix("sqlite:///")).parent / "mlruns" / run.id / "artifacts" / "evidence",
    )
    assert (
        found.data.metrics == {"accuracy": 0.9, "accuracy.low": 0.8, "np": 2.0}
        and len(found.data.params["long"]) == 500
    )
    assert (
        found.data.tags["mine"] == "1"
        and found.data.tags["cvkit.stage"] == "train"
        and found.data.tags["git.dirty"] in ("True", "False", "None")
    )
    assert sorted(p.name for p in kept.iterdir()) == ["a.txt", "page.html"]


def test_a_run_outside_git_says_so(store, tmp_path):
    with tracked_run("train", code=tmp_path) as run:
        pass
    assert mlflow_module().get_run(run.id).data.tags["git.commit"] == "not in Git"


def deaf():  # accepts and never answers
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen()
    return s


def test_a_server_that_is_down_is_named_at_once(monkeypatch):
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:geheim@127.0.0.1:{port}")
    with (
        pytest.raises(TrackingError, match=f"http://127.0.0.1:{port}, but got: Connection refused; start it") as caught,
        tracked_run("never"),
    ):
        pytest.fail("the block must not run")
    assert "geheim" not in str(caught.value)


def test_a_server_that_never_answers_is_not_waited_for():
    with deaf() as s, pytest.raises(TrackingError, match="timed out"):
        ping(f"http://127.0.0.1:{s.getsockname()[1]}", seconds=0.2)


def test_a_server_that_speaks_something_else():
    from threading import Thread

    with deaf() as s:

        def greet():
            with s.accept()[0] as found:
                found.recv(999)
                found.sendall(b"SSH-2.0-OpenSSH\r\n")

        Thread(target=greet, daemon=True).start()
        with pytest.raises(TrackingError, match="no answer in HTTP"):
            ping(f"http://127.0.0.1:{s.getsockname()[1]}")


@pytest.mark.parametrize(
    "uri, words",
    [
        ("http://127.0.0.1:99999", "a port between 0 and 65535"),
        ("postgresql://ada:geheim@127.0.0.1:1/runs", "postgresql://127.0.0.1:1, but got: Connection refused"),
    ],
)
def test_an_address_that_leads_nowhere(uri, words):
    with pytest.raises(TrackingError, match=words) as caught:
        ping(uri)
    assert "geheim" not in str(caught.value)


def test_a_file_needs_no_knocking():
    assert ping("sqlite:////nowhere/mlflow.db") is ping("file:///nowhere") is None


# ---- registry


@pytest.fixture(scope="module")
def version(raced, bundle):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", raced[0])
        return register(bundle, "colour", tags={"cvkit.development": "pass"})


def test_a_version_is_registered_without_an_alias(version, store, bundle):
    found = mlflow_module().MlflowClient().get_model_version("colour", str(version.version))
    assert version.alias is None and found.aliases in ([], None) and version.version == 1
    assert found.tags == {
        "cvkit.bundle": bundle.digest,
        "cvkit.licence": "CC0-1.0",
        "cvkit.manifest": "c" * 64,
        "cvkit.development": "pass",
    }
    assert find_version("colour", 1) == find_version("colour", "1") == version
    for words in ("2", "production"):
        with pytest.raises(TrackingError, match=f"expected version or alias '{words}' of model 'colour'"):
            find_version("colour", words)


def test_mlflow_loads_it_and_it_predicts_what_the_graph_says(version, store, bundle):
    import onnxruntime as ort
    import pandas as pd

    images = [np.full((64, 64, 3), colour, np.uint8) for colour in ([200, 9, 30], [10, 80, 120])]
    sent = []
    for image in images:
        out = BytesIO()
        Image.fromarray(image).save(out, "PNG")
        sent.append(out.getvalue())
    answer = mlflow_module().pyfunc.load_model(version.uri).predict(pd.DataFrame({"image": sent}))
    session = ort.InferenceSession(str(bundle.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": bundle.preprocess.tensor(np.stack(images))})
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert list(answer["label"]) == ["reddish", "bluish"] and np.allclose(
        answer[["p.reddish", "p.bluish"]], expected, atol=1e-6
    )


def test_mlflow_keeps_the_bundle_byte_for_byte_and_no_pickle(version, store, bundle):
    kept = Path(mlflow_module().artifacts.download_artifacts(version.uri))
    assert Bundle.load(next(kept.rglob("bundle.json")).parent).digest == bundle.digest
    assert not [
        p
        for p in kept.rglob("*")
        if p.suffix in (".pkl", ".pickle", ".pt", ".pth") or (p.is_file() and p.read_bytes()[:1] == b"\x80")
    ]


def test_a_changed_bundle_is_not_registered(copy, store):
    (copy / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError):
        register(copy, "colour")
    for name in ("", "a/b", "a:b"):
        with pytest.raises(TrackingError, match="without / and :"):
            register(copy, name)


def verdict_of(digest, stage="production", word="pass", answers=()):
    return Verdict(stage, word, list(answers), "d" * 64, digest)


def test_an_alias_moves_for_a_pass_and_for_nothing_else(version, store, bundle):
    held, missing = (dict(rule="licence", role="Legal", answer=a, text="CC0-1.0") for a in ("pass", "insufficient"))
    refused = [
        (verdict_of(bundle.digest, "development"), "got one for development"),
        (verdict_of(bundle.digest, word="fail"), "got fail;"),
        (verdict_of(bundle.digest, word="insufficient", answers=[missing]), "got insufficient: licence"),
        (verdict_of(bundle.digest, answers=[held, missing]), "licence .Legal.: CC0-1.0"),
        (verdict_of("e" * 64), "speaks of bundle eeeeeeeeeeee"),
        (verdict_of(""), "speaks of bundle not given"),
    ]
    for verdict, words in refused:
        with pytest.raises(PolicyError, match=words):
            promote(version, "production", verdict)
    with pytest.raises(PolicyError, match="the version of eeeeeeeeeeee"):
        promote(replace(version, bundle_digest="e" * 64), "production", verdict_of("e" * 64))
    with pytest.raises(TrackingError):
        find_version("colour", "production")
    moved = promote(version, "production", verdict_of(bundle.digest, answers=[held]))
    client = mlflow_module().MlflowClient()
    assert moved == find_version("colour", "production") == replace(version, alias="production")
    assert client.get_model_version("colour", "1").tags["cvkit.production"] == f"pass under policy {'d' * 12}"


def test_a_version_that_cvkit_did_not_register_is_not_promoted(version, store):
    "Neither a stranger's, nor one whose tag was taken off: two empty digests are not one model."
    client = mlflow_module().MlflowClient()
    found = client.create_model_version("colour", f"runs:/{version.run}/model")
    without_paths = find_version("colour", found.version)
    assert without_paths.bundle_digest == ""
    with pytest.raises(PolicyError, match="the registry of none"):
        promote(without_paths, "staging", verdict_of("", "staging"))


# ---- a server


def test_a_real_server_takes_runs_and_files(started, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", started[0])
    (tmp_path / "note.txt").write_text("sent")
    for _ in range(240):
        try:
            ping(started[0])
            break
        except TrackingError:
            time.sleep(0.25)
    else:
        pytest.fail((started[1] / "log").read_text())
    with tracked_run("served", experiment="served") as run:
        run.metrics({"accuracy": 0.5})
        run.file(tmp_path / "note.txt")
    assert mlflow_module().get_run(run.id).data.metrics == {"accuracy": 0.5}
    assert [p.read_text() for p in (started[1] / "artifacts").rglob("note.txt")] == ["sent"]


@pytest.mark.parametrize("name", ["what?", pytest.param("100% #1", marks=pytest.mark.slow)])
def test_the_store_lies_in_the_working_folder_whatever_its_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    code = (
        "from cvkit.release.tracking import tracked_run\n"
        "with tracked_run('train') as run: run.metrics({'accuracy': 1.0})\n"
        "assert run.mlflow.search_runs(experiment_names=['cvkit'])['metrics.accuracy'].tolist() == [1.0]"
    )
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True, timeout=120)
    assert sorted(path.name for path in folder.iterdir() if "mlflow.lock" not in path.name) == ["mlflow.db", "mlruns"]
    assert [path.name for path in tmp_path.iterdir()] == [name]
