"The command redact: what is written, what is measured, and what never leaves."

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvkit.commands.redact import redact
from cvkit.core import DataError, digest_bytes, read_json
from cvkit.data.ingest import ingest_folder
from cvkit.data.manifest import Manifest
from cvkit.data.marks import make_scenes
from cvkit.evidence.redaction_recall import redaction_recall


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    "Twenty-four scenes with their marks, drawn once."
    folder = tmp_path_factory.mktemp("drawn")
    return folder, make_scenes(folder, repeats=1)


@pytest.fixture
def scenes(drawn, tmp_path, monkeypatch, cache):
    "A copy of the scenes as a manifest, and their marks; nothing is logged to a server."
    monkeypatch.setenv("CVKIT_LOG_LATER", "1")
    shutil.copytree(drawn[0], tmp_path / "scenes")
    return ingest_folder(tmp_path / "scenes"), drawn[1]


class Knows:
    "A detector that knows the marks, but for those of the night."

    digest = "knows 1"

    def __init__(self, manifest, marks):
        from cvkit.data.preprocess import decode_image

        row = {uri: i for i, uri in enumerate(manifest.table["uri"])}
        self.boxes = {
            digest_bytes(decode_image(manifest.read(row[m["uri"]])).tobytes()): m for m in marks if m["light"] == "day"
        }

    def __call__(self, pixels):
        m = self.boxes.get(digest_bytes(pixels.tobytes()))
        return [{**{c: m[c] for c in ("x1", "y1", "x2", "y2")}, "kind": "face"}] if m else []


def test_what_is_written_and_measured(scenes, tmp_path):
    manifest, marks = scenes
    out = tmp_path / "out"
    found = redact(
        manifest,
        out=out,
        detectors={"knows": Knows(manifest, marks)},
        marks=tmp_path / "scenes/marks.csv",
        subgroup="light",
    )
    rows = {(r["kind"], r["subgroup"]): r["covered"] for r in found.recall["light"].rows}
    assert rows["face", ""].value == 0.5 and rows["plate", ""].value == 0.5
    assert rows["face", "day"].value is None and "insufficient" in str(found.recall["light"].table()), (
        "six are too few to tell"
    )
    assert found.verdict[0] == "fail" and {m["subgroup"] for m in found.recall["light"].missed} == {"night"}
    kept = read_json(out / "recall.json")
    assert kept["recall"]["light"]["rules"] == {"iou": 0.5, "cover": 0.9, "unit": "image"} and kept["verdict"] == "fail"
    assert Manifest.load(out).digest == found.manifest.digest == kept["manifest"]
    assert set(Manifest.load(out).table["pii_status"]) == {"redacted"}
    assert read_json(out / "run.json")["metrics"]["images"] == 24
    page = (out / "report.html").read_text()
    assert 1 <= page.count("data:image/png") <= 8 and "face/000.png" in page
    assert redact(manifest, out=out, detectors={"knows": Knows(manifest, marks)}).redacted.about["new"] == 0


def test_no_picture_of_an_original_is_on_the_page(scenes, tmp_path):
    import base64
    from io import BytesIO

    manifest, marks = scenes
    detector = Knows(manifest, marks)
    page = redact(manifest, out=tmp_path / "out", detectors={"knows": detector}).page
    for picture in re.findall(r"data:image/png;base64,([\w+/=]+)", Path(page).read_text()):
        small = np.asarray(Image.open(BytesIO(base64.b64decode(picture))).convert("RGB"))
        assert (small == 0).all(-1).any(), "something is black in each"


def test_without_marks_nobody_knows_what_was_missed(scenes, tmp_path):
    found = redact(scenes[0], out=tmp_path / "out", detectors={"none": lambda pixels: []})
    assert found.verdict[0] == "warning" and "nobody has marked" in found.verdict[1]
    assert "data:image/png" not in Path(found.page).read_text()


def test_names_are_escaped(scenes, tmp_path):
    manifest, marks = scenes
    evil = tmp_path / "scenes/face/<script>alert(1).png"
    shutil.copy(tmp_path / "scenes/face/000.png", evil)
    manifest = ingest_folder(tmp_path / "scenes")
    found = redact(manifest, out=tmp_path / "out", detectors={"knows": Knows(manifest, marks)})
    assert "<script>" not in Path(found.page).read_text() + found._repr_html_()


@pytest.mark.slow
def test_cost_is_paired_and_nothing_covered_costs_nothing(scenes, tmp_path):
    manifest, _ = scenes
    nothing = redact(manifest, out=tmp_path / "none", detectors={"none": lambda pixels: []}, cost=True).cost
    assert (
        nothing.changed == {"original": 0, "redacted": 0}
        and nothing.difference.value == 0
        and nothing.difference.low < 0
    ), "none seen is not none"
    everything = redact(
        manifest,
        out=tmp_path / "all",
        detectors={"all": lambda pixels: [dict(x1=0, y1=0, x2=384, y2=288, kind="all")]},
        cost=True,
    ).cost
    assert (
        everything.images == nothing.images
        and everything.accuracy["redacted"].value < nothing.accuracy["original"].value
    )
    assert everything.difference.value == pytest.approx(
        everything.accuracy["redacted"].value - everything.accuracy["original"].value
    )


BAD = [
    ("uri,kind,x1,y1,x2\nface/000.png,face,1,2,3\n", "mark 1 has no y2"),
    ("uri,kind,x1,y1,x2,y2\nface/000.png,face,1,2,,4\n", "mark 1 has no x2"),
    ("uri,kind,x1,y1,x2,y2\nlost.png,face,1,2,3,4\n", "mark 1 is in lost.png"),
    ("uri,kind,x1,y1,x2,y2\nface/000.png,face,3,2,3,4\n", "x1 < x2 and y1 < y2 in marked box 0"),
    ("uri,kind,x1,y1,x2,y2\n", "got none"),
]


@pytest.mark.parametrize("text,message", BAD)
def test_bad_marks_are_named(scenes, tmp_path, text, message):
    (tmp_path / "marks.csv").write_text(text)
    with pytest.raises(DataError) as error:
        redact(scenes[0], out=tmp_path / "out", detectors={"none": lambda pixels: []}, marks=tmp_path / "marks.csv")
    assert message in str(error.value)


def test_recall_does_not_depend_on_order_and_grows_with_what_is_filled():
    random = np.random.default_rng(0)

    def box(i):
        return (
            dict(zip(("x1", "y1"), start := random.uniform(0, 80, 2)))
            | dict(zip(("x2", "y2"), start + random.uniform(5, 20, 2)))
            | {"image": str(i % 15), "kind": "face"}
        )

    marked, found = [box(i) for i in range(60)], [box(i) for i in range(300)]
    whole = redaction_recall(found, marked)
    assert redaction_recall(found[::-1], marked[::-1]).rows[0]["covered"].value == whole.rows[0]["covered"].value
    values = [redaction_recall(found[:k], marked, cover=0.5).rows[0]["covered"].value for k in (0, 50, 150, 300)]
    assert values == sorted(values) and values[0] == 0 < values[-1]


@pytest.mark.slow
def test_level_faces_by_day_are_covered(scenes, tmp_path):
    pytest.importorskip("facenet_pytorch", reason="no face tests: pip install --no-deps facenet-pytorch==2.6.0")
    manifest, marks = scenes
    found = redact(
        manifest, out=tmp_path / "out", detectors="face", marks=tmp_path / "scenes/marks.csv", subgroup="light,turned"
    )
    column = {m["uri"]: m for m in marks}
    missed = [column[m["image"]] for m in found.recall["light"].missed if m["kind"] == "face"]
    assert not [m for m in missed if m["light"] == "day" and m["turned"] == "level"]
