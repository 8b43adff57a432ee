"The data room: bad input with its message, properties of digests and splits, edges of preprocessing."

import json
import os
import re
import subprocess
import sys
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cvkit.core import DataError, ParameterError, digest_bytes
from cvkit.data.checks import check_manifest
from cvkit.data.duplicates import find_duplicates, find_units
from cvkit.data.ingest import ingest_folder, ingest_table
from cvkit.data.ledger import Ledger
from cvkit.data.manifest import COLUMNS, Dataset, Manifest
from cvkit.data.preprocess import Preprocess, decode_image, normalise, resize_image
from cvkit.data.splits import Splits, make_splits

quick = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NOISE = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)
RED = Image.new("RGB", (8, 8), "red")


def encode(picture, format="PNG", **options):
    out = BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def write_folder(root, classes="ab", images=6):
    "Class folders of small images, no two alike."
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            Image.new("RGB", (6 + k, 4), (i, 40 * k, 7)).save(root / name / f"{i:02}.png")
    return root


def make_manifest(contents, labels, groups=None, uris=None, **attributes):
    "A manifest without files."
    n = len(contents)
    values = {c: [""] * n for c in COLUMNS} | {
        "content": [digest_bytes(str(c).encode()) for c in contents],
        "label": list(labels),
        "group": list(groups or [""] * n),
        "uri": list(uris or map(str, range(n))),
    }
    table = pd.DataFrame(values | {f"attribute.{k}": list(v) for k, v in attributes.items()})
    repeat = table.groupby("content").cumcount()
    table["image"] = [c[:16] + (f"-{r}" if r else "") for c, r in zip(table["content"], repeat)]
    return Manifest(table, None, Dataset("test"))


# ---- decoding

GIF = encode(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8))])
BROKEN = {
    "0 bytes": (b"", "expected an image, got an empty file; remove it or fetch it again"),
    "text": (
        b"Dear Sir, here is",
        "expected an image (JPEG, PNG, WEBP, BMP, TIFF), got b'Dear Sir, he'...; is it a file of another kind?",
    ),
    "truncated JPEG": (
        encode(Image.fromarray(NOISE).resize((200, 200)), "JPEG")[:2000],
        "expected a whole image, but it cannot be decoded (image file is truncated); fetch it again",
    ),
    "truncated PNG": (encode(Image.fromarray(NOISE))[:300], "expected a whole image, but it cannot be decoded"),
    "header only": (encode(RED, "JPEG")[:12], "fetch it again"),
    "animated GIF": (GIF, "got b'GIF8"),
    "animated PNG": (
        encode(RED, "PNG", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
        "expected one still image, got 2 frames; save the frame that is meant",
    ),
    "animated WEBP": (encode(RED, "WEBP", save_all=True, append_images=[Image.new("RGB", (8, 8))]), "got 2 frames"),
    "TIFF of two pages": (encode(RED, "TIFF", save_all=True, append_images=[RED]), "got 2 frames"),
    "floats": (
        encode(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"),
        "expected 8 or 16 bits a value, got 32 (mode F)",
    ),
    "declares too much": (
        b"BM" + bytes(12) + (40).to_bytes(4, "little") + (9000).to_bytes(4, "little") * 2 + b"\x01\0\x18\0" + bytes(24),
        "the file declares 9000 x 9000; make it smaller",
    ),
    "declares a bomb": (
        b"BM"
        + bytes(12)
        + (40).to_bytes(4, "little")
        + (90000).to_bytes(4, "little") * 2
        + b"\x01\0\x18\0"
        + bytes(24),
        "expected at most 64,000,000 pixels",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_image(name):
    data, message = BROKEN[name]
    with pytest.raises(DataError, match=re.escape(message)):
        decode_image(data)


GRAY16 = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + 77
WHOLE = {
    "gray, 8 bits": (Image.fromarray(NOISE[..., 0]), "PNG", {}, NOISE[..., [0, 0, 0]]),
    "gray, 16 bits": (Image.fromarray(GRAY16), "PNG", {}, np.repeat((GRAY16 >> 8).astype(np.uint8)[..., None], 3, -1)),
    "gray, 16 bits, TIFF": (
        Image.fromarray(GRAY16),
        "TIFF",
        {},
        np.repeat((GRAY16 >> 8).astype(np.uint8)[..., None], 3, -1),
    ),
    "one bit": (Image.fromarray(NOISE[..., 0] > 128), "PNG", {}, np.where(NOISE[..., [0, 0, 0]] > 128, 255, 0)),
    "palette": (
        Image.fromarray(NOISE // 128 * 255).convert("P", palette=Image.Palette.ADAPTIVE),
        "PNG",
        {},
        NOISE // 128 * 255,
    ),
    "CMYK": (RED.convert("CMYK"), "TIFF", {}, np.asarray(RED)),
    "transparent": (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG", {}, np.full((4, 4, 3), 255)),
    "half transparent": (Image.new("LA", (4, 4), (0, 51)), "PNG", {}, np.full((4, 4, 3), 204)),
    "transparent palette": (Image.new("P", (4, 4), 0), "PNG", {"transparency": 0}, np.full((4, 4, 3), 255)),
    "WEBP": (Image.fromarray(NOISE), "WEBP", {"lossless": True}, NOISE),
    "BMP": (Image.fromarray(NOISE), "BMP", {}, NOISE),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_image(name):
    picture, format, options, expected = WHOLE[name]
    image = decode_image(encode(picture, format, **options))
    assert image.dtype == np.uint8
    assert np.array_equal(image, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation):
    ways = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # what undoes what EXIF says
    picture, exif = Image.fromarray(NOISE), Image.Exif()
    exif[0x0112] = orientation
    if orientation > 1:
        picture = picture.transpose(ways[orientation])
    assert np.array_equal(decode_image(encode(picture, "PNG", exif=exif)), NOISE)


def test_photograph_with_a_preview():
    "Telephones write a JPEG of several pictures (MPO): the first is the photograph."
    data = encode(Image.fromarray(NOISE), "MPO", save_all=True, append_images=[RED], quality=95)
    assert decode_image(data).shape == NOISE.shape


@quick
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "BMP"]), st.data())
def test_damage_gives_pixels_or_a_message(format, draw):
    data = bytearray(encode(Image.fromarray(NOISE), format))
    for _ in range(draw.draw(st.integers(1, 6))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    data = bytes(data[: draw.draw(st.integers(0, len(data)))]) if draw.draw(st.booleans()) else bytes(data)
    try:
        image = decode_image(data, max_pixels=100_000)
    except DataError as error:
        assert ";" in str(error)
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3


# ---- preprocess


@quick
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 32),
    st.sampled_from(["squash", "crop", "letterbox"]),
    st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
    st.integers(0, 255),
)
def test_resize_keeps_a_plain_colour(h, w, size, resize, interpolation, gray):
    spec = Preprocess(size, resize, interpolation, mean=(gray / 255,) * 3)
    assert np.array_equal(spec.pixels(np.full((h, w), gray, np.uint8)), np.full((size, size, 3), gray))


@quick
@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.lists(st.floats(0.05, 2), min_size=3, max_size=3))
def test_normalise_is_the_formula(mean, std):
    expected = (NOISE[None].transpose(0, 3, 1, 2) / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(
        std, (1, 3, 1, 1)
    )
    found = normalise(NOISE[None], mean, std)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())


def test_crop_takes_the_centre():
    image = np.zeros((8, 16), np.uint8)
    image[2:6, 6:10] = 200
    assert (resize_image(image, 4, "crop", "nearest", crop_ratio=0.5) == 200).all()


@quick
@given(st.integers(1, 512), st.sampled_from(["squash", "crop", "letterbox"]), st.floats(0.1, 1))
def test_specification_survives_json(size, resize, ratio):
    spec = Preprocess(size, resize, crop_ratio=ratio)
    again = Preprocess.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.digest == spec.digest


@pytest.mark.parametrize(
    "values, message",
    [
        ({"resise": "crop"}, "got ['resise']"),
        ({"size": "224"}, "expected size of Preprocess to be a whole number of pixels above 0, got '224'"),
        ({"size": 0}, "got 0"),
        ({"resize": "fit"}, "'squash', 'crop' or 'letterbox', got 'fit'"),
        ({"interpolation": "cubic"}, "nearest, bilinear, bicubic, lanczos, got 'cubic'"),
        ({"decoder": "cv2"}, "'pillow' or 'simplejpeg', got 'cv2'"),
        ({"colour": "BGR"}, "'RGB' or 'GRAY', got 'BGR'"),
        ({"std": [1, 0, 1]}, "three numbers above 0"),
        ({"mean": [0.5]}, "three numbers"),
        ({"crop_ratio": 1.5}, "a share in (0, 1]"),
    ],
)
def test_wrong_specification(values, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        Preprocess.from_dict(values)


# ---- manifest: bad input


def one_class(root):
    write_folder(root, "a")


def no_images(root):
    (root / "a").mkdir()
    (root / "a" / "list.csv").write_text("x")


def nothing_decodes(root):
    for c in "ab":
        (root / c).mkdir()
        (root / c / "x.png").write_text("Dear Sir")


def loose(root):
    RED.save(root / "x.png")


def second_class_broken(root):
    write_folder(root, "a")
    (root / "b").mkdir()
    (root / "b" / "x.jpg").touch()


def misspelt(root):
    write_folder(root)
    (root / "dataset.yaml").write_text("license: MIT")


def not_yaml(root):
    write_folder(root)
    (root / "dataset.yaml").write_text("owner: [Ada")


def not_a_mapping(root):
    write_folder(root)
    (root / "dataset.yaml").write_text("MIT")


@pytest.mark.parametrize(
    "prepare, message",
    [
        (no_images, r"expected images \(.bmp, .*\) in class folders below .*, found none; check the path"),
        (lambda root: None, "found none"),
        (one_class, r"expected at least 2 classes, found 1 \('a'\) among 6 images; add images of the other classes"),
        (nothing_decodes, "none of 2 could be used; the first, a/x.png: expected an image"),
        (loose, "its 1 images lie in it directly; put each class in a folder of its own"),
        (
            second_class_broken,
            "or repair the 1 that were rejected, such as b/x.jpg: expected an image, got an empty file",
        ),
        (misspelt, "expected name, owner, licence, .* got license; correct the name or remove it"),
        (not_yaml, "expected YAML in .*dataset.yaml"),
        (not_a_mapping, "expected lines like `owner: Ada`"),
    ],
)
def test_bad_folder(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(DataError, match=message):
        ingest_folder(tmp_path)


def test_not_a_folder(tmp_path):
    with pytest.raises(DataError, match="is no folder; check the path"):
        ingest_folder(tmp_path / "photos")


@pytest.mark.parametrize(
    "pattern, message", [(r"house(\d+)", "matches none of 12; correct it"), ("house(", "expected a regular expression")]
)
def test_bad_group_from(tmp_path, pattern, message):
    with pytest.raises(DataError, match=message):
        ingest_folder(write_folder(tmp_path), group_from=pattern)


def test_labels_from_where_they_stand(tmp_path):
    "A class folder deeper down, or a word in the name, is read as well as the first folder."
    first = ingest_folder(write_folder(tmp_path / "first"))
    for year, name in (("2024", "a"), ("2025", "b")):
        write_folder(tmp_path / "deep" / year, name)
        for path in (tmp_path / "first" / name).iterdir():
            (tmp_path / "deep" / year / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "flat").mkdir()
    for path in (tmp_path / "first").glob("*/*.png"):
        (tmp_path / "flat" / f"{path.stem} {path.parent.name}.png").write_bytes(path.read_bytes())
    (tmp_path / "flat" / "odd.png").write_bytes(encode(RED))
    deep = ingest_folder(tmp_path / "deep", label_from="parent")
    flat = ingest_folder(tmp_path / "flat", label_from=r" (\w)\.png$")
    assert ingest_folder(tmp_path / "deep").classes == ("2024", "2025")
    assert deep.digest == flat.digest == first.digest
    assert flat.rejected.to_dict("records") == [
        {
            "uri": "odd.png",
            "reason": r"expected a label in its path, but label_from ' (\\w)\\.png$' does not match; rename it",
        }
    ]
    assert len(deep.rejected) == 0


def test_dataset_yaml_says_how_to_read_the_folder_and_the_command_line_overrules_it(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "notes.csv").write_text("uri,weather\na/00.png,sunny\nb/05.png,rain\nb/99.png,snow\n")
    (tmp_path / "dataset.yaml").write_text(
        "owner: Ada\ngroup_from: '(\\d\\d)'\nlabel_from: '^(.)'\nattributes: notes.csv\n"
    )
    manifest = ingest_folder(tmp_path)
    assert manifest.dataset.owner == "Ada"
    assert manifest.classes == ("a", "b")
    assert manifest.groups[3] == "03"
    assert dict(zip(manifest.table["uri"], manifest.attributes["weather"])) | {
        "a/00.png": "sunny",
        "b/05.png": "rain",
        "a/01.png": "",
    } == dict(zip(manifest.table["uri"], manifest.attributes["weather"]))
    assert manifest.rejected.to_dict("records") == [
        {"uri": "b/99.png", "reason": "named in notes.csv, but no such image is there; correct the line"}
    ]
    assert ingest_folder(tmp_path, group_from=r"(.)\.png").groups[3] == "3"


@pytest.mark.parametrize(
    "csv, message",
    [
        (None, "expected a CSV file of attributes in .*notes.csv"),
        ("path,x\na/00.png,1\n", "expected a column uri, each path once"),
        ("uri\na/00.png\n", "further columns"),
        ("uri,x\na/00.png,1\na/00.png,2\n", "each path once"),
        ("uri,x\n/photos/a/00.png,1\n", "none of 1 names an image"),
    ],
)
def test_bad_attributes(tmp_path, csv, message):
    write_folder(tmp_path)
    (tmp_path / "dataset.yaml").write_text("attributes: notes.csv\n")
    if csv is not None:
        (tmp_path / "notes.csv").write_text(csv)
    with pytest.raises(DataError, match=message):
        ingest_folder(tmp_path)


@pytest.mark.parametrize(
    "pattern, message",
    [
        (r"house(\d+)", "expected label_from to match .* matches none of 12"),
        ("house(", "expected a regular expression in label_from"),
    ],
)
def test_bad_label_from(tmp_path, pattern, message):
    with pytest.raises(DataError, match=message):
        ingest_folder(write_folder(tmp_path), label_from=pattern)


def test_splits_show_themselves():
    splits = make_splits(make_manifest(range(40), "ab" * 20), folds=4)
    html = splits._repr_html_()
    assert splits.digest[:12] in html
    assert "hold-out" in html
    assert html.count("fold ") >= 4
    assert repr(splits).endswith("for development in 4 folds, 8 held out")


def test_every_bad_file_is_listed_with_its_reason(tmp_path):
    write_folder(tmp_path)
    bad = {
        "a/animated.gif": GIF,
        "a/empty.png": b"",
        "a/letter.png": b"Dear Sir",
        "b/cut.jpg": BROKEN["truncated JPEG"][0],
        "b/film.webp": BROKEN["animated WEBP"][0],
    }
    good = {"b/cmyk.jpg": encode(RED.convert("CMYK"), "JPEG"), "b/gray16.png": encode(Image.fromarray(GRAY16))}
    for uri, data in (bad | good).items():
        (tmp_path / uri).write_bytes(data)
    (tmp_path / "a" / "notes.txt").write_text("no image by its name: not listed")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.png").write_bytes(b"")
    (tmp_path / "loose.png").write_bytes(encode(RED))
    manifest = ingest_folder(tmp_path)
    assert list(manifest.rejected["uri"]) == [*sorted(bad), "loose.png"]
    assert all(manifest.rejected["reason"].str.contains("; "))
    assert len(manifest) == 12 + len(good)
    assert set(good) <= set(manifest.table["uri"])
    again = Manifest.load(manifest.save(tmp_path / "out"))
    assert again.to_dict() == manifest.to_dict()
    assert again.root == tmp_path
    assert "rejected: 6<" in manifest._repr_html_()
    assert "&lt;" not in repr(manifest)


def test_path_with_spaces_and_umlauts(tmp_path):
    plain, odd = write_folder(tmp_path / "plain", ["a", "b"]), tmp_path / "Häuser & Höfe 100%"
    write_folder(odd, ["Tür groß", "Wände"])
    manifest = ingest_folder(odd, group_from=r"(\d)\.png")
    assert manifest.classes == ("Tür groß", "Wände")
    assert manifest.table["uri"][0] == "Tür groß/00.png"
    assert sorted(manifest.table["content"]) == sorted(ingest_folder(plain).table["content"])
    again = Manifest.load(manifest.save(odd / "läuft"))
    assert again.digest == manifest.digest
    assert again.read(0) == (odd / "Tür groß" / "00.png").read_bytes()


def test_no_permission_to_write(tmp_path):
    (tmp_path / "taken").write_text("a file where a folder is expected")
    manifest = ingest_folder(write_folder(tmp_path / "data"))
    with pytest.raises(
        DataError, match="expected to write to .*taken/manifest, but that is not possible .*; choose another folder"
    ):
        manifest.save(tmp_path / "taken")
    with pytest.raises(DataError, match="expected to write to .*taken/splits"):
        make_splits(manifest, folds=2).save(tmp_path / "taken" / "splits")
    with pytest.raises(DataError, match="expected to write to .*a look that is not written down is not allowed"):
        Ledger(tmp_path / "taken" / "ledger.jsonl").look("evaluate", "m", "s")
    assert (tmp_path / "taken").read_text() == "a file where a folder is expected"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path):
    manifest = ingest_folder(write_folder(tmp_path / "data"))
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DataError, match="permission denied"):
        manifest.save(tmp_path / "locked")


def test_table_with_gaps(tmp_path):
    write_folder(tmp_path)
    table = pd.DataFrame({
        "uri": ["a/00.png", "a/01.png", "b/00.png", "b/99.png", "../x.png"],
        "label": ["x", None, 2, "x", "x"],
        "group": ["g", "g", None, "", ""],
        "attribute.cell": ["mono", "poly", None, "", ""],
        "owner": ["Ada", None, None, "", ""],
        "unused": 1,
    })
    manifest = ingest_table(table, tmp_path, Dataset("t", owner="Lin"))
    assert manifest.table["uri"].tolist() == ["a/00.png", "b/00.png"]
    assert (manifest.classes, list(manifest.groups), list(manifest.table["owner"])) == (
        ("2", "x"),
        ["g", ""],
        ["Ada", "Lin"],
    )
    assert list(manifest.attributes) == ["cell"]
    assert list(manifest.attributes["cell"]) == ["mono", ""]
    assert dict(zip(manifest.rejected["uri"], manifest.rejected["reason"].str.split(",").str[0])) == {
        "../x.png": "expected a file below the root",
        "a/01.png": "expected a label",
        "b/99.png": "expected a file that can be read",
    }
    with pytest.raises(
        DataError, match=r"expected columns uri and label \(or labels, or boxes\), got file, label; add uri"
    ):
        ingest_table(table[["uri", "label"]].rename(columns={"uri": "file"}), tmp_path, Dataset("t"))
    with pytest.raises(DataError, match="the table is empty"):
        ingest_table(table[:0], tmp_path, Dataset("t"))


def test_empty_declaration_is_undeclared(tmp_path):
    (tmp_path / "dataset.yaml").write_text("owner:\nlicence: MIT\nname: 7\n")
    assert Dataset.load(tmp_path) == Dataset("7", licence="MIT")
    assert Dataset.load(tmp_path).undeclared() == [
        "owner",
        "source",
        "intended_use",
        "pii_basis",
        "pii_status",
        "lawful_basis",
        "retention_until",
        "contact",
    ]
    (tmp_path / "dataset.yaml").write_text("licence: MIT\npii_status: none\n")
    assert Dataset.load(tmp_path).undeclared() == ["owner", "source", "intended_use", "pii_basis"], (
        "where nobody can be in the pictures, the law asks for no more"
    )


# ---- manifest: digest

rows = st.lists(
    st.tuples(
        st.integers(0, 30), st.sampled_from("abc"), st.sampled_from(["", "g", "h"]), st.sampled_from(["mono", "poly"])
    ),
    min_size=1,
    max_size=20,
)


@quick
@given(rows, st.randoms())
def test_digest_knows_no_order_and_no_place(values, random):
    def manifest(values, prefix):
        content, label, group, cell = zip(*values)
        return make_manifest(content, label, group, [f"{prefix}/{i}" for i in range(len(values))], cell=cell)

    shuffled = random.sample(values, len(values))
    assert manifest(shuffled, "/elsewhere").digest == manifest(values, "here").digest
    changed = [(values[0][0], values[0][1] + "!", *values[0][2:]), *values[1:]]
    assert manifest(changed, "here").digest != manifest(values, "here").digest


@settings(quick, max_examples=8)
@given(st.permutations(range(6)))
def test_folder_digest_knows_no_names(tmp_path_factory, order):
    first, second = (tmp_path_factory.mktemp(n) for n in ("first", "second"))
    write_folder(first)
    for c in "ab":
        (second / c).mkdir()
        for i, k in enumerate(order):
            (second / c / f"{k} {i}.png").write_bytes((first / c / f"{i:02}.png").read_bytes())
    assert ingest_folder(first).digest == ingest_folder(second).digest


def test_keys_of_copies():
    manifest = make_manifest(["x", "y", "x", "x"], "aabb")
    x = digest_bytes(b"x")[:16]
    assert manifest.table["image"].tolist() == [x, digest_bytes(b"y")[:16], f"{x}-1", f"{x}-2"]
    assert [r.tolist() for r in find_duplicates(manifest)] == [[0, 2, 3]]


# ---- splits


@st.composite
def drawn(draw):
    "A manifest that can be split, with groups and copies that tie them together."
    n = draw(st.integers(24, 60))
    labels = ["ab"[i % 2] for i in range(n)]
    groups = [draw(st.sampled_from(["", "", "", f"{labels[i]}g{i % 7}"])) for i in range(n)]
    contents = [f"{labels[i]}{draw(st.integers(0, 9))}" if draw(st.integers(0, 9)) == 0 else i for i in range(n)]
    return make_manifest(contents, labels, groups)


@quick
@given(drawn(), st.integers(0, 3))
def test_no_group_and_no_copy_is_cut(manifest, seed):
    try:
        splits = make_splits(manifest, folds=2, seed=seed)
    except DataError as error:
        assert "independent groups" in str(error) or "did not reach" in str(error)
        return
    fold, table = splits.folds(manifest), manifest.table.assign(fold=splits.folds(manifest))
    assert set(fold) == {-1, 0, 1}
    assert (table[table["group"] != ""].groupby("group")["fold"].nunique() == 1).all()
    assert (table.groupby("content")["fold"].nunique() == 1).all()
    assert (table.groupby("label")["fold"].nunique() == 3).all()
    held, rest = (set(splits.rows(manifest, part)) for part in ("holdout", "development"))
    assert held | rest == set(range(len(manifest)))
    assert not held & rest


@quick
@given(drawn(), st.randoms())
def test_draw_knows_no_order(manifest, random):
    other = manifest.take(random.sample(range(len(manifest)), len(manifest)))

    def where(m):
        return sorted(zip(m.table["content"], make_splits(m, folds=2).folds(m)))

    try:
        expected = where(manifest)
    except DataError:
        return
    assert where(other) == expected


@quick
@given(st.integers(20, 200), st.integers(20, 60), st.integers(2, 6), st.floats(0.1, 0.4), st.integers(0, 99))
def test_single_images_are_spread_within_one(many, few, folds, holdout, seed):
    manifest = make_manifest(range(many + few), ["a"] * many + ["b"] * few)
    splits = make_splits(manifest, holdout=holdout, folds=folds, seed=seed)
    for c, n in (("a", many), ("b", few)):
        fold = splits.folds(manifest)[manifest.labels == c]
        assert abs((fold < 0).sum() - holdout * n) <= 1
        sizes = np.bincount(fold[fold >= 0], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_units_are_connected_components():
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    random = np.random.default_rng(0)
    content, group = random.integers(0, 60, 80), random.integers(0, 40, 80)
    manifest = make_manifest(content, ["ab"[i % 2] for i in range(80)], [str(g) for g in group])
    same = (content[:, None] == content) | (group[:, None] == group)
    count, expected = connected_components(coo_matrix(same))
    found = find_units(manifest)
    assert found.max() + 1 == count
    assert len(set(zip(found, expected))) == count


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"holdout": 0}, "expected holdout to be a share between 0 and 1, got 0"),
        ({"holdout": 1.2}, "got 1.2"),
        ({"folds": 1}, "expected at least 2 folds, got 1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        make_splits(make_manifest(range(40), "ab" * 20), **arguments)


@pytest.mark.parametrize(
    "manifest, arguments, message",
    [
        (
            make_manifest(range(13), "a" * 10 + "b" * 3),
            {},
            (
                "class 'b' has 3 images, 5 folds need at least 5, and the hold-out 1 more; add images, use fewer "
                "folds, or merge the class (10, 11, 12)"
            ),
        ),
        (
            make_manifest([*range(19), 0], "a" * 10 + "b" * 10),
            {},
            "one image under the labels a, b; keep the right one and remove the others (0, 19)",
        ),
        (
            make_manifest(range(20), "a" * 10 + "b" * 10, "gggghhhhii" + "0123456789"),
            {},
            (
                "expected class 'a' in at least 6 independent groups for 5 folds and a hold-out, found 3; add groups "
                "or use fewer folds"
            ),
        ),
        (
            make_manifest(range(20), "a" * 10 + "b" * 10),
            {"holdout": 0.02},
            (
                "expected class 'a' in every part, but it did not reach the hold-out (hold-out 0.02, 5 folds); hold "
                "out more"
            ),
        ),
    ],
)
def test_cannot_be_split(manifest, arguments, message):
    with pytest.raises(DataError, match=re.escape(message)):
        make_splits(manifest, **arguments)


def test_two_classes_hold_the_same_image(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "b" / "copy.png").write_bytes((tmp_path / "a" / "03.png").read_bytes())
    manifest = ingest_folder(tmp_path)
    assert [(f.kind, f.paths) for f in check_manifest(manifest).errors] == [
        ("label_conflict", ["a/03.png", "b/copy.png"])
    ]
    with pytest.raises(DataError, match=r"one image under the labels a, b; .*\(a/03.png, b/copy.png\)"):
        make_splits(manifest)


def test_stored_splits_are_never_redrawn(tmp_path):
    manifest = make_manifest(range(60), "ab" * 30)
    first = make_splits(manifest, seed=1)
    first.save(tmp_path / "splits")
    assert (
        make_splits(manifest, seed=2, stored=tmp_path / "splits").digest
        == first.digest
        != make_splits(manifest, seed=2).digest
    )
    fewer = make_splits(manifest, folds=3, seed=2, stored=tmp_path / "splits")
    assert set(fewer.rows(manifest, "holdout")) == set(first.rows(manifest, "holdout"))
    assert fewer.folds(manifest).max() == 2
    with pytest.raises(
        DataError, match="expected the hold-out of 0.2 that is stored .* got holdout=0.3; a hold-out is drawn once"
    ):
        make_splits(manifest, holdout=0.3, stored=tmp_path / "splits")
    other = make_manifest(range(1, 61), "ab" * 30)
    assert make_splits(other, stored=tmp_path / "splits").manifest_digest == other.digest
    Splits.load(tmp_path / "splits").table.assign(part="development", fold=0).to_parquet(
        tmp_path / "splits" / "splits.parquet"
    )
    with pytest.raises(DataError, match="the table was changed, fetch the original"):
        make_splits(manifest, stored=tmp_path / "splits")
    with pytest.raises(DataError, match="found none; make them with"):
        Splits.load(tmp_path)
    with pytest.raises(DataError, match="got 1 that were not split"):
        first.folds(other)


# ---- ledger


def look_often(path, name):
    for i in range(10):
        Ledger(path).look("evaluate", f"{name}{i}", "s", who=name)


def test_ledger_of_many_at_once(tmp_path):
    jobs = [
        get_context("fork").Process(target=look_often, args=(tmp_path / "l.jsonl", name))
        for name in ("ada", "lin", "eva")
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert Ledger(tmp_path / "l.jsonl").verify() == 30


@pytest.mark.parametrize(
    "damage, line", [(d, i) for d in ("remove", "edit", "cut", "swap") for i in range(3) if (d, i) != ("remove", 2)]
)  # a last line cut off leaves no trace
def test_ledger_notices(tmp_path, damage, line):
    ledger = Ledger(tmp_path / "l.jsonl")
    assert [ledger.look("evaluate", model, "s", who="Ada") for model in "abcb"] == [1, 2, 3, 3]
    lines = ledger.path.read_text().splitlines()
    if damage == "remove":
        del lines[line]
    if damage == "edit":
        lines[line] = lines[line].replace('"who":"Ada"', '"who":"Lin"')
    if damage == "cut":
        lines[line] = lines[line][:-9]
    if damage == "swap":
        lines[line], lines[line - 1] = lines[line - 1], lines[line]
    ledger.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"expected line \d of .* (this look was changed|looks were removed or moved)"):
        ledger.look("evaluate", "d", "s")


def test_modules_load_nothing_heavy():
    code = (
        "import sys, cvkit.data.splits, cvkit.data.ledger; print([m for m in ('pandas', 'torch', 'matplotlib', "
        "'sklearn', 'mlflow', 'yaml') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_images_are_found_by_what_is_known_of_them(tmp_path):
    for name in ("a/house_1_0", "a/house_2_0", "b/house_1_1", "b/house_3_0"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), len(name) * 9, np.uint8)).save(tmp_path / f"{name}.png")
    manifest = ingest_folder(tmp_path)
    manifest.table["group"] = ["1", "2", "1", "3"]
    manifest.table["attribute.split"] = ["train", "val", "train", "test"]

    def names(**wanted):
        return [Path(uri).stem for uri in manifest.filter(**wanted).table["uri"]]

    assert names(label="a") == ["house_1_0", "house_2_0"]
    assert names(group="1", label="b") == ["house_1_1"]
    assert names(split=["val", "test"]) == ["house_2_0", "house_3_0"]
    with pytest.raises(DataError, match="expected images with label 'a', found none; there are b"):
        manifest.filter(group="3", label="a")
    pixels, label, about = manifest[-1]
    assert (pixels.shape, label, about["split"], about["group"]) == ((8, 8, 3), "b", "test", "3")
    assert [image.label for image in manifest] == ["a", "a", "b", "b"]
