"""Seldon's own wrapper, really running: it answers what the predictor answers, refuses what is no image, listens to
this machine only, and leaves nothing behind."""

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_serving import classes, encode, photo, small_bundle

from cvkit.core import BundleError, ServeError
from cvkit.serving.parity import serving_parity
from cvkit.serving.predictor import Predictor
from cvkit.serving.seldon_server import SeldonServer, _processes_of, free_port, port_in_use, seldon_python

try:
    seldon_python()
except ServeError as error:
    pytest.skip(str(error), allow_module_level=True)

exif = Image.Exif()
exif[0x0112] = 6
images = {
    "jpeg": encode(photo(1), "JPEG", quality=90),
    "png": encode(photo(2)),
    "gray png": encode(photo(3)[..., 0]),
    "turned jpeg": encode(photo(4), "JPEG", exif=exif),
    "large png": encode(photo(5, 800, 1200)),
    "noise": encode(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)),
}


def text(data):
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("served") / "bundle")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "requests.jsonl"


@pytest.fixture(scope="module")
def server(bundle, log):
    with SeldonServer(bundle.folder, log=log, digest=bundle.digest) as running:
        yield running


def post(server, body, path="/api/v1.0/predictions", kind="application/json", chunked=False):
    "Status and reason, over a connection of its own."
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["rest"], timeout=60)
    with contextlib.closing(connection):
        connection.request(
            "POST", path, iter([body]) if chunked else body, {"Content-Type": kind}, encode_chunked=chunked
        )
        answer = connection.getresponse()
        response_text = answer.read().decode()
    with contextlib.suppress(ValueError, LookupError, TypeError):
        response_text = json.loads(response_text)["status"]["info"]
    return answer.status, response_text


def counts(server):
    "What the wrapper counted so far; health is asked first, because refusals are handed over then."
    server.health()
    lines = [line for line in server.metrics().splitlines() if line.startswith("cvkit_")]

    def add(*words):
        return sum(float(line.split()[-1]) for line in lines if all(w in line for w in words))

    return {**{c: add("cvkit_images_total", f'label="{c}"') for c in classes}, "refused": add("cvkit_refused_total")}


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


def running(process):
    "Whether a process runs; the dead whom nobody has buried do not."
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


# ---- answers


def test_answers_are_the_predictors_but_for_the_rounding_of_exp(server, bundle):
    "Two versions of NumPy may differ in the last bit where a processor has AVX-512."
    files, predictor = list(images.values()), Predictor(bundle)
    expected = [predictor.predict(f) for f in files]
    answers = {
        "rest": server.rest(files),
        "grpc": server.grpc(files),
        "Seldon's client over rest": server.with_seldon_client(files, "rest"),
    }
    for name, found in answers.items():
        response_text = np.array([list(map(a["probabilities"].get, classes)) for a in found])
        assert response_text == pytest.approx(np.concatenate([e.probabilities for e in expected]), rel=0, abs=1e-15), (
            name
        )
        assert (
            [a["label"] for a in found] == [e.labels[0] for e in expected]
            and {a["bundle"] for a in found} == {bundle.digest}
            and {a["model"] for a in found} == {"Fliesen"}
        )
    together = predictor.predict(files).probabilities
    assert serving_parity(answers["rest"], answers["grpc"], together, classes) == {
        "n": len(files),
        **dict.fromkeys(("max_abs_diff", "rest", "grpc"), pytest.approx(0, abs=1e-15)),
    }
    assert len({a["label"] for a in answers["rest"]}) > 1, "answers that were all alike would prove little"


def test_a_file_in_a_form_is_answered_too(server):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="binData"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        + images["jpeg"]
        + b"\r\n--x--\r\n"
    )
    status, response_text = post(server, body, kind="multipart/form-data; boundary=x")
    assert status == 200 and json.loads(response_text)["jsonData"] == server.rest([images["jpeg"]])[0]


def test_metadata_and_health(server, bundle):
    response_text = server.metadata()
    assert (
        response_text["name"] == "Fliesen"
        and response_text["versions"] == [bundle.digest]
        and response_text["inputs"] == [{"messagetype": "binData"}]
    )
    assert response_text["custom"] == {
        "classes": "cracked,sound,dirty",
        "licence": "CC0-1.0",
        "preprocess": bundle.preprocess.digest,
    }
    assert server.health() == {"status": "ready", "bundle": bundle.digest}


def test_answers_and_refusals_are_counted(server):
    before = counts(server)
    labels = [a["label"] for a in server.rest(list(images.values()))]
    for _ in range(3):
        post(server, b"{}")
    now = counts(server)
    assert {c: now[c] - before[c] for c in classes} == {c: labels.count(c) for c in classes} and now[
        "refused"
    ] - before["refused"] == 3
    metrics = server.metrics()
    assert "cvkit_seconds" in metrics and "cvkit_confidence" in metrics


# ---- refusals


def ask(**body):
    return json.dumps(body).encode()


refused = {
    "no image": (ask(binData=text(b"Dear Sir, this is no image")), 400, "expected an image (JPEG"),
    "an empty file": (ask(binData=""), 400, "expected an image, got an empty file"),
    "half an image": (ask(binData=text(images["png"][:150])), 400, "expected a whole image"),
    "too large": (
        b"x" * 27_000_000,
        413,
        "expected at most 26,732,202 bytes (an image of 20,000,000 bytes as base64), got 27,000,000",
    ),
    "an image too large": (
        ask(binData=text(bytes(20_000_001))),
        413,
        "expected at most 20,000,000 bytes, got 20,000,001",
    ),
    "wrong key": (ask(bindata=text(images["png"])), 400, 'expected {"binData": "..."}'),
    "wrong base64": (ask(binData="Dear Sir"), 400, "expected base64 in binData"),
    "base64 cut short": (ask(binData=text(images["png"])[:-3]), 400, "expected base64 in binData"),
    "a number": (ask(binData=7), 400, 'expected {"binData": "..."}'),
    "a tensor": (ask(data={"ndarray": [[1, 2]]}), 400, 'expected {"binData": "..."}'),
    "a list": (b"[]", 400, 'expected {"binData": "..."}'),
    "no JSON": (b"\xff\xd8\xff\xe0 a raw JPEG", 400, 'expected {"binData": "..."}'),
    "nothing": (b"", 400, 'expected {"binData": "..."}'),
    "meta of another kind": (ask(binData=text(images["png"]), meta=["draw"]), 400, 'expected {"tags": {...}} as meta'),
    "tags of another kind": (
        ask(binData=text(images["png"]), meta={"tags": 7}),
        400,
        'expected {"tags": {...}} as meta',
    ),
    "text": (ask(strData="a.png"), 400, 'expected {"binData": "..."}'),
}


@pytest.mark.parametrize("name", refused)
def test_what_is_no_image_is_refused_and_the_server_lives_on(server, name):
    body, status, words = refused[name]
    found, response_text = post(server, body)
    assert (found, words in response_text) == (status, True), response_text
    assert len(response_text) < 300, "a request is not echoed back"
    assert server.rest([images["jpeg"]])[0]["label"] in classes


def test_a_body_in_chunks_is_refused(server):
    status, response_text = post(server, refused["wrong key"][0], chunked=True)
    assert status == 411 and "send the body whole" in response_text


@pytest.mark.parametrize(
    "data, words", [(b"Dear Sir", "expected an image (JPEG"), (images["png"][:150], "expected a whole image")]
)
def test_refusals_over_grpc(server, data, words):
    with pytest.raises(ServeError, match="image 1 over grpc") as caught:
        server.grpc([images["png"], data])
    assert words in str(caught.value)
    assert server.grpc([images["png"]]) == server.rest([images["png"]])


# ---- the log


def test_lines_are_whole_when_many_ask_at_once(server, log, bundle):
    before, many = len(log.read_text().splitlines()), list(images.values())[:4] * 5
    with ThreadPoolExecutor(9) as pool:
        grpc = pool.submit(server.grpc, many)
        rest = [a for part in pool.map(server.rest, [many] * 8) for a in part]
    lines = [json.loads(line) for line in log.read_text().splitlines()[before:]]
    assert len(lines) == len(rest) + len(grpc.result()) == 180 and log.read_bytes().endswith(b"}\n")
    assert {tuple(line) for line in lines} == {("answers", "at", "bundle", "label", "milliseconds", "projected")} and {
        line["bundle"] for line in lines
    } == {bundle.digest[:12]}
    assert {tuple(line["answers"]) for line in lines} == {tuple(a["probabilities"][c] for c in classes) for a in rest}
    assert (
        all(len(line["projected"]) == len(bundle.reference["directions"]) for line in lines)
        and log.stat().st_mode & 0o777 == 0o600
    )


# ---- this machine only


def sockets(processes):
    "Addresses on which processes listen, from the kernel: (hexadecimal address, port)."
    owned = set()
    for process in processes:
        for file in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                owned.add(os.readlink(file))
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else ():
            _, local, _, state, *rest = line.split()
            address, port = local.split(":")
            if state == "0A" and f"socket:[{rest[5]}]" in owned:
                found.add((address, int(port, 16)))
    return found


def test_it_listens_on_loopback_only(server):
    loopback = ("0100007F", "0000000000000000FFFF00000100007F")  # 127.0.0.1, and as gRPC writes it: ::ffff:127.0.0.1
    found = sockets(_processes_of(server.process.pid))
    assert {port for _, port in found} == set(server.ports.values()) and [
        address for address, _ in found if address not in loopback
    ] == []
    assert sockets([os.getpid()]) == set()
    with socket.socket() as everywhere:
        everywhere.bind(("", 0))
        everywhere.listen()
        assert sockets([os.getpid()]) == {("00000000", everywhere.getsockname()[1])}, (
            "one that listened to everybody would be seen"
        )


# ---- starting


def test_a_changed_byte_does_not_start(tmp_path):
    folder = small_bundle(tmp_path / "bundle").folder
    graph = folder / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    server = SeldonServer(folder)
    with pytest.raises(BundleError, match="model.onnx in .* was changed: expected .* do not serve it"):
        server.__enter__()
    assert server.process is None
    words = [seldon_python(), "-W", "ignore", "-m", "cvkit.serving.seldon_server", "--bundle", str(folder)]
    for name in ("rest", "grpc", "metrics"):
        words += [f"--{name}", str(free_port())]
    done = subprocess.Popen(
        [*words, "--follow"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert any("cvkit.core.BundleError: model.onnx in" in line and "was changed" in line for line in done.stdout), (
            "the component looks for itself"
        )
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(done.pid, signal.SIGKILL)
        done.wait()
    assert _processes_of(done.pid) == []


def test_another_bundle_than_the_approved_one_does_not_start(bundle):
    server = SeldonServer(bundle.folder, digest="0" * 64)
    with pytest.raises(
        ServeError,
        match=(
            f"it ended: BundleError: expected bundle 000000000000 in .*, found {bundle.digest[:12]}; mount the bundle "
            "that was approved"
        ),
    ):
        server.__enter__()
    assert server.process is None and [port_in_use(p) for p in server.ports.values()] == [False] * 3


@pytest.mark.parametrize("name", ["rest", "grpc", "metrics"])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_noticed_before_anything_starts(bundle, name, address):
    with socket.socket() as taken:
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = SeldonServer(bundle.folder, **{name: port})
        with pytest.raises(ServeError, match=f"expected port {port} for {name} to be free"):
            server.__enter__()
    assert server.process is None and not hasattr(server, "folder")


def test_one_port_for_two_is_noticed(bundle):
    port = free_port()
    with pytest.raises(ServeError, match="is in use"):
        SeldonServer(bundle.folder, rest=port, metrics=port).__enter__()


@pytest.mark.parametrize(
    "python, words",
    [
        (
            "/no/such/python",
            "expected Python of Seldon's environment at CVKIT_SELDON_PYTHON, but /no/such/python does not exist",
        ),
        (sys.executable, "it ended: ModuleNotFoundError: No module named 'seldon_core'"),
    ],
)
def test_an_environment_without_seldon_is_named(bundle, monkeypatch, python, words):
    monkeypatch.setenv("CVKIT_SELDON_PYTHON", python)
    with pytest.raises(ServeError) as caught:
        SeldonServer(bundle.folder).__enter__()
    assert words in str(caught.value)


# ---- ending

starter = """
import sys, time
from cvkit.serving.seldon_server import SeldonServer
with SeldonServer(sys.argv[1]) as server:
    print(server.process.pid, *server.ports.values(), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_the_server_ends_with_whoever_started_it(bundle, sign):
    "Ctrl-C in the block ends it in order; a starter that is killed cannot, and the server sees to it by itself."
    done = subprocess.Popen(
        [sys.executable, "-c", starter, bundle.folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    group, *ports = map(int, done.stdout.readline().split())
    alive, busy = _processes_of(group), [port_in_use(p) for p in ports]
    done.send_signal(sign)
    _, response_text = done.communicate(timeout=120)
    left = _processes_of(group)
    gone = wait_until(lambda: not _processes_of(group) and not any(map(port_in_use, ports)))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    assert len(alive) >= 3 and busy == [True] * 3, "the wrapper and the processes that it started"
    if sign == signal.SIGINT:
        assert done.returncode == -signal.SIGINT and "KeyboardInterrupt" in response_text and left == [], (
            "nothing is left when the block has been left"
        )
    assert gone, "processes or ports were left after 20 seconds"


def test_after_the_block_no_process_and_no_port_is_left(bundle):
    with SeldonServer(bundle.folder) as server:
        alive, group, place = _processes_of(server.process.pid), server.process.pid, Path(server.folder.name)
        assert place.exists() and server.rest([images["png"]])
    assert len(alive) >= 3 and _processes_of(group) == [] and not [p for p in alive if running(p)]
    assert (
        not any(map(port_in_use, server.ports.values()))
        and not place.exists()
        and server.stop() == {"processes": [], "ports": []}
    )
    with pytest.raises(ServeError, match="is the server running"):
        server.health()


# ---- parity

rows = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])


def as_answers(p):
    return [dict(probabilities=dict(zip(classes, row))) for row in p.tolist()]


def test_parity_is_the_largest_difference_anywhere():
    found = serving_parity(
        as_answers(rows + np.array([[0, 0, 0], [0, -0.02, 0.02]])),
        as_answers(rows + np.array([[0.001, -0.001, 0], [0, 0, 0]])),
        rows,
        classes,
    )
    assert (
        found["n"] == 2
        and found["rest"] == pytest.approx(0.02)
        and found["grpc"] == pytest.approx(0.001)
        and found["max_abs_diff"] == found["rest"]
    )


@pytest.mark.parametrize(
    "rest, grpc, words",
    [
        (rows[:1], rows, "expected 2 answers over rest, got 1"),
        (rows, rows[:0], "expected 2 answers over grpc, got 0"),
        (rows, rows[:, :2], "expected probabilities of cracked, sound, dirty over grpc, got"),
        (rows, rows * [1, np.nan, 1], "expected finite probabilities over grpc, got 2 that are not"),
    ],
)
def test_parity_of_other_answers_is_refused(rest, grpc, words):
    with pytest.raises(ServeError, match=words):
        serving_parity(as_answers(rest), as_answers(grpc), rows, classes)


def test_a_port_that_somebody_else_talks_from_is_not_left_over_and_another_is_drawn(bundle):
    import socket

    server = SeldonServer(bundle.folder)
    with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as client:
        client.bind(("127.0.0.1", server.ports["rest"]))
        client.connect(other.getsockname())
        taken = server.ports["rest"]
        with server:
            assert server.ports["rest"] != taken and server.health()["status"] == "ready"
            server.ports["rest"] = taken  # as if it had been freed, and taken by a client
            assert port_in_use(taken) and server.stop() == {"processes": [], "ports": []}
