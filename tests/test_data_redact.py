"Redaction: what a file says is gone, what was found is black, and the originals are as they were."

import hashlib
import os
import re
import shutil
import struct
import subprocess
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin
from skimage import data

from cvkit.core import DataError, MissingExtra, ParameterError
from cvkit.data.image_metadata import find_metadata, strip_metadata
from cvkit.data.ingest import ingest_table
from cvkit.data.manifest import Dataset
from cvkit.data.preprocess import decode_image
from cvkit.data.redact import (
    FaceDetector,
    TextDetector,
    find_private,
    grow_boxes,
    load_detectors,
    redact_file,
    redact_image,
    redact_manifest,
)

pytestmark = pytest.mark.usefixtures("cache")
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF>SECRET</rdf:RDF></x:xmpmeta>"
small = data.astronaut()[:96, :80]


@pytest.fixture(scope="module")
def faces():
    pytest.importorskip("facenet_pytorch", reason="no face tests: pip install --no-deps facenet-pytorch==2.6.0")
    return FaceDetector()


@pytest.fixture(scope="module")
def texts():
    try:
        return TextDetector()
    except MissingExtra as error:
        pytest.skip(f"no text tests: {error}")


def saved(picture, kind, **options):
    out = BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(out, kind, **options)
    return out.getvalue()


def exif(turn=1):
    "With a place, a camera and a thumbnail of a face."
    notes = Image.Exif()
    notes[0x010F], notes[0x0112], notes[0x0132] = "SECRET camera", turn, "2024:05:31 10:02:03"
    notes.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.5), 3: "E", 4: (13.0, 24.0, 18.0)})
    return notes.tobytes() + saved(small, "JPEG")


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def jpeg_full(turn=1, **options):
    "A JPEG that holds one of everything."
    file = saved(small, "JPEG", quality=85, exif=exif(turn), comment=b"SECRET comment", xmp=XMP, **options)
    more = (
        segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0b\x1c\x02\x19\0\x06SECRET")
        + segment(0xE2, b"MPF\0" + bytes(20))
        + segment(0xE7, b"MAKER SECRET")
        + segment(0xE0, b"JFXX\0\x10" + saved(small, "JPEG"))
    )
    return file[:2] + more + file[2:] + saved(small, "JPEG") + b"SECRET"


def png_full():
    note = PngImagePlugin.PngInfo()
    (
        note.add_text("Author", "SECRET"),
        note.add_text("Long", "SECRET", zip=True),
        note.add_itxt("XML:com.adobe.xmp", XMP.decode()),
    )
    note.add(b"tIME", b"\x07\xe8\x05\x1f\x0a\x02\x03"), note.add(b"prVt", b"SECRET")
    return saved(small, "PNG", pnginfo=note, exif=exif(), dpi=(72, 72), icc_profile=profile()) + b"SECRET"


def profile():
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


FULL = {
    "jpeg": jpeg_full,
    "jpeg on its side": lambda: jpeg_full(6),
    "progressive jpeg": lambda: jpeg_full(progressive=True),
    "gray jpeg": lambda: saved(small[..., 0], "JPEG", exif=exif()),
    "jpeg with a profile": lambda: saved(small, "JPEG", icc_profile=profile()),
    "cmyk jpeg": lambda: saved(Image.fromarray(small).convert("CMYK"), "JPEG", exif=exif(), comment=b"SECRET"),
    "jpeg with a small copy in JFIF": lambda: (
        (f := saved(small, "JPEG"))[:2] + segment(0xE0, f[6:18] + b"\x02\x02" + b"SECRETSECRET") + f[20:]
    ),
    "mpo": lambda: saved(small, "MPO", save_all=True, append_images=[Image.fromarray(small)], exif=exif()),
    "png": png_full,
    "gray png": lambda: saved(small[..., 0], "PNG", exif=exif(8)),
    "palette png": lambda: saved(Image.fromarray(small).quantize(32), "PNG", exif=exif(), transparency=3),
    "interlaced png": lambda: interlaced(b"SECRET"),
    "png with pixels behind its pixels": lambda: hidden_png(),
    "webp": lambda: saved(small, "WEBP", exif=exif(), xmp=XMP, icc_profile=profile()) + b"SECRET",
    "webp on its side": lambda: saved(small, "WEBP", lossless=True, exif=exif(6)),
    "webp with alpha": lambda: saved(np.dstack([small, small[..., 0]]), "WEBP", exif=exif()),
    "tiff": lambda: (
        saved(
            small,
            "TIFF",
            tiffinfo={271: "SECRET camera", 306: "2024:05:31 10:02:03", 700: XMP},
            compression="tiff_lzw",
            description="SECRET",
            icc_profile=profile(),
        )
        + b"SECRET " * 2
    ),
    "bmp": lambda: saved(small, "BMP") + b"SECRET",
    "palette bmp": lambda: saved(Image.fromarray(small).quantize(16), "BMP") + b"SECRET",
}


def interlaced(note):
    "Adam7 by hand: 5 x 3 gray pixels, one pass after another."
    picture = np.arange(15, dtype=np.uint8).reshape(3, 5) * 10
    rows = [
        b"\0" + row.tobytes()
        for x, dx, y, dy in [
            (0, 8, 0, 8),
            (4, 8, 0, 8),
            (0, 4, 4, 8),
            (2, 4, 0, 4),
            (0, 2, 2, 4),
            (1, 2, 0, 2),
            (0, 1, 1, 2),
        ]
        for row in picture[y::dy, x::dx]
        if row.size
    ]
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 3, 8, 0, 0, 0, 1))
        + chunk(b"tEXt", b"Author\0" + note)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


def hidden_png():
    "Two more rows behind the last, and bytes behind the compressed stream."
    file, raw = saved(small[..., 0], "PNG"), b"".join(b"\0" + row.tobytes() for row in small[..., 0])
    at = file.index(b"IDAT") - 4
    return file[:at] + chunk(b"IDAT", zlib.compress(raw + b"\0" + b"SECRET" * 20) + b"SECRET") + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", FULL)
def test_metadata_is_found_and_gone(name):
    file = FULL[name]()
    found, clean = find_metadata(file), strip_metadata(file)
    assert found, "what was put in is found"
    assert find_metadata(clean) == []
    for word in (b"SECRET", b"Exif", b"xmpmeta", b"8BIM", b"ICC_PROFILE", b"acsp", b"MPF\0"):
        assert word not in clean
    with Image.open(BytesIO(file)) as before, Image.open(BytesIO(clean)) as after:  # Pillow reads it again
        assert after.format == before.format.replace("MPO", "JPEG") and dict(after.getexif()).keys() <= set(
            range(254, 340)
        ) - {270, 271, 272, 274, 305, 306, 315}
        assert not set(after.info) & {
            "exif",
            "xmp",
            "XML:com.adobe.xmp",
            "comment",
            "icc_profile",
            "photoshop",
            "mp",
            "Author",
            "Long",
            "dpi",
        } - ({"dpi"} if after.format in ("JPEG", "BMP", "TIFF") else set())
        wanted = np.asarray(ImageOps.exif_transpose(before).convert("RGB"), int)
        far = np.abs(np.asarray(after.convert("RGB"), int) - wanted)
    assert far.max() == 0 or (name == "jpeg on its side" and far.mean() < 2), (
        "no pixel changes, except where a JPEG had to be turned"
    )


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_applied_before_it_goes(turn):
    half = np.zeros((40, 64, 3), np.uint8)
    half[:20, :32] = 255
    file = saved(half, "PNG", exif=exif(turn))
    assert np.array_equal(decode_image(strip_metadata(file)), decode_image(file))
    assert strip_metadata(saved(half, "JPEG", exif=exif(turn)))[:2] == b"\xff\xd8"


def test_kinds_are_named():
    kinds = {f["kind"] for f in find_metadata(jpeg_full())}
    assert {
        "EXIF",
        "GPS",
        "XMP",
        "IPTC",
        "comment",
        "thumbnail",
        "further pictures",
        "APP7",
        "bytes after the image",
    } == kinds
    assert {"text", "date", "EXIF", "GPS", "colour profile", "chunk prVt", "bytes after the image"} <= {
        f["kind"] for f in find_metadata(png_full())
    }
    assert [f["kind"] for f in find_metadata(hidden_png())] == ["bytes after the image"]


def test_findings_hold_nothing_of_the_content():
    for make in FULL.values():
        assert "SECRET" not in str(find_metadata(make()))


def test_exiftool_agrees(tmp_path):
    tool = shutil.which("exiftool")
    if not tool:
        pytest.skip("no exiftool on the PATH: apt-get install libimage-exiftool-perl")
    for i, make in enumerate(FULL.values()):
        (tmp_path / f"{i}").write_bytes(strip_metadata(make()))
    output = subprocess.run(
        [tool, "-G0", "-s", *sorted(map(str, tmp_path.iterdir()))], capture_output=True, text=True
    ).stdout
    assert output.count("========") == len(FULL) and "SECRET" not in output
    named = set(re.findall(r"^\[(?:EXIF|XMP|IPTC|ICC_Profile|MPF|Photoshop|MakerNotes)\]\s+(\w+)", output, re.M))
    assert named <= {
        "ImageWidth",
        "ImageHeight",
        "BitsPerSample",
        "Compression",
        "PhotometricInterpretation",
        "StripOffsets",
        "SamplesPerPixel",
        "RowsPerStrip",
        "StripByteCounts",
        "PlanarConfiguration",
    }, "what draws a TIFF is all that it calls EXIF"


@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg", "cmyk jpeg", "jpeg with a profile"])
def test_the_scan_of_a_jpeg_is_kept(name):
    file, clean = FULL[name](), strip_metadata(FULL[name]())
    with Image.open(BytesIO(file)) as before, Image.open(BytesIO(clean)) as after:
        assert before.mode == after.mode and np.array_equal(np.asarray(before), np.asarray(after))
    assert clean[clean.rindex(b"\xff\xda") : -2] in file


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=40), st.integers(0, 10_000))
def test_bytes_put_anywhere_between_segments_do_not_survive(note, place):
    file = saved(small, "JPEG")
    starts = [
        m.start() for m in re.finditer(rb"\xff[\xe0\xdb\xc0\xc4\xda]", file) if m.start() < file.index(b"\xff\xda") + 1
    ]
    at = starts[place % len(starts)]
    noted = file[:at] + segment(0xFE, b"NOTE" + note) + file[at:]
    assert find_metadata(noted) and strip_metadata(noted) == strip_metadata(file)


BAD = [
    (b"", "empty file"),
    (b"%PDF-1.7", "expected an image"),
    (saved(small, "JPEG")[:700], "whole image"),
    (saved(small, "GIF"), "expected an image"),
]


@pytest.mark.parametrize("file,message", BAD)
def test_what_is_no_image_is_refused(file, message):
    with pytest.raises(DataError, match=message):
        strip_metadata(file)


def test_an_image_bomb_is_refused_before_it_is_decoded():
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b"")
    )
    with pytest.raises(DataError, match="declares"):
        strip_metadata(bomb)
    with pytest.raises(DataError, match="declares"):
        redact_file(bomb, [])


def bright(pixels):
    "A detector: the brightest square of 16 pixels."
    y, x = np.unravel_index(
        pixels[..., 1].reshape(-1, pixels.shape[1])[: 16 * (len(pixels) // 16)].argmax(), pixels.shape[:2]
    )
    y, x = 16 * (y // 16), 16 * (x // 16)
    return [{"x1": x, "y1": y, "x2": x + 16, "y2": y + 16, "kind": "bright", "score": 0.5, "text": "SECRET"}]


def nothing(pixels):
    return []


@pytest.fixture
def originals(tmp_path):
    "Five pictures: JPEG with everything, JPEG on its side, PNG, transparent PNG, and the PNG again."
    import pandas as pd

    root = tmp_path / "originals"
    (root / "a").mkdir(parents=True), (root / "b").mkdir()
    clear = np.dstack([small, np.zeros(small.shape[:2], np.uint8)])
    plain = png_full()  # once: its colour profile holds the second at which it was made
    files = {
        "a/full.jpg": jpeg_full(),
        "a/side.jpg": jpeg_full(6),
        "b/plain.png": plain,
        "b/clear.png": saved(clear, "PNG"),
        "b/same.png": plain,
    }
    for name, file in files.items():
        (root / name).write_bytes(file)
    table = pd.DataFrame({
        "uri": list(files),
        "label": [n[0] for n in files],
        "group": ["g1", "g1", "g2", "g3", "g2"],
        "attribute.room": "kitchen",
        "captured_at": "2024-05-31T10:02:03",
        "pii_status": ["unchecked", "found", "none", "cleared", "unchecked"],
    })
    return ingest_table(table, root, Dataset("flats", owner="Ada", licence="CC0-1.0", source="a camera"))


def state(root):
    return {
        p.relative_to(root).as_posix(): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def test_a_data_set_is_redacted_and_its_originals_stay(originals, tmp_path):
    before = state(originals.root)
    found = redact_manifest(originals, tmp_path / "out", {"bright": bright})
    assert state(originals.root) == before
    new = found.manifest
    assert new.root == tmp_path / "out/images" and new.table["uri"].tolist() == originals.table["uri"].tolist()
    for column in ("label", "group", "licence", "owner", "source", "width", "height", "attribute.room"):
        assert new.table[column].tolist() == originals.table[column].tolist()
    assert new.table["pii_status"].tolist() == ["redacted", "redacted", "cleared", "none", "redacted"]
    assert set(new.table["captured_at"]) == {"2024-05-31"}
    assert new.dataset.source == f"redacted from {originals.digest} (a camera)" and new.dataset.owner == "Ada"
    assert new.table["image"].tolist()[3:] == [new.table["content"][3][:16], new.table["content"][3][:16] + "-1"], (
        "the same picture twice has two keys"
    )
    for i, entry in enumerate(found.files):
        file, pixels, was = new.read(i), decode_image(new.read(i)), decode_image(originals.read(i))
        assert find_metadata(file) == [] and entry["source"] == originals.table["content"][i]
        left, top, right, bottom = entry["found"][0]["filled"]
        assert pixels[top:bottom, left:right].max() <= (2 if entry["uri"].endswith("jpg") else 0)
        if not entry["uri"].endswith("jpg"):
            was = was.copy()
            was[top:bottom, left:right] = 0
            assert np.array_equal(pixels, was), "elsewhere nothing changes"


def test_a_second_run_does_nothing_and_another_recipe_does(originals, tmp_path):
    looks = []
    out = tmp_path / "out"

    class Counted:
        digest = "1"

        def __call__(self, pixels):
            looks.append(1)
            return bright(pixels)

    def redacted_now(**options):
        "How many images a run redacts, and how many a detector looks at in it."
        looks.clear()
        new = redact_manifest(originals, out, {"bright": Counted()}, **options).about["new"]
        return new, len(looks)

    assert redacted_now() == (5, 4), "the same picture twice is looked at once"
    first = state(out / "images")
    assert redacted_now() == (0, 0)
    assert state(out / "images") == first
    (out / "images/a/full.jpg").unlink()
    assert redacted_now() == (1, 0)
    assert state(out / "images").keys() == first.keys()
    assert redacted_now(margin=0.5) == (5, 0), "another margin needs no new look"
    Counted.digest = "2"
    assert redacted_now(margin=0.5) == (5, 4)


def test_what_was_interrupted_goes_on(originals, tmp_path):
    class Stops:
        digest, left = "1", 2

        def __call__(self, pixels):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return bright(pixels)

    with pytest.raises(KeyboardInterrupt):
        redact_manifest(originals, tmp_path / "out", {"bright": Stops()})
    Stops.left = 9
    assert redact_manifest(originals, tmp_path / "out", {"bright": Stops()}).about["new"] == 3


def test_nothing_of_a_detector_but_boxes_is_kept(originals, tmp_path):
    found = redact_manifest(originals, tmp_path / "out", {"bright": bright})
    found.manifest.save(tmp_path / "out")
    for path in [*(tmp_path / "out").rglob("*"), *(tmp_path / "cache").rglob("*")]:
        if path.is_file() and "files" not in path.parts:
            assert b"SECRET" not in path.read_bytes(), path
    assert "SECRET" not in repr(found) + found._repr_html_() + str(found.boxes)


def test_what_a_person_found_and_no_detector_did_stays_found(originals, tmp_path):
    found = redact_manifest(originals, tmp_path / "out", {"none": nothing})
    assert found.manifest.table["pii_status"].tolist() == ["redacted", "found", "cleared", "none", "redacted"]
    assert "no detector did" in repr(found)
    clear = decode_image(found.manifest.read(2))
    assert clear.min() == 255 and Image.open(BytesIO(found.manifest.read(2))).mode == "RGB", (
        "what transparency hides is not handed on"
    )


def test_what_cannot_be_processed_is_listed(originals, tmp_path):
    (originals.root / "a/full.jpg").write_bytes(b"gone bad")
    found = redact_manifest(originals, tmp_path / "out", {"bright": bright})
    assert [f["uri"] for f in found.failed] == ["a/full.jpg"] and len(found.manifest) == 4
    assert "as it was ingested" in found.failed[0]["reason"] and "a/full.jpg" in found.manifest.rejected["uri"].tolist()
    assert not (tmp_path / "out/images/a/full.jpg").exists()


def test_a_detector_that_breaks_ends_no_run(originals, tmp_path):
    def breaks(pixels):
        if pixels.shape[0] > pixels.shape[1]:
            raise RuntimeError("SECRET")
        return bright(pixels)

    found = redact_manifest(originals, tmp_path / "out", {"breaks": breaks})
    assert [f["uri"] for f in found.files] == ["a/side.jpg"] and len(found.failed) == 4
    assert "RuntimeError" in found.failed[0]["reason"] and "SECRET" not in repr(found)
    with pytest.raises(DataError, match="none of 5 could"):
        redact_manifest(originals, tmp_path / "none", {"fails": lambda pixels: 1 / 0})


def test_originals_are_never_in_reach(originals, tmp_path):
    before, root = state(originals.root), originals.root
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    for out in (root, root / "new", tmp_path):
        with pytest.raises(DataError, match="apart from the originals"):
            redact_manifest(originals, out, {"bright": bright})
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(DataError, match="apart from the originals"):
        redact_manifest(originals, tmp_path / "link", {"bright": bright})
    for name in ("images", "images/a", "images/a/full.jpg"):
        out = tmp_path / name.replace("/", "_")
        (out / name).parent.mkdir(parents=True)
        (out / name).symlink_to({"images": root, "images/a": outside, "images/a/full.jpg": root / "a/full.jpg"}[name])
        with pytest.raises(DataError, match="is a link"):
            redact_manifest(originals, out, {"bright": bright})
    mine = tmp_path / "mine/images/a/side.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match="not overwritten"):
        redact_manifest(originals, tmp_path / "mine", {"bright": bright})
    assert state(root) == before and mine.read_bytes() == b"mine" and not list(outside.iterdir())


def test_a_hard_link_to_an_original_is_replaced_and_not_written_through(originals, tmp_path):
    target = tmp_path / "out/images/a/full.jpg"
    target.parent.mkdir(parents=True)
    os.link(originals.root / "a/full.jpg", target)
    before = state(originals.root)
    with pytest.raises(DataError, match="not overwritten"):
        redact_manifest(originals, tmp_path / "out", {"bright": bright})
    assert state(originals.root) == before


def test_a_covered_label_is_noted(tmp_path):
    import pandas as pd

    (tmp_path / "in").mkdir()
    Image.fromarray(small).save(tmp_path / "in/a.png")
    boxes = [
        dict(label="lamp", x1=0, y1=0, x2=10, y2=10),
        dict(label="wall", x1=0, y1=0, x2=80, y2=96),
        dict(label="edge", x1=79.6, y1=95.7, x2=80, y2=96),
    ]
    manifest = ingest_table(pd.DataFrame({"uri": ["a.png"], "boxes": [boxes]}), tmp_path / "in", Dataset("x"))
    found = redact_manifest(manifest, tmp_path / "out", {"corner": corner})
    assert found.files[0]["hides"] == [{"label": "lamp", "share": 0.5}]
    assert found.files[0]["covered"] == round(50 / 7680, 5) and "lamp" in repr(found)


def corner(pixels):  # filled to 5 and 10 with its margin
    return [dict(x1=0, y1=0, x2=4, y2=8, kind="corner")]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(*[st.floats(-20, 90)] * 4), max_size=5), st.floats(0, 1), st.sampled_from([1, 8]))
def test_what_is_filled_holds_the_box_and_stays_inside(corners, margin, grid):
    boxes = [dict(x1=min(a, c), y1=min(b, d), x2=max(a, c) + 0.1, y2=max(b, d) + 0.1) for a, b, c, d in corners]
    filled = grow_boxes(boxes, 64, 48, margin, grid)
    for box, (left, top, right, bottom) in zip(boxes, filled):
        assert 0 <= left <= right <= 64 and 0 <= top <= bottom <= 48
        assert (
            left <= max(box["x1"], 0)
            and right >= min(box["x2"], 64)
            and top <= max(box["y1"], 0)
            and bottom >= min(box["y2"], 48)
        )
    picture = np.full((48, 64, 3), 7, np.uint8)
    covered = redact_image(picture, boxes, margin, grid)
    assert (covered == 0).all(-1).sum() <= sum((right - left) * (bottom - top) for left, top, right, bottom in filled)
    assert set(np.unique(covered)) <= {0, 7}


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_black_in_a_jpeg_is_black(quality, subsampling):
    file = saved(data.astronaut(), "JPEG", quality=quality, subsampling=subsampling)
    new, filled = redact_file(file, [dict(x1=181, y1=62, x2=268, y2=172), dict(x1=490, y1=3, x2=530, y2=40)])
    assert len(filled) == 2 and filled.max() <= 512
    for left, top, right, bottom in filled:
        assert decode_image(new)[top:bottom, left:right].max() <= 2


def test_a_gray_picture_stays_gray():
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        new, _ = redact_file(saved(data.camera()[:64, :64], kind), [dict(x1=1, y1=1, x2=9, y2=9)])
        assert Image.open(BytesIO(new)).mode == "L"


BOXES = [
    ([dict(x1=0, y1=0, x2=1)], "with x1, y1, x2, y2 and kind"),
    ([dict(x1=1, y1=0, x2=1, y2=2, kind="a")], "x1 < x2"),
    ([dict(x1=float("nan"), y1=0, x2=1, y2=2, kind="a")], "x1 < x2"),
    (["a"], "got str"),
    ([dict(x1=0, y1=0, x2=1, y2=1, kind="B-AB 1234")], "must not hold what was read"),
]


@pytest.mark.parametrize("boxes,message", BOXES)
def test_a_detector_that_answers_badly_is_named(boxes, message):
    with pytest.raises(DataError, match=f"(?s)from the detector mine.*|{message}") as error:
        find_private(small, {"mine": lambda p: boxes})
    assert message in str(error.value) and "B-AB" not in str(error.value)


def test_detectors_go_by_name(tmp_path, monkeypatch):
    (tmp_path / "my_plates.py").write_text(
        "def find(pixels): return []\nclass Plates:\n    digest = 'p1'\n    def __call__(self, pixels): return []\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert list(load_detectors("my_plates:find, my_plates:Plates")) == ["my_plates:find", "my_plates:Plates"]
    assert load_detectors("my_plates:Plates")["my_plates:Plates"](small) == []
    for wrong in ("faces", "my_plates:lost", "no_such_module:find"):
        with pytest.raises(ParameterError, match="expected"):
            load_detectors(wrong)


def test_an_absent_package_names_the_command(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name in ("facenet_pytorch", "rapidocr_onnxruntime") else find(name, *more),
    )
    with pytest.raises(MissingExtra, match="pip install --no-deps facenet-pytorch==2.6.0"):
        FaceDetector()
    with pytest.raises(MissingExtra, match="pip install --no-deps rapidocr-onnxruntime==1.4.4"):
        TextDetector()


def test_the_astronaut_and_the_page_are_redacted(faces, texts, tmp_path, monkeypatch):
    import socket

    import pandas as pd

    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("a detector asked the network"))
    root = tmp_path / "in"
    root.mkdir()
    (
        Image.fromarray(data.astronaut()).save(root / "astronaut.png"),
        Image.fromarray(data.astronaut()).save(root / "astronaut.jpg", exif=exif()),
    )
    Image.fromarray(data.page()).save(root / "page.png")
    manifest = ingest_table(
        pd.DataFrame({"uri": ["astronaut.jpg", "astronaut.png", "page.png"], "label": ["a", "a", "b"]}),
        root,
        Dataset("two"),
    )
    detectors = {"face": FaceDetector(), "text": TextDetector()}
    found = redact_manifest(manifest, tmp_path / "out", detectors)
    assert found.counts == {"face": (2, 2), "text": (7, 1)}
    for i in range(3):
        pixels = decode_image(found.manifest.read(i))
        assert faces(pixels) == [] and find_metadata(found.manifest.read(i)) == []
        for box in found.files[i]["found"]:
            left, top, right, bottom = box["filled"]
            assert pixels[top:bottom, left:right].max() <= 2
    assert texts(decode_image(found.manifest.read(2))) == []
    x1, y1, x2, y2 = 180, 72, 270, 178  # ear to ear, hair to chin, marked by hand
    assert decode_image(found.manifest.read(1))[y1:y2, x1:x2].max() == 0


@pytest.mark.slow
def test_boxes_hold_those_of_rapidocr(texts):
    "Its own way from the map of text to boxes finds nothing that ours does not."
    detect = pytest.importorskip(
        "rapidocr_onnxruntime.ch_ppocr_det.text_detect",
        reason="no comparison with RapidOCR: it needs cv2, pyclipper and shapely",
    )
    import importlib.util
    from pathlib import Path

    import yaml

    folder = Path(importlib.util.find_spec("rapidocr_onnxruntime").origin).parent
    options = yaml.safe_load((folder / "config.yaml").read_text())["Det"]
    theirs = detect.TextDetector({**options, "model_path": str(folder / options["model_path"])})
    page = np.stack([data.page()] * 3, -1)
    covered = (redact_image(page + np.uint8(page == 0), texts(page), 0) == 0).all(-1)
    shapes = theirs(page[..., ::-1])[0]
    assert len(shapes) >= 5
    for quad in shapes:
        (left, top), (right, bottom) = quad.min(0).astype(int), quad.max(0).astype(int)
        assert covered[top:bottom, left:right].mean() > 0.97


@pytest.mark.slow
def test_no_word_of_the_page_is_written_anywhere(texts, tmp_path):
    "Read the page with RapidOCR, and look for its words in everything that a redaction leaves."
    reader = pytest.importorskip(
        "rapidocr_onnxruntime", reason="no reader: RapidOCR needs cv2, pyclipper and shapely"
    ).RapidOCR()
    import pandas as pd

    words = {
        w.lower() for _, line, _ in reader(np.stack([data.page()] * 3, -1))[0] for w in re.findall("[A-Za-z]{5,}", line)
    }
    assert {"determine", "unambiguously", "markers"} & words

    def written(name, picture):
        root = tmp_path / name
        (root / "in").mkdir(parents=True)
        Image.fromarray(picture).save(root / "in/p.png"), Image.fromarray(data.coffee()).save(root / "in/c.png")
        found = redact_manifest(
            ingest_table(pd.DataFrame({"uri": ["p.png", "c.png"], "label": ["a", "b"]}), root / "in", Dataset("pages")),
            root / "out",
            {"text": TextDetector()},
        )
        found.manifest.save(root / "out")
        left = b"".join(
            p.read_bytes() for folder in (root / "out", tmp_path / "cache") for p in folder.rglob("*") if p.is_file()
        ).lower()
        return found, {w for w in words if w.encode() in left or w in (repr(found) + found._repr_html_()).lower()}

    _, anyway = written("without", data.brick())  # such as label, the name of a column
    found, in_files = written("with", data.page())
    assert len(words - anyway) >= 8 and not in_files - anyway
    again, _ = reader(decode_image(found.manifest.read(1)))
    assert not {w.lower() for _, line, _ in again or [] for w in re.findall("[A-Za-z]{5,}", line)} & words, (
        "and nobody reads it in the redacted picture"
    )


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 300, 3), (300, 5, 3), (19, 19, 3), (20, 1900, 3), (64, 64, 3)])
def test_detectors_look_at_any_size(faces, texts, shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for detector in (faces, texts):
        for box in detector(picture):
            assert box["x1"] < box["x2"] and box["y1"] < box["y2"]
