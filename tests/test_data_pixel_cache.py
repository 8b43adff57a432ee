"What is kept is kept by content: found again anywhere, never decoded twice, never under a wrong name."

import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cvkit.core import DataError
from cvkit.data.pixel_cache import Store, cached_pixels, pixel_store, work_ahead
from cvkit.data.preprocess import Preprocess

spec = Preprocess(size=16)


def test_pixels_are_those_of_preprocess_and_one_file_is_decoded_once(cache, manifest, decoded):
    pixels = cached_pixels(manifest, spec)
    assert pixels.shape == (21, 16, 16, 3)
    assert pixels.dtype == np.uint8
    assert len(decoded) == 20
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in pixels.arrays)
    for i in range(21):
        assert (pixels[i] == spec.pixels(manifest.read(i))).all()


def test_a_second_call_decodes_only_what_is_new(cache, manifest, decoded):
    cached_pixels(manifest.take(range(5)), spec)
    decoded.clear()
    assert len(cached_pixels(manifest.take([4, 0, 9]), spec)) == 3
    assert len(decoded) == 1
    cached_pixels(manifest.take([9, 4]), spec)
    assert len(decoded) == 1


def test_every_way_to_index(cache, manifest):
    pixels = cached_pixels(manifest, spec)
    whole = np.stack([pixels[i] for i in range(len(pixels))])
    mask = np.arange(21) % 3 == 0
    for index in (slice(2, 9), slice(None, None, -1), [5, 5, 1], np.array([-1, 0]), mask, slice(4, 4)):
        assert (pixels[index] == whole[index]).all()
        assert pixels[index].shape == whole[index].shape
    assert (np.asarray(pixels) == whole).all()
    assert (np.array(pixels, np.float32) == whole).all()
    with pytest.raises(IndexError):
        pixels[21]


def test_mean_and_deviation_do_not_touch_pixels_but_size_does(cache):
    assert pixel_store(spec).folder == pixel_store(Preprocess(size=16, mean=(0.1, 0.2, 0.3))).folder
    assert pixel_store(spec).folder != pixel_store(Preprocess(size=17)).folder
    others = [
        Preprocess(size=16, **change)
        for change in (
            dict(resize="crop"),
            dict(resize="letterbox"),
            dict(interpolation="bilinear"),
            dict(colour="GRAY"),
            dict(decoder="simplejpeg"),
            dict(resize="crop", crop_ratio=0.5),
        )
    ]
    assert len({pixel_store(s).folder for s in (spec, *others)}) == 7
    assert pixel_store(spec).folder.name == "c588b44f976651cb655610bc", "pixels that are kept are found again"


def test_the_mean_is_the_colour_of_bars_and_counts_there(cache):
    boxed = Preprocess(size=16, resize="letterbox")
    assert pixel_store(boxed).folder != pixel_store(replace(boxed, mean=(0.1, 0.2, 0.3))).folder
    assert pixel_store(boxed).folder == pixel_store(replace(boxed, std=(0.1, 0.2, 0.3))).folder


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda path: path.unlink(), "no such file or directory"),
        (lambda path: Image.new("RGB", (8, 8)).save(path), "as it was ingested"),
        (lambda path: path.write_bytes(b""), "as it was ingested"),
    ],
)
def test_a_file_that_changed_is_named(cache, manifest, change, words):
    change(manifest.path(3))
    with pytest.raises(DataError, match=words) as caught:
        cached_pixels(manifest, spec)
    assert manifest.table["uri"][3] in str(caught.value)


def test_an_interrupt_keeps_what_was_decoded(cache, manifest, monkeypatch):
    read = type(manifest).read

    def until_ten(self, row):
        if row >= 10:
            raise KeyboardInterrupt
        return read(self, row)

    monkeypatch.setattr(type(manifest), "read", until_ten)
    with pytest.raises(KeyboardInterrupt):
        cached_pixels(manifest, spec, batch=2)
    contents = manifest.table["content"].to_numpy(str)
    assert set(pixel_store(spec).missing(contents)) == {i for i in range(10, 21) if contents[i] not in contents[:10]}
    assert not [p for p in pixel_store(spec).folder.iterdir() if p.name.startswith(".")]


def test_stores_are_filled_by_several_at_once(tmp_path):
    contents = [f"{i:064x}" for i in range(60)]

    def fill(part):
        store = Store(tmp_path, (1,), np.int64)
        with store.adding(size=7) as keep:
            for i in part:
                keep([contents[i]], np.array([[i]]))

    threads = [threading.Thread(target=fill, args=(range(a, b),)) for a, b in ((0, 40), (20, 60), (0, 60))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert (Store(tmp_path, (1,), np.int64).rows(contents)[:,][:, 0] == np.arange(60)).all()


def test_nothing_asked_nothing_found(tmp_path):
    store = Store(tmp_path, (3,), np.float32)
    assert store.rows([])[:].shape == (0, 3)
    assert len(store.missing([])) == 0


def test_only_the_owner_can_enter(cache, manifest, tmp_path):
    (tmp_path / "cache" / "pixels").mkdir(parents=True, mode=0o755)
    cached_pixels(manifest, spec)
    folder = pixel_store(spec).folder
    assert [oct(p.stat().st_mode & 0o777) for p in (folder, folder.parent)] == ["0o700"] * 2, (
        "also where another program made it"
    )


def test_a_new_cache_is_private_all_the_way(cache, manifest):
    cached_pixels(manifest, spec)
    folder = pixel_store(spec).folder
    assert [oct(p.stat().st_mode & 0o777) for p in (folder, folder.parent, folder.parent.parent)] == ["0o700"] * 3


# ---- a few ahead


def test_work_comes_in_order_and_only_a_few_items_ahead():
    begun, wait = [], threading.Event()

    def make(item):
        begun.append(item)
        if item == 0:
            wait.wait(5)
        return -item

    source, requested = iter(range(1000)), []
    results = work_ahead(make, (requested.append(i) or i for i in source), depth=2)
    threading.Timer(0.1, wait.set).start()
    assert next(results) == (0, 0)
    assert len(requested) <= os.cpu_count() + 2
    assert list(results) == [(i, -i) for i in range(1, 1000)]
    assert sorted(begun) == list(range(1000))


def test_an_error_comes_where_its_item_stands():
    def make(item):
        if item == 3:
            raise ValueError("three")
        return item

    seen = []
    with pytest.raises(ValueError, match="three"):
        for item, _ in work_ahead(make, range(100)):
            seen.append(item)
    assert seen == [0, 1, 2]
    assert list(work_ahead(make, [])) == []
