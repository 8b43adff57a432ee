"""Archives, addresses and buckets: what comes from elsewhere stays in its folder, within its limits, and is listed
where it does not."""

import io
import json
import os
import stat
import struct
import subprocess
import tarfile
import threading
import unicodedata
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cvkit.core import DataError, MissingExtra
from cvkit.data.sources import download as download_module
from cvkit.data.sources.archives import Limits, unpack
from cvkit.data.sources.download import bring, download, fetch_tree, scrub_url


def picture(seed):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


PICTURES = {f"{label}/{i}.png": picture(3 * i + k) for k, label in enumerate(("brick", "grass")) for i in range(3)}


def zipped(path, files, more=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in [*files.items(), *more]:
            file.writestr(name, content)
    return path


def tarred(path, files, infos=(), mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        for info in infos:
            file.addfile(info)
    return path


def found(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in Path(folder).rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }


def entry(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("ending", ["w:", "w:gz", "w:bz2", "w:xz", "zip"])
def test_each_archive_gives_the_same_files(tmp_path, ending):
    path = (
        zipped(tmp_path / "a.zip", PICTURES) if ending == "zip" else tarred(tmp_path / "a.tar", PICTURES, mode=ending)
    )
    assert unpack(path, tmp_path / "out") == []
    assert found(tmp_path / "out") == PICTURES
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


BAD = {
    "../up.png": "leads out",
    "/abs.png": "leads out",
    "C:\\x.png": "leads out",
    "d:x.png": "leads out",
    "a\\b.png": "leads out",
    "a/../../b.png": "leads out",
    "new\nline.png": "control characters",
    "n" * 250 + ".png": "at most 240 bytes",
    "inner.zip": "archive within",
    "BRICK/0.PNG": "each name once",
    "brick/0.png/x.png": "a file's",
}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_bad_members_are_listed_and_the_good_ones_come(tmp_path, pack):
    rejected = dict(
        unpack(
            pack(tmp_path / "a", {**PICTURES, **dict.fromkeys(BAD, b"x"), "<script>.png": b"y"}), tmp_path / "deep/out"
        )
    )
    assert found(tmp_path / "deep/out") == {**PICTURES, "<script>.png": b"y"}
    assert rejected.keys() == BAD.keys()
    assert not [name for name, part in BAD.items() if part not in rejected[name]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "deep"] and [
        p.name for p in (tmp_path / "deep").iterdir()
    ] == ["out"]


def test_a_name_in_another_spelling_of_its_accent_is_refused(tmp_path):
    composed, apart = (unicodedata.normalize(form, "H\u00e4user/1.png") for form in ("NFC", "NFD"))
    rejected = unpack(zipped(tmp_path / "a.zip", {composed: b"1", apart: b"2"}), tmp_path / "out")
    assert found(tmp_path / "out") == {composed: b"1"} and [name for name, _ in rejected] == [apart]


def test_names_of_macos_are_read_as_utf8(tmp_path):
    name = "H\u00e4user/1.png"
    path = zipped(tmp_path / "a.zip", {name: b"1"})
    raw = bytearray(path.read_bytes())
    for sign, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        raw[raw.index(sign) + at + 1] &= 0xF7  # without the flag that says UTF-8
    path.write_bytes(raw)
    assert unpack(path, tmp_path / "out") == [] and found(tmp_path / "out") == {name: b"1"}


def test_links_and_devices_of_a_tar(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    bad = [
        entry("l.png", tarfile.SYMTYPE, "../secret.png"),
        entry("folder", tarfile.SYMTYPE, ".."),
        entry("hard.png", tarfile.LNKTYPE, "../secret.png"),
        entry("dev.png", tarfile.CHRTYPE),
        entry("pipe.png", tarfile.FIFOTYPE),
    ]
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for info in bad:
            file.addfile(info)
        for name in ("folder/evil.png", "z.png"):
            info = tarfile.TarInfo(name)
            info.size = 1
            file.addfile(info, io.BytesIO(b"z"))
    rejected = dict(unpack(tmp_path / "a.tar", tmp_path / "out"))
    assert found(tmp_path / "out") == {"folder/evil.png": b"z", "z.png": b"z"} and not (tmp_path / "evil.png").exists()
    assert {name: why.split("got a ")[1][:4] for name, why in rejected.items()} == {
        "l.png": "link",
        "folder": "link",
        "hard.png": "link",
        "dev.png": "devi",
        "pipe.png": "devi",
    }


def test_link_of_a_zip_is_not_made(tmp_path):
    info = zipfile.ZipInfo("l.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    rejected = unpack(zipped(tmp_path / "a.zip", PICTURES, [(info, "/etc/passwd")]), tmp_path / "out")
    assert found(tmp_path / "out") == PICTURES and rejected == [
        ("l.png", "expected a file, got a link; pack what it points to")
    ]


def test_declared_10_gb_is_refused_before_it_is_read(tmp_path):
    big = tarfile.TarInfo("huge.png")
    big.size = 10 * 10**9
    head = io.BytesIO()
    with tarfile.open(fileobj=head, mode="w") as file:
        info = tarfile.TarInfo("1.png")
        info.size = 1
        file.addfile(info, io.BytesIO(b"1"))
        head.seek(file.offset)
    (tmp_path / "a.tar").write_bytes(head.getvalue()[:1024] + big.tobuf() + bytes(512))
    with pytest.raises(DataError, match="breaks off after '1.png'.*1 whole files"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    assert found(tmp_path / "out") == {"1.png": b"1"}
    assert (
        "huge.png",
        (
            "expected at most 2,147,483,648 bytes, it declares 10,000,000,000; set Limits(member_bytes=...) if it is "
            "wanted"
        ),
    ) in [tuple(x) for x in json.loads((tmp_path / "out/.cvkit-archive.json").read_text())["rejected"]]


def test_a_bomb_stops(tmp_path):
    zeros = bytes(40 * 2**20)
    rejected = dict(unpack(zipped(tmp_path / "a.zip", {"zeros.txt": zeros, "1.png": b"1"}), tmp_path / "zip"))
    assert "bomb" in rejected["zeros.txt"] and found(tmp_path / "zip") == {"1.png": b"1"}
    with pytest.raises(DataError, match="bomb"):
        unpack(tarred(tmp_path / "a.tgz", {"1.png": b"1", "zeros.exe": zeros}), tmp_path / "tar")
    with pytest.raises(DataError, match=r"50 bytes in all.*total_bytes"):
        unpack(zipped(tmp_path / "b.zip", PICTURES), tmp_path / "b", Limits(total_bytes=50))
    assert (
        not (tmp_path / "tar").exists()
        and not (tmp_path / "b").exists()
        and sorted(p.name for p in tmp_path.iterdir()) == ["a.tgz", "a.zip", "b.zip", "zip"]
    )


def test_members_that_share_their_bytes_are_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", {"1.png": picture(1), "2.png": picture(2), "3.png": b"3"})
    raw = bytearray(path.read_bytes())
    second = raw.index(b"PK\1\2", raw.index(b"PK\1\2") + 1)
    raw[second + 42 : second + 46] = bytes(4)  # its header stands where the first one's does
    path.write_bytes(raw)
    rejected = dict(unpack(path, tmp_path / "out"))
    assert (
        "shares" in " ".join(rejected.values())
        and {"2.png", "1.png"} & rejected.keys()
        and found(tmp_path / "out")["3.png"] == b"3"
    )


def test_a_header_that_lies_about_its_size(tmp_path):
    path = zipped(tmp_path / "a.zip", {"1.png": picture(1) * 9, "2.png": b"2"})
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\1\2") + 24
    raw[at : at + 4] = struct.pack("<I", 5)
    path.write_bytes(raw)
    assert [name for name, _ in unpack(path, tmp_path / "out")] == ["1.png"] and found(tmp_path / "out") == {
        "2.png": b"2"
    }


def test_a_header_of_a_tar_that_would_fill_the_memory(tmp_path):
    long = tarfile.TarInfo("x")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 4 * 2**30
    (tmp_path / "a.tar").write_bytes(long.tobuf() + bytes(2048))
    with pytest.raises(DataError, match="more than 1 MB"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_encrypted_members_are_listed(tmp_path):
    path = zipped(tmp_path / "a.zip", {"1.png": b"1", "2.png": b"2"})
    raw = bytearray(path.read_bytes())
    for sign, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        raw[raw.index(sign) + at] |= 1
    path.write_bytes(raw)
    assert unpack(path, tmp_path / "out") == [
        ("1.png", "expected a member without a password, it is encrypted; pack it again without")
    ]


def test_damage_of_one_member(tmp_path):
    path = zipped(tmp_path / "a.zip", PICTURES)
    raw = bytearray(path.read_bytes())
    raw[60:90] = bytes(30)
    path.write_bytes(raw)
    ((name, why),) = unpack(path, tmp_path / "out")
    assert (
        name == "brick/0.png"
        and "expected a whole member" in why
        and found(tmp_path / "out") == {k: v for k, v in PICTURES.items() if k != name}
    )


@pytest.mark.parametrize("ending", ["w:", "w:gz", "w:bz2", "w:xz", "zip"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.55, 0.8, 0.97])
def test_a_cut_archive_keeps_what_is_whole_and_says_where(tmp_path, ending, share):
    big = {f"{i}.png": np.random.default_rng(i).bytes(40_000) for i in range(6)}
    path = zipped(tmp_path / "a.zip", big) if ending == "zip" else tarred(tmp_path / "a.tar", big, mode=ending)
    whole = (
        path.read_bytes()[: 6 * (512 + 40_448)] if ending == "w:" else path.read_bytes()
    )  # without the padding of a tar
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError) as caught:
        unpack(path, tmp_path / "out")
    kept = found(tmp_path / "out") if (tmp_path / "out").exists() else {}
    assert all(big[name] == content for name, content in kept.items())
    if kept:
        assert f"breaks off after {max(kept)!r}" in str(caught.value)
    if ending in ("w:", "w:gz", "zip") and 0.05 < share < 0.9:
        assert len(kept) == int(6 * share) or len(kept) == int(6 * share) - 1
    zipped(path, PICTURES)
    assert unpack(path, tmp_path / "out") == [] and found(tmp_path / "out") == PICTURES, "what is broken is replaced"


def test_an_archive_is_opened_again_only_when_it_changed(tmp_path):
    path = zipped(tmp_path / "a.zip", {**PICTURES, "b.exe": b"x"})
    rejected = unpack(path, tmp_path / "out")
    inode = (tmp_path / "out").stat().st_ino
    assert "1 other files were left there: .exe (1)" in rejected[0][1]
    assert unpack(path, tmp_path / "out") == rejected and (tmp_path / "out").stat().st_ino == inode
    zipped(path, {"new.png": b"1"})
    assert unpack(path, tmp_path / "out") == [] and found(tmp_path / "out") == {"new.png": b"1"}


def test_files_of_others_are_never_replaced(tmp_path):
    path = zipped(tmp_path / "a.zip", {**PICTURES, ".cvkit-archive.json": b"{}"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(DataError, match="expected an empty folder"):
        unpack(path, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.tex").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="no disk that is full")
def test_a_disk_that_takes_nothing(tmp_path):
    path = zipped(tmp_path / "a.zip", PICTURES)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="expected to write in .*free space"):
        unpack(path, tmp_path / "file" / "out")
    with pytest.raises(DataError, match="expected to write in"):
        fetch_tree(f"file://{tmp_path}", tmp_path / "file" / "out")
    with pytest.raises(DataError, match="expected to write in"):
        download("http://127.0.0.1:9/a.zip", tmp_path / "file" / "out")


def test_a_full_disk(tmp_path):
    "A limit of the process on file sizes is the same to it as a disk that is full."
    zipped(tmp_path / "a.zip", {"big.png": np.random.default_rng(0).bytes(300_000)})
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from cvkit.data.sources.archives import unpack; unpack(sys.argv[1], sys.argv[2])"
    )
    done = subprocess.run(
        [os.sys.executable, "-c", code, tmp_path / "a.zip", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "cvkit.core.DataError: expected to write in" in done.stderr and "free space there" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


WORDS = st.lists(
    st.sampled_from([
        "..",
        ".",
        "",
        "a",
        "B",
        "b",
        "C:",
        "\\",
        "\\..",
        "ä",
        "a\u0308",
        "x.png",
        "X.PNG",
        "~",
        "\0",
        "\n",
        "…",
        "\uff0e\uff0e",
    ]),
    min_size=1,
    max_size=6,
).map("/".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(WORDS, st.text(max_size=12)).map(lambda name: name + ".png"), min_size=1, max_size=6))
def test_no_name_lands_outside(tmp_path_factory, names):
    top = tmp_path_factory.mktemp("outside")
    with tarfile.open(top / "a.tar", "w", format=tarfile.PAX_FORMAT) as file:
        for name in names:
            info = tarfile.TarInfo(name.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
            info.size = 1
            file.addfile(info, io.BytesIO(b"x"))
    (top / "in/the").mkdir(parents=True)
    unpack(top / "a.tar", top / "in/the/out")
    assert (
        sorted(p.name for p in top.iterdir()) == ["a.tar", "in"]
        and [p.name for p in (top / "in").iterdir()] == ["the"]
        and [p.name for p in (top / "in/the").iterdir()] == ["out"]
    )
    written = [p for p in (top / "in/the/out").rglob("*") if p.is_file()]
    assert all(p.resolve().is_relative_to((top / "in/the/out").resolve()) and not p.is_symlink() for p in written)


# Addresses


class Server(BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def do_GET(self):
        self.server.answer(self)


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(download_module, "PAUSE", 0.0)
    started = []

    def start(answer):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
        server.answer = answer
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def reply(request, code, body=b"", **headers):
    request.send_response(code)
    for name, value in {"Content-Length": len(body), **{k.replace("_", "-"): v for k, v in headers.items()}}.items():
        if value is not None:
            request.send_header(name, str(value))
    request.end_headers()
    request.wfile.write(body)


def ranged(content, etag='"1"', stop=None, requested=None):
    """A server of one file: a range where it is asked for and the tag is still the same; it breaks off after `stop`
    bytes."""

    def answer(request):
        span, tag = request.headers["Range"], etag() if callable(etag) else etag
        requested is not None and requested.append(span)
        body = content(tag) if callable(content) else content
        if request.headers["If-None-Match"] == tag:
            return reply(request, 304, Content_Length=None)
        start = int(span[6:-1]) if span and request.headers["If-Range"] == tag else 0
        more = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        reply(request, 206 if start else 200, body[start:][:stop], ETag=tag, Content_Length=len(body) - start, **more)

    return answer


BODY = np.random.default_rng(0).bytes(50_000)


def test_a_broken_download_goes_on_where_it_stopped(serve, tmp_path):
    requested = []
    assert download(serve(ranged(BODY, stop=20_000, requested=requested)) + "/a.zip", tmp_path).read_bytes() == BODY
    assert requested == [None, "bytes=20000-", "bytes=40000-"]


def test_a_download_that_did_not_change_is_not_fetched_again(serve, tmp_path):
    requested = []
    url = serve(ranged(BODY, requested=requested)) + "/a.zip"
    first = download(url, tmp_path)
    inode = first.stat().st_ino
    assert (
        download(url, tmp_path).stat().st_ino == inode
        and len(requested) == 2
        and stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    )


def test_a_file_that_changed_between_two_pieces_is_begun_again(serve, tmp_path):
    tags = iter(['"1"', '"2"', '"2"', '"2"', '"2"'])
    url = (
        serve(ranged(lambda tag: BODY if tag == '"1"' else BODY[::-1], etag=lambda: next(tags), stop=30_000)) + "/a.zip"
    )
    assert download(url, tmp_path).read_bytes() == BODY[::-1]


def test_a_server_that_continues_another_file(serve, tmp_path):
    visits = []

    def answer(request):
        visits.append(request.headers["Range"])
        if len(visits) == 1:
            reply(request, 200, BODY[:10_000], ETag='"1"', Content_Length=len(BODY))
        elif request.headers["Range"]:
            reply(
                request, 206, BODY[::-1][10_000:], ETag='"2"', Content_Range=f"bytes 10000-{len(BODY) - 1}/{len(BODY)}"
            )
        else:
            reply(request, 200, BODY[::-1], ETag='"2"')

    assert download(serve(answer) + "/a.zip", tmp_path).read_bytes() == BODY[::-1]
    assert visits == [None, "bytes=10000-", None]


def test_a_length_that_lies(serve, tmp_path):
    def answer(request):
        reply(request, 200, BODY[:100], Content_Length=10**6)

    with pytest.raises(DataError, match="went away 4 times: 1,000,000 bytes were announced and 100 came"):
        download(serve(answer) + "/a.zip", tmp_path)
    with pytest.raises(DataError, match="the server announces 1,000,000; set Limits"):
        download(serve(answer) + "/b.zip", tmp_path, Limits(total_bytes=10**5))

    def endless(request):
        request.send_response(200)
        request.end_headers()
        try:
            for _ in range(100):
                request.wfile.write(bytes(10**5))
        except OSError:
            pass

    with pytest.raises(DataError, match="at most 300,000 bytes, got more"):
        download(serve(endless) + "/c.zip", tmp_path, Limits(total_bytes=300_000))


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,hi", "http://me:pass@127.0.0.1/x"]
)
def test_redirects_that_are_not_followed(serve, tmp_path, target):
    with pytest.raises(DataError) as caught:
        download(serve(lambda request: reply(request, 302, Location=target)) + "/a.csv", tmp_path)
    assert "pass@" not in str(caught.value)
    assert not list(tmp_path.rglob("*.csv"))


def test_no_redirect_from_https_to_http():
    with pytest.raises(DataError, match="stays on https, got one to http://b.org/x"):
        download_module._check_redirect("https://a.org", "http://b.org/x?")


def test_redirects_end(serve, tmp_path):
    seen = []

    def answer(request):
        seen.append(1)
        reply(request, 302, Location=f"/{len(seen)}.csv")

    with pytest.raises(DataError, match="answers 302"):
        download(serve(answer) + "/a.csv", tmp_path)
    assert len(seen) <= 7


def test_the_token_stays_with_its_host(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("CVKIT_HTTP_TOKEN", "s3cret")
    got = {}

    def other(request):
        got["other"] = request.headers["Authorization"]
        reply(request, 200, b"a,b\n")

    there = serve(other)

    def first(request):
        got[request.path] = request.headers["Authorization"]
        reply(request, 302, Location="/b.csv" if request.path == "/a.csv" else there + "/c.csv")

    download(serve(first) + "/a.csv", tmp_path)
    assert got == {"/a.csv": "Bearer s3cret", "/b.csv": "Bearer s3cret", "other": None}
    monkeypatch.setenv("CVKIT_HTTP_TOKEN", "s3c\nret")
    with pytest.raises(DataError) as caught:
        download(there + "/a.csv", tmp_path)
    assert "ret;" not in str(caught.value) and "CVKIT_HTTP_TOKEN" in str(caught.value)


def test_no_password_of_a_netrc_is_sent(serve, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login ada password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    sent = []

    def answer(request):
        sent.append(request.headers["Authorization"])
        if request.path == "/a.csv":
            reply(request, 302, Location="/b.csv")
        else:
            reply(request, 200, b"a,b\n")

    download(serve(answer) + "/a.csv", tmp_path)
    assert sent == [None, None]


def test_no_secret_in_errors_or_files(serve, tmp_path):
    url = serve(lambda request: reply(request, 403)) + "/a.zip?X-Amz-Signature=verysecret&id=5"
    for address in (
        url,
        "http://me:verysecret@127.0.0.1:1/a.zip",
        "http://127.0.0.1:1/a b.zip?token=verysecret",
        "s3://me:verysecret@x/y",
        "foo://x?token=verysecret",
    ):
        with pytest.raises((DataError, MissingExtra)) as caught:
            bring(address, tmp_path)
        assert "verysecret" not in str(caught.value), address
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"verysecret" in p.read_bytes()]


def test_a_presigned_address_signed_again_is_the_same(serve, tmp_path):
    requested = []
    url = serve(ranged(BODY, requested=requested)) + "/a.zip?versionId=3&X-Amz-Signature="
    assert download(url + "one", tmp_path) == download(url + "two", tmp_path)
    assert scrub_url(url + "one").endswith("a.zip?versionId=3&X-Amz-Signature=***")


def test_a_digest_that_is_another_one(serve, tmp_path):
    from hashlib import sha256

    url = serve(ranged(BODY)) + "/a.zip#sha256="
    assert download(url + sha256(BODY).hexdigest(), tmp_path).read_bytes() == BODY
    with pytest.raises(DataError, match="expected the file with SHA-256 0000"):
        download(url + "0" * 64, tmp_path)
    assert not list(tmp_path.rglob("a.zip"))


@pytest.mark.parametrize(
    "name, kept",
    [
        ("..%2f..%2fevil.zip", "evil.zip"),
        ("%00x.csv", "_x.csv"),
        (".whole.json", "whole.json"),
        ("%2e%2e", "file"),
        ("<script>.csv", "<script>.csv"),
    ],
)
def test_the_server_cannot_name_a_file_elsewhere(serve, tmp_path, name, kept):
    path = download(serve(ranged(b"a,b\n")) + "/" + name, tmp_path / "in")
    assert (
        path.name == kept and path.parent.parent == tmp_path / "in" and [p.name for p in tmp_path.iterdir()] == ["in"]
    )


def test_an_archive_behind_an_address(serve, tmp_path):
    body = zipped(tmp_path / "a.zip", {f"top/{name}": content for name, content in PICTURES.items()}).read_bytes()
    path, rejected = bring(serve(ranged(body, stop=700)) + "/a.zip", tmp_path / "got")
    assert (path.name, rejected, found(path)) == ("top", [], PICTURES)

    def named(request):
        reply(request, 200, body, Content_Disposition='attachment; filename="set.zip"')

    assert found(bring(serve(named) + "/get?id=5", tmp_path / "got")[0]) == PICTURES
    with pytest.raises(DataError, match="asks who you are"):
        bring(serve(lambda r: reply(r, 200, b"<!DOCTYPE html>")) + "/set.zip", tmp_path / "got")


# Buckets


@pytest.fixture
def bucket():
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    for name, content in PICTURES.items():
        fs.pipe(f"/shots/{name}", content)
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def test_only_what_changed_is_copied(bucket, tmp_path, monkeypatch):
    copied = []
    copy_object = download_module._copy_object

    def counted(fs, path, name, size, intake):
        copied.append(name)
        return copy_object(fs, path, name, size, intake)

    monkeypatch.setattr(download_module, "_copy_object", counted)
    assert (
        fetch_tree("memory://shots", tmp_path) == []
        and found(tmp_path) == PICTURES
        and sorted(copied) == sorted(PICTURES)
    )
    copied.clear()
    bucket.pipe("/shots/brick/0.png", b"new")
    bucket.rm("/shots/grass/1.png")
    (tmp_path / "grass/2.png").unlink()
    fetch_tree("memory://shots", tmp_path)
    assert sorted(copied) == ["brick/0.png", "grass/2.png"]
    assert found(tmp_path) == {
        k: b"new" if k == "brick/0.png" else v for k, v in PICTURES.items() if k != "grass/1.png"
    }


def test_no_key_leaves_the_folder(bucket, tmp_path):
    for key in ("..\\up.png", "C:up.png", "Brick/0.png", "brick/0.png.zip", "x\ny.png"):
        bucket.store[f"/shots/{key}"] = fsspec.implementations.memory.MemoryFile(bucket, f"/shots/{key}", b"x")
    rejected = fetch_tree("memory://shots", tmp_path / "out")
    names = set(found(tmp_path / "out"))
    assert (
        {n.lower() for n in names} == {n.lower() for n in PICTURES}
        and len(rejected) == 5
        and [p.name for p in tmp_path.iterdir()] == ["out"]
    )


def test_one_bad_object_is_listed_and_a_server_that_went_away_is_gone_on_with(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(download_module, "PAUSE", 0.0)
    opened, down = bucket.open, {"brick/1.png"}
    monkeypatch.setattr(
        type(bucket),
        "open",
        lambda self, path, *words, **more: (
            (_ for _ in ()).throw(ConnectionError("reset s3://k?X-Amz-Signature=abc"))
            if any(path.endswith(d) for d in down)
            else opened(path, *words, **more)
        ),
    )
    ((name, why),) = fetch_tree("memory://shots", tmp_path)
    assert name == "brick/1.png" and "reset s3://k?X-Amz-Signature=***" in why
    down.clear()
    assert fetch_tree("memory://shots", tmp_path) == [] and found(tmp_path) == PICTURES
    for name in PICTURES:
        bucket.pipe(f"/shots/more/{name}", b"1")
    down.add(".png")
    monkeypatch.setattr(download_module, "GONE", 3)
    with pytest.raises(DataError, match="3 files in a row failed.*goes on from there"):
        fetch_tree("memory://shots", tmp_path)
    assert PICTURES.items() <= found(tmp_path).items()


def test_a_bucket_is_capped(bucket, tmp_path):
    with pytest.raises(DataError, match="at most 3 files"):
        fetch_tree("memory://shots", tmp_path / "a", Limits(members=3))
    with pytest.raises(DataError, match="at most 900 bytes in all"):
        fetch_tree("memory://shots", tmp_path / "b", Limits(total_bytes=900))
    bucket.pipe("/shots/big.png", bytes(10_000))
    assert [name for name, _ in fetch_tree("memory://shots", tmp_path / "c", Limits(member_bytes=5_000))] == ["big.png"]


def test_links_of_a_served_folder_are_not_followed(tmp_path):
    (tmp_path / "src/a").mkdir(parents=True)
    (tmp_path / "src/a/1.png").write_bytes(b"1")
    (tmp_path / "secret.png").write_bytes(b"s")
    (tmp_path / "src/l.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "src/loop").symlink_to(tmp_path / "src")
    rejected = fetch_tree(f"file://{tmp_path}/src", tmp_path / "out")
    assert found(tmp_path / "out") == {"a/1.png": b"1"} and {name for name, _ in rejected} == {"l.png", "loop"}


def test_one_entrance(bucket, tmp_path):
    (tmp_path / "here").mkdir()
    assert bring(tmp_path / "here", tmp_path / "got") == (tmp_path / "here", [])
    zipped(tmp_path / "a.zip", PICTURES)
    assert found(bring(tmp_path / "a.zip", tmp_path / "got")[0]) == PICTURES
    bucket.pipe("/packed/a.zip", (tmp_path / "a.zip").read_bytes())
    bucket.pipe("/one/t.csv", b"uri,label\n")
    assert found(bring("memory://packed/a.zip", tmp_path / "got")[0]) == PICTURES
    assert bring("memory://one/t.csv", tmp_path / "got")[0].read_bytes() == b"uri,label\n"
    assert found(bring("memory://shots", tmp_path / "got")[0]) == PICTURES
    with pytest.raises(DataError, match="is not there"):
        bring(tmp_path / "none.zip", tmp_path / "got")
    with pytest.raises(MissingExtra, match="pip install gcsfs"):
        bring("gs://x/y", tmp_path / "got")
