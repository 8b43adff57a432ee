"Inputs from the world: layouts, names and annotations as other people leave them, and the right value of each."

import json
import os
import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cvkit.core import DataError, ParameterError
from cvkit.data.checks import check_manifest
from cvkit.data.formats.folders import list_folder
from cvkit.data.formats.listing import make_box
from cvkit.data.formats.names import match_names
from cvkit.data.locations import open_source
from cvkit.data.preprocess import decode_image, lacks_end_mark


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CVKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


draw = np.random.default_rng(7)


def picture(file, width=64, height=48, **options):
    "A picture of noise, so that no two are alike."
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw.integers(0, 256, (height, width, 3), np.uint8)).save(file, **options)


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def opened(path):
    return open_source(path, path.parent / "fetched").manifest


def reasons(manifest):
    return dict(manifest.rejected.values)


def labels_of(manifest):
    return dict(zip(manifest.table["uri"], manifest.table["label"]))


def corners(manifest):
    "The sides of the first box of each picture, where all pictures have the same."
    sides = {tuple(boxes[0][side] for side in ("x1", "y1", "x2", "y2")) for boxes in manifest.table["boxes"]}
    return sides.pop() if len(sides) == 1 else sides


def bndbox(label, *numbers):
    names = ("xmin", "ymin", "xmax", "ymax")
    sides = "".join(f"<{name}>{number}</{name}>" for name, number in zip(names, numbers))
    return f"<object><name>{label}</name><bndbox>{sides}</bndbox></object>"


def voc(filename, *objects, width=64, height=48):
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"


def coco(names, annotations, categories=("cat", "dog"), size=(64, 48)):
    images = [{"id": i, "file_name": name, "width": size[0], "height": size[1]} for i, name in enumerate(names)]
    known = [{"id": i, "name": name} for i, name in enumerate(categories)]
    return {"images": images, "annotations": annotations, "categories": known}


# layouts are not guessed (cases 01, 12, 19, 36)


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("Training", "VALID"), ("train_set", "test_set")])
def test_folders_of_parts_are_no_classes(tmp_path, parts):
    for part in parts:
        for label in ("cat", "dog"):
            picture(tmp_path / "data" / part / label / "0.png")
    manifest = opened(tmp_path / "data")
    assert manifest.classes == ("cat", "dog")
    assert set(manifest.attributes["split"]) <= {"train", "val", "test"}
    assert len(set(manifest.attributes["split"])) == len(parts)


def test_parts_within_classes_are_kept(tmp_path):
    for label in ("cat", "dog"):
        for part in ("train", "test"):
            picture(tmp_path / "data" / label / part / "0.png")
    manifest = opened(tmp_path / "data")
    assert manifest.classes == ("cat", "dog")
    assert sorted(manifest.attributes["split"]) == ["test", "test", "train", "train"]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("images", "masks"), "got images, masks, which says what files are"),
        (("train", "val", "cat"), "expected parts or classes"),
    ],
)
def test_folders_that_are_no_classes_are_asked_about(tmp_path, folders, message):
    for folder in folders:
        picture(tmp_path / "data" / folder / "x" / "0.png")
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "data")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("train/anything.csv", "filename,xmin\n0.png,4\n"),
        ("train/export.json", '{"0.png": "rust"}'),
        ("train/0.txt", "0 .5 .5 .1 .1"),
    ],
)
def test_a_table_inside_stops_the_guess(tmp_path, file, text):
    for part in ("train", "other"):
        picture(tmp_path / "data" / part / "0.png")
    write(tmp_path / "data" / file, text)
    with pytest.raises(DataError, match=f"{file} name pictures"):
        opened(tmp_path / "data")


def test_a_column_a_class_in_each_part(tmp_path):
    for part, marks in {"train": ["1, 0", "1, 1"], "valid": ["0, 1"]}.items():
        rows = [f"{part}{i}.jpg, {mark}" for i, mark in enumerate(marks)]
        for i in range(len(marks)):
            picture(tmp_path / "data" / part / f"{part}{i}.jpg")
        write(tmp_path / "data" / part / "_classes.csv", "\n".join(["filename, crack, rust", *rows]))
    manifest = opened(tmp_path / "data")
    assert manifest.table["labels"].tolist() == [["crack"], ["crack", "rust"], ["rust"]]
    assert list(manifest.attributes["split"]) == ["train", "train", "val"]


def test_a_list_of_classes_alone_is_no_yolo(tmp_path):
    for label in ("apple_pie", "ribs"):
        picture(tmp_path / "data" / label / "0.jpg")
    write(tmp_path / "data" / "classes.txt", "apple_pie\nribs\n")
    assert opened(tmp_path / "data").classes == ("apple_pie", "ribs")


@pytest.mark.parametrize("names", ["xmin,ymin,xmax,ymax", "x1,y1,x2,y2"])
def test_a_box_a_line(tmp_path, names):
    for i in range(2):
        picture(tmp_path / "data" / f"{i}.jpg")
    rows = [f"filename,width,height,class,{names}", "0.jpg,64,48,cat,5,6,30,40", "1.jpg,64,48,cat,5,6,30,40"]
    rows.append("0.jpg,64,48,dog,32,6,60,40")
    write(tmp_path / "data" / "annotations.csv", "\n".join(rows))
    manifest = opened(tmp_path / "data" / "annotations.csv")
    assert [len(boxes) for boxes in manifest.table["boxes"]] == [2, 1]
    assert manifest.table["boxes"][1] == [make_box("cat", 5, 6, 30, 40)]


def test_four_numbers_in_a_cell_are_asked_about(tmp_path):
    picture(tmp_path / "data" / "0.jpg")
    write(tmp_path / "data" / "annotations.csv", 'filename,class,bbox\n0.jpg,cat,"[1, 2, 3, 4]"\n')
    with pytest.raises(DataError, match="expected columns xmin, ymin, xmax, ymax in pixels"):
        opened(tmp_path / "data")


# every file is accounted for (cases 02, 18)


def test_other_endings_are_listed(tmp_path):
    root = tmp_path / "data"
    for label in ("cat", "dog"):
        picture(root / label / "0.jpg")
    picture(root / "cat" / "saved.jfif", format="JPEG")
    picture(root / "dog" / "0.avif", format="AVIF")
    picture(root / "dog" / "download", format="JPEG")
    write(root / "README.md", "Taken in May.")
    found = reasons(opened(root))
    assert set(found) == {"cat/saved.jfif", "dog/0.avif", "dog/download", "data"}
    assert "got .avif on what begins like AVIF" in found["dog/0.avif"]
    assert "1 other file without a picture: .md (1)" in found["data"]


def test_a_relative_path_accounts_for_the_same_files(tmp_path, monkeypatch):
    for label in ("cat", "dog"):
        picture(tmp_path / "data" / label / "0.jpg")
    monkeypatch.chdir(tmp_path)
    assert reasons(open_source("data", tmp_path / "fetched").manifest) == {}


def test_names_that_are_no_utf8_are_listed(tmp_path):
    root = tmp_path / "data"
    for label in ("cat", "dog"):
        picture(root / label / "0.jpg")
    picture(root / "x.jpg")
    os.rename(os.fsencode(root / "x.jpg"), os.fsencode(root) + b"/dog/caf\xe9.jpg")
    manifest = opened(root)
    assert len(manifest) == 2
    assert "expected a file name in UTF-8" in reasons(manifest)["dog/caf\\udce9.jpg"]


# names (cases 04, 07, 08, 11, 14, 26, 27)


def test_texts_in_a_folder_of_another_name(tmp_path):
    root = tmp_path / "data"
    for part, home in {"train": "train", "val": "valid"}.items():
        for i in range(2):
            picture(root / "images" / part / f"{part}{i}.jpg")
            write(root / "labels" / home / f"{part}{i}.txt", "0 .5 .5 .25 .25\n")
    write(root / "data.yaml", "train: images/train\nval: images/val\nnames: ['car']\n")
    manifest = opened(root)
    assert corners(manifest) == (24, 18, 40, 30)
    assert "2 names matched but for folder" in reasons(manifest)["labels"]


def test_texts_and_pictures_that_are_left_over_are_both_listed(tmp_path):
    root = tmp_path / "data"
    for name in ("a", "b"):
        picture(root / "images" / f"{name}.jpg")
    write(root / "labels" / "a.txt", "0 .5 .5 .25 .25\n")
    write(root / "labels" / "c.txt", "0 .5 .5 .25 .25\n")
    write(root / "classes.txt", "car\n")
    found = reasons(opened(root))
    assert "expected an image of this name" in found["labels/c.txt"]
    assert "1 picture without a text, such as images/b.jpg" in found["data"]


@pytest.mark.parametrize("home", ["annotations", "Annotation", "ANNOTATIONS"])
def test_voc_with_folders_in_any_case(tmp_path, home):
    picture(tmp_path / "data" / "Images" / "road0.png")
    write(tmp_path / "data" / home / "road0.xml", voc("road0.png", bndbox("stop", 5, 6, 30, 40)))
    assert corners(opened(tmp_path / "data")) == (5, 6, 30, 40)


def test_the_picture_that_the_xml_names(tmp_path):
    root = tmp_path / "data"
    picture(root / "JPEGImages" / "house.jpg")
    picture(root / "JPEGImages" / "house.png")
    write(root / "Annotations" / "house.xml", voc("house.jpg", bndbox("door", 5, 6, 30, 40)))
    manifest = opened(root)
    assert manifest.table["uri"].tolist() == ["JPEGImages/house.jpg"]
    assert "found no XML file" in reasons(manifest)["JPEGImages/house.png"]


def test_one_of_two_pictures_of_a_name_is_not_guessed(tmp_path):
    root = tmp_path / "data"
    for name in ("house.jpg", "house.png", "road.png"):
        picture(root / "JPEGImages" / name)
    write(root / "Annotations" / "house.xml", voc("house", bndbox("door", 5, 6, 30, 40)))
    write(root / "Annotations" / "road.xml", voc("road", bndbox("door", 5, 6, 30, 40)))
    assert "JPEGImages/house.jpg, JPEGImages/house.png" in reasons(opened(root))["Annotations/house.xml"]


@pytest.mark.parametrize("written", ["{}.jpg", "images\\3/{}.jpg", "/data/upload/{}.jpg", "{}.JPEG"])
def test_coco_names_of_other_folders(tmp_path, written):
    for i in range(3):
        picture(tmp_path / "data" / "data" / f"ab-{i}.jpg")
    names = [written.format(f"ab-{i}") for i in range(3)]
    marks = [{"id": i, "image_id": i, "category_id": 0, "bbox": [5, 6, 20, 30]} for i in range(3)]
    write(tmp_path / "data" / "labels.json", coco(names, marks))
    if written.startswith("/"):
        with pytest.raises(DataError, match="expected a file_name below"):
            opened(tmp_path / "data")
    else:
        assert corners(opened(tmp_path / "data")) == (5, 6, 25, 36)


def test_ids_without_ending(tmp_path):
    root = tmp_path / "data"
    for i in range(4):
        picture(root / "train_images" / f"{i:04}.png")
    write(root / "train.csv", "id_code,diagnosis\n" + "".join(f"{i:04},{i % 2}\n" for i in range(4)))
    write(root / "dataset.yaml", "columns:\n  uri: id_code\n  label: diagnosis\n")
    assert labels_of(opened(root)) == {f"train_images/{i:04}.png": str(i % 2) for i in range(4)}


def test_names_in_another_case_are_matched_and_counted(tmp_path):
    root = tmp_path / "data"
    for i in range(4):
        picture(root / f"IMG_{i}.JPG", format="JPEG")
    write(root / "labels.csv", "filename;label\r\n" + "".join(f"img_{i}.jpg;{'ab'[i % 2]}\r\n" for i in range(4)))
    manifest = opened(root)
    assert labels_of(manifest) == {f"IMG_{i}.JPG": "ab"[i % 2] for i in range(4)}
    assert "4 names matched but for case" in reasons(manifest)["data"]


def test_names_that_may_mean_two_files_are_refused():
    matches = match_names(["IMG.jpg", "x/b.jpg"], ["img.JPG", "Img.jpg", "a/b.jpg", "c/b.jpg"])
    assert matches.files == {}
    assert "may mean img.JPG, Img.jpg" in matches.refused["IMG.jpg"]
    assert "may mean a/b.jpg, c/b.jpg" in matches.refused["x/b.jpg"]


def test_two_names_do_not_share_a_file():
    matches = match_names(["1/a.jpg", "2/a.jpg"], ["a.jpg"])
    assert matches.files == {}
    assert set(matches.refused) == {"1/a.jpg", "2/a.jpg"}


def test_many_names_are_matched_without_comparing_all_pairs():
    files = [f"{i % 100}/{i:06}.JPG" for i in range(20_000)]
    assert list(match_names([file.lower() for file in files], files).files.values()) == files


# formats (cases 05, 06, 10, 13, 21, 23, 70)


@pytest.mark.parametrize(
    ("declared", "points"),
    [
        ("kpt_shape: [2, 2]", ".45 .45 .55 .55"),
        ("kpt_shape: [2, 3]", ".45 .45 2 .55 .55 2"),
        ("flip_idx: [1, 0]", ".45 .45 .55 .55"),
    ],
)
def test_points_of_a_body_are_no_outline(tmp_path, declared, points):
    picture(tmp_path / "data" / "images" / "0.jpg", 100, 100)
    write(tmp_path / "data" / "labels" / "0.txt", f"0 .5 .5 .2 .2 {points}\n")
    write(tmp_path / "data" / "dataset.yaml", f"train: images\n{declared}\nnames: {{0: part}}\n")
    assert corners(opened(tmp_path / "data")) == (40, 40, 60, 60)


def test_four_corners_are_an_outline(tmp_path):
    picture(tmp_path / "data" / "images" / "0.jpg", 100, 100)
    write(tmp_path / "data" / "labels" / "0.txt", "0 .5 .3 .7 .5 .5 .7 .3 .5\n")
    write(tmp_path / "data" / "classes.txt", "ship\n")
    assert corners(opened(tmp_path / "data")) == (30, 30, 70, 70)


def test_a_little_over_the_edge_is_cut_and_counted(tmp_path):
    picture(tmp_path / "data" / "images" / "0.png", 1920, 1080)
    write(tmp_path / "data" / "labels" / "0.txt", "0 0.304017 0.5002187 0.608034 1.0004374\n")
    write(tmp_path / "data" / "classes.txt", "door\n")
    manifest = opened(tmp_path / "data")
    assert corners(manifest) == (0, 0, 1167.43, 1080)
    assert "1 box a rounding error beyond the edge" in reasons(manifest)["classes.txt"]


def test_one_file_under_two_ids_has_all_boxes(tmp_path):
    picture(tmp_path / "data" / "images" / "0.jpg")
    marks = [{"id": k, "image_id": k, "category_id": k, "bbox": [5 + 20 * k, 6, 15, 20]} for k in range(2)]
    write(tmp_path / "data" / "annotations.json", coco(["0.jpg", "0.jpg"], marks))
    manifest = opened(tmp_path / "data")
    assert [box["label"] for box in manifest.table["boxes"][0]] == ["cat", "dog"]
    assert "the boxes of all its entries are joined" in reasons(manifest)["0.jpg"]


@pytest.mark.parametrize(
    ("degrees", "sides"), [(90, (90, 40, 110, 160)), (-90, (90, 40, 110, 160)), (45, (50.5, 50.5, 149.5, 149.5))]
)
def test_turned_rectangles_of_coco(tmp_path, degrees, sides):
    picture(tmp_path / "data" / "images" / "0.jpg", 200, 200)
    mark = {"id": 0, "image_id": 0, "category_id": 0, "bbox": [40, 90, 120, 20], "attributes": {"rotation": degrees}}
    write(tmp_path / "data" / "annotations.json", coco(["0.jpg"], [mark], size=(200, 200)))
    manifest = opened(tmp_path / "data")
    assert corners(manifest) == sides
    assert "1 turned rectangle" in reasons(manifest)["annotations.json"]


def test_turned_rectangles_of_voc(tmp_path):
    rotation = "<attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes></object>"
    by_attribute = bndbox("ship", 40, 90, 160, 110).replace("</object>", rotation)
    own = "<robndbox><cx>100</cx><cy>100</cy><w>120</w><h>20</h><angle>1.5707963</angle></robndbox>"
    for i, ship in enumerate((by_attribute, f"<object><name>ship</name>{own}</object>")):
        picture(tmp_path / "data" / "JPEGImages" / f"{i}.jpg", 200, 200)
        write(tmp_path / "data" / "Annotations" / f"{i}.xml", voc(f"{i}.jpg", ship, width=200, height=200))
    manifest = opened(tmp_path / "data")
    assert corners(manifest) == (90, 40, 110, 160)
    assert "2 turned rectangles" in reasons(manifest)["data"]


def test_pixels_counted_from_one(tmp_path):
    root = tmp_path / "data"
    picture(root / "JPEGImages" / "0.jpg")
    write(root / "Annotations" / "0.xml", voc("0.jpg", bndbox("whole", 1, 1, 64, 48), bndbox("corner", 1, 1, 8, 6)))
    manifest = opened(root)
    assert corners(manifest) == (1, 1, 64, 48)
    assert "say `first_pixel: 1`" in reasons(manifest)["data"]
    write(root / "dataset.yaml", "first_pixel: 1\n")
    manifest = opened(root)
    assert corners(manifest) == (0, 0, 64, 48)
    assert len(manifest.rejected) == 0


@pytest.mark.parametrize("separator", [" ", ", ", ";"])
def test_several_labels_in_a_cell(tmp_path, separator):
    root = tmp_path / "data"
    marks = ["scab", f"scab{separator}frog_eye", "healthy"]
    rows = [f'{i}.jpg,"{mark}"' for i, mark in enumerate(marks)]
    for i in range(3):
        picture(root / f"{i}.jpg")
    write(root / "labels.csv", "\n".join(["image,labels", *rows]))
    with pytest.raises(DataError, match="seems to hold several"):
        opened(root)
    write(root / "dataset.yaml", f"separator: {separator.strip() or ' '!r}\n")
    assert opened(root).table["labels"].tolist() == [["scab"], ["frog_eye", "scab"], ["healthy"]]


# pictures (cases 17, 33, 40, 60, 63, 64)


def tiff_of_16_bits(values, white_is_zero):
    height, width = values.shape
    data = (65535 - values if white_is_zero else values).astype("<u2").tobytes()
    tags = {256: width, 257: height, 258: 16, 259: 1, 262: int(not white_is_zero), 273: 0, 277: 1, 278: height}
    tags[279] = len(data)
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_white_as_zero_shows_the_same(white_is_zero):
    values = np.full((48, 64), 4000, np.uint16)
    values[10:30, 20:40] = 52000
    shown = decode_image(tiff_of_16_bits(values, white_is_zero))[..., 0]
    assert (shown[20, 30], shown[0, 0]) == (52000 >> 8, 4000 >> 8)


@pytest.mark.parametrize(("bits", "ending", "factor"), [(12, "png", 16), (12, "tif", 16), (10, "png", 64)])
def test_fewer_bits_than_the_file_has_are_noted(tmp_path, bits, ending, factor):
    for label in ("cracked", "sound"):
        for i in range(3):
            values = draw.integers(2**bits - 300, 2**bits, (48, 64)).astype(np.uint16)
            file = tmp_path / "data" / label / f"{i}.{ending}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(file)
    note = reasons(opened(tmp_path / "data"))["data"]
    assert f"as of a camera of {bits} bits" in note
    assert f"multiply the values by {factor}" in note


def test_a_jpeg_without_its_end_is_read_and_noted(tmp_path):
    for label in ("cat", "dog"):
        file = tmp_path / "data" / label / "0.jpg"
        picture(file)
        whole = decode_image(file.read_bytes())
        file.write_bytes(file.read_bytes()[:-2])
    manifest = opened(tmp_path / "data")
    assert len(manifest) == 2
    assert np.array_equal(decode_image(file.read_bytes()), whole)
    assert "2 JPEGs without the last two bytes" in reasons(manifest)["cat/0.jpg"]


def test_half_a_jpeg_is_still_refused(tmp_path):
    picture(tmp_path / "0.jpg", 200, 200)
    data = (tmp_path / "0.jpg").read_bytes()
    for part in (data[: len(data) // 2], data[: len(data) // 2] + b"\xff\xd9"[:1], data[:-30]):
        with pytest.raises(DataError, match="truncated"):
            decode_image(part)


def test_the_limit_of_pixels_is_an_option(monkeypatch, tmp_path):
    picture(tmp_path / "0.png", 64, 48)
    data = (tmp_path / "0.png").read_bytes()
    monkeypatch.setenv("CVKIT_MAX_PIXELS", "3000")
    with pytest.raises(DataError, match="CVKIT_MAX_PIXELS"):
        decode_image(data)
    monkeypatch.setenv("CVKIT_MAX_PIXELS", "3072")
    assert decode_image(data).shape == (48, 64, 3)
    monkeypatch.setenv("CVKIT_MAX_PIXELS", "many")
    with pytest.raises(ParameterError, match="expected a whole number above 0 in CVKIT_MAX_PIXELS"):
        decode_image(data)


def test_sizes_of_originals_matter_to_boxes_alone(tmp_path):
    root = tmp_path / "data"
    for i in range(2):
        picture(root / f"{i}.jpg")
    write(root / "labels.csv", "image,label,width,height\n0.jpg,nevus,6000,4500\n1.jpg,melanoma,6000,4500\n")
    manifest = opened(root)
    assert len(manifest) == 2
    assert "2 pictures of another size than the source says" in reasons(manifest)["data"]


def test_sizes_that_a_camera_exchanged_are_named(tmp_path):
    root = tmp_path / "data"
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(root / "images" / "0.jpg", exif=turned)
    picture(root / "images" / "1.jpg")
    marks = [{"id": i, "image_id": i, "category_id": 0, "bbox": [5, 6, 20, 30]} for i in range(2)]
    write(root / "annotations.json", coco(["0.jpg", "1.jpg"], marks))
    manifest = opened(root)
    assert len(manifest) == 1
    assert "camera's orientation (EXIF)" in reasons(manifest)["0.jpg"]


# labels that look alike (cases 20, 56)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("Crack", "crack", "sound"), "'Crack', 'crack'"),
        (("0", "1", "1.0"), "'1', '1.0'"),
        (("no crack", "no_crack", "crack"), "'no crack', 'no_crack'"),
        (("Ã©tÃ©", "hiver"), "another encoding: 'Ã©tÃ©'"),
        (("├¿", "dog"), "another encoding: '├¿'"),
    ],
)
def test_labels_that_look_alike_are_one_finding(tmp_path, labels, message):
    root = tmp_path / "data"
    for i in range(len(labels)):
        picture(root / f"{i}.jpg")
    write(root / "labels.csv", "image,label\n" + "".join(f"{i}.jpg,{label}\n" for i, label in enumerate(labels)))
    findings = check_manifest(opened(root)).of("suspect_label")
    assert len(findings) == 1
    assert message in findings[0].detail


def test_labels_of_other_languages_are_no_finding(tmp_path):
    root = tmp_path / "data"
    labels = ("été", "猫", "Straße", "no crack", "crack", "трещина")
    for i in range(len(labels)):
        picture(root / f"{i}.jpg")
    write(root / "labels.csv", "image,label\n" + "".join(f"{i}.jpg,{label}\n" for i, label in enumerate(labels)))
    assert check_manifest(opened(root)).of("suspect_label") == []


def test_marks_of_personal_data_beside_class_folders_are_no_labels(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8), "red" if label == "cat" else "blue").save(tmp_path / label / "0.png")
    (tmp_path / "boxes.csv").write_text("uri,kind,x1,y1,x2,y2\ncat/0.png,face,1,2,3,4\n")
    assert list_folder(tmp_path).table["label"].tolist() == ["cat", "dog"]
    (tmp_path / "boxes.csv").write_text("uri,kind\ncat/0.png,dog\n")
    with pytest.raises(DataError, match=r"but boxes.csv name pictures"):
        list_folder(tmp_path)


def test_what_a_telephone_writes_behind_the_end_mark_is_no_missing_end():
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)).save(buffer, "JPEG")
    whole = buffer.getvalue()
    thumbnail = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole  # a small picture in the header
    with_thumbnail = whole[:2] + thumbnail + whole[2:]
    assert not lacks_end_mark(whole + b"SEFH" + bytes(200) + b"SEFT")
    assert not lacks_end_mark(with_thumbnail) and lacks_end_mark(with_thumbnail[:-2])
    assert not lacks_end_mark(with_thumbnail[:-400]), "a part of the picture is missing"
