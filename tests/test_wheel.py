"""The wheel: it carries what an installed cvkit needs, and with the base dependencies alone it predicts, and says what
the rest would take."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from test_serving import classes, encode, photo, small_bundle

root = Path(__file__).resolve().parents[1]
promise = 150e6  # bytes of site-packages, without pip and setuptools
outside = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
unreachable = re.compile(
    r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|Network is unreachable|ConnectTimeout"
)


def run(*words, cwd, check=True):
    done = subprocess.run(
        [str(w) for w in words],
        cwd=cwd,
        env=outside,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if check and done.returncode and unreachable.search(done.stdout + done.stderr):
        pytest.skip("pip cannot reach its index, and a clean environment needs numpy, Pillow and onnxruntime from it")
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def sources(folder):
    """A copy of the checkout's sources, so that building leaves nothing in the checkout and takes nothing from an
    earlier build."""
    skip = shutil.ignore_patterns("__pycache__", ".ruff_cache", ".ipynb_checkpoints", "*.egg-info")
    for name in ("cvkit", "templates"):
        shutil.copytree(root / name, folder / name, ignore=skip)
    for name in ("setup.py", "settings.ini", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        out,
        sources(tmp_path_factory.mktemp("sources")),
        cwd=out,
    )
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory):
    "The bin folder of a clean environment with the wheel and the base dependencies."
    folder = tmp_path_factory.mktemp("base") / "venv"
    run(sys.executable, "-m", "venv", folder, cwd="/")
    run(
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "-q",
        "--no-input",
        "--disable-pip-version-check",
        wheel,
        cwd="/",
    )
    return folder / "bin"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    "Two classes of three photographs."
    folder = tmp_path_factory.mktemp("images")
    for i in range(6):
        (folder / classes[i % 2]).mkdir(exist_ok=True)
        (folder / classes[i % 2] / f"{i}.png").write_bytes(encode(photo(i)))
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundle") / "bundle").folder


# ---- what it carries


def test_the_wheel_carries_what_is_no_module(wheel):
    carried = ZipFile(wheel)
    kept = [
        p
        for p in (
            *root.glob("cvkit/*.yaml"),
            *root.glob("cvkit/*.css"),
            *root.glob("cvkit/reports/templates/*"),
            *root.glob("templates/**/*"),
        )
        if p.is_file() and not {"__pycache__", ".ruff_cache", ".ipynb_checkpoints"} & set(p.parts)
    ]
    places = {
        p: p.relative_to(root).as_posix()
        if p.is_relative_to(root / "cvkit")
        else f"cvkit/{p.relative_to(root).as_posix()}"
        for p in kept
    }
    assert {
        "cvkit/policy.yaml",
        "cvkit/templates/train.ipynb",
        "cvkit/templates/project/Makefile",
        "cvkit/templates/project/dot.github/workflows/ci.yml",
    } <= set(places.values())
    assert not set(places.values()) - set(carried.namelist()), "add it to package_data in setup.py"
    assert [place for path, place in places.items() if carried.read(place) != path.read_bytes()] == []


def test_the_wheel_carries_every_module_and_nothing_else(wheel):
    names = ZipFile(wheel).namelist()
    modules = {p.relative_to(root).as_posix() for p in (root / "cvkit").rglob("*.py")}
    assert {n for n in names if n.endswith(".py") and not n.startswith("cvkit/templates/")} == modules
    assert [n for n in names if not n.startswith("cvkit/") and ".dist-info/" not in n] == []


def test_the_wheel_is_not_for_an_index(wheel):
    about = next(
        ZipFile(wheel).read(n).decode() for n in ZipFile(wheel).namelist() if n.endswith(".dist-info/METADATA")
    )
    assert "Name: propertyai-cvkit\n" in about and "Classifier: Private :: Do Not Upload\n" in about


# ---- what the base does


def size(folder):
    "Bytes by what lies in site-packages, pip's and setuptools' own left out."
    mine = {}
    for path in folder.iterdir():
        if re.match(r"pip\b|setuptools|pkg_resources|_distutils_hack|distutils-precedence|__pycache__", path.name):
            continue
        mine[path.name] = (
            sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size
        )
    return mine


@pytest.mark.xfail(
    strict=True,
    reason="the base promise of 150 MB does not hold: today's wheels of onnxruntime and numpy alone are larger",
)
def test_the_base_is_small(base):
    found = size(next(base.parent.glob("lib/python*/site-packages")))
    assert sum(found.values()) < promise, sorted(found.items(), key=lambda item: -item[1])[:6]


def test_the_base_installs_nothing_heavy(base):
    listed = run(
        base / "python", "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check", cwd="/"
    ).stdout.lower()
    names = set(re.findall(r"^([\w.-]+)==", listed, re.M))
    assert {"propertyai-cvkit", "numpy", "pillow", "onnxruntime"} <= names
    assert not names & {
        "torch",
        "torchvision",
        "timm",
        "mlflow",
        "pandas",
        "pyarrow",
        "scipy",
        "scikit-learn",
        "matplotlib",
        "jupyterlab",
        "nbdev",
        "papermill",
    }


def test_import_and_help(base, tmp_path):
    place = run(
        base / "python",
        "-c",
        "import cvkit, sys; print(cvkit.__file__); print('onnxruntime' in sys.modules)",
        cwd=tmp_path,
    ).stdout.split()
    assert Path(place[0]).is_relative_to(base.parent) and place[1] == "False"
    output = run(base / "cvkit", "--help", cwd=tmp_path).stdout
    assert output.startswith("usage: cvkit COMMAND") and "predict" in output
    assert run(base / "cvkit", "predict", "--help", cwd=tmp_path).stdout.startswith("usage: cvkit predict")


def test_predict_says_what_the_checkout_says(base, bundle, images, tmp_path):
    from cvkit.serving.file_predictions import predict_files
    from cvkit.serving.predictor import Predictor

    files = sorted(images.rglob("*.png"))
    printed = run(base / "cvkit", "predict", bundle, *files, cwd=tmp_path).stdout.split("\n")[:-1]
    assert printed == str(predict_files(Predictor(bundle), files)).split("\n") and len(printed) == 6


def test_predict_names_a_file_that_is_no_image(base, bundle, tmp_path):
    (tmp_path / "letter.png").write_text("Dear Ada")
    done = run(base / "cvkit", "predict", bundle, "letter.png", cwd=tmp_path, check=False)
    assert done.returncode == 1 and done.stdout.startswith("letter.png  not used: expected an image")
    assert "Traceback" not in done.stderr


def missing(base, tmp_path, *words):
    "What a verb answers that needs an extra."
    done = run(base / "cvkit", *words, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, ""), done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "verb, module",
    [
        ("ingest", "pandas"),
        ("train", "pandas"),
        ("demo", "jupyter_client.provisioning"),
        ("run", "nbformat"),
        ("why", "pydantic"),
    ],
)
def test_what_the_base_cannot_do_names_the_extra(base, bundle, images, tmp_path, verb, module):
    (tmp_path / "run" / "train").mkdir(parents=True)
    shutil.copytree(bundle, tmp_path / "run" / "train" / "bundle")
    words = {
        "ingest": [images],
        "train": [images],
        "demo": ["--data", images],
        "run": [root / "templates" / "ingest.ipynb"],
        "why": [tmp_path / "run"],
    }[verb]
    assert (
        missing(base, tmp_path, verb, *words)
        == f'cvkit {verb}: {module} is needed here and is not installed; run: pip install "propertyai-cvkit[train]"\n'
    )
