"""Databases: SQLite in a file, and Debian's PostgreSQL, which is started here, stopped in mid-query, and whose
password is nowhere."""

import json
import logging
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cvkit
from cvkit.core import DataError
from cvkit.data.ingest import ingest_table
from cvkit.data.manifest import Dataset
from cvkit.data.sources.databases import database_address, keep_image, read_database

password = "pä55/w@rd:%40 x"


def image(i, side=8, format="PNG"):
    out = BytesIO()
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (side, side, 3), np.uint8)).save(out, format)
    return out.getvalue()


def database(path, rows, columns="id INTEGER PRIMARY KEY, image BLOB, label TEXT"):
    with sqlite3.connect(path) as opened:
        opened.execute(f"CREATE TABLE images ({columns})")
        opened.executemany(f"INSERT INTO images VALUES ({', '.join('?' * columns.count(','))}, ?)", rows)
    return f"sqlite:///{path}"


def written(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


# ---- SQLite


def test_bad_rows_are_listed_by_their_key(tmp_path):
    rows = [
        (1, image(1), "a"),
        (2, None, "a"),
        (3, b"", "a"),
        (4, image(4)[:100], "b"),
        (5, "text", "b"),
        (6, image(6), None),
        (7, image(7, format="JPEG"), "b"),
        (8, image(1), "a"),
        (9, image(1), "b"),
        (10, b"<script>", "a"),
    ]
    found = read_database(database(tmp_path / "d.db", rows), "images", tmp_path / "out")
    why = dict(found.rejected)
    assert why.keys() == {f"images id={i}" for i in (2, 3, 4, 5, 6, 10)}
    assert (
        "got NULL" in why["images id=2"]
        and "empty file" in why["images id=3"]
        and "cannot be decoded" in why["images id=4"]
        and "got str" in why["images id=5"]
        and "expected a label" in why["images id=6"]
    )
    assert sorted(found.table["attribute.id"]) == ["1", "7", "8", "9"]
    assert {p.suffix for p in (tmp_path / "out").rglob("*.*")} == {".png", ".jpg"}
    assert all(p.stat().st_mode & 0o077 == 0 for p in [tmp_path / "out", *(tmp_path / "out").iterdir()])


def test_nulls_before_the_first_image_do_not_hide_it(tmp_path):
    found = read_database(
        database(tmp_path / "d.db", [(i, image(i) if i > 150 else None, "ab"[i % 2]) for i in range(160)]),
        "images",
        tmp_path / "out",
        chunk=16,
    )
    assert len(found.table) == 9 and len(found.rejected) == 151
    with pytest.raises(DataError, match="none of 3 can; the first, images id=0"):
        read_database(database(tmp_path / "e.db", [(i, None, "a") for i in range(3)]), "images", tmp_path / "out")


def test_order_does_not_matter_and_nothing_is_written_twice(tmp_path):
    rows, folder = [(i, image(i), "ab"[i % 2]) for i in range(60)], tmp_path / "out"
    first = read_database(database(tmp_path / "d.db", rows), "images", folder)
    before = written(folder)
    second = read_database(
        database(tmp_path / "e.db", rows[::-1], "id INTEGER, image BLOB, label TEXT"),
        "SELECT * FROM images -- all; of them\n;",
        folder,
        chunk=7,
    )
    assert written(folder) == before and len(before) == 60
    assert first.table.drop(columns="source").equals(second.table.drop(columns="source"))
    assert set(first.table["source"]) == {"sqlite:///d.db images"} and set(second.table["source"]) == {
        "sqlite:///e.db query"
    }
    made = [ingest_table(*listing[:2], Dataset("d"), listing.rejected) for listing in (first, second)]
    assert made[0].digest == made[1].digest and len(made[0]) == 60
    assert keep_image(rows[5][1], folder)[1] is False and not list(folder.rglob(".*"))


def test_rows_that_name_files(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(image(i))
    url = database(
        tmp_path / "d.db",
        [
            ("0.png", "x|y", "CC0-1.0"),
            (str(tmp_path / "1.png"), "x", None),
            ("../2.png", "x", None),
            ("/etc/passwd", "x", None),
            ("0.png", "x|y", "CC0-1.0"),
        ],
        "path TEXT, tags TEXT, license TEXT",
    )
    found = read_database(url, "images", tmp_path)
    assert found.table[["uri", "labels", "licence"]].values.tolist() == [
        ["0.png", ["x", "y"], "CC0-1.0"],
        ["1.png", ["x"], ""],
    ]
    assert [where for where, _ in found.rejected] == [
        "images row 3",
        "images row 4",
        "images row 5",
    ] and "the same as images row 1" in found.rejected[2][1]


@pytest.mark.parametrize(
    "wanted, words",
    [
        ("image", "(did you mean 'images'?); there are images"),
        ("main.imags", "did you mean 'images'"),
        ("SELECT 1; DELETE FROM images", "single SELECT"),
        ("DROP TABLE images", "a table, a view or a SELECT, got 'DROP"),
        ("WITH a AS (SELECT 1) DELETE FROM images", "readonly"),
        ("SELECT * FROM images a JOIN images b", "got id, image, label several times"),
        ("SELECT labl FROM images", "no such column: labl"),
        ("SELECT image FROM images", "a column for label"),
        ("SELECT * FROM images WHERE label = ':a;b%'", "it has none"),
        ("images WHERE 1", "there are images"),
    ],
)
def test_what_is_not_read(tmp_path, wanted, words):
    url = database(tmp_path / "d.db", [(1, image(1), "a")])
    with pytest.raises(DataError) as caught:
        read_database(url, wanted, tmp_path / "out")
    assert words in str(caught.value)
    with sqlite3.connect(tmp_path / "d.db") as opened:
        assert opened.execute("SELECT count(*) FROM images").fetchone() == (1,)


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "d.db").write_text("Dear Sir, " * 200)
    with pytest.raises(DataError, match="expected to read sqlite:///d.db, but: file is not a database"):
        read_database(f"sqlite:///{tmp_path}/d.db", "images", tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:{}@host/db",
        "postgresql://ada@host/db?password={}",
        "mssql+pyodbc:///?odbc_connect=DRIVER%3DX;PWD={}",
        "mysql://ada:{}@/db",
        "postgresql://ada:{}/x@host/db",
        "ada:{}@host",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(url, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DataError, match="expected the address of a database") as caught:
        database_address(url.format("hunter2"))
    assert caught.value.__context__ is None and "hunter2" not in f"{caught.value!r} {caught.value} {caplog.text}"


@pytest.mark.parametrize(
    "url, words",
    [
        ("mssql+pytds://h/d", "expected sqlite"),
        ("postgres1://h/d", "did you mean 'postgresql'"),
        ("oracle://h/d", 'pip install "oracledb"'),
    ],
)
def test_a_driver_that_is_not_there(tmp_path, url, words):
    with pytest.raises(DataError) as caught:
        read_database(url, "images", tmp_path)
    assert words in str(caught.value) and caught.value.__context__ is None


def all_texts(error):
    "The text of an exception and of all that hang on it, with the variables of their frames."
    texts = []
    while error:
        frame = error.__traceback__
        while frame:
            texts.append(
                repr(frame.tb_frame.f_locals)
                if Path(frame.tb_frame.f_code.co_filename).is_relative_to(Path(cvkit.__file__).parent)
                or "sqlalchemy" in frame.tb_frame.f_code.co_filename
                else ""
            )
            frame = frame.tb_next
        texts.append(f"{error} {error!r} {error.args}")
        error = error.__context__ or error.__cause__
    return " ".join(texts)


# ---- PostgreSQL

found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "Debian's PostgreSQL on a free port of this machine, as user postgres where we are root; a database of 400 images."
    psycopg = pytest.importorskip(
        "psycopg",
        reason='no tests of PostgreSQL: the package psycopg is not installed, run `pip install "psycopg[binary]"`',
    )
    if not found:
        pytest.skip("no tests of PostgreSQL: no server below /usr/lib/postgresql, `apt-get install postgresql` has it")
    folder, bin = (
        Path(subprocess.check_output(["mktemp", "-d", "/tmp/cvkit-pg-XXXXXX"], text=True).strip()),
        found[-1].parent,
    )
    (folder / "secret").write_text(password)
    root = os.geteuid() == 0
    if root:
        [shutil.chown(p, "postgres") for p in (folder, folder / "secret")]

    def run(*words):
        subprocess.run(
            [*(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else []), *words],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=100,
        )

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run(
        bin / "initdb",
        "-D",
        folder / "data",
        "-A",
        "scram-sha-256",
        "--pwfile",
        folder / "secret",
        "-U",
        "ada",
        "-E",
        "UTF8",
        "--no-sync",
    )
    options = (
        f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=10 -c shared_buffers=16MB"
    )
    start, stop = (
        (lambda: run(bin / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")),
        (lambda: run(bin / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")),
    )
    try:
        start()
        with psycopg.connect(host="127.0.0.1", port=port, user="ada", password=password, dbname="postgres") as opened:
            opened.execute(
                "CREATE TABLE images (id serial PRIMARY KEY, image bytea, label text, taken timestamptz); CREATE VIEW "
                'few AS SELECT * FROM images WHERE id % 100 = 0; CREATE SCHEMA "New Roofs"; CREATE TABLE "New '
                'Roofs"."Fotos 2024" AS SELECT * FROM images'
            )
            with opened.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO images (image, label, taken) VALUES (%s, %s, '2024-05-31 10:00+02')",
                    [(image(i, 60), "ab"[i % 2]) for i in range(400)],
                )
            opened.execute('INSERT INTO "New Roofs"."Fotos 2024" SELECT * FROM images LIMIT 6')
        yield type(
            "Server",
            (),
            dict(
                url=f"postgresql://ada@127.0.0.1:{port}/postgres",
                socket=f"postgresql://ada@/postgres?host={folder}&port={port}",
                start=staticmethod(start),
                stop=staticmethod(stop),
                folder=folder,
            ),
        )
    finally:
        if (folder / "data/postmaster.pid").exists():
            stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def password_set(monkeypatch):
    monkeypatch.setenv("CVKIT_DB_PASSWORD", password)


def test_postgres_is_read_as_sqlite_is(server, password_set, tmp_path):
    found = read_database(server.url, "images", tmp_path / "out", columns={"captured_at": "taken"})
    assert len(found.table) == 400 and not found.rejected
    assert set(found.table["captured_at"]) == {"2024-05-31T08:00:00Z"} and set(found.table["source"]) == {
        re.sub("ada@", "", server.url) + " images"
    }
    before = written(tmp_path / "out")
    assert len(read_database(server.socket, "few", tmp_path / "out").table) == 4
    assert len(read_database(server.url, "New Roofs.Fotos 2024", tmp_path / "out").table) == 6
    assert (
        len(
            read_database(
                server.url,
                "SELECT image, label, id::text FROM images WHERE label LIKE '%a' AND 'a:b;' <> ''",
                tmp_path / "out",
            ).table
        )
        == 200
    )
    assert written(tmp_path / "out") == before
    ours = read_database(
        database(tmp_path / "d.db", [(i + 1, image(i, 60), "ab"[i % 2]) for i in range(400)]),
        "SELECT image, label FROM images",
        tmp_path / "out",
    )
    theirs = read_database(server.url, "SELECT image, label FROM images ORDER BY id DESC", tmp_path / "out")
    assert ingest_table(*ours[:2], Dataset("d")).digest == ingest_table(*theirs[:2], Dataset("d")).digest


@pytest.mark.parametrize(
    "wanted, words",
    [
        ("SELECT image, label, nextval('images_id_seq') FROM images", "read-only transaction"),
        ("WITH a AS (DELETE FROM images RETURNING *) SELECT * FROM a", "expected that postgresql"),
        ("imagez", "did you mean 'images'"),
        ("New Roofs.Fotos", "did you mean 'Fotos 2024'"),
        ("SELECT 1/(id-200) AS image, label FROM images", "stopped after 192: division by zero"),
    ],
)
def test_postgres_only_reads(server, password_set, tmp_path, wanted, words):
    with pytest.raises(DataError) as caught:
        read_database(server.url, wanted, tmp_path / "out")
    assert words in str(caught.value)
    assert len(read_database(server.url, "SELECT * FROM images", tmp_path / "out").table) == 400


def test_the_password_is_nowhere(server, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    texts = []
    for value, url in (
        (password + "wrong", server.url),
        (password, server.url.replace("/postgres", "/gone")),
        (password, re.sub(r":\d+/", ":1/", server.url)),
        (password, server.url + "?nonsense=1"),
    ):
        monkeypatch.setenv("CVKIT_DB_PASSWORD", value)
        with pytest.raises(DataError, match="expected an answer from postgresql://127.0.0.1:") as caught:
            read_database(url, "images", tmp_path / "out")
        assert caught.value.__context__ is None and caught.value.__cause__ is None
        texts.append(all_texts(caught.value))
    with pytest.raises(DataError) as caught:
        read_database(server.url, f"SELECT image, label, '{password}'::int FROM images", tmp_path / "out")
    texts.append(str(caught.value))
    assert "***" in str(caught.value)
    listing = read_database(server.url, "images", tmp_path / "out")
    texts += [
        ingest_table(*listing[:2], Dataset("d"), listing.rejected).save(tmp_path).joinpath("manifest.json").read_text(),
        caplog.text,
        repr(listing),
    ]
    texts += [p.read_bytes().decode("latin-1") for p in (tmp_path / "manifest").iterdir()]
    for text in texts:
        assert password not in text and "5/w@rd" not in text and "w%40rd" not in text
    monkeypatch.delenv("CVKIT_DB_PASSWORD")
    with pytest.raises(DataError, match="the password is in the environment variable CVKIT_DB_PASSWORD"):
        read_database(server.url, "images", tmp_path / "out")


@pytest.mark.parametrize("how", ["terminated", "killed"])
def test_a_server_that_goes_down_in_mid_query(server, password_set, tmp_path, monkeypatch, how):
    import psycopg

    from cvkit.data.sources import databases

    folder, kept, keep, down = tmp_path / "out", [], databases.keep_image, []

    def fail():
        down.append(True)
        if how == "killed":
            return server.stop()
        with psycopg.connect(server.url, password=password, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
                "backend_type = 'client backend'"
            )

    def until(content, folder):
        kept.append(1)
        if len(kept) == 100:
            fail()
        return keep(content, folder)

    monkeypatch.setattr(databases, "keep_image", until)
    with pytest.raises(DataError) as caught:
        read_database(server.url, "images", folder, chunk=16)
    assert down and re.search(
        (
            r"but it stopped after (\d+): .*; \1 new images are kept in .*: see to it and run the same again, they "
            r"are not written again"
        ),
        str(caught.value),
    ), str(caught.value)
    assert caught.value.__context__ is None
    before = written(folder)
    assert 100 <= len(before) < 400
    if how == "killed":
        with pytest.raises(DataError, match="expected an answer from .* but: .*refused"):
            read_database(server.url, "images", folder)
        server.start()
    assert len(read_database(server.url, "images", folder).table) == 400
    assert len(written(folder)) == 400 and before.items() <= written(folder).items()


# ---- memory

child = """
import json, re, sys, time
from pathlib import Path
from cvkit.data.sources.databases import read_database
def most():
    "MB that this process has held at most; ru_maxrss is also what its parent had."
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
url, folder, chunk = sys.argv[1:]
read_database(url, "SELECT * FROM images LIMIT 200", folder)
start, before = time.time(), most()
found = read_database(url, "images", folder, chunk=int(chunk))
seconds = time.time() - start
print(json.dumps(dict(rows=len(found.table), lost=len(found.rejected), before=before, peak=most(), seconds=seconds)))
"""


def peak(folder, n, size, chunk=64):
    "How many MB more a process of its own needs to read n images of so many bytes than to read 200."
    folder.mkdir()
    one = image(0, 16) + b"\0" * (size - 900)
    database(folder / "d.db", ((i, one + str(i).encode(), "ab"[i % 2]) for i in range(n)))
    done = subprocess.run(
        [sys.executable, "-c", child, f"sqlite:///{folder}/d.db", folder / "out", str(chunk)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print({"n": n, "megabytes of images": n * size / 1e6} | found)
    assert (found["rows"], found["lost"]) == (n, 0)
    return found["peak"] - found["before"]


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="no tests of memory: this system has no /proc"
)


@needs_proc
def test_memory_does_not_grow_with_the_images(tmp_path):
    few, all_at_once = peak(tmp_path / "a", 1000, 60_000), peak(tmp_path / "b", 1000, 60_000, chunk=1000)
    assert few < 25 and all_at_once > 50, "60 MB of images"


@needs_proc
@pytest.mark.slow
def test_memory_of_a_hundred_thousand_rows(tmp_path):
    few, many = peak(tmp_path / "a", 10_000, 6_000), peak(tmp_path / "b", 100_000, 6_000)
    assert many - few < 150, "600 MB of images; paths, labels and keys of 100,000 rows take about 1 KB each"
