"The tree: what is generated is in step, notebooks are clean, and imports go one way."

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

root = Path(__file__).resolve().parents[1]
rooms = [  # a room imports only itself and those before it
    "core",
    "task_info",
    "stats",
    "reports",
    "data",
    "model",
    "evidence",
    "release",
    "serving",
    "monitoring",
    "tasks",
    "pipeline",
    "erasure",
    "commands",
]
by_hand = {Path("cvkit/__init__.py")}
notebooks = sorted(  # the reading order
    path
    for path in (root / "nbs").rglob("*.ipynb")
    if ".ipynb_checkpoints" not in path.parts and path.name != "index.ipynb"
)
library = [path for path in notebooks if path.parent.name != "tutorials"]  # a tutorial exports nothing
templates = sorted(path for path in (root / "templates").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
modules = sorted(path for path in (root / "cvkit").rglob("*.py") if path.name not in ("__init__.py", "_modidx.py"))


def text(path):
    return path.read_text(encoding="utf-8")


def named(paths):
    return dict(argvalues=paths, ids=[path.relative_to(root).as_posix() for path in paths])


def cells(path, kind="code"):
    return [cell for cell in json.loads(text(path))["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def module_of(path):
    "The module that a notebook exports, as `data.manifest`, or None."
    return next(
        (found[1] for cell in cells(path) if (found := re.search(r"^#\|\s*default_exp\s+(\S+)", source(cell), re.M))),
        None,
    )


def imports_of(path):
    "The modules of cvkit that a module imports anywhere, as `data.manifest`."
    package = path.relative_to(root).parent.parts
    found = set()
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            start = ".".join(filter(None, [base, node.module]))
            names = [f"{start}.{alias.name}" for alias in node.names] + [start]
        else:
            continue
        found |= {name.removeprefix("cvkit.") for name in names if name.startswith("cvkit.")}
    return found & {dotted(module) for module in modules}


def dotted(module):
    return ".".join(module.relative_to(root / "cvkit").with_suffix("").parts)


def generated(folder):
    "What nbdev wrote below folder/cvkit: module files, the empty __init__.py of each room, the index."
    return {
        path.relative_to(folder): path.read_bytes()
        for path in (folder / "cvkit").rglob("*.py")
        if path.relative_to(folder) not in by_hand
    }


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "The sources of the tree in a temporary folder, without what nbdev generates."
    folder = tmp_path_factory.mktemp("tree")
    for name in ("nbs", "templates"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in ("pyproject.toml", "settings.ini", "setup.py"):
        shutil.copy(root / name, folder)
    for name in by_hand:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, folder / name)
    return folder


def nbdev(command, folder):
    "Run one of nbdev's commands in a folder."
    done = subprocess.run(
        [Path(sys.executable).with_name(command)], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_are_what_the_notebooks_export(copy):
    nbdev("nbdev-export", copy)
    fresh, kept = generated(copy), generated(root)
    assert not fresh.keys() - kept.keys(), "exported but not in the checkout: run `make export`"
    assert not kept.keys() - fresh.keys(), "no notebook exports these: delete them, or write the notebook"
    assert not [name.as_posix() for name in fresh if fresh[name] != kept[name]], (
        "out of step with their notebooks: run `make export`"
    )


def test_nbdev_clean_changes_nothing(copy):
    before = {path: path.read_bytes() for path in (copy / "nbs").rglob("*.ipynb")}
    nbdev("nbdev-clean", copy)
    assert not [path.relative_to(copy).as_posix() for path in before if path.read_bytes() != before[path]], (
        "run nbdev-clean"
    )


def numbered(path):
    "The module that a notebook's path stands for: `nbs/04_data/02_manifest.ipynb` is `data.manifest`."
    parts = path.relative_to(root / "nbs").with_suffix("").parts
    assert all(re.match(r"\d\d_", part) for part in parts), f"folders and notebooks are numbered: {path}"
    return ".".join(part[3:] for part in parts)


def module_path(name):
    return root / "cvkit" / Path(*name.split(".")).with_suffix(".py")


def test_each_module_has_one_notebook():
    wrong = [
        f"{path.relative_to(root)} exports {module_of(path)}" for path in library if module_of(path) != numbered(path)
    ]
    assert not wrong
    assert {module_path(numbered(path)) for path in library} == set(modules)


def test_a_number_is_given_once_in_a_folder():
    for folder in {path.parent for path in library}:
        numbers = [path.name[:2] for path in folder.iterdir() if re.match(r"\d\d_", path.name)]
        assert len(set(numbers)) == len(numbers), f"two entries of {folder.relative_to(root)} have one number"


def test_rooms_stand_in_the_order_of_what_they_may_import():
    order = [rooms.index(numbered(path).split(".")[0]) for path in library]
    assert order == sorted(order)


def test_imports_go_only_to_earlier_notebooks():
    position = {numbered(path): i for i, path in enumerate(library)}
    upward = [
        f"{name} imports {other}"
        for name in position
        for other in imports_of(module_path(name))
        if position[other] >= position[name]
    ]
    assert not upward


@pytest.mark.parametrize("path", **named(library))
def test_library_notebook(path):
    first, code = cells(path, "markdown")[0], cells(path)
    assert re.match(r"# \S.*\n\n?> \S.*[.!?]$", source(first)), "starts with `# Title` and `> one sentence.`"
    assert path.stat().st_size <= 500_000, "at most 500 KB"
    assert any(cell["outputs"] for cell in code), "keeps its outputs"
    assert not [output["ename"] for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    for cell in code:
        if not re.match(r"#\|\s*exports?\b", source(cell)):
            continue
        assert not re.search(r"^[%!]|import \*", source(cell), re.M), (
            f"no magics and star imports in exported cells:\n{source(cell)}"
        )


place = re.compile(r"(?<![\w.:/<])/(?:home|root|tmp|work|Users|usr|opt|var|mnt|private)/[\w.-]+")
moment = re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d|\b0x[0-9a-f]{8,}\b|\bobject at 0x")


pace = re.compile(r"\d(?:it/s|s/it)\b|\d \d\d:\d\d:\d\d INFO ")


@pytest.mark.parametrize("path", **named(notebooks))
def test_outputs_name_no_machine_and_no_moment(path):
    for cell in cells(path):
        for output in cell["outputs"]:
            assert "<Figure size" not in "".join(output.get("data", {}).get("text/plain", "")) or any(
                kind.startswith("image/") for kind in output["data"]
            ), f"a figure that nobody sees; run it without MPLBACKEND:\n{source(cell)}"
            words = [output.get("text", "")] + [
                value for kind, value in output.get("data", {}).items() if kind.startswith("text/")
            ]
            shown = re.sub(r"base64,[\w+/=]+", "", "".join("".join(value) for value in words))
            found = place.search(shown) or moment.search(shown) or pace.search(shown)
            assert not found, f"stored output holds {found[0]!r}:\n{source(cell)}"


@pytest.mark.parametrize("path", **named([path for path in notebooks if path not in library]))
def test_tutorial(path):
    assert re.match(r"# \S.*\n\n?> \S.*[.!?]$", source(cells(path, "markdown")[0])), (
        "starts with `# Title` and `> one sentence.`"
    )
    assert module_of(path) is None and not [cell for cell in cells(path) if re.match(r"#\|\s*export", source(cell))], (
        "a tutorial exports nothing"
    )
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    assert outputs and not [output["ename"] for output in outputs if output["output_type"] == "error"], (
        "keeps its outputs, and none is an error"
    )


@pytest.mark.parametrize("path", **named(templates))
def test_template_holds_no_outputs(path):
    kept = [source(cell) for cell in cells(path) if cell["outputs"] or cell["execution_count"]]
    assert not kept, "templates are stored without outputs"
    if path.parent.name == "templates":
        assert any("parameters" in cell["metadata"].get("tags", []) for cell in cells(path)), (
            "one cell is tagged `parameters`"
        )


@pytest.mark.parametrize("path", **named(modules))
def test_module(path):
    tree = ast.parse(text(path))
    listed = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    defined = {
        node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"
    }
    assert defined <= set(listed), "public and missing from __all__"
    assert not [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and node.name in defined
        and node in tree.body
        and not ast.get_docstring(node)
    ], "without a docstring"


def settings():
    config = ConfigParser(delimiters=["="])
    config.read(root / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def test_version_is_the_same_everywhere():
    import cvkit

    assert settings()["version"] == cvkit.__version__
    assert settings()["dist_name"] == re.search(r'^name = "(.+)"', text(root / "pyproject.toml"), re.M)[1]


def test_locks_cover_the_requirements():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = {
        lock: {
            canonicalize_name(name): version
            for name, version in re.findall(r"^([\w.-]+)==(\S+)", text(root / f"deploy/locks/{lock}.txt"), re.M)
        }
        for lock in ("notebooks", "seldon")
    }
    wanted = [
        ("notebooks", word)
        for key, value in settings().items()
        if key.endswith("requirements")
        for word in value.split()
    ]
    wanted += [("seldon", word) for word in settings()["requirements"].split()]
    for lock, requirement in ((lock, Requirement(word)) for lock, word in wanted):
        version = pins[lock].get(canonicalize_name(requirement.name))
        assert version and version in requirement.specifier, (
            f"{requirement} is not in deploy/locks/{lock}.txt ({version}): run `make locks`"
        )
    for lock in pins:
        assert not re.search(r"https?://|--(extra-)?index-url|file:", text(root / f"deploy/locks/{lock}.txt")), (
            "a lock names no index"
        )


def test_readme_is_index():
    sys.path.insert(0, str(root / "docs"))
    try:
        from readme import readme
    finally:
        sys.path.pop(0)
    assert text(root / "README.md") == readme(), "run `make export`"


heavy = ("torch", "mlflow", "pandas", "matplotlib", "sklearn", "scipy", "onnxruntime", "PIL", "papermill", "luigi")


def python(code, **env):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, timeout=60, env={**os.environ, **env}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_cvkit_is_light():
    assert python(f"import sys, cvkit; print(*[name for name in {heavy} if name in sys.modules])") == []


# What each module loads, each in a fork of one process that has loaded nothing of cvkit yet.
LOADED = """
import importlib, json, os, sys

import numpy  # allowed everywhere, and slow to load a hundred times

for name in sys.argv[1:]:
    sys.stdout.flush()
    if os.fork() == 0:
        importlib.import_module(f"cvkit.{name}")
        print(json.dumps([name, [heavy for heavy in HEAVY if heavy in sys.modules]]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, f"cvkit.{name} cannot be imported"
"""


def test_import_of_a_module_is_light():
    words = [sys.executable, "-c", LOADED.replace("HEAVY", repr(heavy)), *map(dotted, modules)]
    done = subprocess.run(words, cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    light = {"core": set(), "task_info": set(), "stats": set(), "reports": set()}
    served = {"serving", "monitoring", "tasks", "pipeline", "erasure", "commands"}
    wrong = []
    for line in done.stdout.splitlines():
        name, loaded = json.loads(line)
        room = name.split(".")[0]
        allowed = {"PIL", "onnxruntime"} if room in served else light.get(room, {"PIL"})
        wrong += [f"cvkit.{name} loads {heavier}" for heavier in set(loaded) - allowed]
    assert not wrong, "import it inside the functions that need it, with need(...)"


def test_command_line_says_what_it_does():
    command = Path(sys.executable).with_name("cvkit")
    done = subprocess.run([command, "--help"], cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    import cvkit

    assert [name for name in cvkit.__all__ if name not in done.stdout] == []


def test_what_the_quick_run_leaves_out_names_a_chapter_and_tests_that_exist():
    import notebooks

    modules = {notebooks.module_of(path) for path in (root / "nbs").rglob("*.ipynb") if "tutorials" not in path.parts}
    assert set(notebooks.SLOW) - modules == set()
    assert [tests for tests in notebooks.SLOW.values() if not list((root / "tests").glob(tests))] == []
