"Tables as people leave them: encodings, delimiters, quotes, bad lines, and what each of them costs."

import codecs
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cvkit.core import DataError
from cvkit.data.formats.tables import ListingBuilder, find_table, read_table
from cvkit.data.ingest import ingest_table
from cvkit.data.manifest import Dataset


def table(folder, content, name="labels.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def lines_of(listing):
    return {where.split()[-1]: why for where, why in listing.rejected}


@pytest.mark.parametrize(
    "encode",
    [
        str.encode,
        lambda t: codecs.BOM_UTF8 + t.encode(),
        lambda t: t.encode("utf-16"),
        lambda t: t.encode("utf-16-le"),
        lambda t: t.encode("utf-16-be"),
        lambda t: codecs.BOM_UTF16_BE + t.encode("utf-16-be"),
        lambda t: t.replace("\n", "\r\n").encode(),
        lambda t: t.replace("\n", "\r").encode(),
    ],
    ids=["utf-8", "bom", "utf-16", "utf-16-le", "utf-16-be", "utf-16-be bom", "crlf", "cr"],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encodings_and_delimiters_say_the_same(tmp_path, encode, delimiter):
    text = f'file{delimiter}label{delimiter}note\nä.png{delimiter}Riß{delimiter}"a, b; c\t{delimiter} ""d"""\n'
    found = read_table(table(tmp_path, encode(text)))
    assert found.table.to_dict("records") == [
        {"uri": "ä.png", "label": "Riß", "attribute.note": f'a, b; c\t{delimiter} "d"'}
    ]
    assert not found.rejected


def test_lines_in_windows_1252_are_read_and_noted_once(tmp_path):
    body = (
        "file,label\na.png,Riß\n".encode()
        + "b.png,Riß\nc.png,“Riß”\n".encode("cp1252")
        + "d.png,Riß\n".encode()
        + b"e.png,\x81\n"
    )
    found = read_table(table(tmp_path, body))
    assert found.table["label"].tolist() == ["Riß", "Riß", "“Riß”", "Riß"]
    assert [where for where, _ in found.rejected] == ["labels.csv line 6", "labels.csv line 3"]
    assert lines_of(found)["3"].startswith("kept: ")
    assert "this line and 1 more" in lines_of(found)["3"]
    assert "neither" in lines_of(found)["6"]


def test_bad_rows_are_listed_by_line_and_the_rest_is_read(tmp_path):
    body = (
        "file,label,width,height\n"
        "a.png,x,8,6\n"
        "b.png,x\n"
        "c.png,x,8,6,7\n"
        "d.png,NaN,8,6\n"
        "e.png,,8,6\n"
        "a.png,x,8,6\n"
        "/etc/passwd,x,8,6\n"
        "../f.png,x,8,6\n"
        ",x,8,6\n"
        "\n"
        "g.png,none,8.0,\n"
        "h.png,x,wide,6\n"
        "https://x/y.png,x,8,6\n"
        "C:\\i.png,x,8,6\n"
        "sub\\j.png,x,8,6,,\n"
        "<script>.png,<script>alert(1)</script>,8,6\n"
    )
    found = read_table(table(tmp_path, body))
    assert found.table["uri"].tolist() == ["<script>.png", "a.png", "g.png", "sub/j.png"]
    assert found.table["label"].tolist() == ["<script>alert(1)</script>", "x", "none", "x"]
    expected = {
        "3": "expected 4 cells, got 2",
        "4": "expected 4 cells, got 5",
        "5": "expected a label in column label, got 'NaN'",
        "6": "expected a label in column label, got ''",
        "7": "the same as labels.csv line 2",
        "8": "below the folder",
        "9": "below the folder",
        "10": "expected a file name in column file",
        "13": "expected a number of pixels in column width, got 'wide'",
        "14": "got the address https://x/y.png",
        "15": "below the folder",
    }
    assert lines_of(found).keys() == expected.keys()
    for line, words in expected.items():
        assert words in lines_of(found)[line]


def test_an_open_quotation_mark_costs_its_line_only(tmp_path):
    rows = [f"{i:04}.png,{'ab'[i % 2]},{i}" for i in range(2000)]
    rows[7] = '0007.png,"b,7'
    rows[9] = '0009.png,b,"two\nlines"'
    rows[1999] = '1999.png,b,"end'
    found = read_table(table(tmp_path, "file,label,n\n" + "\n".join(rows)))
    assert len(found.table) == 1998
    assert "two\nlines" in set(found.table["attribute.n"])
    assert lines_of(found).keys() == {"9", "2002"}
    assert all("quotation mark" in why for why in lines_of(found).values())


def test_absent_files_are_found_out_at_ingest(tmp_path):
    for name in "ab":
        Image.fromarray(np.full((6, 8, 3), ord(name), np.uint8)).save(tmp_path / f"{name}.png")
    listing = read_table(table(tmp_path, "file,label,licence\na.png,x,CC0-1.0\nb.png,y,\ngone.png,y,\n"))
    found = ingest_table(*listing[:2], Dataset("d", licence="MIT"), listing.rejected)
    assert found.table[["uri", "label", "licence"]].values.tolist() == [
        ["a.png", "x", "CC0-1.0"],
        ["b.png", "y", "MIT"],
    ]
    assert found.rejected["uri"].tolist() == ["gone.png"]
    assert "there is none" in found.rejected["reason"][0]


@pytest.mark.parametrize(
    "text, iso",
    [
        ("2024-05-31", "2024-05-31"),
        ("20240531", "2024-05-31"),
        ("2024-05-31 10:02", "2024-05-31T10:02:00"),
        ("2024-05-31T10:02:03.5Z", "2024-05-31T10:02:03Z"),
        ("2024-05-31T23:02:03-04:00", "2024-06-01T03:02:03Z"),
        ("2024:05:31 10:02:03", "2024-05-31T10:02:03"),
        ("31.05.2024", "2024-05-31"),
        ("31.5.2024 10:02", "2024-05-31T10:02:00"),
        ("31 May 2024", "2024-05-31"),
        ("May 31, 2024", "2024-05-31"),
        ("2024/5/31", "2024-05-31"),
        ("2024", "2024"),
        ("2024-05", "2024-05"),
        ("31/05/2024", "2024-05-31"),
        ("05/31/2024", "2024-05-31"),
        ("05/06/2024", ""),
        ("31.02.2024", ""),
        ("soon", ""),
    ],
)
def test_dates(tmp_path, text, iso):
    found = read_table(table(tmp_path, f'file,label,date\na.png,x,"{text}"\n'))
    assert found.table["captured_at"].tolist() == [iso]
    assert [where for where, _ in found.rejected] == ([] if iso else ["labels.csv line 2"])


def test_dates_with_slashes_are_read_as_their_column(tmp_path):
    def read(*dates):
        return (
            read_table(table(tmp_path, "file,label,date\n" + "\n".join(f"{i}.png,x,{d}" for i, d in enumerate(dates))))
            .table["captured_at"]
            .tolist()
        )

    assert read("05/06/2024", "31/05/2024 10:00") == ["2024-06-05", "2024-05-31T10:00:00"]
    assert read("05/06/2024", "05/31/2024") == ["2024-05-06", "2024-05-31"]
    assert read("31/05/2024", "05/31/2024") == ["", ""]


def test_parquet_of_types(tmp_path):
    zone = timezone(timedelta(hours=2))
    pd.DataFrame(
        {
            "image": ["a.png", "b.png"],
            "label": [0, 7],
            "date": [datetime(2024, 5, 31, 10, tzinfo=zone), None],
            "day": [date(2024, 5, 31), None],
            "share": [0.5, float("nan")],
        },
        index=["r", "s"],
    ).to_parquet(tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")
    assert found.table.to_dict("records") == [
        {
            "uri": "a.png",
            "label": "0",
            "captured_at": "2024-05-31T08:00:00Z",
            "attribute.day": "2024-05-31",
            "attribute.share": "0.5",
        },
        {"uri": "b.png", "label": "7", "captured_at": "", "attribute.day": "", "attribute.share": ""},
    ]
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="expected a Parquet file"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "body, name, columns, words",
    [
        ("name,label\na,b", "l.csv", None, "expected a column for uri in l.csv, got name, label"),
        ("file,damage\na,b", "l.csv", None, "expected a column for label in l.csv, got file, damage"),
        ("", "l.csv", None, "got none"),
        ("file,label\n", "l.csv", None, "it has none"),
        ("file,label\na,\n", "l.csv", None, "none of 1 can; the first, l.csv line 2"),
        ("file,label,labels\na,b,c", "l.csv", None, "label or labels, not both"),
        ("file,label,label\na,b,c", "l.csv", None, "got label several times"),
        ("file,label\na,b", "l.csv", {"lable": "label"}, "did you mean 'label'"),
        ("file,label\na,b", "l.csv", {"label": "Label"}, "did you mean 'label'"),
        ("file,label\na,b", "l.csv", ["label"], "expected lines such as"),
        ("file,label\na,b", "l.csv", {"group": ["file"]}, "only labels"),
        ("PK\x03\x04", "l.csv", None, "got a workbook"),
        ("a", "l.xlsx", None, "export it as CSV"),
    ],
)
def test_what_is_refused(tmp_path, body, name, columns, words):
    with pytest.raises(DataError, match="expected") as caught:
        read_table(table(tmp_path, body, name), columns=columns)
    assert words in str(caught.value)


def test_one_label_a_column_and_lists(tmp_path):
    found = read_table(
        table(tmp_path, "file,crack,stain\na,1,0\nb,True,yes\nc,0,0\nd,maybe,0\ne,,0\n"),
        columns={"labels": ["crack", "stain"]},
    )
    assert found.table["labels"].tolist() == [["crack"], ["crack", "stain"], []]
    assert lines_of(found).keys() == {"4", "5", "6"}
    assert lines_of(found)["4"].startswith("kept: no label here")
    assert "got 'maybe'" in lines_of(found)["5"]
    found = read_table(table(tmp_path, "file;tags\na;stain, crack,stain\nb;NaN\n"), separator=",")
    assert found.table["labels"].tolist() == [["crack", "stain"]]
    assert lines_of(found).keys() == {"3"}


def test_the_table_beside_the_images(tmp_path):
    assert find_table(tmp_path) is None
    table(tmp_path, "x", "other.csv")
    table(tmp_path, "x", "Metadata.csv")
    table(tmp_path, "attributes: metadata2.parquet", "dataset.yaml")
    table(tmp_path, "x", "metadata2.parquet")
    assert find_table(tmp_path) == tmp_path / "Metadata.csv"
    table(tmp_path, "x", "a.parquet")
    with pytest.raises(DataError, match="got Metadata.csv, a.parquet"):
        find_table(tmp_path)


words = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\0", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8
).map(lambda t: "w" + t.strip())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(words, words, words), min_size=1, max_size=12, unique_by=lambda row: row[0]),
    st.sampled_from(",;\t"),
    st.randoms(),
)
def test_what_csv_writes_is_read_in_any_order(tmp_path_factory, rows, delimiter, random):
    folder, want = tmp_path_factory.mktemp("t"), pd.DataFrame(rows, columns=["file", "label", "note"])
    want["file"] = [f"{i}.png" for i in range(len(want))]
    want.to_csv(folder / "a.csv", sep=delimiter, index=False)
    want.sample(frac=1, random_state=random.randrange(9)).to_csv(folder / "b.csv", sep=delimiter, index=False)
    found = [read_table(folder / name).table for name in ("a.csv", "b.csv")]
    pd.testing.assert_frame_equal(*found)
    assert (
        found[0].set_index("uri").loc[want["file"], ["label", "attribute.note"]].values.tolist()
        == want[["label", "note"]].values.tolist()
    )


def test_many_rows_are_settled_in_pieces(tmp_path):
    rows = ListingBuilder(["file", "label"], tmp_path)
    for i in range(120_000):
        rows.add(f"line {i}", [f"{i:06}.png", "ab"[i % 2]])
    assert [len(t) for t in rows.pieces] == [50_000, 50_000]
    assert len(rows) == 120_000
    assert rows.listing().table["uri"].is_monotonic_increasing
