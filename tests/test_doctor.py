"The doctor, on machines that are really broken."

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cvkit.commands.doctor import (
    Checkup,
    Requirement,
    check_cache,
    check_cpu,
    check_disk,
    check_git,
    check_packages,
    check_seldon,
    check_store,
    cpu_flags,
    doctor,
    lacking,
    usable_cores,
)
from cvkit.core import cache_folder
from cvkit.serving.seldon_server import free_port


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    "A home and a working folder of its own, with an author and nothing else."
    for name in ("MLFLOW_TRACKING_URI", "CVKIT_CACHE", "CVKIT_SELDON_PYTHON", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gitconfig").write_text("[user]\n name = Ada Lovelace\n")
    return tmp_path


def mended(check, *values):
    "What a check finds after its own command was run in a shell, with what that shell exports."
    done = subprocess.run(["bash", "-c", f"{check(*values).mend}\nenv -0"], capture_output=True, check=True)
    before, after = (
        dict(os.environ),
        dict(word.split("=", 1) for word in done.stdout.decode().split("\0") if "=" in word),
    )
    os.environ.clear()
    os.environ.update(after)
    try:
        return check(*values)
    finally:
        os.environ.clear()
        os.environ.update(before)


def distribution(folder, monkeypatch, *lines, name="cake"):
    "An installed distribution that is its metadata alone."
    info = folder / "site" / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines, ""]))
    monkeypatch.syspath_prepend(info.parent)


def test_all_is_well_here():
    found = doctor()
    assert found.ok and not [f for f in found.findings if f.state == "problem"], found
    assert found["Git"].found == "author Ada Lovelace"
    assert json.loads(json.dumps(found.to_dict()))["ok"] is True
    assert not Path(".cache").exists() and not Path("mlflow.db").exists() and not Path("runs").exists(), (
        "a check changes nothing"
    )


def test_a_problem_is_not_ok_and_a_missing_option_is():
    assert Checkup([
        Requirement("a", "ok", ""),
        Requirement("b", "missing", "", "get b"),
        Requirement("c", "note", ""),
    ]).ok
    assert not Checkup([Requirement("a", "ok", ""), Requirement("d", "problem", "")]).ok
    assert (
        "&lt;img" in Checkup([Requirement("<img>", "problem", "<img>", "<img>")])._repr_html_()
        and "<img>" not in Checkup([Requirement("<img>", "problem", "<img>", "<img>")])._repr_html_()
    )


def test_packages_that_are_absent_too_old_or_for_another_platform(machine, monkeypatch):
    distribution(
        machine,
        monkeypatch,
        "Requires-Python: >=3.8",
        "Requires-Dist: numpy",
        "Provides-Extra: train",
        'Requires-Dist: no-such-package>=2; extra == "train"',
        'Requires-Dist: Pillow<1; extra == "train"',
        'Requires-Dist: only-elsewhere; sys_platform == "plan9" and extra == "train"',
        "Provides-Extra: icing",
        'Requires-Dist: Pillow; extra == "icing"',
        "Provides-Extra: all",
        'Requires-Dist: no-such-package; extra == "all"',
    )
    found = Checkup(check_packages("cake"))
    assert [f.name for f in found.findings] == ["Python", "cvkit", "extra icing", "extra train"]
    assert (found["cvkit"].state, found["extra icing"].state, found["extra train"].state) == (
        "ok",
        "ok",
        "missing",
    ) and found.ok
    assert (
        "lacks no-such-package, Pillow" in found["extra train"].found
        and "(wants <1): training" in found["extra train"].found
    )
    assert found["extra train"].mend == 'pip install "cake[train]"'


def test_a_requirement_that_is_always_needed(machine, monkeypatch):
    distribution(machine, monkeypatch, "Requires-Python: >=99", "Requires-Dist: no-such-package")
    found = Checkup(check_packages("cake"))
    assert not found.ok and found.named("problem") == ["Python", "cvkit"]
    assert (
        "cvkit wants >=99" in found["Python"].found
        and found["cvkit"].mend == 'pip install "cake"'
        and lacking("", "cake") == ["no-such-package"]
    )


def test_a_closed_port(monkeypatch):
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:secret@127.0.0.1:{port}")
    found = doctor()
    assert not found.ok and found.named("problem") == ["MLflow store"]
    assert (
        f"127.0.0.1:{port}" in found["MLflow store"].found
        and "refused" in found["MLflow store"].found
        and "secret" not in repr(found)
    )
    assert mended(check_store).state == "ok"


def test_a_server_that_answers_is_not_told_with_its_password(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://ada:secret@127.0.0.1:{server.getsockname()[1]}/mlflow")
        found = check_store()
    assert found.state == "ok" and "secret" not in found.found and "127.0.0.1" in found.found


@pytest.mark.parametrize("uri", ["http://[half", "http://127.0.0.1:99999", "htpp://127.0.0.1", "databricks"])
def test_an_address_that_is_none(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    found = doctor()
    assert (
        next(f for f in found.findings if "store" in f.name).state in ("note", "problem") and len(found.findings) > 10
    )


def test_a_store_that_is_no_database(machine):
    (machine / "mlflow.db").write_text("words " * 500)
    found = check_store()
    assert found == Requirement(
        "MLflow store", "problem", "~/mlflow.db: file is not a database", "mv ~/mlflow.db ~/mlflow.db.old"
    )
    assert mended(check_store).state == "ok" and (machine / "mlflow.db.old").exists()


def test_a_store_that_is_a_folder_or_stands_below_a_file(machine, monkeypatch):
    (machine / "mlflow.db").mkdir()
    assert check_store().state == "problem" and mended(check_store).state == "ok"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{machine}/.gitconfig/mlflow.db")
    assert check_store().state == "problem" and "no folder" in check_store().found and mended(check_store).state == "ok"


def test_a_store_that_is_locked_and_one_that_is_looked_at_twice(machine):
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as store:
        store.execute("CREATE TABLE runs (x)")
        before = Path("mlflow.db").read_bytes()
        assert check_store().state == "ok" and Path("mlflow.db").read_bytes() == before
        store.execute("BEGIN IMMEDIATE")
        assert check_store().state == "note" and "another process" in check_store().found


def as_someone(code, folder):
    "Run Python as a user who is not root; the library and the interpreter must be readable to them."
    import pwd

    user = pwd.getpwnam("nobody")
    return subprocess.run(
        [
            sys.executable,
            "-c",
            (
                f"import os, sys\nsys.path[:0] = {sys.path!r}\nimport cvkit.commands.doctor as d, "
                "cvkit.serving.seldon_server, cvkit.release.tracking, encodings.idna, sqlite3, tempfile, "
                "urllib.parse\nos.setgroups([]); "
                f"os.setgid({user.pw_gid}); os.setuid({user.pw_uid})\n{code}"
            ),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="drops the rights of root")
def test_places_that_may_not_be_written_to(machine):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "open").mkdir(mode=0o777)
        os.chmod(f"{folder}/open", 0o777)
        with closing(sqlite3.connect(f"{folder}/open/mlflow.db")) as store:
            store.executescript("CREATE TABLE runs (x)")
        done = as_someone(
            (
                f"os.environ.update(CVKIT_CACHE='{folder}/cache', HOME='{folder}', "
                f"MLFLOW_TRACKING_URI='sqlite:///{folder}/open/mlflow.db')\n"
                "print(d.check_store(), d.check_disk(), d.check_cache(), "
                "sep='\\n')\nos.environ.pop('MLFLOW_TRACKING_URI')\nprint(d.check_store())"
            ),
            folder,
        )
    told = done.stdout.splitlines()
    assert (
        done.returncode == 0
        and "~/open/mlflow.db cannot be written to (permission denied)" in told[0]
        and told[1].endswith("$ chmod u+rw ~/open/mlflow.db")
    ), done
    assert (
        told[6].startswith("problem  MLflow store")
        and "cannot be written to" in told[6]
        and told[7].endswith('$ export MLFLOW_TRACKING_URI="sqlite:///$HOME/mlflow.db"')
    )
    assert (
        told[2].startswith("problem  runs")
        and "cannot be written to (permission denied)" in told[2]
        and told[3].endswith("$ cvkit demo --out /path/with/space")
    )
    assert told[4].startswith("problem  cache") and told[5].endswith('$ export CVKIT_CACHE="$(mktemp -d)"')


def test_a_cache_that_is_a_file(machine, monkeypatch):
    (machine / "my cache").write_text("no folder")
    monkeypatch.setenv("CVKIT_CACHE", str(machine / "my cache"))
    assert check_cache() == Requirement(
        "cache", "problem", "~/'my cache' is a file", "mv ~/'my cache' ~/'my cache'.old"
    )
    assert not doctor().ok and mended(check_cache).state == "ok"


def test_a_cache_below_a_file(machine, monkeypatch):
    monkeypatch.setenv("CVKIT_CACHE", str(machine / ".gitconfig" / "cache"))
    assert check_cache().state == "problem" and "~/.gitconfig is no folder" in check_cache().found
    assert mended(check_cache).state == "ok"


def test_a_cache_that_others_may_read(machine):
    cache = machine / ".cache" / "cvkit"
    cache.mkdir(parents=True)
    cache.chmod(0o750)
    (cache / "a").write_bytes(bytes(3_000_000))
    assert check_cache().state == "note" and "mode 750" in check_cache().found
    made = cache_folder("pixels")
    assert made.stat().st_mode & 0o777 == 0o700 and cache.stat().st_mode & 0o777 == 0o750, (
        "what was there stays as it was, what is made is private"
    )
    cache.chmod(0o700)
    assert check_cache().state == "ok" and ": 3 MB, private" in check_cache().found


def test_disks_that_are_full():
    assert check_disk("runs/demo").state == "ok" and not Path("runs").exists()
    for found in (check_disk("runs", needed=1e21), check_cache(needed=1e21)):
        assert found.state == "problem" and "wanted 1000000000000.0" in found.found and "/path/with/space" in found.mend
    assert not doctor(out=".gitconfig").ok


def test_git_without_a_name(machine):
    (machine / ".gitconfig").unlink()
    assert check_git().state == "problem" and "name of the account" in check_git().found and not doctor().ok
    assert mended(check_git) == Requirement("Git", "ok", "author Your Name")


def test_a_path_without_git(machine, monkeypatch):
    monkeypatch.setenv("PATH", str(machine))
    found = doctor()
    assert (
        found["Git"].state == "missing"
        and found["Git"].mend.endswith("install git")
        and found["browser"].state == "note"
        and found.ok
    )


@pytest.mark.parametrize(
    ("printed", "code", "state", "found"),
    [
        ("1.17.1", 0, "ok", "seldon-core 1.17.1"),
        ("1.18.2", 0, "problem", "seldon-core 1.18.2, expected 1.17.1"),
        ("", 1, "problem", "no seldon-core"),
    ],
)
def test_seldon_environments(machine, monkeypatch, printed, code, state, found):
    python = machine / "python"
    python.write_text(f"#!/bin/sh\necho {printed}\nexit {code}\n")
    python.chmod(0o755)
    monkeypatch.setenv("CVKIT_SELDON_PYTHON", str(python))
    assert check_seldon().state == state and found in check_seldon().found
    assert check_seldon().mend == ("" if state == "ok" else "unset CVKIT_SELDON_PYTHON")


def test_a_seldon_environment_that_does_not_run_or_is_not_there(machine, monkeypatch):
    monkeypatch.setenv("CVKIT_SELDON_PYTHON", str(machine / "nowhere"))
    assert check_seldon().state == "problem" and check_seldon().mend == "unset CVKIT_SELDON_PYTHON"
    (machine / "nowhere").write_text("not to be run")
    assert check_seldon().state == "problem" and "does not run" in check_seldon().found
    monkeypatch.delenv("CVKIT_SELDON_PYTHON")
    monkeypatch.setattr(sys, "prefix", str(machine / "venv"))
    assert check_seldon().state == "missing" and check_seldon().mend.startswith(
        "python3.11 -m venv .venv-seldon && .venv-seldon/bin/pip install seldon-core==1.17.1"
    )


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode,
    reason="needs a network of its own",
)
def test_a_machine_without_loopback(machine):
    code = "from cvkit.commands.doctor import check_loopback as c; print(c().state, c().mend)"
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "problem sudo ip link set lo up", done


def test_flags_and_cores():
    assert cpu_flags("processor : 0\nFeatures : fp asimd i8mm bf16\n", "aarch64") == {
        "fp",
        "asimd",
        "i8mm",
        "bf16",
        "neon",
    }
    assert "bfloat16 (bf16) and int8 (i8mm), which cvkit does not use" in check_cpu({"neon", "i8mm", "bf16"}).found
    assert check_cpu({"avx2"}).state == "ok" and "permit" not in check_cpu({"avx2"}).found
    assert check_cpu(set()).state == "note" and "no vector flags known" in check_cpu(set()).found
    cores = usable_cores()
    assert (
        usable_cores(""),
        usable_cores("max 100000"),
        usable_cores("20000 100000"),
        usable_cores("9999900000 100000"),
    ) == (cores, cores, 1, cores)


def test_the_base_install_is_enough_and_nothing_heavy_is_imported(machine):
    "Base packages alone can be imported; torch is there by name, and must not be looked into without a driver."
    code = """
import sys
absent = "torch mlflow pandas sklearn scipy matplotlib pydantic papermill IPython".split()
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent: raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Only())
import cvkit.commands.doctor as d
d.find_spec = lambda name: None
found = d.doctor()
found._repr_html_()
print(found.ok, found["GPU"].found)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.startswith("True not asked, torch is not installed"), done
    plain = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from cvkit.commands.doctor import check_gpu; print(check_gpu().found, 'torch' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert plain.stdout.strip().endswith("cvkit computes on the processor False"), plain
