"What a backbone must be: offline, one graph for equal weights, the same numbers in torch and onnxruntime."

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from cvkit.core import DataError, MissingExtra, ParameterError, digest_file
from cvkit.model import backbones
from cvkit.model.backbones import (
    attach_head,
    backbone_graph,
    load_backbone,
    load_network,
    make_network,
    network_state,
    parity,
    state_digest,
)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(size=64)


@pytest.fixture(scope="module")
def head():
    random = np.random.default_rng(0)
    return random.normal(0, 0.05, (3, 1280)).astype(np.float32), random.normal(0, 1, 3).astype(np.float32)


@pytest.fixture(scope="module")
def tensor(backbone):
    return backbone.preprocess.tensor(np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), np.uint8))


def test_packaged_weights_come_with_their_preprocessing(backbone):
    assert (backbone.preprocess.mean, backbone.preprocess.std, backbone.preprocess.resize) == (
        (0.5,) * 3,
        (0.5,) * 3,
        "squash",
    )
    assert (backbone.width, backbone.weights_licence) == (1280, "Apache-2.0")
    assert not backbone.module.training and not any(p.requires_grad for p in backbone.module.parameters())


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        (dict(name="resnet19"), ParameterError, "did you mean resnet18"),
        (dict(name="resnet18"), ParameterError, "give weights=PATH or weights=None"),
        (dict(name="resnet18", weights="nowhere.pth"), DataError, "there is no such file"),
    ],
)
def test_refusals(arguments, error, words):
    with pytest.raises(error, match=words):
        load_backbone(**arguments)


def test_weights_of_another_network_are_refused_and_not_half_loaded(tmp_path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="is it another network's"):
        load_backbone("resnet18", weights=tmp_path / "other.pth")


def test_a_pickle_is_not_run(tmp_path):
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"x": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(DataError):
        load_backbone("resnet18", weights=tmp_path / "trap.pth")
    assert not marker.exists()


def test_weights_from_a_file_are_those_of_the_file(tmp_path, backbone):
    from safetensors.torch import save_file

    save_file(backbone.module.state_dict(), tmp_path / "lite0.safetensors")
    again = load_backbone(weights=tmp_path / "lite0.safetensors")
    assert (again.weights_digest, again.weights_source) == (backbone.weights_digest, "lite0.safetensors")


def test_digest_sees_values_names_and_shapes():
    state = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3), "c": torch.ones(1)},
        {"a": torch.zeros(2, 3), "b": torch.ones(1) * 2},
    ]
    assert state_digest(dict(reversed(state.items()))) == state_digest(state)
    assert len({state_digest(s) for s in [state, *others]}) == 4


def test_networks_that_share_names_of_tensors_do_not_share_a_graph(backbone):
    other = backbones.Backbone(
        "efficientnet_lite0",
        *[
            getattr(backbone, k)
            for k in ("module", "width", "preprocess", "weights_digest", "weights_source", "weights_licence")
        ],
    )
    assert backbones.graph_path(other) != backbones.graph_path(backbone)


def test_outputs_batches_and_parity(backbone, head, tensor):
    model, network = attach_head(backbone_graph(backbone), *head), make_network(backbone, *head)
    session = ort.InferenceSession(model)
    assert [o.name for o in session.get_outputs()] == ["logits", "embedding", "feature_map"]
    for n in (1, 2, 5):
        logits, embedding, feature_map = session.run(None, {"images": tensor[:n]})
        assert (logits.shape, embedding.shape, feature_map.shape) == ((n, 3), (n, 1280), (n, 1280, 2, 2))
    assert np.allclose(feature_map.mean((2, 3)), embedding, atol=1e-5)
    assert np.allclose(embedding @ head[0].T + head[1], logits, atol=1e-4)
    found = parity(network, model, tensor)
    assert found["n"] == 5 and found["max_abs_logit"] < 1e-4 and found["max_abs_probability"] < 1e-5


def test_parity_sees_another_head(backbone, head, tensor):
    model = attach_head(backbone_graph(backbone), head[0], head[1] + np.array([1, 0, 0], np.float32))
    assert parity(make_network(backbone, *head), model, tensor)["max_abs_logit"] == pytest.approx(1, abs=1e-3)


def test_graph_holds_nothing_of_this_machine(backbone, head):
    model = onnx.load_from_string(attach_head(backbone_graph(backbone), *head))
    assert not [n.name for n in model.graph.node if n.metadata_props or n.doc_string]
    assert b"site-packages" not in model.SerializeToString() and attach_head(
        backbone_graph(backbone), *head
    ) == attach_head(backbone_graph(backbone), *head)


def test_gradients_reach_the_images(backbone, head, tensor):
    images = torch.from_numpy(tensor[:1].copy()).requires_grad_()
    make_network(backbone, *head)(images)[0][0, 1].backward()
    assert images.grad.abs().max() > 0


def test_network_survives_a_bundle(tmp_path, backbone, head, tensor):
    from safetensors.torch import save_file

    from cvkit.core import write_json

    network = make_network(backbone, *head)
    state, about = network_state(network, backbone)
    save_file(state, tmp_path / "weights.safetensors")
    write_json(tmp_path / "architecture.json", about)
    ours, theirs = (n(torch.from_numpy(tensor)) for n in (network, load_network(tmp_path)))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


def test_a_hidden_layer_goes_where_the_head_goes(tmp_path, backbone, tensor):
    from safetensors.torch import save_file

    from cvkit.core import write_json

    random = np.random.default_rng(1)
    weight, bias, hidden = (
        random.normal(size=(3, 8)),
        random.normal(size=3),
        (random.normal(size=(8, 1280)) / 40, random.normal(size=8)),
    )
    model, network = (
        attach_head(backbone_graph(backbone), weight, bias, hidden),
        make_network(backbone, weight, bias, hidden),
    )
    assert parity(network, model, tensor)["max_abs_logit"] < 1e-4
    logits, embedding = onnxruntime_of(model, tensor)
    assert np.allclose(np.maximum(embedding @ hidden[0].T + hidden[1], 0) @ weight.T + bias, logits, atol=1e-4)
    state, about = network_state(network, backbone)
    save_file(state, tmp_path / "weights.safetensors")
    write_json(tmp_path / "architecture.json", about)
    assert torch.equal(network(torch.from_numpy(tensor))[0], load_network(tmp_path)(torch.from_numpy(tensor))[0])
    with pytest.raises(ParameterError, match=r"expected a weight of \(3, 8\) for 3 biases, got \(3, 1280\)"):
        attach_head(backbone_graph(backbone), np.zeros((3, 1280)), bias, hidden)


def onnxruntime_of(model, tensor):
    return ort.InferenceSession(model).run(["logits", "embedding"], {"images": tensor})


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"propertyai-cvkit\[train\]"):
        load_backbone()


@pytest.mark.slow
def test_two_processes_export_the_same_bytes(tmp_path):
    code = "from cvkit.model.backbones import *; print(backbone_graph(load_backbone(size=64)))"
    import os

    paths = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "CVKIT_CACHE": str(tmp_path / str(i)), "PYTHONHASHSEED": str(i)},
        ).stdout.split()[-1]
        for i in (1, 2)
    ]
    assert paths[0] != paths[1] and digest_file(paths[0]) == digest_file(paths[1])
