"The data room at its edges: odd files, odd folders, odd names, many hands, and what must never change."

import getpass
import os
import unicodedata
from dataclasses import replace
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cvkit.core import DataError
from cvkit.data.checks import Findings, check_manifest
from cvkit.data.ingest import ingest_folder, ingest_table
from cvkit.data.ledger import Ledger
from cvkit.data.manifest import COLUMNS, Dataset, Manifest
from cvkit.data.preprocess import Preprocess, decode_image
from cvkit.data.splits import Splits, make_splits

photo = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
gray = photo[..., 0]


def encode(picture, format="PNG", **options):
    out = BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(out, format, **options)
    return out.getvalue()


def image(i):
    return encode(np.random.default_rng(i).integers(0, 256, (6, 8, 3), np.uint8))


def folder(root, files):
    "Write files: path to bytes."
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def manifest_of(contents, labels, groups=None, uris=None):
    "A manifest without files."
    n = len(contents)
    table = pd.DataFrame(
        {c: [""] * n for c in COLUMNS}
        | {
            "content": [f"{c:064}" for c in contents],
            "label": list(labels),
            "group": list(groups or [""] * n),
            "uri": list(uris or map(str, range(n))),
        }
    )
    repeat = table.groupby("content").cumcount()
    table["image"] = [c[-16:] + (f"-{r}" if r else "") for c, r in zip(table["content"], repeat)]
    return Manifest(table, None, Dataset("test"))


@pytest.fixture
def plain(tmp_path):
    return folder(tmp_path / "plain", {f"{'ab'[i % 2]}/{i}.png": image(i) for i in range(8)})


# ---- files


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "16-bit PNG", "palette"])
def test_exif_orientation_is_applied_to_every_kind(turn, kind):
    exif = Image.Exif()
    exif[0x0112] = turn
    shown = {
        1: gray,
        2: gray[:, ::-1],
        3: gray[::-1, ::-1],
        4: gray[::-1],
        5: gray.T,
        6: np.rot90(gray, -1),
        7: np.rot90(gray, 2).T,
        8: np.rot90(gray),
    }[turn]
    stored = {"16-bit PNG": gray.astype(np.uint16) * 256, "palette": Image.fromarray(gray).convert("P")}.get(kind, gray)
    found = decode_image(encode(stored, "TIFF" if kind == "TIFF" else "PNG", exif=exif))
    assert found.shape[:2] == shown.shape
    assert (found[..., 0] == shown).all()


def test_sixteen_bits_are_scaled_alike_whatever_the_values():
    dark, light = np.uint16([[0, 255, 256]]), np.uint16([[0, 255, 65535]])
    assert decode_image(encode(dark))[0, :, 0].tolist() == [0, 0, 1]
    assert decode_image(encode(light))[0, :, 0].tolist() == [0, 0, 255]


@pytest.mark.filterwarnings("ignore:'mode' parameter")
def test_sixteen_bits_with_the_other_end_first():
    deep = (np.arange(240, dtype=np.uint16) * 257).reshape(12, 20)
    picture = Image.frombytes("I;16B", (20, 12), deep.astype(">u2").tobytes())
    assert (decode_image(encode(picture, "TIFF"))[..., 0] == deep >> 8).all()


def test_inks_of_a_jpeg_are_not_inverted():
    found = decode_image(encode(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(found.astype(int) - [255, 0, 0]).max() < 12, "no cyan, full magenta and yellow: red"


def test_half_transparent_pixels_lie_over_white():
    found = decode_image(encode(Image.fromarray(np.dstack([photo, gray]))))
    share = gray[..., None] / 255
    assert np.abs(found - (photo * share + 255 * (1 - share))).max() <= 1
    marked = encode(np.uint8([[[9, 9, 9], [1, 2, 3]]]), transparency=(9, 9, 9))
    assert decode_image(marked).tolist() == [[[255] * 3, [1, 2, 3]]], "one colour of RGB declared transparent"


def test_a_specification_keeps_its_digest():
    plain = Preprocess()
    changes = (
        dict(size=225),
        dict(resize="crop"),
        dict(interpolation="bilinear"),
        dict(crop_ratio=0.9),
        dict(mean=(0.5, 0.5, 0.4)),
        dict(std=(0.5, 0.4, 0.5)),
    )
    assert len({plain.digest, *(replace(plain, **change).digest for change in changes)}) == 7, "every field counts"
    assert plain.digest == "bcb968ca663bf89a660bb0a4b24c7386a957fe153e3bf7f8454ac8c5825eb95d", (
        "bundles that exist carry it"
    )


def test_bytes_arrays_and_views_give_the_same_pixels():
    spec = Preprocess(size=16)
    expected = spec.pixels(photo)
    assert (spec.pixels(encode(photo)) == expected).all()
    assert (spec.pixels(bytearray(encode(photo))) == expected).all()
    assert (spec.pixels(np.ascontiguousarray(photo[:, ::-1])[:, ::-1]) == expected).all(), (
        "a view with negative strides"
    )
    before = photo.copy()
    spec.tensor(expected[None]), spec.pixels(photo)
    assert (photo == before).all()
    assert spec.tensor(expected[None][:0]).shape == (0, 3, 16, 16)


# ---- folders


def test_images_and_class_folders_may_be_links(tmp_path, plain):
    digest = ingest_folder(plain).digest
    (tmp_path / "store").mkdir()
    for path in list((plain / "a").iterdir()):
        path.rename(tmp_path / "store" / path.name)
        path.symlink_to(tmp_path / "store" / path.name)
    (plain / "b").rename(tmp_path / "far")
    (plain / "b").symlink_to(tmp_path / "far")
    (tmp_path / "link").symlink_to(plain)
    for root in (plain, tmp_path / "link"):
        found = ingest_folder(root)
        assert found.digest == digest
        assert len(found.rejected) == 0


def test_a_link_in_a_circle_ends(plain):
    (plain / "a" / "again").symlink_to(plain / "a")
    assert len(ingest_folder(plain)) == 8


def test_a_class_folder_without_images_is_listed(plain):
    folder(plain, {"cracked/read me.txt": b"x", ".git/config": b""})
    found = ingest_folder(plain)
    assert found.rejected["uri"].tolist() == ["cracked"]
    assert "image" in found.rejected["reason"][0]
    assert found.classes == ("a", "b")


def test_a_label_is_the_same_text_on_every_machine(tmp_path):
    "macOS hands out decomposed umlauts, Linux what was typed."
    digests = {
        ingest_folder(
            folder(
                tmp_path / form,
                {
                    f"{unicodedata.normalize(form, c)}/{c} {i}.png": image(i)
                    for i, c in enumerate(["schön", "groß"] * 2)
                },
            )
        ).digest
        for form in ("NFC", "NFD")
    }
    assert len(digests) == 1


def test_an_absolute_path_in_a_table_is_refused(plain, tmp_path):
    secret = folder(tmp_path, {"secret.png": image(5)}) / "secret.png"
    table = pd.DataFrame({"uri": ["a/0.png", "b/1.png", str(secret), "a/../../secret.png"], "label": list("abaa")})
    found = ingest_table(table, plain, Dataset("t"))
    assert len(found) == 2
    assert set(found.rejected["uri"]) == {str(secret), "a/../../secret.png"}


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda path: path.unlink(), "no such file or directory"),
        (lambda path: path.write_bytes(image(77)), "ingest again"),
    ],
)
def test_an_image_that_went_or_changed_is_named(plain, change, words):
    found = ingest_folder(plain)
    change(found.path(2))
    with pytest.raises(DataError, match=words) as caught:
        found.read(2)
    assert found.table["uri"][2] in str(caught.value)


def test_an_earlier_manifest_stays_when_writing_fails(tmp_path, plain, monkeypatch):
    found = ingest_folder(plain)
    place = found.save(tmp_path / "out")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(DataError, match="no space left on device"):
        found.take([0, 1]).save(tmp_path / "out")
    assert Manifest.load(place).digest == found.digest
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["manifest"]


def test_missing_values_of_a_table_come_back_as_they_were(plain, tmp_path):
    uris = sorted(p.relative_to(plain).as_posix() for p in plain.rglob("*.png"))
    table = pd.DataFrame({
        "uri": uris,
        "label": [u[0] for u in uris],
        "attribute.roof": ["flat", None, np.nan, ""] * 2,
        "attribute.storeys": range(8),
    })
    found = ingest_table(table.sample(frac=1, random_state=0), plain, Dataset("t", owner="Größe"))
    again = Manifest.load(found.save(tmp_path / "out"))
    assert found.attributes["roof"].tolist() == ["flat", "", "", ""] * 2
    assert found.attributes["storeys"].tolist() == list("01234567")
    assert again.digest == found.digest
    assert again.to_dict() == found.to_dict()
    assert again.root == found.root
    pd.testing.assert_frame_equal(again.table, found.table, check_dtype=False)


def test_names_from_outside_are_escaped_on_the_page(tmp_path):
    found = ingest_folder(
        folder(tmp_path, {"<b onclick=x>/1.png": image(1), "<b onclick=x>/2.png": b"", "b/1.png": image(2)})
    )
    for page in (found._repr_html_(), check_manifest(found, 1)._repr_html_()):
        assert "<b onclick" not in page
        assert "&lt;b onclick=x&gt;" in page


def test_the_views_of_a_manifest(plain):
    found = ingest_folder(plain)
    assert tuple(found.table) == COLUMNS
    assert found.targets.dtype == np.int64
    assert found.targets.tolist() == [0] * 4 + [1] * 4
    assert (found.table["width"] == 8).all()
    assert (found.table["height"] == 6).all()
    assert found.table["uri"].tolist() == sorted(found.table["uri"])
    part = found.take([6, 0])
    assert part.labels.tolist() == ["b", "a"]
    assert part.read(0) == found.read(6)
    assert part.digest != found.digest
    assert found.take(np.arange(8) < 3).table["uri"].tolist() == found.table["uri"].tolist()[:3]


# ---- findings


def test_a_clean_data_set_has_no_findings():
    found = check_manifest(manifest_of(range(20), "ab" * 10))
    assert isinstance(found, Findings)
    assert found == []
    assert found.errors == []
    assert str(found) == "nothing found"
    assert "Nothing found" in found._repr_html_()


def test_what_passes_the_checks_can_be_split():
    "Neither finds what the other lets through: as many images, or groups, as folds leave none for the hold-out."
    for m in (
        manifest_of(range(15), "a" * 10 + "b" * 5),
        manifest_of(range(20), "ab" * 10, ["", "g"] * 10),
        manifest_of(range(16), "a" * 10 + "b" * 6),
    ):
        errors = check_manifest(m, 5).errors
        if not errors:
            assert len(make_splits(m).table) == len(m)
        else:
            assert [e.kind for e in errors] == ["unrepresentative"]
            assert "'b'" in errors[0].detail
            with pytest.raises(DataError):
                make_splits(m)


# ---- splits


def test_renamed_files_are_drawn_alike():
    contents, labels, groups = (
        [*range(40), 3, 5, 5],
        [*"ab" * 20, "b", "b", "b"],
        [f"{'ab'[i % 2]}{i // 3}" for i in range(43)],
    )
    first = manifest_of(contents, labels, groups)
    order = np.random.default_rng(3).permutation(43)
    other = manifest_of(*([values[i] for i in order] for values in (contents, labels, groups)))
    assert other.digest == first.digest
    a, b = make_splits(first, folds=3), make_splits(other, folds=3)

    def place(m, s):
        return {(c, g): f for c, g, f in zip(m.table["content"], m.groups, s.folds(m))}

    assert place(first, a) == place(other, b)
    assert a.digest == b.digest


def test_splits_come_back_as_they_were_saved(tmp_path):
    m = manifest_of(range(60), "abc" * 20)
    splits = make_splits(m, seed=4)
    again = Splits.load(splits.save(tmp_path / "Läufe" / "splits"))
    assert again.digest == splits.digest
    assert again.to_dict() == splits.to_dict()
    assert (again.folds(m) == splits.folds(m)).all()
    assert splits.to_dict()["holdout_images"] == 12
    assert splits.rows(m.take([5, 6, 7]), "holdout").tolist() == [i for i in range(3) if splits.folds(m)[5 + i] < 0]


def test_the_draw_stays_what_it_is():
    m = manifest_of(range(30), "ab" * 15)
    assert make_splits(m).digest[:12] == "45c46b6d7dc8", (
        "the same data and seed are the same splits tomorrow; a run that is resumed counts on it"
    )


# ---- ledger


def test_a_user_without_a_name_may_look(tmp_path, monkeypatch):
    "A container may run under a number that no user has."

    def nobody():
        raise KeyError("getpwuid(): uid not found: 100042")

    monkeypatch.setattr(getpass, "getuser", nobody)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.look("evaluate", "m", "s") == 1
    assert ledger.looks[0]["who"] == f"user {os.getuid()}"


def test_a_look_is_only_ever_appended(tmp_path):
    ledger, before = Ledger(tmp_path / "neu" / "ledger.jsonl"), b""
    for i, who in enumerate(["Ada", "Jörg <b>", "Lin"]):
        assert ledger.look("evaluate", f"{i:064}", "s", who=who) == i + 1
        now = ledger.path.read_bytes()
        assert now.startswith(before)
        assert now.count(b"\n") == i + 1
        before = now
    assert ledger.look("tune", f"{1:064}", "s") == 4, "another purpose is another look"
    assert ledger.look("evaluate", f"{1:064}", "other") == 1, "another hold-out has its own count"
    assert [look["who"] for look in ledger.looks][:3] == ["Ada", "Jörg <b>", "Lin"]
    assert "&lt;b&gt;" in ledger._repr_html_()


def test_a_line_that_is_no_look_is_noticed(tmp_path):
    path = tmp_path / "ledger.jsonl"
    for line in ("Dear Sir", "[]", "{}", '{"digest":"","before":""}'):
        path.write_text(line + "\n")
        with pytest.raises(DataError, match="expected line 1 of .*ledger.jsonl"):
            _ = Ledger(path).looks
