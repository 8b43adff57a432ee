"An image that is forgotten: searched for with other means than those that erased it, in a run as people make them."

import base64
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cvkit.commands import forget as module
from cvkit.commands.forget import find_expired, forget
from cvkit.core import DataError, cache_folder, digest_bytes, digest_file, read_json, write_json
from cvkit.data.manifest import Manifest
from cvkit.data.pixel_cache import Store, cached_pixels
from cvkit.data.preprocess import Preprocess
from cvkit.data.splits import Splits
from cvkit.erasure.lineage import read_erasures

root = Path(__file__).resolve().parents[1]
WHO = "crack/ann_smith 07.png"


def scene(seed, size=48):
    "A smooth picture that is like no other."
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )


def packed(picture, kind="PNG", **more):
    out = io.BytesIO()
    picture.save(out, kind, **more)
    return out.getvalue()


def make_data(folder, each=20, more=""):
    for k, c in enumerate(("crack", "whole")):
        (folder / c).mkdir(parents=True)
        for i in range(each):
            scene(100 * k + i).save(folder / c / (Path(WHO).name if (k, i) == (0, 7) else f"{i:02}.png"))
    (folder / "dataset.yaml").write_text("owner: Ada\nlicence: CC0-1.0\npii_status: none\n" + more)
    return folder


def settle(top, monkeypatch=None):
    values = {"CVKIT_CACHE": str(top / "cache"), "MLFLOW_TRACKING_URI": f"sqlite:///{top / 'mlflow.db'}"}
    for name, value in values.items():
        monkeypatch.setenv(name, value) if monkeypatch else os.environ.update({name: value})
    monkeypatch.chdir(top) if monkeypatch else os.chdir(top)


def log_requests(run):
    "What a server would have logged of all images, twice."
    from cvkit.serving.reference import project

    seen = project(np.load(run / "train/oof.npz")["embedding"], dict(np.load(run / "train/bundle/reference.npz")))
    (run / "serve").mkdir()
    (run / "serve/requests.jsonl").write_text(
        "".join(json.dumps({"projected": [float(f"{x:.5g}") for x in row]}) + "\n" for row in [*seen, *seen])
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of every verb that is quick, an executed notebook, a second manifest, a cache, and a registered model that
    used the image."""
    import cvkit
    from cvkit.pipeline.notebooks import run_notebook
    from cvkit.pipeline.run_records import add_to_record
    from cvkit.release.registry import register

    top, here, before, ready = tmp_path_factory.mktemp("made"), os.getcwd(), dict(os.environ), cache_folder("backbones")
    settle(top)
    try:
        (cache_folder() / "backbones").symlink_to(ready)  # exporting the backbone takes long
        data = make_data(top / "data")
        for path in (p for p in data.rglob("*") if p.is_file()):
            os.utime(path, (0, 0))
        cvkit.ingest(str(data), out="runs/small/ingest")
        cvkit.train("runs/small/ingest", size=32, folds=3)
        cvkit.evaluate("runs/small/train", "runs/small/ingest")
        cvkit.check("runs/small/ingest", trained="runs/small/train")
        cvkit.ingest(str(data), out="runs/again/ingest")
        book = nbformat.v4.new_notebook(
            cells=[
                nbformat.v4.new_code_cell(
                    "import numpy as np\nfrom PIL import Image\nfrom cvkit.core import show_images\nfrom "
                    "cvkit.data.manifest import Manifest\nmanifest = Manifest.load('runs/small/ingest')"
                ),
                nbformat.v4.new_code_cell(
                    "row = int(np.flatnonzero(manifest.table['uri'] == "
                    f"'{WHO}')[0])\nshow_images([manifest.picture(row)[4:40, 4:40]], ['cropped'])"
                ),
                nbformat.v4.new_code_cell("Image.fromarray(manifest.picture(row))"),
                nbformat.v4.new_code_cell("manifest"),
            ]
        )
        book.metadata.kernelspec = {"name": "python3", "display_name": "python3", "language": "python"}
        nbformat.write(book, top / "runs/small/look.ipynb")
        run_notebook(top / "runs/small/look.ipynb", top / "runs/small/train/train.ipynb", progress=False)
        log_requests(top / "runs/small")
        add_to_record("runs/small/train", ["runs/small/train/train.ipynb", "runs/small/serve/requests.jsonl"])
        register("runs/small/train/bundle", "small")
        for stage in ("ingest", "train"):
            write_json(f"runs/small/{stage}/done.json", {"key": "k", "seconds": 1.0})
    finally:
        os.chdir(here), os.environ.clear(), os.environ.update(before)
    return top


@pytest.fixture
def place(tmp_path, monkeypatch):
    "A small manifest and its pages, quickly made."
    from cvkit.commands.ingest import ingest

    settle(tmp_path, monkeypatch)
    monkeypatch.setenv("CVKIT_LOG_LATER", "1")  # without MLflow
    make_data(tmp_path / "data", 9)
    ingest(str(tmp_path / "data"), out="runs/small/ingest")
    return tmp_path


def embedded(data):
    "All pictures that a text carries, by their magic bytes in base64, wherever they stand."
    for found in re.finditer(rb"(?:iVBORw0KGgo|/9j/|UklGR|R0lGOD)(?:[A-Za-z0-9+/=]|\\n)+", data):
        body = found[0].replace(b"\\n", b"").rstrip(b"=")
        with suppress(OSError, ValueError):
            yield Image.open(io.BytesIO(base64.b64decode(body + b"=" * (-len(body) % 4)))).convert("L")


def alike(a, b):
    def small(p):
        return np.asarray(p.convert("L").resize((16, 16), Image.Resampling.LANCZOS), float).ravel()

    return np.corrcoef(small(a), small(b))[0, 1] > 0.9


def traces(top, picture, raw, words, rows=()):
    "What is left of an image below a folder: (file, what), found without cvkit."
    found = []
    for path in (
        p
        for p in sorted(top.rglob("*"))
        if p.is_file() and "erasures" not in str(p.relative_to(top)) and p.name not in ("erased.json", "forgotten.txt")
    ):
        data = path.read_bytes()
        if raw in data:
            found.append((path, "bytes"))
        found += [(path, "name") for word in words if word.encode() in data or word.encode("utf-32-le") in data]
        found += [(path, "row") for row in rows if row.tobytes() in data]
        if path.suffix in (".html", ".ipynb", ".json") and any(alike(p, picture) for p in embedded(data)):
            found.append((path, "picture"))
        if path.suffix == ".parquet":
            found += [(path, "row") for word in words if (pd.read_parquet(path).astype(str) == word).any().any()]
    return found


def test_nothing_of_it_is_left_and_everything_else_works(made, monkeypatch):
    import cvkit
    from cvkit.commands.ingest import load_manifest
    from cvkit.serving.predictor import Predictor
    from cvkit.tasks.base import read_out_of_fold

    settle(made, monkeypatch)
    raw, before, splits = (
        (made / "data" / WHO).read_bytes(),
        Manifest.load("runs/small/ingest"),
        Splits.load("runs/small/train/splits"),
    )
    content, picture, spec = (
        digest_bytes(raw),
        Image.open(io.BytesIO(raw)),
        Predictor("runs/small/train/bundle").preprocess,
    )
    row = before.table["uri"].tolist().index(WHO)
    oof = read_out_of_fold("runs/small/train", before)
    rows = [np.array(cached_pixels(before, spec)[row]), oof["embedding"][row], np.asarray(picture)]
    words = [content, content[:16], "ann_smith"]
    kinds = {what for _, what in traces(made, picture, raw, words, rows)}
    assert kinds == {"bytes", "name", "row", "picture"}, "the search finds what is there"
    files = {p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*") if p.is_file()}
    plan = forget(WHO, dry_run=True)
    assert {
        p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*") if p.is_file() and p.suffix != ".db"
    } == {k: v for k, v in files.items() if not k.endswith(".db")}, "a plan changes nothing"
    done = forget(WHO, reason="Letter about ann_smith 07.png", original=True)
    assert (
        done.verdict
        == ("erased", "Nothing of it was found in a search afterwards; 1 model that learned from it is marked.")
        if splits.folds(before)[row] >= 0
        else done.verdict[0] == "erased"
    )
    assert {p["where"] for p in plan.places} <= {p["where"] for p in done.places} | {WHO, f"data/{WHO}"}
    assert traces(made, picture, raw, words, rows) == []
    assert not [
        p
        for p in (made / "runs/erasures").rglob("*")
        if p.is_file() and (b"ann_smith" in p.read_bytes() or b"data:image" in p.read_bytes())
    ], "evidence holds no name and no picture"
    # what is left works, without decoding anything again
    manifest, _ = load_manifest("runs/small/ingest")
    left = Splits.load("runs/small/train/splits")
    assert (
        len(manifest) == len(before) - 1
        and left.folds(manifest).tolist() == np.delete(splits.folds(before), row).tolist()
        and left.manifest_digest == manifest.digest
    )
    assert np.array_equal(
        read_out_of_fold("runs/small/train", manifest)["probabilities"],
        np.delete(oof["probabilities"], row, 0),
        equal_nan=True,
    )
    monkeypatch.setattr(Preprocess, "pixels", None)
    assert len(cached_pixels(manifest, spec)[:]) == len(manifest)
    monkeypatch.undo(), settle(made, monkeypatch)
    # pages: plots stay, pictures went and the head says so; marks of the walk are gone
    page = (made / "runs/small/train/report.html").read_text()
    assert "picture removed, because an image was forgotten" in page and re.search(
        r"</h1><p class=.lead erased.>Pictures were removed on", page
    )
    assert (
        (made / "runs/small/evaluate/report.html").read_text().count("data:image")
        == 2
        < files["runs/small/evaluate/report.html"].decode().count("data:image")
    ), "both plots stay, the surest mistakes go"
    nbformat.validate(nbformat.read("runs/small/train/train.ipynb", 4))
    assert [len(log.read_text().splitlines()) for log in made.rglob("requests.jsonl")] == [2 * len(manifest)] * 2, (
        "in the run and in MLflow"
    )
    assert not list(made.glob("runs/small/*/done.json"))
    # the model is marked, in its folder and in the registry
    marks, bundle = read_json("runs/small/train/erased.json"), digest_file("runs/small/train/bundle/MANIFEST.sha256")
    assert [(m["image"], m["content"], m["bundle"]) for m in marks] == [(content[:16], content, bundle)] and marks[0][
        "role"
    ] == ("learned" if splits.folds(before)[row] >= 0 else "held out")
    from cvkit.release.tracking import mlflow_module

    version = mlflow_module().MlflowClient().get_model_version("small", "1")
    assert version.tags["cvkit.erased"] == "1" and version.tags["cvkit.erased_at"] == done.when
    # it does not come back, and who asks again is told
    assert forget(content).verdict == (
        "erased",
        f"It was forgotten on {done.when[:10]}; nothing of it was found since.",
    )
    assert [e["contents"] for e in read_erasures("runs")] == [[content]]
    (made / "data/whole/back.png").write_bytes(raw)
    again = cvkit.ingest(str(made / "data"), out="runs/small/ingest")
    assert again.digest == manifest.digest and again.rejected.values.tolist() == [
        ["whole/back.png", f"forgotten on {done.when[:10]}; delete the file"]
    ]
    (made / "data/whole/back.png").unlink()
    # a training without it: the same hold-out, counted looks, and no mark
    trained = cvkit.train("runs/small/ingest", size=32, folds=3)
    assert trained.bundle.digest not in {m["bundle"] for m in read_json("runs/small/train/erased.json")}
    assert Splits.load("runs/small/train/splits").holdout_digest == left.holdout_digest
    assert cvkit.evaluate("runs/small/train", "runs/small/ingest").looks == 2
    assert traces(made, picture, raw, words, rows) == []


def test_other_pictures_of_the_same_name_and_other_runs_keep_theirs(place):
    from cvkit.commands.ingest import ingest
    from cvkit.core import png_uri

    other = make_data(place / "other", 9)
    for i, path in enumerate(sorted(other.rglob("*.png"))):
        scene(900 + i).save(path)
    ingest(str(other), out="runs/other/ingest")
    (place / "runs/notes").mkdir()
    tiny = packed(scene(7).resize((30, 30)).convert("L"), "JPEG", quality=70)
    (place / "runs/notes/a.html").write_text(
        f'<h1>Notes</h1><img src="{png_uri(scene(500))}"><div '
        f'style="background:url(data:image/jpeg;base64,{base64.b64encode(tiny).decode()})"></div>'
    )
    kept = {p: p.read_bytes() for p in (place / "runs/other").rglob("*") if p.is_file()}
    done = forget(str(place / "data" / WHO), original=True)
    assert done.verdict[0] == "erased" and {p: p.read_bytes() for p in kept} == kept
    notes = (place / "runs/notes/a.html").read_text()
    assert (
        notes.count("data:image") == 1
        and png_uri(scene(500)) in notes
        and "url(data:,erased)" in notes
        and "Pictures were removed" in notes
    )


def test_every_kind_of_file_in_a_run(place):
    raw, content = (place / "data" / WHO).read_bytes(), digest_file(place / "data" / WHO)
    run, uri = place / "runs/small/ingest", "data:image/png;base64," + base64.b64encode(raw).decode()
    attached = nbformat.v4.new_markdown_cell(
        "![x](attachment:x.png)", attachments={"x.png": {"image/png": uri.split(",")[1]}}
    )
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[
                attached,
                nbformat.v4.new_code_cell(
                    "1",
                    outputs=[
                        nbformat.v4.new_output("display_data", {"image/svg+xml": f'<svg><image href="{uri}"/></svg>'}),
                        nbformat.v4.new_output("stream", text=f"read {WHO}\n"),
                    ],
                ),
            ]
        ),
        run / "a.ipynb",
    )
    write_json(
        run / "a.json",
        {
            WHO: 3,
            "rows": [{"image": content[:16], "score": 1}, {"image": "other", "score": 2}],
            "html": f'<img src="{uri}">',
            "near": ["x.png", WHO],
        },
    )
    (run / "page.html").write_text(
        json.dumps({"script": f'<img src="{uri}">'})
        + f"<a href='crack/ann_smith%2007.png'>joann_smith 07.png</a><svg><image xlink:href='{uri}'/></svg>"
    )
    (run / "requests.jsonl").write_text(f'{{"file": "{WHO}"}}\n{{"file": "b.png"}}\n')
    pd.DataFrame({"uri": [WHO, "b.png"], "note": ["", f"see {WHO}"]}).to_csv(run / "a.csv", index=False)
    pd.DataFrame({"image": [content[:16], "b"], "note": ["", f"see {WHO}"]}).to_parquet(run / "a.parquet")
    pd.DataFrame({"file": [raw, b"other"]}).to_parquet(run / "files.parquet")
    with zipfile.ZipFile(run / "source.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/y.png", raw)
    scene(7).resize((90, 90)).save(run / "enlarged.jpg")
    done = forget(content, original=True)
    assert done.verdict[0] == "erased", done
    assert traces(place, scene(7), raw, [content, content[:16], 'ann_smith 07.png"', WHO]) == []
    assert not (run / "source.zip").exists() and not (run / "enlarged.jpg").exists()
    assert read_json(run / "a.json") == {
        "forgotten": 3,
        "rows": [{"image": "other", "score": 2}],
        "html": '<em class="erased">[picture removed, because an image was forgotten]</em>',
        "near": ["x.png", "forgotten"],
    }
    assert (run / "requests.jsonl").read_text() == '{"file": "b.png"}\n'
    assert pd.read_csv(run / "a.csv").values.tolist() == [] and pd.read_parquet(run / "a.parquet").values.tolist() == [
        ["b", "see forgotten"]
    ]
    assert pd.read_parquet(run / "files.parquet")["file"].tolist() == [b"other"]
    book, page = nbformat.read(run / "a.ipynb", 4), (run / "page.html").read_text()
    assert (
        "attachments" not in book.cells[1]
        and "read forgotten" in str(book.cells[2].outputs)
        and "joann_smith 07.png" in page
        and "data:image" not in page
        and "href='forgotten'" in page
    )


def test_caches_whatever_they_are_called(place):
    content = digest_file(place / "data" / WHO)
    raw, others = (place / "data" / WHO).read_bytes(), ["b" * 64, "c" * 64]
    store = Store(cache_folder("new", "inside"), (2,), np.float32)
    store.add([others[0], content, others[1]], [[1, 2], [3, 4], [5, 6]])
    (cache_folder("downloads") / "all.bin").write_bytes(b"head" + raw)
    (cache_folder("detections", "x") / f"{content}.json").write_text("{}")
    (cache_folder("detections", "x") / f"{others[0]}.json").write_text("{}")
    write_json(cache_folder("near") / "a.json", [])
    write_json(cache_folder("lists") / "b.json", [{"content": content}, {"content": others[0]}])
    np.save(cache_folder("pixels", "y") / "orphan.npy", np.zeros(3))
    forget(content)
    assert np.array(store.rows(others)).tolist() == [[1, 2], [5, 6]] and len(store.missing([content])) == 1
    left = {
        p.relative_to(cache_folder()).as_posix()
        for p in cache_folder().rglob("*")
        if p.is_file() and p.suffix not in (".npy", ".txt", ".parquet")
    }
    assert left == {f"detections/x/{others[0]}.json", "lists/b.json"} and read_json(
        cache_folder("lists") / "b.json"
    ) == [{"content": others[0]}]
    assert not (cache_folder("pixels", "y") / "orphan.npy").exists()
    assert (
        content in (cache_folder("forgotten") / "forgotten.txt").read_text()
        and content in (place / "data/forgotten.txt").read_text()
    )


def test_a_redacted_copy_goes_with_its_source(place):
    from cvkit.data.ingest import ingest_folder

    hidden = make_data(place / "runs/redacted/images", 9)
    Image.fromarray(np.where(np.arange(48)[:, None, None] < 20, 0, np.asarray(scene(7))).astype(np.uint8)).save(
        hidden / WHO
    )
    ingest_folder(hidden).save(place / "runs/redacted")
    copy, source = digest_file(hidden / WHO), digest_file(place / "data" / WHO)
    write_json(
        place / "runs/redacted/redactions.json",
        {
            "about": {},
            "files": [
                {"uri": WHO, "source": source, "content": copy, "found": []},
                {"uri": "crack/01.png", "source": "d" * 64, "content": "e" * 64},
            ],
        },
    )
    done = forget(str(place / "data" / WHO))
    assert done.contents == sorted([copy, source]) and not (hidden / WHO).exists() and (place / "data" / WHO).exists()
    assert [p["where"] for p in done.left] == [f"data/{WHO}"] and done.verdict[0] == "erased but for 1 place"
    assert len(Manifest.load("runs/redacted")) == len(Manifest.load("runs/small/ingest")) == 17
    assert [f["uri"] for f in read_json("runs/redacted/redactions.json")["files"]] == ["crack/01.png"]


def test_who_is_interrupted_can_begin_again(place, monkeypatch):
    raw, content = (place / "data" / WHO).read_bytes(), digest_file(place / "data" / WHO)

    def stop(*rest):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "rewrite_tables", stop)
        forget(content, original=True)
    assert len(Manifest.load("runs/small/ingest")) == 18 and read_erasures("runs") == []
    assert forget(content, original=True).verdict[0] == "erased"
    assert traces(place, scene(7), raw, [content, content[:16], "ann_smith"]) == []


def test_what_a_chained_log_says_is_told_and_not_changed(place):
    from cvkit.data.ledger import Ledger

    ledger = Ledger(place / "runs/small/train/ledger.jsonl")
    ledger.look(f"look at {WHO}", "b" * 64, "c" * 64, "Ada")
    before = ledger.path.read_bytes()
    done = forget(WHO, original=True)
    assert ledger.path.read_bytes() == before and [(p["where"], p["done"]) for p in done.left] == [
        ("runs/small/train/ledger.jsonl", "its name is still there")
    ]


def test_artifacts_elsewhere_are_named(place):
    from cvkit.release.tracking import mlflow_module, prepare_store

    prepare_store()
    mlflow = mlflow_module()
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("far", artifact_location="s3://bucket/far"))
    client.log_param(run.info.run_id, "manifest", Manifest.load("runs/small/ingest").digest[:12])
    client.set_tag(run.info.run_id, "note", f"because of {WHO}")
    done = forget(WHO, original=True)
    assert [p["where"] for p in done.left] == [
        run.info.artifact_uri
    ] and "delete the run's artifacts there" in done.left[0]["left"]
    assert client.get_run(run.info.run_id).data.tags["note"] == "because of forgotten"
    assert b"ann_smith" not in (place / "mlflow.db").read_bytes(), "nor in pages that SQLite no longer uses"


def test_a_manifest_that_somebody_logged_is_rewritten_too(place):
    from cvkit.release.tracking import tracked_run

    raw = (place / "data" / WHO).read_bytes()
    with tracked_run("keep") as run:
        run.file("runs/small/ingest", "ingest")
    assert forget(WHO, original=True).ok
    kept = Manifest.load(next((place / "mlruns").rglob("manifest.json")).parent)
    assert kept.digest == Manifest.load("runs/small/ingest").digest and len(kept) == 17
    assert traces(place, scene(7), raw, [digest_bytes(raw), digest_bytes(raw)[:16], "ann_smith"]) == []


def test_images_that_may_show_the_same_are_told(place):
    from cvkit.data.ingest import ingest_folder
    from cvkit.data.scan import scan_images

    scene(7).resize((40, 40)).save(place / "data/crack/small.png")
    manifest = ingest_folder(place / "data")
    manifest.save("runs/small/ingest")
    scan_images(manifest)
    done = forget(WHO)
    near = manifest.table["image"][manifest.table["uri"] == "crack/small.png"].tolist()
    assert (
        done.alike == near
        and near[0] in str(done)
        and "was not touched" in str(done)
        and len(Manifest.load("runs/small/ingest")) == 18
    )


def test_boxes_and_labels_stay_whole(place):
    from cvkit.data.ingest import ingest_table
    from cvkit.data.manifest import Dataset

    uris = sorted(p.relative_to(place / "data").as_posix() for p in (place / "data").rglob("*.png"))
    for name, values in {
        "boxes": [[{"label": "a", "x1": i, "y1": 1, "x2": 9, "y2": 9}] for i in range(len(uris))],
        "labels": [["a", "b"][: 1 + i % 2] for i in range(len(uris))],
    }.items():
        made = ingest_table(pd.DataFrame({"uri": uris, name: values}), place / "data", Dataset(name))
        made.save(place / "runs" / name)
    forget(WHO)
    for name in ("boxes", "labels"):
        kept = Manifest.load(place / "runs" / name)
        assert (
            len(kept) == len(uris) - 1
            and WHO not in set(kept.table["uri"])
            and kept.task == {"boxes": "detection", "labels": "multilabel"}[name]
        )


def test_mistakes(place, capsys):
    from cvkit.pipeline.graph import claim_folder

    with pytest.raises(
        DataError,
        match=r"nothing of nobody.png was found in 1 manifests .* below .*runs, in the cache .*cache, or in MLflow",
    ):
        forget("nobody.png")
    with pytest.raises(DataError, match="absent is no folder"):
        forget(WHO, runs="absent")
    write_json("runs/small/pipeline.json", {"data": "data"})
    with claim_folder("runs/small", "data"), pytest.raises(DataError, match="a pipeline is running in it"):
        forget(WHO)
    assert len(Manifest.load("runs/small/ingest")) == 18 and not (place / "data/forgotten.txt").exists()


def test_retention_ends_for_one_data_set_and_not_for_another(place):
    from cvkit.commands.ingest import ingest

    old = make_data(place / "old", 9, "retention_until: 2026-01-31\n")
    for i, path in enumerate(sorted((old / "whole").iterdir())):
        scene(700 + i).save(path)
    ingest(str(old), out="runs/old/ingest")
    assert find_expired("runs", "2026-01-30") == [] and [
        (d["dataset"], d["images"]) for d in find_expired("runs", "2026-01-31")
    ] == [("old", 18)]
    due = forget(expired=True)
    assert "old: 18 images were to be gone on 2026-01-31" in str(due) and "cvkit forget --expired --yes" in str(due)
    done = forget(expired=True, yes=True)
    assert len(done.contents) == 9, "nine pictures stand in the other data set too, which may keep them"
    assert len(Manifest.load("runs/old/ingest")) == 9 and len(Manifest.load("runs/small/ingest")) == 18
    assert len(done.left) == 9 and not done.ok and done.reason == "retention of old has ended"
    with pytest.raises(DataError, match="all also stand in a data set that may keep them"):
        forget(expired=True, yes=True)


@pytest.mark.slow  # a whole walk with its server
def test_a_walk_forgets(tmp_path, monkeypatch):
    settle(tmp_path, monkeypatch)
    walk = [Path(sys.executable).with_name("cvkit"), "demo", "--data", "surfaces", "--out", "runs/demo"]
    subprocess.run(walk, check=True, timeout=900)
    manifest, held = Manifest.load("runs/demo/ingest"), np.load("runs/demo/evaluate/holdout.npz")["images"]
    row = manifest.table["image"].tolist().index(held[0])
    raw, (content, uri) = manifest.read(row), manifest.table[["content", "uri"]].iloc[row]
    logs = [Path("runs/demo/serve/requests.jsonl"), next(Path("mlruns").rglob("requests.jsonl"))]
    logged = [len(log.read_text().splitlines()) for log in logs]
    done = forget(content)
    assert done.verdict[0] == "erased", done
    assert (
        not (manifest.root / uri).exists()
        and traces(tmp_path, Image.open(io.BytesIO(raw)), raw, [content, content[:16], Path(uri).name]) == []
    )
    assert [before - len(log.read_text().splitlines()) for before, log in zip(logged, logs)] == [2, 2], (
        "asked over both protocols"
    )
    subprocess.run(walk, check=True, timeout=900)  # which cuts its photographs up again
    again = Manifest.load("runs/demo/ingest")
    assert content not in set(again.table["content"]) and again.rejected.values.tolist() == [
        [uri, f"forgotten on {done.when[:10]}; delete the file"]
    ]
    assert not any(
        m["bundle"] == digest_file("runs/demo/train/bundle/MANIFEST.sha256")
        for m in read_json("runs/demo/train/erased.json")
    )
