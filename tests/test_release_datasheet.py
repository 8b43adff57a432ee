"""The sheet of a data set: three forms that say the same, that others can read, and that a name from a file cannot
leave."""

import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image

from cvkit.commands.datasheet import check_croissant, datasheet, find_records
from cvkit.core import DataError, digest_file, read_json, write_json
from cvkit.data.examples import load_elpv, load_surfaces
from cvkit.data.ingest import ingest_table
from cvkit.data.manifest import Dataset
from cvkit.release.croissant import CONTEXT
from cvkit.release.dataset_card import data_evidence, make_datasheet
from cvkit.release.policy import Policy

logging.getLogger("absl").setLevel(logging.ERROR)
declared = Dataset(
    "tiles",
    owner="us",
    licence="CC-BY-4.0",
    source="https://example.org/tiles",
    intended_use="Find cracks.",
    pii_basis="no people",
    pii_status="none",
    citation="Us 2024",
)


@pytest.fixture
def later(monkeypatch):
    monkeypatch.setenv("CVKIT_LOG_LATER", "1")


def tiles(folder, about=declared, n=6, **columns):
    "A manifest of small pictures of noise, of two classes unless columns say more."
    random = np.random.default_rng(0)
    for i in range(n):
        Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).save(folder / f"{i}.png")
    shows = {} if {"label", "labels", "boxes"} & columns.keys() else {"label": ["cracked", "whole"] * (n // 2)}
    return ingest_table(pd.DataFrame({"uri": [f"{i}.png" for i in range(n)], **shows, **columns}), folder, about)


def box(label, *xyxy, ignore=False):
    return dict(zip(("x1", "y1", "x2", "y2"), map(float, xyxy)), label=label, ignore=ignore)


def records(sheet, folder, name):
    "What mlcroissant loads of a saved sheet; text as text."
    import mlcroissant as mlc

    sheet.save(folder)

    def words(v):
        return v.decode() if isinstance(v, bytes) else [words(x) for x in v] if isinstance(v, (list, np.ndarray)) else v

    return [
        {k.split("/", 1)[1]: words(v) for k, v in row.items()}
        for row in mlc.Dataset(str(folder / "croissant.json")).records(name)
    ]


class Page(HTMLParser):
    "Tags, attributes, headings and visible words of a page."

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.headings, self.words, self.inside, self.pictures = set(), set(), [], [], [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {a for a, _ in attrs}
        self.pictures += tag == "img"
        if tag not in ("meta", "br", "img"):
            self.inside.append(tag)
        if tag in ("h1", "h2"):
            self.headings.append("")

    def handle_endtag(self, tag):
        self.inside.pop()

    def handle_data(self, data):
        if "style" in self.inside or "head" in self.inside:
            return
        self.words.append(data)
        if self.inside and self.inside[-1] in ("h1", "h2"):
            self.headings[-1] += data


# ---- the two sets that the issue names


def test_elpv_is_valid_croissant_and_says_why_production_is_blocked(tmp_path, later):
    manifest = load_elpv().manifest
    sheet = datasheet(manifest, out=tmp_path / "sheet")
    assert (
        sheet.sentence
        == "It may be used for research. Not for commercial production: CC-BY-NC-SA-4.0 does not allow commercial use."
    )
    assert [v.verdict for v in sheet.verdicts.values()] == ["pass", "fail"] and [
        r["rule"] for r in sheet.verdicts["production"].reasons
    ] == ["licence"]
    assert read_json(tmp_path / "sheet/run.json")["params"]["croissant"].startswith("valid by mlcroissant 1.1")
    found = records(sheet, tmp_path / "again", "images")
    assert (
        len(found) == 2624
        and {r["content"] for r in found} == set(manifest.table["content"])
        and sorted({(r["label"], r["attribute_cell_type_12"]) for r in found})
        == [(a, b) for a in ("defective", "functional") for b in ("mono", "poly")]
    )
    about = json.loads((tmp_path / "sheet/croissant.json").read_text())
    assert about["license"] == ["https://spdx.org/licenses/CC-BY-NC-SA-4.0.html"] and "datePublished" not in about
    assert yaml.safe_load((tmp_path / "sheet/README.md").read_text().split("---\n")[1])["license"] == "cc-by-nc-sa-4.0"


def test_surfaces_pass(tmp_path):
    sheet = make_datasheet(load_surfaces(tmp_path / "s").manifest)
    assert sheet.sentence == "It may be used for research and for commercial production." and [
        v.verdict for v in sheet.verdicts.values()
    ] == ["pass", "pass"]
    assert sheet.metadata["license"] == ["https://spdx.org/licenses/CC0-1.0.html"] and "768" in sheet.html


# ---- may it be used?


@pytest.mark.parametrize(
    "change, sentence",
    [
        (dict(licence=""), "Not for research: .*no licence .*Not for commercial production"),
        (dict(licence="found it"), "'found it' is not in the table"),
        (dict(licence="LicenseRef-Pexels"), "Not for research: LicenseRef-Pexels does not allow research use"),
        (
            dict(pii_status=""),
            (
                "It may be used for research. Not for commercial production: of 6 images 6 unchecked; there may be "
                "personal data, and not declared: lawful_basis, contact; there may be personal data, and not "
                "declared: retention_until.$"
            ),
        ),
        (dict(owner=""), "not declared: owner"),
        (
            dict(pii_status="redacted", lawful_basis="public task", contact="a@b.org", retention_until="2999-01-01"),
            "^It may be used for research and for commercial production.$",
        ),
        (
            dict(retention_until="2026-01-01"),
            "Not for commercial production: the images had to be gone by 2026-01-01, 31 days ago",
        ),
    ],
)
def test_why_not(tmp_path, change, sentence):
    sheet = make_datasheet(tiles(tmp_path, replace(declared, **change)), today="2026-02-01")
    assert re.search(sentence, sheet.sentence)
    for form in (" ".join(Page(sheet.html).words), sheet.metadata["rai:dataUseCases"][1], json.dumps(sheet.to_dict())):
        assert sheet.sentence in form.replace('\\"', '"')


def test_one_row_with_another_licence_blocks_the_whole(tmp_path):
    sheet = make_datasheet(tiles(tmp_path, licence=["CC-BY-4.0"] * 5 + ["CC-BY-NC-4.0"]))
    assert "CC-BY-NC-4.0 (1 image) does not allow commercial use" in sheet.sentence
    assert (
        sheet.metadata["license"]
        == ["https://spdx.org/licenses/CC-BY-4.0.html", "https://spdx.org/licenses/CC-BY-NC-4.0.html"]
        and sheet.front["license"] == "other"
    )
    assert "all of them" in sheet.markdown and "the strictest counts" in sheet.html


def test_the_rules_are_those_of_the_policy(tmp_path):
    policy = Policy.load()
    free = replace(
        policy,
        stages={
            **policy.stages,
            "production": [dict(rule="own", kind="licence", role="Legal", why="", use="research")],
        },
    )
    manifest = tiles(tmp_path, replace(declared, licence="CC-BY-NC-4.0"))
    assert (
        make_datasheet(manifest, policy=free).verdicts["production"].verdict == "pass"
        and make_datasheet(manifest).verdicts["production"].verdict == "fail"
    )
    none = replace(policy, stages={stage: [] for stage in policy.stages})
    assert (
        "Not decided for commercial production: the policy has no rule on data."
        in make_datasheet(manifest, policy=none).sentence
    )
    assert data_evidence(manifest)["licences"] == {"CC-BY-NC-4.0": 6} and data_evidence(manifest)["pii"] == {"none": 6}


# ---- Croissant


def test_the_context_is_that_of_mlcroissant():
    from mlcroissant._src.core.context import Context
    from mlcroissant._src.core.rdf import make_context

    assert make_context(Context(conforms_to="http://mlcommons.org/croissant/1.1")) == CONTEXT


def test_values_arrive_as_they_are(tmp_path):
    "Text that a CSV would lose, and names of columns that are no identifiers."
    labels = ["NA", "007", "null", "é ü", 'a,"b"\n', "1e5"]
    manifest = tiles(
        tmp_path,
        label=labels,
        group=["001", "", "nan", "True", "0", "x"],
        **{"attribute.of the <day>": list("abcdef"), "attribute.of_the__day_": list("ghijkl")},
    )
    found = records(make_datasheet(manifest), tmp_path / "out", "images")
    order = {r["uri"]: r for r in found}
    assert [order[f"{i}.png"]["label"] for i in range(6)] == labels and [
        order[f"{i}.png"]["group"] or "" for i in range(6)
    ] == ["001", "", "nan", "True", "0", "x"]
    days = [k for k in order["0.png"] if k.startswith("attribute")]
    assert len(days) == 2 and {order["3.png"][k] for k in days} == {"d", "j"} and order["0.png"]["width"] == 32


def test_boxes_refer_to_their_images(tmp_path):
    boxes = [
        [box("crack", 1, 2, 10, 20.25), box("hole", 0, 0, 5, 5, ignore=True)],
        [],
        *[[box("crack", i, i, 20, 20)] for i in range(4)],
    ]
    manifest = tiles(tmp_path, boxes=boxes)
    sheet = make_datasheet(manifest)
    images, found = records(sheet, tmp_path / "out", "images"), records(sheet, tmp_path / "out", "boxes")
    assert len(images) == 6 and len(found) == 6 and {r["image"] for r in found} < {r["image"] for r in images}
    key = {r["uri"]: r["image"] for r in images}
    assert [
        (r["label"], r["box"], r["ignore"])
        for r in sorted(found, key=lambda r: r["label"])
        if r["image"] == key["0.png"]
    ] == [("crack", [1, 2, 10, 20.25], False), ("hole", [0, 0, 5, 5], True)]
    assert (
        sheet.front["task_categories"] == ["object-detection"]
        and [c["config_name"] for c in sheet.front["configs"]] == ["images", "boxes"]
        and "label" not in images[0]
    )
    assert (
        "boxes" in sheet.html
        and next(f for f in sheet.metadata["recordSet"][1]["field"] if f["name"] == "box")["dataType"]
        == "cr:BoundingBox"
    )


def test_boxes_are_drawn_where_they_are(tmp_path):
    manifest = tiles(tmp_path, boxes=[[box("crack", 4, 4, 20, 16)], *[[box("hole", 1, 1, 3, 3)]] * 5])
    picture = next(image for image, caption in make_datasheet(manifest).shown if caption == "crack")
    assert (
        picture.shape == (24, 32, 3)
        and (picture[4, 4:20] == (0xD5, 0x5E, 0)).all()
        and (picture[10, 12] == manifest.picture(0)[10, 12]).all()
    )


def test_several_labels_an_image(tmp_path):
    sheet = make_datasheet(tiles(tmp_path, labels=[["a", "b"], ["b"], [], ["a"], ["c", "a", "b"], ["b"]]))
    found = {r["uri"]: r["labels"] for r in records(sheet, tmp_path / "out", "images")}
    assert list(found["4.png"]) == ["a", "b", "c"] and list(found["1.png"]) == ["b"] and not len(found["2.png"] or [])
    assert sheet.front["task_ids"] == ["multi-label-image-classification"]


def test_digests_are_those_of_the_files_and_a_second_sheet_is_the_same(tmp_path):
    manifest = tiles(tmp_path)
    make_datasheet(manifest, today="2026-01-01").save(tmp_path / "one")
    make_datasheet(manifest, today="2026-01-01").save(tmp_path / "two")
    for name in ("croissant.json", "README.md", "datasheet.html", "datasheet.json", "images.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    about = read_json(tmp_path / "one/croissant.json")
    assert (
        [f["sha256"] for f in about["distribution"]]
        == [digest_file(tmp_path / "one/images.parquet")]
        == [read_json(tmp_path / "one/datasheet.json")["digests"]["images.parquet"]]
    )


def test_what_mlcroissant_refuses_is_an_error(tmp_path):
    make_datasheet(tiles(tmp_path)).save(tmp_path / "out")
    about = read_json(tmp_path / "out/croissant.json")
    about["recordSet"][0]["field"][0]["source"]["fileObject"] = {"@id": "nothing.parquet"}
    write_json(tmp_path / "out/croissant.json", about)
    with pytest.raises(DataError, match="expected Croissant that mlcroissant accepts in .*croissant.json, but"):
        check_croissant(tmp_path / "out/croissant.json")


# ---- what leaves the machine


def test_no_form_names_a_place_of_this_machine(tmp_path):
    (tmp_path / "images").mkdir()
    manifest = tiles(tmp_path / "images")
    manifest = replace(manifest, rejected=pd.DataFrame({"uri": ["x.png"], "reason": [f"not in {manifest.root}"]}))
    make_datasheet(manifest).save(tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_no_picture_that_nobody_cleared(tmp_path):
    manifest = tiles(
        tmp_path,
        replace(declared, pii_status=""),
        pii_status=["none", "unchecked", "found", "redacted", "cleared", "unchecked"],
    )
    sheet = make_datasheet(manifest)
    assert len(sheet.shown) == 3 == Page(sheet.html).pictures and "3 images are not shown" in sheet.html
    hidden = make_datasheet(replace(manifest, table=manifest.table.assign(pii_status="unchecked")))
    assert hidden.shown == [] and Page(hidden.html).pictures == 0 and "6 images are not shown" in hidden.html
    assert Page(make_datasheet(replace(manifest, show_uncleared=True)).html).pictures == 6


hostile = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "x\n---\nlicense: mit\n---\n",
    "a\r\n\r\n# Forged\n\n",
    "| a | b |",
    "*bold* _it_ `code`",
    "[x](javascript:alert(1))",
    "{{ 7 * 7 }}{% raw %}",
    "- item",
    "1. item",
    "> quote",
    "a: b # c",
    "'\"",
    "!!python/name:os.system",
    "\u2028\u0085---",
    "\\",
    "@id",
    "http://a/b#c",
]


@pytest.mark.parametrize("name", hostile)
def test_hostile_names_stay_names(tmp_path, name):
    "A name that comes from a file, in every place that one can stand."
    evil = dict.fromkeys(
        ("name", "owner", "licence", "source", "intended_use", "pii_basis", "citation", "contact", "consent", "ccpa"),
        name,
    )

    def of(text, about):
        return make_datasheet(
            tiles(
                tmp_path,
                Dataset(**about),
                label=[text, "whole"] * 3,
                group=[text] * 6,
                **{f"attribute.{text}": [text] * 6},
            ),
            findings=dict(
                findings=[dict(kind="shortcut", severity="warning", paths=[text], detail=text)],
                answers=[dict(question=text, answer=text, said=text)],
            ),
            leaks=dict(verdict="pass", sentence=text, counts={text: {"holdout": dict(sets=1, images=2)}}, gaps=[text]),
            redaction={text: dict(value=0.9, low=0.8, high=0.95, n=40)},
            stale=[text],
        )

    sheet, plain = of(name, evil), of("plain", dict.fromkeys(evil, "plain"))
    page, calm = Page(sheet.html), Page(plain.html)
    assert (
        page.tags <= calm.tags | {"code"}
        and page.attributes == calm.attributes
        and len(page.headings) == len(calm.headings)
    )
    front, calm_front = (yaml.safe_load(s.markdown[4:].split("\n---\n", 1)[0]) for s in (sheet, plain))
    assert (
        front.keys() == calm_front.keys()
        and front["license"] == "other"
        and front["pretty_name"] == " ".join(name.split())
    )
    body = sheet.markdown.split("\n---\n", 1)[1]
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    kinds = {
        c.type
        for t in tokens
        if t.type in ("inline", "html_block")
        for c in (t.children if t.type == "inline" else [t])
    }
    assert kinds <= {"text", "text_special", "code_inline", "softbreak"} and len(
        re.findall("^##? ", body, re.M)
    ) == len(re.findall("^##? ", plain.markdown, re.M))
    assert "<" not in sheet.croissant and ">" not in sheet.croissant and json.loads(sheet.croissant) == sheet.metadata
    assert sheet.metadata.keys() == plain.metadata.keys() | ({"url"} & sheet.metadata.keys())
    sheet.save(tmp_path / "out")
    assert check_croissant(tmp_path / "out/croissant.json").startswith("valid by mlcroissant")


# ---- what was found out


def test_hugging_face_reads_the_card(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.DatasetCard(make_datasheet(tiles(tmp_path)).markdown).data
    assert (card.license, card.pretty_name, card.task_categories, card.size_categories) == (
        "cc-by-4.0",
        "tiles",
        ["image-classification"],
        ["n<1K"],
    )
    assert hub.DatasetCardData(**card.to_dict()).to_dict() == card.to_dict()


def test_page_and_card_say_the_same(tmp_path):
    sheet = make_datasheet(
        tiles(tmp_path), findings=[dict(kind="quality", severity="warning", paths=["0.png"], detail="dark")]
    )

    def read(words):
        return set(re.findall(r"\w[\w.,%/-]*\w", words))

    rendered = Page(MarkdownIt("commonmark").enable("table").render(sheet.markdown.split("\n---\n", 1)[1]))
    missing = read(" ".join(rendered.words)) - read(" ".join(Page(sheet.html).words))
    assert not missing, missing
    assert (
        Page(sheet.html).headings[1:]
        == rendered.headings[1:]
        == [
            "What it is",
            "Licence",
            "May it be used?",
            "Personal data",
            "Composition",
            "What was checked",
            "Splits",
            "What is not known",
        ]
    )


def test_the_gaps_are_named(tmp_path):
    bare = make_datasheet(tiles(tmp_path, Dataset("bare")))
    for words in (
        (
            "Nobody declared owner, licence, source, intended_use, pii_basis, pii_status, lawful_basis, "
            "retention_until, contact."
        ),
        "No day of publication is declared.",
        "No images have a group",
        "Nobody looked for personal data in 6 images.",
        "Copies, wrong labels, shortcuts and damaged files were not looked for.",
        "Whether copies or groups cross the splits was not looked for.",
        "Fewer than 30 images or 10 groups: cracked, whole.",
        "How the labels were made",
    ):
        assert any(words in gap for gap in bare.gaps), words
    full = make_datasheet(
        tiles(
            tmp_path,
            replace(
                declared,
                pii_status="redacted",
                lawful_basis="consent",
                consent="a form",
                retention_until="2999-01-01",
                contact="a@b.org",
            ),
            group=list("abcdef"),
        ),
        findings=[],
        leaks=dict(verdict="pass", sentence="Nothing crosses."),
        redaction=dict(recall=dict(faces=dict(value=0.97, low=0.91, high=0.99, n=120))),
        published="2026-01-02",
    )
    assert (
        len(full.gaps) == 2
        and full.metadata["datePublished"] == "2026-01-02"
        and "| faces | 0.970 | 0.910 | 0.990 | 120 |" in full.markdown
    )
    unmeasured = make_datasheet(tiles(tmp_path, replace(declared, pii_status="redacted")))
    assert (
        any(
            "6 images are redacted, and how much of what should be covered was covered was not measured" in gap
            for gap in unmeasured.gaps
        )
        and "Its recall was not measured." in unmeasured.html
    )


def test_rejected_files_are_counted(tmp_path):
    (tmp_path / "9.png").write_bytes(b"no image")
    manifest = tiles(tmp_path)
    table = pd.DataFrame({"uri": [*manifest.table["uri"], "9.png"], "label": ["cracked", "whole"] * 3 + ["whole"]})
    sheet = make_datasheet(ingest_table(table, tmp_path, declared))
    assert (
        any(gap.startswith("1 file could not be used: ") for gap in sheet.gaps)
        and "6; 1 file could not be used" in sheet.html
        and sheet.metadata["rai:dataCollectionMissingData"] == "1 file could not be used."
    )


@pytest.mark.parametrize("wrong", ["soon", "2026-1-1", "2026-01-01T00:00"])
def test_a_day_is_a_day(tmp_path, wrong):
    with pytest.raises(DataError, match="expected a day such as 2027-12-31 in published"):
        make_datasheet(tiles(tmp_path), published=wrong)
    with pytest.raises(DataError, match="expected images in the manifest, got none"):
        make_datasheet(tiles(tmp_path).take([]))


def test_only_records_of_this_manifest_are_quoted(tmp_path, later):
    (tmp_path / "images").mkdir()
    run, manifest = tmp_path / "run", tiles(tmp_path / "images")
    manifest.save(run / "ingest")
    digest, leaks = (
        manifest.digest,
        lambda d: dict(verdict="pass", sentence="Nothing crosses here.", digests=dict(manifest=d, splits="s" * 64)),
    )
    write_json(run / "split/leaks.json", leaks("f" * 64))
    write_json(
        run / "check/findings.json",
        [dict(kind="quality", severity="warning", paths=["0.png"], detail="too dark to see")],
    )
    write_json(run / "check/check.json", dict(about=dict(manifest=digest), answers=[]))
    write_json(
        run / "redact/recall.json",
        dict(recall=dict(value=0.9, low=0.8, high=0.95, n=40), digests=dict(manifest=digest)),
    )
    found, stale = find_records(run, digest)
    assert found == {"findings": run / "check/findings.json", "redaction": run / "redact/recall.json"} and stale == [
        (
            f"split/leaks.json speaks of manifest ffffffffffff, not of {digest[:12]}, and is not quoted; run `cvkit "
            "split` again."
        )
    ]
    sheet = datasheet(run / "ingest")
    assert (
        "Nothing crosses here" not in sheet.html
        and "too dark to see" in sheet.html
        and stale[0] in sheet.gaps
        and "| all | 0.900 | 0.800 | 0.950 | 40 |" in sheet.markdown
    )
    write_json(run / "train/leaks.json", leaks(digest))
    write_json(run / "check/check.json", dict(about=dict(manifest="e" * 64), answers=[]))
    sheet = datasheet(run / "ingest", trained=run / "train")
    assert (
        "Nothing crosses here" in sheet.html
        and "too dark to see" not in sheet.html
        and (run / "datasheet/datasheet.html").exists()
    )
    assert read_json(run / "datasheet/run.json")["params"]["production"] == "pass"


def test_import_and_help_leave_the_hub_alone(tmp_path):
    ask = "import sys, cvkit, cvkit.release.dataset_card, cvkit.commands.cli; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


def test_a_long_name_stays_one_value_of_the_front_matter(tmp_path):
    name = "surfaces of walls, lawns and paths " * 6
    sheet = make_datasheet(tiles(tmp_path, replace(declared, name=name)))
    front = yaml.safe_load(sheet.markdown[4:].split("\n---\n", 1)[0])
    assert front == sheet.front and front["pretty_name"] == name.strip()
