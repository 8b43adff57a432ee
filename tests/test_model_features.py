"What is kept is kept by content: found again anywhere, never decoded twice, never under a wrong name."
import threading

import numpy as np
import pytest
from PIL import Image

from cvkit.core import DataError
from cvkit.data.manifest import ingest_folder
from cvkit.data.preprocess import Preprocess
from cvkit.model import features as module
from cvkit.model.backbones import backbone_graph, load_backbone
from cvkit.model.features import Store, cached_pixels, embedding_store, extract_features, pixel_store

spec = Preprocess(size=16)


@pytest.fixture
def cache(tmp_path, monkeypatch): monkeypatch.setenv("CVKIT_CACHE", str(tmp_path/"cache"))


@pytest.fixture
def manifest(tmp_path):
    random = np.random.default_rng(0)
    for i in range(20):
        path = tmp_path/"images"/"ab"[i % 2]/f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (24, 20, 3), np.uint8)).save(path)
    (tmp_path/"images"/"a"/"twin.png").write_bytes((tmp_path/"images"/"a"/"00.png").read_bytes())
    return ingest_folder(tmp_path/"images")


@pytest.fixture
def decoded(monkeypatch):
    seen, decode = [], module._decode
    monkeypatch.setattr(module, "_decode", lambda manifest, row, spec: seen.append(row) or decode(manifest, row, spec))
    return seen


def test_pixels_are_those_of_preprocess_and_twins_are_decoded_once(cache, manifest, decoded):
    pixels = cached_pixels(manifest, spec)
    assert pixels.shape == (21, 16, 16, 3) and pixels.dtype == np.uint8 and len(decoded) == 20
    for i in range(21): assert (pixels[i] == spec.pixels(manifest.read(i))).all()


def test_a_second_call_decodes_only_what_is_new(cache, manifest, decoded):
    cached_pixels(manifest.take(range(5)), spec); decoded.clear()
    assert len(cached_pixels(manifest.take([4, 0, 9]), spec)) == 3 and len(decoded) == 1
    cached_pixels(manifest.take([9, 4]), spec)
    assert len(decoded) == 1


def test_every_way_to_index(cache, manifest):
    pixels = cached_pixels(manifest, spec)
    whole = np.stack([pixels[i] for i in range(len(pixels))])
    mask = np.arange(21) % 3 == 0
    for index in (slice(2, 9), slice(None, None, -1), [5, 5, 1], np.array([-1, 0]), mask, slice(4, 4)):
        assert (pixels[index] == whole[index]).all() and pixels[index].shape == whole[index].shape
    assert (np.asarray(pixels) == whole).all() and (np.array(pixels, np.float32) == whole).all()
    with pytest.raises(IndexError): pixels[21]


def test_mean_and_deviation_do_not_touch_pixels_but_size_does(cache):
    assert pixel_store(spec).folder == pixel_store(Preprocess(size=16, mean=(.1, .2, .3))).folder
    assert pixel_store(spec).folder != pixel_store(Preprocess(size=17)).folder
    assert pixel_store(spec).folder != pixel_store(Preprocess(size=16, resize="crop")).folder


@pytest.mark.parametrize("change, words", [
    (lambda path: path.unlink(), "no such file or directory"),
    (lambda path: Image.new("RGB", (8, 8)).save(path), "as it was ingested"),
    (lambda path: path.write_bytes(b""), "as it was ingested"),
])
def test_a_file_that_changed_is_named(cache, manifest, change, words):
    change(manifest.path(3))
    with pytest.raises(DataError, match=words) as caught: cached_pixels(manifest, spec)
    assert manifest.table["uri"][3] in str(caught.value)


def test_an_interrupt_keeps_what_was_decoded(cache, manifest, monkeypatch):
    decode = module._decode
    def until_ten(manifest, row, spec):
        if row >= 10: raise KeyboardInterrupt
        return decode(manifest, row, spec)
    monkeypatch.setattr(module, "_decode", until_ten)
    with pytest.raises(KeyboardInterrupt): cached_pixels(manifest, spec, batch=2)
    contents = manifest.table["content"].to_numpy(str)
    assert set(pixel_store(spec).missing(contents)) == {i for i in range(10, 21) if contents[i] not in contents[:10]}
    assert not [p for p in pixel_store(spec).folder.iterdir() if p.name.startswith(".")]


def test_stores_are_filled_by_several_at_once(tmp_path):
    contents = [f"{i:064x}" for i in range(60)]
    def fill(part):
        store = Store(tmp_path, (1,), np.int64)
        with store.adding(size=7) as keep:
            for i in part: keep([contents[i]], np.array([[i]]))
    threads = [threading.Thread(target=fill, args=(range(a, b),)) for a, b in ((0, 40), (20, 60), (0, 60))]
    for t in threads: t.start()
    for t in threads: t.join()
    assert (Store(tmp_path, (1,), np.int64).rows(contents)[:, ][:, 0] == np.arange(60)).all()


def test_nothing_asked_nothing_found(tmp_path):
    store = Store(tmp_path, (3,), np.float32)
    assert store.rows([])[:].shape == (0, 3) and len(store.missing([])) == 0


@pytest.fixture(scope="module")
def backbone(): return load_backbone(size=64)


@pytest.fixture(scope="module")
def graph(backbone): return backbone_graph(backbone)


def test_embeddings_equal_torch_in_any_batch_and_the_second_call_computes_nothing(cache, manifest, backbone, graph, decoded, monkeypatch):
    import torch
    monkeypatch.setattr(module, "backbone_graph", lambda backbone: graph)
    first = extract_features(manifest, backbone, batch=3)
    with torch.no_grad(): feature_map = backbone.module.forward_features(torch.from_numpy(backbone.preprocess.tensor(first.pixels[:])))
    assert first.embedding.dtype == np.float32 and np.allclose(first.embedding, feature_map.mean((2, 3)).numpy(), atol=1e-4)
    assert list(first.images) == list(manifest.table["image"]) and len(decoded) == 20
    monkeypatch.setattr(module, "_session", lambda graph: pytest.fail("a session was made"))
    again = extract_features(manifest.take([7, 3]), backbone)
    assert (again.embedding == first.embedding[[7, 3]]).all() and len(decoded) == 20


def test_stores_of_networks_are_apart(cache, backbone):
    import dataclasses
    others = [dataclasses.replace(backbone, name="efficientnet_lite0"), dataclasses.replace(backbone, weights_digest="0" * 64), dataclasses.replace(backbone, preprocess=Preprocess(size=64, mean=(.4,) * 3))]
    assert len({embedding_store(b).folder for b in [backbone, *others]}) == 4


def test_only_the_owner_can_enter(cache, manifest):
    cached_pixels(manifest, spec)
    folder = pixel_store(spec).folder
    assert [oct(p.stat().st_mode & 0o777) for p in (folder, folder.parent, folder.parent.parent)] == ["0o700"] * 3
