"""A picture keeps its place in the square, every decoder gives one answer to broken files, and training and server see
the same bytes."""

import re
import sys
from dataclasses import replace
from io import BytesIO
from itertools import product
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from cvkit.core import DataError, MissingExtra, ParameterError
from cvkit.data.ingest import ingest_folder
from cvkit.data.pixel_cache import cached_pixels
from cvkit.data.preprocess import Preprocess, decode_image, decode_scaled, letterbox_geometry, resize_image

quick = settings(max_examples=60, deadline=None)
sides = st.integers(1, 3000)


def encode(picture, format="PNG", **options):
    out = BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(out, format, **options)
    return out.getvalue()


def exif(turn):
    found = Image.Exif()
    found[0x0112] = turn
    return found


photo = Image.fromarray(data.coffee()).resize((211, 149), Image.Resampling.LANCZOS)  # no side is a multiple of eight
noise = np.random.default_rng(0).integers(0, 256, (23, 31, 3), np.uint8)
FILES = {
    "a.jpg": encode(photo, "JPEG", quality=90),
    "b.jpg": encode(photo.convert("L"), "JPEG", quality=90),
    "c.jpg": encode(photo.convert("CMYK"), "JPEG", quality=90),
    "d.jpg": encode(photo, "JPEG", quality=90, exif=exif(6)),
    "e.jpg": encode(photo, "JPEG", quality=90, exif=exif(3)),
    "f.jpg": encode(photo, "JPEG", quality=90, progressive=True, subsampling=0),
    "g.jpg": encode(photo, "MPO", save_all=True, append_images=[photo.rotate(90)], quality=90),
    "h.png": encode(np.asarray(photo.convert("L")).astype(np.uint16) * 256 + 99),
    "i.png": encode(Image.merge("RGBA", (*photo.split(), photo.getchannel(0)))),
    "j.png": encode(photo, exif=exif(8)),
}
SPECS = [
    Preprocess(size=40, resize=resize, colour=colour, decoder=decoder, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    for resize, colour, decoder in product(("squash", "crop", "letterbox"), ("RGB", "GRAY"), ("pillow", "simplejpeg"))
]


# ---- training's and the server's tensors


def small_graph(size):
    "The mean of each channel, as bytes."
    from onnx import TensorProto, helper

    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("Identity", ["embedding"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "small", [value("images", "n", 3, size, size)], [value("logits", "n", 3), value("embedding", "n", 3)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    for i, (name, content) in enumerate(FILES.items()):
        (root / "xy"[i % 2]).mkdir(exist_ok=True)
        (root / "xy"[i % 2] / name).write_bytes(content)
    return ingest_folder(root)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.resize}-{spec.colour}-{spec.decoder}")
def test_training_and_server_see_the_same_bytes(spec, manifest, tmp_path, monkeypatch):
    from cvkit.release.bundle import write_bundle
    from cvkit.serving.predictor import Predictor

    monkeypatch.setenv("CVKIT_CACHE", str(tmp_path / "cache"))
    seen = []

    class Watched(Predictor):
        def run(self, tensor, outputs=("logits",)):
            seen.append(tensor.copy())
            return super().run(tensor, outputs)

    bundle = write_bundle(
        tmp_path / "bundle",
        small_graph(spec.size),
        dict(
            name="small",
            task="classification",
            classes=["x", "y", "z"],
            positive=None,
            preprocess=spec.to_dict(),
            temperature=1.0,
            licence="CC0-1.0",
            digests={},
        ),
    )
    server = Watched(bundle, threads=1)
    assert server.preprocess == spec
    assert server.preprocess.digest == spec.digest
    assert len(manifest) == len(FILES)
    for _ in range(2):  # decoded, and read from disk
        trained = spec.tensor(cached_pixels(manifest, spec)[:])
        for i, row in enumerate(trained):
            server.predict(manifest.read(i)), server.predict(manifest.path(i))
            assert seen.pop().tobytes() == seen.pop().tobytes() == row.tobytes(), manifest.table["uri"][i]


def test_every_specification_gives_pixels_of_its_own():
    for name in ("a.jpg", "d.jpg", "f.jpg", "g.jpg"):
        assert len({spec.pixels(FILES[name]).tobytes() for spec in SPECS}) == len(SPECS), name


def test_a_default_stays_what_bundles_hold():
    assert Preprocess().to_dict() == dict(
        size=224,
        resize="squash",
        interpolation="bicubic",
        crop_ratio=0.875,
        colour="RGB",
        decoder="pillow",
        mean=[0.5] * 3,
        std=[0.5] * 3,
    )
    assert Preprocess().digest == "bcb968ca663bf89a660bb0a4b24c7386a957fe153e3bf7f8454ac8c5825eb95d"


# ---- letterbox


@quick
@given(sides, sides, st.integers(1, 700))
def test_a_letterbox_holds_the_picture_in_the_middle_in_its_proportions(width, height, size):
    place = letterbox_geometry(width, height, size)
    assert max(place.width, place.height) == size
    assert min(place.width, place.height) >= 1
    for side, start in ((place.width, place.left), (place.height, place.top)):
        assert start >= 0
        assert 0 <= size - side - 2 * start <= 1
    exact = size / max(width, height)
    assert abs(place.width - width * exact) < 1
    assert abs(place.height - height * exact) < 1
    assert place.scale_x * width == pytest.approx(place.width)
    assert place.scale_y * height == pytest.approx(place.height)


@quick
@given(sides, sides, st.integers(1, 700), st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5))
def test_boxes_go_into_the_letterbox_and_come_back(width, height, size, shares):
    place = letterbox_geometry(width, height, size)
    boxes = np.reshape(shares, (-1, 4)) * [width, height, width, height]
    placed = place.place(boxes)
    assert placed.shape == boxes.shape
    assert np.allclose(place.restore(placed), boxes, atol=1e-6)
    assert (placed[:, 0::2] >= place.left).all()
    assert (placed[:, 0::2] <= place.left + place.width + 1e-9).all()
    assert (placed[:, 1::2] >= place.top).all()
    assert (placed[:, 1::2] <= place.top + place.height + 1e-9).all()
    assert place.place([[0, 0, width, height]]) == pytest.approx(
        np.array([[place.left, place.top, place.left + place.width, place.top + place.height]])
    )


@quick
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50), st.sampled_from(["RGB", "GRAY"]))
def test_the_picture_is_where_the_geometry_says(width, height, size, colour):
    place = letterbox_geometry(width, height, size)
    found = resize_image(np.full((height, width, 3), 255, np.uint8), size, "letterbox", colour=colour, fill=(1, 2, 3))
    expected = np.tile(np.array([1, 2, 3], np.uint8), (size, size, 1))
    expected[place.top : place.top + place.height, place.left : place.left + place.width] = 255
    assert np.array_equal(found, expected)


def test_a_box_around_a_mark_is_around_the_mark_in_the_square():
    image = np.zeros((90, 240, 3), np.uint8)
    image[30:60, 80:160] = 255
    found = resize_image(image, 120, "letterbox", "nearest", fill=(0, 0, 0))
    rows, columns = np.nonzero(found[..., 0])
    assert letterbox_geometry(240, 90, 120).place([[80, 30, 160, 60]]).tolist() == [
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    ]


# ---- colour


@quick
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_gray_is_pillows_luminance_in_all_channels(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    side = max(height, width)
    found = resize_image(image, side, "letterbox", "nearest", colour="GRAY", fill=(0, 0, 0))
    place = letterbox_geometry(width, height, side)
    inside = found[place.top : place.top + height, place.left : place.left + width]
    assert (inside == inside[..., :1]).all()
    assert np.array_equal(inside[..., 0], np.asarray(Image.fromarray(image).convert("L")))
    assert np.abs(inside[..., 0] - image @ [0.299, 0.587, 0.114]).max() <= 0.51


@pytest.mark.parametrize(
    "resize, interpolation", [*product(("squash", "crop", "letterbox"), ("nearest", "bilinear", "bicubic", "lanczos"))]
)
def test_a_gray_image_is_resized_like_its_three_channels(resize, interpolation):
    gray = noise[..., 0]
    expected = resize_image(np.repeat(gray[..., None], 3, -1), 17, resize, interpolation)
    for colour in ("RGB", "GRAY"):
        assert np.array_equal(resize_image(gray, 17, resize, interpolation, colour=colour), expected)


# ---- the fast decoder


@quick
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 40),
    st.sampled_from(["squash", "crop", "letterbox"]),
    st.floats(0.05, 1),
    st.integers(1, 8),
)
def test_a_scaled_picture_is_no_smaller_than_what_is_seen_and_its_part_is_exact(
    width, height, size, resize, ratio, turn
):
    image, (left, top, right, bottom) = decode_scaled(
        encode(Image.new("RGB", (width, height)), "JPEG", exif=exif(turn)), size, resize, ratio
    )
    if turn > 4:
        width, height = height, width
    w, h = right - left, bottom - top
    assert w / width == h / height
    assert (w * 8 / width) in (1, 2, 3, 4, 5, 8), "eighths that are quick"
    assert image.shape[:2] == (ceil(h), ceil(w))
    assert 0 <= left < 1
    assert 0 <= top < 1
    assert right <= image.shape[1]
    assert bottom <= image.shape[0]
    side = size if resize != "crop" else size / ratio
    least = letterbox_geometry(width, height, size)[:2] if resize == "letterbox" else (side, side)
    assert ceil(w) >= min(width, least[0])
    assert ceil(h) >= min(height, least[1])


WAYS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("turn", WAYS)
def test_a_scaled_picture_stands_upright(turn):
    lying, (_, _, w, h) = decode_scaled(encode(photo, "JPEG"), 50)
    assert lying.shape == (56, 80, 3)
    assert (w, h) == (211 * 3 / 8, 149 * 3 / 8)
    upright, part = decode_scaled(encode(photo, "JPEG", exif=exif(turn)), 50)
    assert np.array_equal(upright, np.asarray(Image.fromarray(lying).transpose(WAYS[turn])))
    marks = np.zeros((56 * 8, 80 * 8), np.uint8)
    marks[: int(h * 8), : int(w * 8)] = 1  # the picture, in eighths of a pixel
    rows, columns = np.nonzero(np.asarray(Image.fromarray(marks).transpose(WAYS[turn])))
    assert part == (columns.min() / 8, rows.min() / 8, (columns.max() + 1) / 8, (rows.max() + 1) / 8)


y, x = np.mgrid[:333, :501]
WAVES = (128 + 100 * np.sin(x / 15 + np.sin(y / 20))).round().astype(np.uint8)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("resize", ["squash", "crop", "letterbox"])
def test_a_scaled_picture_shows_the_same_in_the_same_place(resize, turn):
    "The last pixels of a scaled picture are parts of pixels; taken for whole ones, waves would not meet."
    file = encode(WAVES, "JPEG", quality=98, exif=exif(turn))
    image, part = decode_scaled(file, 70, resize)
    slow = resize_image(decode_image(file), 70, resize).astype(int)
    right, wrong = (np.abs(resize_image(image, 70, resize, part=p) - slow).mean() for p in (part, None))
    assert right < 0.6
    assert wrong > 4


def test_a_picture_that_is_wanted_whole_is_that_of_pillow():
    for name in ("a.jpg", "b.jpg", "d.jpg", "f.jpg", "g.jpg"):
        image, part = decode_scaled(FILES[name], 224)
        assert np.abs(image.astype(int) - decode_image(FILES[name])).max() <= 2
        assert part == (0, 0, *image.shape[1::-1])


@pytest.mark.parametrize("name", [*"chij"])
def test_what_is_no_plain_jpeg_is_left_to_pillow(name):
    file = next(content for path, content in FILES.items() if path[0] == name)
    for spec in SPECS:
        assert np.array_equal(
            replace(spec, decoder="simplejpeg").pixels(file), replace(spec, decoder="pillow").pixels(file)
        )


JPEG = FILES["a.jpg"]
BROKEN = {
    "nothing": (b"", "got an empty file"),
    "a letter": (b"Dear Sir", "got b'Dear Sir'"),
    "the first half": (JPEG[: len(JPEG) // 2], "image file is truncated"),
    "the header": (JPEG[:200], "fetch it again"),
    "two bytes": (JPEG[:2], "; "),
    "a film": (encode(photo, "WEBP", save_all=True, append_images=[photo.rotate(5)]), "2 frames"),
    "floats": (encode(np.ones((2, 2), np.float32), "TIFF"), "no fixed range"),
    "no tables": (JPEG[:20] + JPEG[JPEG.index(b"\xff\xc0") :], "fetch it again"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_both_decoders_say_the_same_of_a_broken_file(name):
    file, message = BROKEN[name]
    messages = []
    for spec in (Preprocess(size=16), Preprocess(size=16, decoder="simplejpeg")):
        with pytest.raises(DataError, match=re.escape(message)) as caught:
            spec.pixels(file)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_declared_size_is_judged_before_anything_is_decoded(monkeypatch):
    import simplejpeg

    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *given, **named: pytest.fail("decoded"))
    with pytest.raises(DataError, match="declares 211 x 149"):
        decode_scaled(JPEG, 16, max_pixels=211 * 149 - 1)
    place = JPEG.index(b"\xff\xc0") + 5
    with pytest.raises(DataError, match="declares far more"):
        decode_scaled(JPEG[:place] + b"\xff" * 4 + JPEG[place + 4 :], 16)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_has_the_same_answer_from_both(draw):
    file = bytearray(JPEG)
    for _ in range(draw.draw(st.integers(0, 4))):
        file[draw.draw(st.integers(0, len(file) - 1))] = draw.draw(st.integers(0, 255))
    file = bytes(file[: draw.draw(st.integers(1, len(file)))]) if draw.draw(st.booleans()) else bytes(file)
    answers = []
    for decode in (decode_image, lambda file: decode_scaled(file, 224)[0]):
        try:
            answers.append(decode(file).shape)
        except DataError as error:
            answers.append(str(error))
    assert answers[0] == answers[1]


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    for file in (JPEG, FILES["h.png"]):
        with pytest.raises(MissingExtra, match=re.escape('pip install "propertyai-cvkit[train]"')):
            Preprocess(decoder="simplejpeg").pixels(file)
        assert Preprocess().pixels(file).shape == (224, 224, 3)


# ---- bad specifications


@pytest.mark.parametrize(
    "values, message",
    [
        ({"resize": "pad"}, "'squash', 'crop' or 'letterbox', got 'pad'"),
        ({"colour": "gray"}, "'RGB' or 'GRAY', got 'gray'"),
        ({"colour": ""}, "got ''"),
        ({"decoder": "turbo"}, "'pillow' or 'simplejpeg', got 'turbo'"),
        ({"fill": [0, 0, 0]}, "got ['fill']"),
    ],
)
def test_wrong_specification(values, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        Preprocess.from_dict(values)


@pytest.mark.parametrize("given", [(0, 5, 5), (5, 0, 5), (5, 5, 0), (-1, 5, 5)])
def test_no_letterbox_without_a_side(given):
    with pytest.raises(ParameterError, match="expected a width, a height and a size above 0"):
        letterbox_geometry(*given)
