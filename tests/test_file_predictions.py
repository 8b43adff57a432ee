"Files and folders as people send them: each picture has its line, each bad file its reason."

import json
import os
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cvkit.commands.cli import main
from cvkit.core import DataError
from cvkit.serving.example_bundles import coin_bundle, colour_bundle
from cvkit.serving.file_predictions import FilePredictions, list_image_files, predict_files
from cvkit.serving.predictor import Predictor

ODD_NAMES = ("-1.png", "line\nbreak.png", "a,b 'c'.png", "\u732b.png")


def noise(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Ten pictures, four files that are none or damaged, and a bundle."
    top = tmp_path_factory.mktemp("predict")
    new = top / "new"
    new.mkdir()
    for i in range(3):
        noise(i).save(new / f"{i}.png")
    for i, name in enumerate(ODD_NAMES):
        noise(10 + i).save(new / name)
    turned = Image.Exif()
    turned[0x0112] = 6
    noise(20).save(new / "turned.jpg", exif=turned)
    noise(21).save(new / "WRONG.PNG", "JPEG")
    noise(22).save(new / "stereo.jpg", "MPO", save_all=True, append_images=[noise(23)])
    (new / "cut off.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(40))
    (new / "empty.png").write_bytes(b"")
    (new / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (new / ".hidden").write_bytes(b"")
    colour_bundle(
        top / "bundle",
        [[4, -4], [0, 0], [-4, 4]],
        task="classification",
        classes=["reddish", "bluish"],
        temperature=2.0,
    )
    return top


@pytest.fixture(scope="module")
def predictor(folder):
    return Predictor(folder / "bundle", threads=1)


def test_a_mixed_folder_gives_a_line_a_picture_and_a_reason_a_bad_file(folder, predictor):
    found = predict_files(predictor, [folder / "new"], batch=4)
    assert len(found) == 10 and not found.ok
    assert {name.rpartition("/")[2] for name in found.rejected} == {"cut off.jpg", "empty.png"}
    assert [name.rpartition("/")[2] for name in found.others] == ["Thumbs.db"]
    assert len(str(found).splitlines()) == 10 + 2 + 1


def test_each_file_gets_what_it_gets_alone(folder, predictor):
    found = predict_files(predictor, [folder / "new"], batch=3)
    for name, record in found.predictions.items():
        assert record == predictor.predict(name).to_dict()["predictions"][0], name


def test_a_file_that_is_named_is_judged_whatever_its_ending(folder, predictor):
    found = predict_files(predictor, [folder / "new/Thumbs.db", folder / "new/0.png", folder / "new/0.png"])
    assert (len(found), list(found.rejected), found.others) == (1, [str(folder / "new/Thumbs.db")], ())
    assert "expected an image" in found.rejected[str(folder / "new/Thumbs.db")]


@pytest.mark.parametrize("path", ["absent.png", "nul\0byte.png"])
def test_a_path_that_leads_nowhere_is_rejected_with_the_others_predicted(folder, predictor, path):
    found = predict_files(predictor, [path, folder / "new/0.png"])
    assert len(found) == 1 and "cannot be read" in found.rejected[path]


def test_a_name_that_is_no_utf8_is_printed_and_written(folder, predictor, tmp_path):
    name = tmp_path / "na\udcefve.png"
    noise(1).save(tmp_path / "plain.png")
    os.rename(tmp_path / "plain.png", bytes(str(tmp_path), "utf-8") + b"/na\xefve.png")
    found = predict_files(predictor, [tmp_path])
    assert str(found).encode("utf-8").count(b"\\udcef") == 1 and str(name) in found.predictions
    assert "na\\udcefve.png" in found.write(tmp_path / "table.csv").read_text("utf-8")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_table_holds_every_file_once(folder, predictor, tmp_path, suffix):
    found = predict_files(predictor, [folder / "new"])
    path = found.write(tmp_path / f"table.{suffix}")
    table = pd.read_csv(StringIO(path.read_text()), keep_default_na=False) if suffix == "csv" else pd.read_parquet(path)
    assert list(table.columns) == ["image", "label", "p.reddish", "p.bluish", "error"]
    assert len(table) == 12 and table["image"].is_unique and (table["error"] != "").sum() == 2


def test_a_detector_has_a_row_a_box_and_one_where_there_is_none(tmp_path):
    from skimage import data

    Image.fromarray(data.coins()).save(tmp_path / "coins.png")
    Image.new("RGB", (200, 100), "gray").save(tmp_path / "wall.png")
    found = predict_files(Predictor(coin_bundle(tmp_path / "bundle")), [tmp_path / "coins.png", tmp_path / "wall.png"])
    rows = found.to_rows()
    boxes = found[tmp_path / "coins.png"]["boxes"]
    assert len(boxes) > 5 and len(rows) == len(boxes) + 1
    assert [rows[0][name] for name in ("x1", "y1", "x2", "y2")] == boxes[0]["box"]
    assert rows[-1] == {"image": str(tmp_path / "wall.png"), "error": ""}
    assert str(found).endswith("no box")


def test_the_command_exits_with_one_where_a_file_was_not_used(folder, tmp_path, capsys):
    out = tmp_path / "found.json"
    code = main(["predict", str(folder / "bundle"), str(folder / "new"), "--all-classes", "--out", str(out)])
    shown = capsys.readouterr().out
    record = json.loads(out.read_text())
    assert code == 1 and shown.count("reddish") == shown.count("bluish") == 10
    assert [len(record[key]) for key in ("predictions", "rejected", "others")] == [10, 2, 1]
    assert main(["predict", str(folder / "bundle"), str(folder / "new/0.png")]) == 0


def test_an_ending_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, capsys):
    assert main(["predict", str(tmp_path / "absent"), "x.png", "--out", "table.xlsx"]) == 1
    assert "expected a file ending in .csv, .json, .parquet, got table.xlsx" in capsys.readouterr().err


def test_a_folder_without_images_and_no_files_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="expected images in .*, found none among 1 file; check the folder"):
        list_image_files([tmp_path])
    with pytest.raises(DataError, match="expected at least one file or folder to predict, got none"):
        predict_files(None, [])


def test_several_labels_are_one_cell():
    record = {"labels": ["scab", "rust"], "probabilities": {"scab": 0.9, "rust": 0.8, "frog": 0.1}}
    (row,) = FilePredictions("0" * 64, {"a.png": record}, {}).to_rows()
    assert row["labels"] == "scab; rust" and row["p.frog"] == 0.1


def test_labels_stand_in_the_order_of_the_files(folder, predictor):
    paths = [str(folder / f"new/{i}.png") for i in (2, 0, 1)]
    assert predict_files(predictor, paths).labels == predictor.predict(paths).labels
