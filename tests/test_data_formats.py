"Formats of boxes: three of them say the same, bad lines cost no picture, and boxes that are wrong are found."

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cvkit.core import DataError
from cvkit.data.boxes import draw_boxes, write_coco, write_voc, write_yolo
from cvkit.data.checks import check_boxes, check_manifest
from cvkit.data.formats.annotations import READERS, recognise_annotations
from cvkit.data.formats.coco import read_coco
from cvkit.data.formats.voc import read_voc
from cvkit.data.formats.yolo import read_yolo
from cvkit.data.ingest import ingest_table
from cvkit.data.manifest import Dataset

root = Path(__file__).resolve().parents[1]
bccd = root / "../shared/data/bccd"
pytestmark = pytest.mark.usefixtures("cache")
WRITERS = {
    "coco": lambda manifest, folder: write_coco(manifest, folder / "annotations.json"),
    "voc": write_voc,
    "yolo": write_yolo,
}


def box(label, x1, y1, x2, y2, ignore=False):
    return {
        "label": label,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "ignore": ignore,
    }


def ingested(listing):
    return ingest_table(*listing[:2], Dataset("boxes"), listing.rejected)


def read(folder):
    return ingested(READERS[recognise_annotations(folder)[0]](recognise_annotations(folder)[1]))


def pictures(root, *names, size=(64, 48)):
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), np.uint8)).save(root / name)
    return root


def made(root, boxes, **columns):
    names = [f"a/{i}.png" for i in range(len(boxes))]
    return ingest_table(
        pd.DataFrame({"uri": names, "boxes": boxes, **columns}), pictures(root, *names), Dataset("boxes")
    )


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


# ---- there and back


def round_trip(manifest, tmp_path, kinds=("coco", "yolo", "voc", "coco")):
    for k, kind in enumerate(kinds):
        folder = tmp_path / f"{k} {kind}"
        assert WRITERS[kind](manifest, folder) == []
        assert recognise_annotations(folder)[0] == kind
        manifest = read(folder)
        assert [why for why in manifest.rejected["reason"] if not why.startswith("kept: ")] == []
        yield manifest


def test_round_trip_of_a_small_set(tmp_path):
    manifest = made(
        tmp_path / "made",
        [
            [box("Käse & <b>", 0.01, 3.33, 40.07, 47.99), box("a", 0, 0, 64, 48)],
            [],
            [box("a", 5, 5, 5, 9)],
            [box("b", -2.5, 40, 20.25, 50)],
        ],
        **{"attribute.split": ["train", "val", "test", ""]},
    )
    assert [m.digest for m in round_trip(manifest, tmp_path)] == [manifest.digest] * 4


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_ignore_group_and_attributes_survive(tmp_path, kind):
    manifest = made(
        tmp_path / "made",
        [[box("a", 1, 2, 3, 4, True), box("b", 100, -5, 90, 200)], [box("a", 1, 2, 3, 4)]],
        group=["house 1", ""],
        **{"attribute.light": ["dusk", "noon"], "attribute.split": ["fold 1", "fold 2"]},
    )
    assert [m.digest for m in round_trip(manifest, tmp_path, [kind])] == [manifest.digest]


def test_yolo_says_what_it_cannot_hold(tmp_path):
    manifest = made(
        tmp_path / "made",
        [[box("a", 1, 2, 3, 4, True), box("b", 100, 5, 190, 20), box("b", 1, 2, 3, 4)]],
        group=["house 1"],
    )
    not_held = write_yolo(manifest, tmp_path / "yolo")
    assert [uri for uri, _ in not_held] == ["a/0.png"] * 3
    for (_, why), part in zip(
        not_held,
        (
            "a at 1, 2: YOLO has no boxes to ignore",
            "b at 100, 5: YOLO has no boxes whose centre",
            "no place for group 'house 1'",
        ),
    ):
        assert part in why
    assert read(tmp_path / "yolo").table["boxes"][0] == [box("b", 1, 2, 3, 4)]


hundredth = st.integers(0, 6400).map(lambda v: v / 100)
corners = st.tuples(hundredth, hundredth, hundredth, hundredth).map(
    lambda c: (
        min(c[0], c[2]),
        min(c[1], c[3]) * 0.75 // 0.01 / 100,
        max(c[0], c[2]),
        max(c[1], c[3]) * 0.75 // 0.01 / 100,
    )
)
words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=6)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(words, corners), max_size=4), min_size=1, max_size=3), words)
def test_random_boxes_survive(tmp_path_factory, drawn, first):
    folder = tmp_path_factory.mktemp("drawn")
    manifest = made(
        folder / "made", [[box(first, 1, 2, 3, 4)], *([box(label, *c) for label, c in row] for row in drawn)]
    )
    assert [m.digest for m in round_trip(manifest, folder, ["coco", "yolo", "voc"])] == [manifest.digest] * 3


@pytest.mark.skipif(not bccd.is_dir(), reason="bccd is not in ../shared/data")
def test_blood_cells_go_round(tmp_path):
    manifest = read(bccd)
    assert (len(manifest), manifest.classes) == (364, ("Platelets", "RBC", "WBC"))
    (note,) = manifest.rejected["reason"]
    assert note.startswith("kept: the boxes begin at 1 and end at the last pixel"), "as VOC counts"
    assert pd.Series(manifest.attributes["split"]).value_counts().to_dict() == {"train": 205, "val": 87, "test": 72}
    flat = check_boxes(manifest).errors
    assert [f.paths for f in flat] == [["JPEGImages/BloodImage_00338.jpg", "JPEGImages/BloodImage_00343.jpg"]]
    assert "no area: 2 boxes" in flat[0].detail
    assert [m.digest for m in round_trip(manifest, tmp_path, ["coco", "yolo", "voc"])] == [manifest.digest] * 3


def test_names_that_differ_only_at_their_end(tmp_path):
    pictures(tmp_path / "made", "images/0.png", "images/0.bmp", "train/0.PNG")
    manifest = ingest_table(
        pd.DataFrame({
            "uri": ["images/0.png", "images/0.bmp", "train/0.PNG"],
            "boxes": [[box(c, 1, 1, 9, 9)] for c in "abc"],
            "attribute.split": ["", "", "train"],
        }),
        tmp_path / "made",
        Dataset("x"),
    )
    assert [m.digest for m in round_trip(manifest, tmp_path)] == [manifest.digest] * 4


def test_links_lead_back_and_nothing_is_written_over(tmp_path):
    manifest = made(tmp_path / "made", [[box("a", 1, 2, 3, 4)]])
    write_voc(manifest, tmp_path / "voc", "link")
    assert (tmp_path / "voc/JPEGImages/a/0.png").resolve() == (tmp_path / "made/a/0.png").resolve()
    assert read(tmp_path / "voc").digest == manifest.digest
    with pytest.raises(DataError, match="choose another"):
        write_yolo(manifest, tmp_path / "made")
    with pytest.raises(DataError, match="copy or link"):
        write_voc(manifest, tmp_path / "new", "move")
    manifest.table.at[0, "boxes"] = [box("a\n", 1, 2, 3, 4)]
    with pytest.raises(DataError, match="rename it"):
        write_voc(manifest, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_written_coco_is_read_by_pycocotools(tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    write_coco(made(tmp_path / "made", [[box("a", 1, 2, 3.5, 4)]]), tmp_path / "coco/a.json")
    assert coco.COCO(tmp_path / "coco/a.json").anns[1]["bbox"] == [1, 2, 2.5, 2]


# ---- bad input

good = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
coco_cases = {
    "dangling image": (
        "annotations",
        {**good, "image_id": 5},
        "annotations[1]: expected the id of an image, got image_id 5",
    ),
    "dangling category": (
        "annotations",
        {**good, "category_id": "x"},
        "annotations[1]: expected the id of a category, got category_id 'x'",
    ),
    "no image_id": ("annotations", {"bbox": [1, 2, 3, 4]}, "got image_id None"),
    "NaN": (
        "annotations",
        {**good, "bbox": [1, float("nan"), 3, 4]},
        "expected bbox [x, y, width, height] in pixels of a.png, got [1, nan, 3, 4]",
    ),
    "infinite": ("annotations", {**good, "bbox": [1, 2, float("inf"), 4]}, "got [1, 2, inf, 4]"),
    "three numbers": ("annotations", {**good, "bbox": [1, 2, 3]}, "got [1, 2, 3]"),
    "text": ("annotations", {**good, "bbox": "1 2 3 4"}, "got '1 2 3 4'"),
    "huge": ("annotations", {**good, "bbox": [1, 2, 10**400, 4]}, "got [1, 2, 1000"),
    "outline alone": (
        "annotations",
        {**good, "bbox": None, "segmentation": [[1, 1, 2, 2, 3, 3]]},
        "got a segmentation alone",
    ),
    "no object": ("annotations", 7, "annotations[1]: expected an object, got 7"),
    "escaping": (
        "images",
        {"id": 2, "file_name": "../b.png"},
        "images[1]: expected a file_name below the folder of the images, got '../b.png'",
    ),
    "escaping in Windows": (
        "images",
        {"id": 2, "file_name": "x\\..\\..\\b.png"},
        "images[1]: expected a file_name below",
    ),
    "absolute": ("images", {"id": 2, "file_name": "/etc/b.png"}, "got '/etc/b.png'"),
    "a drive": ("images", {"id": 2, "file_name": "C:\\b.png"}, "expected a file_name below"),
    "a zero byte": ("images", {"id": 2, "file_name": "b\0.png"}, "expected a file_name below"),
    "no name": ("images", {"id": 2}, "got None"),
    "no id": ("images", {"file_name": "b.png"}, "images[1]: expected an id, got None"),
    "id twice": ("images", {"id": "1", "file_name": "b.png"}, "expected another id than 1, which is a.png"),
    "nameless category": ("categories", {"id": 2}, "categories[1]: expected a name"),
    "category twice": ("categories", {"id": 1.0, "name": "dog"}, "expected another id than 1, which is cat"),
}


@pytest.mark.parametrize("case", coco_cases)
def test_bad_coco(tmp_path, case):
    kind, entry, message = coco_cases[case]
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [good],
    }
    data[kind].append(entry)
    pictures(tmp_path, "a.png")
    manifest = ingested(read_coco(write(tmp_path / "x.json", data)))
    assert manifest.table["boxes"].tolist() == [[box("cat", 1, 2, 4, 6)]]
    assert manifest.rejected["uri"].tolist() == ["x.json"]
    assert message in manifest.rejected["reason"][0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "expected COCO's JSON"),
        ("[]", "got no images and no annotations"),
        ('{"images": 1, "annotations": [], "categories": []}', "got no images;"),
        ("[" * 100_000, "expected COCO's JSON"),
        ('{"images": [], "annotations": [], "categories": []}', "expected pictures"),
        ("\xff", "expected COCO's JSON"),
    ],
)
def test_no_coco(tmp_path, text, message):
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        read_coco(tmp_path / "x.json")


def test_coco_in_parts_and_folders(tmp_path):
    pictures(tmp_path, "train2017/a.png", "val2017/b.png")
    for part, name, id in (("train", "a.png", 1), ("val", "b.png", "one")):
        write(
            tmp_path / "annotations" / f"instances_{part}2017.json",
            {
                "images": [{"id": id, "file_name": name, "width": 64, "height": 48}],
                "categories": [{"id": "7", "name": "cat"}],
                "annotations": [{**good, "image_id": id, "category_id": 7, "iscrowd": 1}],
            },
        )
    write(tmp_path / "annotations/captions_train2017.json", {"images": [], "annotations": []})
    assert recognise_annotations(tmp_path) == ("coco", tmp_path)
    manifest = read(tmp_path)
    assert manifest.table[["uri", "attribute.split"]].values.tolist() == [
        ["train2017/a.png", "train"],
        ["val2017/b.png", "val"],
    ]
    assert manifest.table["boxes"][0] == [box("cat", 1, 2, 4, 6, True)]


def test_roboflow(tmp_path):
    for part in ("train", "valid"):
        pictures(tmp_path / part, f"{part}.png")
        write(
            tmp_path / part / "_annotations.coco.json",
            {
                "images": [{"id": 0, "file_name": f"{part}.png"}],
                "categories": [{"id": 0, "name": "cat"}],
                "annotations": [{**good, "image_id": 0, "category_id": 0}],
            },
        )
    assert read(tmp_path).table[["uri", "attribute.split"]].values.tolist() == [
        ["train/train.png", "train"],
        ["valid/valid.png", "val"],
    ]


bomb = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9))
    + "]><annotation><filename>&j;</filename></annotation>"
)


def one(inside, name="cat"):
    return f"<object><name>{name}</name>{inside}</object>"


def bnd(*v):
    return "<bndbox>" + "".join(f"<{c}>{n}</{c}>" for c, n in zip(("xmin", "ymin", "xmax", "ymax"), v)) + "</bndbox>"


@pytest.mark.parametrize(
    "inside, message",
    [
        (one(bnd(1, 2, "x", 4)), "object 2 (cat): expected numbers in bndbox: xmin, ymin, xmax, ymax, got 1, 2, x, 4"),
        (one(bnd(1, 2, "nan", 4)), "got 1, 2, nan, 4"),
        (one(bnd(1, 2, 3)), "got 1, 2, 3, ;"),
        (one("<polygon/>"), "got no bndbox"),
        (one(bnd(1, 2, 3, 4), ""), "object 2: expected a name"),
    ],
)
def test_bad_voc_box(tmp_path, inside, message):
    pictures(tmp_path, "a.png")
    write(tmp_path / "a.xml", f"<annotation>{one(bnd(1.5, 2, 4, 6) + '<difficult>1</difficult>')}{inside}</annotation>")
    manifest = ingested(read_voc(tmp_path))
    assert manifest.table["boxes"].tolist() == [[box("cat", 1.5, 2, 4, 6, True)]]
    assert manifest.rejected["uri"].tolist() == ["a.xml"]
    assert message in manifest.rejected["reason"][0]


@pytest.mark.parametrize(
    "text, message",
    [
        (bomb, "DOCTYPE"),
        ("<annotation>", "expected whole XML"),
        ("", "expected whole XML"),
        ("<html/>", "got <html>"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "expected whole XML"),
    ],
)
def test_bad_voc_file_costs_its_picture_and_no_other(tmp_path, text, message):
    pictures(tmp_path, "JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png")
    write(tmp_path / "Annotations/a.xml", text)
    write(
        tmp_path / "Annotations/b.xml",
        f"<annotation><filename>../../etc/passwd</filename>{one(bnd(1, 2, 3, 4))}</annotation>",
    )
    write(tmp_path / "Annotations/d.xml", "<annotation><filename>../a.png</filename></annotation>")
    write(tmp_path / "ImageSets/Main/train.txt", "b\nnobody\n")
    write(tmp_path / "ImageSets/Main/val.txt", "b 1\n")
    manifest = ingested(read_voc(tmp_path))
    assert manifest.table["uri"].tolist() == ["JPEGImages/b.png"]
    reasons = dict(manifest.rejected.values)
    assert message in reasons["Annotations/a.xml"]
    assert "expected an image d" in reasons["Annotations/d.xml"]
    assert "found no XML file" in reasons["JPEGImages/c.png"]
    assert "line 2: expected the name of an annotated image, got 'nobody'" in reasons["ImageSets/Main/train.txt"]
    assert "is in train already" in reasons["ImageSets/Main/val.txt"]


def test_voc_of_another_size_is_rejected(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    for name, w in (("a", 63), ("b", 0)):
        write(
            tmp_path / f"{name}.xml",
            f"<annotation><size><width>{w}</width><height>48</height></size>{one(bnd(1, 2, 3, 4))}</annotation>",
        )
    manifest = ingested(read_voc(tmp_path))
    assert manifest.table["uri"].tolist() == ["b.png"]
    assert "63 x 48 pixels as its source says" in manifest.rejected["reason"][0]


@pytest.mark.parametrize(
    "line, message",
    [
        ("0 1.2 .5 .1 .1", "expected shares of the picture between 0 and 1, got 1.2 .5 .1 .1"),
        ("0 -.1 .5 .1 .1", "between 0 and 1"),
        ("0 nan .5 .1 .1", "between 0 and 1"),
        ("0 .5 .5 .1", "expected 5 columns (class, x, y, width, height), or an outline's 7, 9, ..., got 4"),
        ("0 .5 .5 .1 .1 .9", "got 6"),
        ("0 .1 .1 .2 .2 .3 .3 .4", "got 8"),
        ("2 .5 .5 .1 .1", "expected a class from 0 to 1, got 2"),
        ("-1 .5 .5 .1 .1", "got -1"),
        ("cat .5 .5 .1 .1", "got cat"),
        ("0.5 .5 .5 .1 .1", "got 0.5"),
    ],
)
def test_bad_yolo_line(tmp_path, line, message):
    pictures(tmp_path, "images/a.png", "images/b.png", "images/c.png")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    write(tmp_path / "labels/a.txt", f"1 .5 .5 .5 .5\n\n{line}\n0 0 0 .5 0 .5 .25\n")
    write(tmp_path / "labels/b.txt", "")
    write(tmp_path / "labels/d.txt", "")
    manifest = read(tmp_path)
    assert manifest.table["boxes"].tolist() == [[box("dog", 16, 12, 48, 36), box("cat", 0, 0, 32, 12)], [], []]
    reasons = dict(manifest.rejected.values)
    assert set(reasons) == {"labels/a.txt", "labels/d.txt", tmp_path.name}
    assert "1 picture without a text, such as images/c.png" in reasons[tmp_path.name]
    assert reasons["labels/a.txt"].startswith("line 3: ")
    assert message in reasons["labels/a.txt"]


@pytest.mark.parametrize(
    "yaml, uris",
    [
        ("names: {0: cat}\ntrain: images/train\nval: [images/val]", ["train", "val"]),
        ("names: [cat]\npath: ../x\ntrain: ../images/train\nval: list.txt", ["train", "val"]),
        ("names: [cat]\nval: images/val\ntrain: /etc", ["val"]),
        ("names: [cat]\nval: images/val\ntrain: ../../", ["val"]),
    ],
)
def test_yolo_folders_and_lists(tmp_path, yaml, uris):
    root = pictures(tmp_path / "set", "images/train/a.png", "images/val/a.png")
    for part in ("train", "val"):
        write(root / f"labels/{part}/a.txt", "0 .5 .5 .5 .5\n")
    write(root / "list.txt", "./images/val/a.png\n../../outside.png\n" if "list" in yaml else "")
    write(root / "data.yaml", yaml)
    manifest = read(root)
    assert [uri.split("/")[1] for uri in manifest.table["uri"]] == uris
    reasons = manifest.rejected["reason"].tolist()
    assert (
        reasons == []
        if "list" not in yaml and len(uris) == 2
        else any(("line 2: expected an image below" if "list" in yaml else "leads out of it") in why for why in reasons)
    )


@pytest.mark.parametrize(
    "yaml, message",
    [
        ("names: []", "expected names of classes"),
        ("names: 7", "expected names of classes"),
        ("names: [[a]]", "expected names of classes"),
        ("names: [", "expected YAML"),
    ],
)
def test_bad_yolo_yaml(tmp_path, yaml, message):
    pictures(tmp_path, "images/a.png")
    with pytest.raises(DataError, match=message):
        read_yolo(write(tmp_path / "data.yaml", yaml))


def test_a_broken_picture_is_listed_once(tmp_path):
    pictures(tmp_path, "images/a.png")
    write(tmp_path / "images/b.png", "Dear Sir")
    write(tmp_path / "classes.txt", "cat")
    for name in "ab":
        write(tmp_path / f"labels/{name}.txt", "0 .5 .5 .5 .5")
    manifest = read(tmp_path)
    assert manifest.table["uri"].tolist() == ["images/a.png"]
    assert manifest.rejected["uri"].tolist() == ["images/b.png"]


def test_nothing_is_recognised_in_other_folders(tmp_path):
    pictures(tmp_path / "classes", "a/1.png", "b/1.png")
    assert recognise_annotations(tmp_path / "classes")[0] == recognise_annotations(tmp_path / "nowhere")[0] == ""
    assert recognise_annotations(write(tmp_path / "x.json", "{}"))[0] == ""


# ---- pictures and checks


def test_ignored_boxes_are_dashed():
    lines = [
        np.asarray(draw_boxes(Image.new("RGB", (512, 512), "white"), [box("a", 50, 100, 450, 400, ignore)]))[
            150:390, 50
        ]
        for ignore in (False, True)
    ]
    shares = [(line == (0xD5, 0x5E, 0)).all(1).mean() for line in lines]
    assert shares[0] == 1
    assert 0.3 < shares[1] < 0.7


def test_repeated_boxes_agree_with_torchvision(tmp_path):
    ops, torch = pytest.importorskip("torchvision.ops"), pytest.importorskip("torch")
    random = np.random.default_rng(0)
    corner = np.round(random.uniform(0, 3, (40, 2)), 2)
    all_corners = np.concatenate([corner, corner + np.round(random.uniform(30, 33, (40, 2)), 2)], 1)
    manifest = made(tmp_path / "made", [[box("a", *c) for c in all_corners.tolist()]])
    expected = int(
        (torch.tril(ops.box_iou(torch.tensor(all_corners), torch.tensor(all_corners)), -1) > 0.95).any(1).sum()
    )
    assert 0 < expected < 39
    assert f"there twice: {expected} box" in check_boxes(manifest)[0].detail


def test_duplicates_with_other_boxes_are_a_conflict(tmp_path):
    manifest = made(tmp_path / "made", [[box("a", 1, 2, 33, 34), box("b", 5, 5, 30, 30)]])

    def kinds(boxes):
        repeated = manifest.take([0, 0])
        repeated.table.at[1, "boxes"] = boxes
        return [f.kind for f in check_manifest(repeated, folds=1) if f.kind != "unrepresentative"]

    assert kinds(manifest.table["boxes"][0][::-1]) == ["exact_duplicate"]
    assert kinds([box("a", 1, 2, 33, 35), box("b", 5, 5, 30, 30)]) == ["label_conflict"]
    assert kinds([box("a", 1, 2, 33, 34)]) == ["label_conflict"]
    assert kinds([]) == ["label_conflict"]


def test_rare_classes_of_several_labels(tmp_path):
    names = [f"{i}.png" for i in range(8)]
    manifest = ingest_table(
        pd.DataFrame({"uri": names, "labels": [["a", "b"] if i < 2 else ["a"] for i in range(8)]}),
        pictures(tmp_path / "m", *names),
        Dataset("x"),
    )
    assert [(f.kind, f.paths) for f in check_manifest(manifest)] == [("unrepresentative", ["0.png", "1.png"])]
    assert check_boxes(manifest) == []
