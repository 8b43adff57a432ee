"`cvkit new`: a project of one's own, and both of its commands, for real."

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from test_wheel import outside, wheel  # noqa: F401

from cvkit.commands.new import new
from cvkit.core import DataError, ParameterError
from cvkit.data.manifest import Dataset
from cvkit.pipeline.graph import STAGES
from cvkit.pipeline.notebooks import notebook_parameters
from cvkit.release.policy import Policy

root = Path(__file__).resolve().parents[1]


def make(folder, *words, **more):
    "One of the project's commands, with a store of its own; `PYTHONPATH` leads to the cvkit that is tested."
    env = {**outside, "MLFLOW_TRACKING_URI": "", "MPLBACKEND": "agg", "COLUMNS": "200", "PYTHONPATH": str(root), **more}
    done = subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def started(output):
    return re.findall(r"^runs/\S+?/(\w+)\.ipynb$", output, re.M)


def cells(path):
    return json.loads(path.read_text())["cells"]


def read(*parts):
    return json.loads(Path(*parts).read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A project whose stages explain fewer images, as its owner may have it."
    folder = tmp_path_factory.mktemp("made") / "roof-damage"
    new("roof-damage", out=folder)
    explain = folder / "stages/explain.ipynb"
    text = explain.read_text()
    explain.write_text(
        text.replace("images: int = 8", "images: int = 3").replace("judged: int = 16", "judged: int = 4")
    )
    assert explain.read_text() != text
    return folder


@pytest.fixture(scope="module")
def ran(made):
    return make(made, "run", f"PY={sys.executable}")


# ---- what is written


def test_every_file_is_what_it_should_be(made):
    files = {p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file() and "runs" not in p.parts}
    expected = {
        "Makefile",
        "README.md",
        "settings.ini",
        "setup.py",
        "pyproject.toml",
        "policy.yaml",
        "dataset.yaml",
        ".gitignore",
        ".github/workflows/ci.yml",
        "nbs/00_core.ipynb",
        "nbs/01_first_model.ipynb",
        "roof_damage/__init__.py",
        "roof_damage/core.py",
        *(f"stages/{s}.ipynb" for s in STAGES),
    }
    assert expected <= files
    assert [
        name
        for name in expected
        if re.search(r"PROJECT_[A-Z]|(?<![\w.])/(?:home|root|Users)/", (made / name).read_text())
    ] == []
    assert [
        name for name in expected if name.endswith(".ipynb") and any(c.get("outputs") for c in cells(made / name))
    ] == []
    for name in expected:
        if name.endswith(".py"):
            ast.parse((made / name).read_text())
    assert tomllib.loads((made / "pyproject.toml").read_text())["tool"]["nbdev"]["lib_name"] == "roof_damage"
    assert yaml.safe_load((made / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["env"] == {
        "CVKIT": "${{ vars.CVKIT }}"
    }


def test_policy_and_declaration_are_valid_and_whole(made):
    assert (made / "policy.yaml").read_bytes() == (root / "cvkit/policy.yaml").read_bytes() and Policy.load(
        made / "policy.yaml"
    ).stages
    fields = list(Dataset.__dataclass_fields__)
    lines = (made / "dataset.yaml").read_text().splitlines()
    assert [line.rstrip(":") for line in lines if line and line[0] != "#"] == fields
    assert all(lines[lines.index(f"{field}:") - 1].startswith("# ") for field in fields), (
        "each field has a comment above it"
    )
    assert Dataset.load(made).undeclared() == [f for f in fields if f not in ("name", "citation", "consent", "ccpa")]


def test_the_template_and_its_stages_hold_parameters():
    assert set(notebook_parameters(root / "templates/project/nbs/01_first_model.ipynb")) == {
        "data",
        "out",
        "size",
        "seed",
    }


def test_a_failed_attempt_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cvkit.commands.new._installed_from", lambda: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError):
        new("roofs", out=tmp_path / "roofs")
    monkeypatch.undo()
    real = Path.write_text
    monkeypatch.setattr(
        Path,
        "write_text",
        lambda self, *a, **k: (
            (_ for _ in ()).throw(OSError(28, "No space left on device"))
            if self.name == "README.md"
            else real(self, *a, **k)
        ),
    )
    with pytest.raises(DataError, match="no space left on device"):
        new("roofs", out=tmp_path / "roofs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, words",
    [
        ("3d", "begins with a letter"),
        ("", "got ''"),
        ("class", "no word of Python's"),
        ("roof damage", "got 'roof damage'"),
        ("../roofs", "got '../roofs'"),
        ("_roofs", "begins with a letter"),
        ("roofs\n", "got 'roofs"),
        ("cvkit", "would hide it"),
        ("json", "would hide it"),
        ("torch", "would hide it"),
        ("dächer", "got 'd"),
    ],
)
def test_names_that_are_refused(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError) as caught:
        new(name)
    assert words in str(caught.value) and "choose another" in str(caught.value) and list(tmp_path.iterdir()) == []


def test_folders_that_are_refused_and_taken(tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("Dear Ada")
    (tmp_path / "file").write_text("")
    for name in ("full", "file"):
        with pytest.raises(DataError, match="choose another with --out"):
            new("roofs", out=tmp_path / name)
    assert (tmp_path / "full" / "letter.txt").read_text() == "Dear Ada"
    (tmp_path / "empty").mkdir()
    assert (new("roofs", out=tmp_path / "empty").folder / "roofs/core.py").exists()
    monkeypatch.chdir(tmp_path)
    assert (
        new("Roof-Damage-2").package == "Roof_Damage_2" and (tmp_path / "Roof-Damage-2/Roof_Damage_2/core.py").exists()
    )


def test_make_reads_the_place_that_pip_wrote(tmp_path, monkeypatch):
    place = "propertyai-cvkit @ git+https://git.example/a$b/cvkit@1db60a5#subdirectory=kit"
    monkeypatch.setattr("cvkit.commands.new._installed_from", lambda: place)
    folder = new("roofs", out=tmp_path / "roofs").folder
    (folder / "Makefile").write_text((folder / "Makefile").read_text() + "\nshow:\n\t@printf '%s' '$(CVKIT)'\n")
    assert make(folder, "show") == place
    assert make(folder, "show", CVKIT="./cvkit.whl") == "./cvkit.whl"


# ---- its two commands


@pytest.mark.slow
def test_run_takes_images_to_a_verdict(made, ran):
    assert started(ran) == ["first_model", "ingest", "train", "evaluate", "explain", "check", "register"]
    assert "staging: insufficient evidence" in ran and "run `cvkit serve`" in ran and "development" not in ran
    run = made / "runs/digits"
    evaluation, card, verdicts = (
        read(run, "evaluate/evaluation.json"),
        (run / "register/model_card.html").read_text(),
        read(run, "register/verdicts.json"),
    )
    accuracy = evaluation["metrics"]["accuracy"]
    assert (
        accuracy["low"] > 0.5
        and accuracy["n"] == 80
        and evaluation["looks"] == 1
        and f"{accuracy['value']:.3f}" in card
    )
    assert verdicts["development"]["verdict"] == "pass" and not [
        r for r in verdicts["staging"]["reasons"] if r["rule"] != "parity"
    ]
    assert len(read(run, "explain/explanation.json")["images"]) == 3, "an edited stage is what runs"
    shown = [o for c in cells(made / "runs/first/first_model.ipynb") for o in c.get("outputs", [])]
    assert sum("digit_3" in "".join(o.get("data", {}).get("text/html", "")) for o in shown) >= 3


@pytest.mark.slow
def test_a_second_run_does_again_only_what_changed(made, ran):
    assert started(make(made, "run", f"PY={sys.executable}")) == []
    policy = made / "policy.yaml"
    policy.write_text(policy.read_text().replace("name: cvkit default", "name: ours"))
    assert started(make(made, "run", f"PY={sys.executable}")) == ["register"]
    assert read(made, "runs/digits/evaluate/evaluation.json")["looks"] == 1, "the hold-out was looked at once"


@pytest.mark.slow
def test_test_passes_and_notices_what_is_wrong(made, ran):
    before = (made / "roof_damage/core.py").read_bytes()
    (made / "roof_damage/_modidx.py").unlink()
    make(made, "test", f"PY={sys.executable}")
    assert (made / "roof_damage/core.py").read_bytes() == before, (
        "core.py of the template is not what its notebook exports"
    )
    notebook, kept = made / "nbs/00_core.ipynb", (made / "nbs/00_core.ipynb").read_text()
    model, aside = (
        made / "nbs/01_first_model.ipynb",
        made / "nbs/_01_first_model.ipynb",
    )  # nbdev passes by what begins with an underscore
    model.rename(aside)
    try:
        notebook.write_text(kept.replace("mean() / 255", "mean() / 256"))
        with pytest.raises(AssertionError, match="00_core.ipynb"):
            make(made, "test", f"PY={sys.executable}")
        assert "/ 256" in (made / "roof_damage/core.py").read_text(), "what is tested was exported first"
    finally:
        notebook.write_text(kept)
        aside.rename(model)


@pytest.mark.slow
def test_both_commands_do_their_own_set_up(tmp_path, wheel):
    "From nothing but Python and a wheel: minutes, and gigabytes from the index."
    made = new("roof-damage", out=tmp_path / "roof-damage").folder
    where = {"CVKIT": str(wheel), "PYTHON": sys.executable, "PYTHONPATH": ""}
    assert "setting up .venv" in make(made, "test", **where)
    output = make(made, "run", **where)
    assert (
        "setting up" not in output and started(output)[-1] == "register" and "staging: insufficient evidence" in output
    )
    place = subprocess.run(
        [made / ".venv/bin/python", "-c", "import cvkit, roof_damage; print(cvkit.__file__, roof_damage.__file__)"],
        cwd="/",
        env=outside,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert len(place) == 2 and all(Path(p).is_relative_to(made) for p in place)
    shutil.rmtree(made / ".venv")
