"Marked boxes: drawn scenes whose marks are known, and files that cannot be read."

import json

import pytest

from cvkit.core import DataError
from cvkit.data.marks import SIZES, make_scenes, read_marks


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    "Twenty-four scenes with their marks, drawn once."
    folder = tmp_path_factory.mktemp("drawn")
    return folder, make_scenes(folder, repeats=1)


def test_scenes_are_the_same_again(drawn, tmp_path):
    folder, marks = drawn
    assert len(marks) == 24
    assert make_scenes(tmp_path, repeats=1) == marks
    for mark in marks:
        assert (folder / mark["uri"]).read_bytes() == (tmp_path / mark["uri"]).read_bytes()


def test_marks_are_read_as_they_were_made(drawn):
    folder, marks = drawn
    assert read_marks(folder / "marks.csv", [mark["uri"] for mark in marks]) == marks


def test_marks_lie_inside_the_picture(drawn):
    for mark in drawn[1]:
        assert 0 <= mark["x1"] < mark["x2"] <= 384
        assert 0 <= mark["y1"] < mark["y2"] <= 288


def test_a_level_face_is_as_high_as_its_size_says(drawn):
    level = [mark for mark in drawn[1] if mark["kind"] == "face" and mark["turned"] == "level"]
    assert {mark["size"] for mark in level} == set(SIZES["face"])
    for mark in level:
        assert mark["y2"] - mark["y1"] == pytest.approx(SIZES["face"][mark["size"]], abs=2)


@pytest.mark.parametrize(
    "coco",
    [
        {},
        {
            "images": [{"id": 1, "file_name": "face/000.png"}],
            "categories": [],
            "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        },
        [1],
    ],
)
def test_bad_coco_is_named(tmp_path, coco):
    (tmp_path / "marks.json").write_text(json.dumps(coco))
    with pytest.raises(DataError, match="expected COCO"):
        read_marks(tmp_path / "marks.json", ["face/000.png"])
