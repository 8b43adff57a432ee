"Embeddings are those of torch, kept by network and content, and never computed twice."

import numpy as np
import pytest

from cvkit.data.preprocess import Preprocess
from cvkit.model import features as module
from cvkit.model.backbones import backbone_graph, load_backbone
from cvkit.model.features import embedding_store, extract_features


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(size=64)


@pytest.fixture(scope="module")
def graph(backbone):
    return backbone_graph(backbone)


def test_embeddings_equal_torch_in_any_batch_and_the_second_call_computes_nothing(
    cache, manifest, backbone, graph, decoded, monkeypatch
):
    import torch

    monkeypatch.setattr(module, "backbone_graph", lambda backbone: graph)
    first = extract_features(manifest, backbone, batch=3)
    with torch.no_grad():
        feature_map = backbone.module.forward_features(torch.from_numpy(backbone.preprocess.tensor(first.pixels[:])))
    assert first.embedding.dtype == np.float32 and np.allclose(
        first.embedding, feature_map.mean((2, 3)).numpy(), atol=1e-4
    )
    assert list(first.images) == list(manifest.table["image"]) and len(decoded) == 20
    monkeypatch.setattr(module, "single_thread_session", lambda graph: pytest.fail("a session was made"))
    again = extract_features(manifest.take([7, 3]), backbone)
    assert (again.embedding == first.embedding[[7, 3]]).all() and len(decoded) == 20


def test_stores_of_networks_are_apart(cache, backbone):
    import dataclasses

    others = [
        dataclasses.replace(backbone, name="efficientnet_lite0"),
        dataclasses.replace(backbone, weights_digest="0" * 64),
        dataclasses.replace(backbone, preprocess=Preprocess(size=64, mean=(0.4,) * 3)),
    ]
    assert len({embedding_store(b).folder for b in [backbone, *others]}) == 4
