"Notebooks as jobs, records, the pipeline's memory, and a command line that answers every mistake with one sentence."

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from cvkit.commands import cli
from cvkit.core import NotebookError, ParameterError
from cvkit.pipeline import graph
from cvkit.pipeline.graph import STAGES, claim_folder, stage_keys, template
from cvkit.pipeline.notebooks import check_parameters, notebook_parameters, run_notebook

command = Path(sys.executable).with_name("cvkit")
root = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    "One store for all: making its tables takes seconds."
    before, os.environ["MLFLOW_TRACKING_URI"] = (
        os.environ.get("MLFLOW_TRACKING_URI"),
        f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}",
    )
    yield
    os.environ.pop("MLFLOW_TRACKING_URI") if before is None else os.environ.update(MLFLOW_TRACKING_URI=before)


def cvkit(folder, *words, **env):
    return subprocess.run(
        [command, *map(str, words)], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=120
    )


def notebook(folder, *cells, name="job"):
    "A notebook whose first cell holds the parameters."
    made = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(text, metadata={"tags": ["parameters"]} if i == 0 else {})
            for i, text in enumerate(cells)
        ]
    )
    made.metadata.kernelspec = {"name": "python3", "display_name": "python3", "language": "python"}
    nbformat.write(made, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def shown(path):
    return "".join(o.get("text", "") for c in nbformat.read(path, 4).cells for o in c.get("outputs", []))


def test_a_batch_job_says_how_far_it_is_and_a_terminal_shows_it(tmp_path):
    "The file of a running stage, seen through a terminal; nothing is shown where there is none."
    import pty

    code = """
import os, time
from pathlib import Path
from cvkit.core import progress
from cvkit.pipeline.graph import watching
place = Path("train/.progress"); place.parent.mkdir(exist_ok=True)
os.environ["CVKIT_PROGRESS"] = str(place)
with watching("."):
    for _ in progress(range(4), "extracting"): time.sleep(.7)
"""
    shown, here = [], os.getcwd()

    def read(descriptor):
        return shown.append(os.read(descriptor, 4096)) or shown[-1]

    os.chdir(tmp_path)
    try:
        pty.spawn([sys.executable, "-c", code], read)
    finally:
        os.chdir(here)
    lines = b"".join(shown).decode().split("\r\x1b[2K")
    assert any(line.startswith("train: extracting 1/4, ") for line in lines) and lines[-1].strip() == "", lines
    (tmp_path / "train/.progress").unlink()
    quiet = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (
        quiet.returncode == 0 and quiet.stderr == "" and (tmp_path / "train/.progress").read_text() == "extracting 3/4"
    )


def test_a_forked_kernel_is_like_any_other(tmp_path):
    from cvkit.pipeline.kernels import warm_kernels

    plot = notebook(
        tmp_path,
        "n = 1",
        (
            "import os, sys, matplotlib.pyplot as plt\nplt.plot([n, 2]); plt.show()\nprint(os.environ['COLOUR'], "
            "os.getcwd(), 'torch' in sys.modules, os.getpgrp() == os.getpid())"
        ),
        name="plot",
    )
    fail = notebook(tmp_path, "n = 1", "1 / 0", name="fail")
    with warm_kernels():
        done = run_notebook(plot, parameters={"n": 3}, progress=False, environment={"COLOUR": "red"})
        with pytest.raises(NotebookError, match="ZeroDivisionError"):
            run_notebook(fail, progress=False)
        for _ in range(60):  # until everything is imported
            again = run_notebook(plot, tmp_path / "again.ipynb", progress=False, environment={"COLOUR": "blue"})
            if " True True" in shown(again):
                break
    assert shown(done).startswith(f"red {os.getcwd()}") and shown(done).endswith("True\n")
    assert shown(again) == f"blue {os.getcwd()} True True\n"
    for path in (done, again):
        assert any(
            "image/png" in o.get("data", {}) for c in nbformat.read(path, 4).cells for o in c.get("outputs", [])
        ), "the figure is shown"


def test_a_kernel_server_that_died_is_not_waited_for(tmp_path):
    "Its socket closes with it, so that a caller is refused, also one whose request it had taken."
    import signal
    import time

    from cvkit.pipeline.kernels import _request_kernel, warm_kernels

    path = notebook(tmp_path, "n = 1", "import os; print(os.getppid())")
    with warm_kernels():
        server = int(shown(run_notebook(path, progress=False)))
        assert server != os.getpid()
        os.kill(server, signal.SIGKILL)
        start = time.monotonic()
        with pytest.raises(OSError):
            _request_kernel(["-f", "none"], {}, str(tmp_path))
        assert time.monotonic() - start < 10, "far from the 30 s that an import may take"
        assert int(shown(run_notebook(path, progress=False))) == os.getpid(), "an ordinary kernel"


def test_what_a_kernel_server_imports_prints_nothing_and_compiles_no_grammar():
    code = (
        "import sys; from cvkit.pipeline.kernels import _import_steps\n"
        "loaded = list(_import_steps(['cvkit.commands.train']))\n"
        "assert {'torch', 'timm'} <= set(loaded) & set(sys.modules); print('rfc3987_syntax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_forked_kernels_end_with_the_process_that_wanted_them(tmp_path):
    import signal
    import time

    long = notebook(
        tmp_path,
        "n = 1",
        "import os, pathlib, time\npathlib.Path('pids').write_text(f'{os.getpid()} {os.getppid()}')\ntime.sleep(300)",
        name="long",
    )
    code = (
        "from cvkit.pipeline.kernels import warm_kernels; from cvkit.pipeline.notebooks import run_notebook\nwith "
        f"warm_kernels(): run_notebook({str(long)!r}, progress=False)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)

    def gone(pid):
        return not Path(f"/proc/{pid}").exists()

    def until(ready, seconds=30):
        end = time.monotonic() + seconds
        while not ready() and time.monotonic() < end:
            time.sleep(0.1)
        return ready()

    assert until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().count(" ") == 1)
    kernel, nursery = map(int, (tmp_path / "pids").read_text().split())
    assert nursery != owner.pid, "the kernel is a fork"
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert until(lambda: gone(nursery)) and until(lambda: gone(kernel)), "nothing is left"


parameters = "count: int = 2\nshare = 0.5\nname: str = 'a'\nquick = True\nsizes = [1, 2]\nnothing = None"


@pytest.mark.parametrize(
    "given, taken",
    [
        ({"count": "4"}, 4),
        ({"share": "1"}, 1.0),
        ({"share": 2}, 2.0),
        ({"name": "5"}, "5"),
        ({"quick": "false"}, False),
        ({"sizes": "[3]"}, [3]),
        ({"nothing": "x"}, "x"),
        ({"count": "-1"}, -1),
    ],
)
def test_text_becomes_the_type_of_the_default(tmp_path, given, taken):
    found = check_parameters(notebook(tmp_path, parameters), given)
    assert list(found.values()) == [taken] and type(found.popitem()[1]) is type(taken)


@pytest.mark.parametrize(
    "given, words",
    [
        (
            {"cuont": 4},
            (
                "job.ipynb takes no parameter 'cuont'; did you mean count? it takes count, share, name, quick, sizes, "
                "nothing"
            ),
        ),
        ({"count": "four"}, "expected count of job.ipynb to be int such as 2, got str 'four'; correct it"),
        ({"count": "2.5"}, "expected count of job.ipynb to be int such as 2, got float 2.5"),
        ({"count": True}, "got bool True"),
        ({"quick": "1"}, "to be bool such as True, got int 1"),
        ({"share": True}, "got bool True"),
        ({"name": 3}, "to be str such as 'a', got int 3"),
        ({"sizes": "3"}, "to be list such as [1, 2], got int 3"),
        ({"count": "__import__('os').getcwd()"}, "got str"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_before_anything_runs(tmp_path, given, words):
    path = notebook(tmp_path, parameters, "open('ran', 'w')")
    with pytest.raises(ParameterError) as error:
        run_notebook(path, parameters=given, progress=False)
    assert words in str(error.value) and sorted(p.name for p in tmp_path.iterdir()) == ["job.ipynb"]


UNTYPED = """
import os
from pathlib import Path
%matplotlib inline
size = 2 * 112
out = Path('runs')
data = os.environ.get('DATA', 'photos')
width, height = 640, 480
first = second = 1
limit: int | None = None
classes: list | None = None
quick: bool | None = None
title: str | None = None
mode: Literal['fast', 'best'] = 'fast'
data_frame: pd.DataFrame = None
model.name = 'a'
counts[0] = 1
nothing = None
"""


@pytest.mark.parametrize(
    "given, taken",
    [
        ({"size": "64"}, 64),
        ({"out": "other"}, "other"),
        ({"data": "houses"}, "houses"),
        ({"height": "100"}, 100),
        ({"second": "3"}, 3),
        ({"limit": "100"}, 100),
        ({"limit": "None"}, None),
        ({"limit": "null"}, None),
        ({"classes": "['a']"}, ["a"]),
        ({"quick": "false"}, False),
        ({"title": "100"}, "100"),
        ({"title": "None"}, None),
        ({"mode": "best"}, "best"),
        ({"nothing": "100"}, 100),
        ({"nothing": "a 1"}, "a 1"),
    ],
)
def test_text_becomes_the_annotated_type_and_never_text_for_a_number(tmp_path, given, taken):
    (found,) = check_parameters(notebook(tmp_path, UNTYPED), given).values()
    assert found == taken and type(found) is type(taken)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"limit": "many"}, "expected limit of job.ipynb to be int | None, got str 'many'; correct it"),
        ({"limit": "1.5"}, "to be int | None, got float 1.5"),
        ({"mode": "slow"}, "to be Literal['fast', 'best'] such as 'fast', got str 'slow'"),
        ({"width": "wide"}, "to be int such as 640, got str 'wide'"),
        ({"name": "a"}, "takes no parameter 'name'"),
    ],
)
def test_a_value_outside_the_annotation_is_refused(tmp_path, given, words):
    with pytest.raises(ParameterError) as error:
        check_parameters(notebook(tmp_path, UNTYPED), given)
    assert words in str(error.value)


def test_a_computed_default_is_left_alone_and_beside_it_others_are_set(tmp_path):
    path = notebook(tmp_path, "size = 2 * 112\nwidth, height = 640, 480", "print(size, width, height)")
    done = nbformat.read(run_notebook(path, parameters={"height": "4"}, progress=False), 4)
    assert [o.text for cell in done.cells for o in cell.get("outputs", [])] == ["224 640 4\n"]


def test_a_notebook_that_names_no_language_runs(tmp_path):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)")])
    nbformat.write(made, tmp_path / "job.ipynb")
    done = nbformat.read(run_notebook(tmp_path / "job.ipynb", progress=False), 4)
    assert done.cells[0].outputs[0].text == "1\n"


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "expected a Jupyter notebook in {path}, got an empty file; save it again from Jupyter"),
        ("a,b", "expected a Jupyter notebook in {path}, got 3 bytes that are none"),
        ("[]", "got 2 bytes that are none"),
        ('{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "bytes that are none"),
        (
            '{"cells": [], "nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"language": "R"}}}',
            "expected a notebook in Python at {path}, got one in R; cvkit runs Python only",
        ),
    ],
)
def test_what_is_no_python_notebook_is_refused_in_a_sentence(tmp_path, content, words):
    path = tmp_path / "job.ipynb"
    path.write_text(content)
    with pytest.raises(NotebookError) as error:
        notebook_parameters(path)
    assert words.format(path=path) in str(error.value)


def test_several_parameters_cells_and_broken_lines_are_refused(tmp_path):
    path = notebook(tmp_path, "a = 1", "b = 2")
    two = nbformat.read(path, 4)
    two.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(two, path)
    with pytest.raises(NotebookError, match="expected one cell tagged parameters in .*, found 2"):
        notebook_parameters(path)
    with pytest.raises(NotebookError, match="got .* in line 2 of the cell; correct it"):
        notebook_parameters(notebook(tmp_path, "a = 1\nb = = 2"))


def test_a_notebook_without_parameters_takes_none(tmp_path):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    nbformat.write(made, tmp_path / "job.ipynb")
    assert notebook_parameters(tmp_path / "job.ipynb") == {}
    with pytest.raises(ParameterError, match="takes no parameter 'x'; it takes none"):
        check_parameters(tmp_path / "job.ipynb", {"x": 1})
    with pytest.raises(NotebookError, match="expected a notebook at .*absent.ipynb, found none"):
        run_notebook(tmp_path / "absent.ipynb")


def test_a_failing_notebook_is_kept_as_far_as_it_came(tmp_path):
    path = notebook(
        tmp_path, "count = 2", "print('before', count)", "raise ValueError(f'{count} is odd')", "print('after')"
    )
    done = cvkit(tmp_path, "run", path, "-p", "count=3")
    assert (
        done.returncode == 1
        and "job.ipynb, cell 3: ValueError: 3 is odd; the executed notebook is " in done.stderr
        and "Traceback" not in done.stderr
    )
    assert shown(tmp_path / "job.run.failed.ipynb").strip() == "before 3" and not (tmp_path / "job.run.ipynb").exists()
    fine = cvkit(tmp_path, "run", notebook(tmp_path, "count = 2", "print(2 * count)"), "-p", "count=3")
    assert (
        fine.returncode == 0
        and shown(tmp_path / "job.run.ipynb") == "6\n"
        and not (tmp_path / "job.run.failed.ipynb").exists()
    )
    assert nbformat.read(path, 4).cells[1].get("outputs") == [], "the notebook itself is not touched"


def test_options_of_run_stand_in_any_order_and_a_template_folder_is_left_alone(tmp_path):
    (tmp_path / "templates").mkdir()
    path = notebook(tmp_path / "templates", "count = 2\nname = 'a'", "print(name, count)")
    for words in (["--out", "o.ipynb", "-p", "count=3", path, "-p", "name=b"], ["-p", "name=b", path, "-p", "count=3"]):
        assert cvkit(tmp_path, "run", *words).returncode == 0
    assert shown(tmp_path / "o.ipynb") == shown(tmp_path / "job.run.ipynb") == "b 3\n"
    assert [p.name for p in (tmp_path / "templates").iterdir()] == ["job.ipynb"]


def test_a_kernel_knows_that_nobody_watches_and_ours_does_not(tmp_path):
    path = notebook(tmp_path, "x = 1", "import os; print(os.environ.get('CVKIT_BATCH'), os.environ.get('COLOUR'))")
    before = os.environ.get("CVKIT_BATCH")
    assert shown(run_notebook(path, progress=False, environment={"COLOUR": "blue"})) == "1 blue\n"
    assert os.environ.get("CVKIT_BATCH") == before and "COLOUR" not in os.environ


def test_templates_take_what_the_demo_gives_and_commands_know():
    import inspect

    from cvkit.commands.demo import stage_parameters

    given = stage_parameters(
        "surfaces",
        Path("run"),
        seed=0,
        group_from="",
        label_from="",
        policy="",
        size=96,
        recipe="",
        backbone="tf_efficientnet_lite0",
    )
    for stage in STAGES:
        takes = notebook_parameters(template(stage))
        assert given[stage].keys() <= takes.keys()
        assert takes.keys() <= inspect.signature(cli.load_command(stage)).parameters.keys(), stage
        check_parameters(template(stage), given[stage])


def test_a_stage_is_redone_when_what_it_was_made_from_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'one.db'}")
    (tmp_path / "data").mkdir()
    image, rules = tmp_path / "data/a.png", tmp_path / "policy.yaml"
    image.write_bytes(b"1"), rules.write_text("a: 1")
    given = {"ingest": {"data": str(tmp_path / "data")}, "train": {"seed": 0}, "register": {"policy": str(rules)}}
    first = stage_keys(given)

    def changed():
        return [s for s in STAGES if stage_keys(given)[s] != first[s]]

    assert changed() == []
    rules.write_text("a: 2")
    assert changed() == ["register", "serve", "monitor"]
    rules.write_text("a: 1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'two.db'}")
    assert changed() == ["register", "serve", "monitor"], "a version is registered in one store"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'one.db'}")
    given["train"]["seed"] = 1
    assert changed() == list(STAGES)[1:]
    given["train"]["seed"] = 0
    image.write_bytes(b"22")
    assert changed() == list(STAGES)


def test_a_mark_of_an_earlier_walk_does_not_cover_a_later_failure(tmp_path, monkeypatch):
    "Done with one folder, failed with another, asked for the first again: it is run again."
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    path = notebook(
        tmp_path,
        "data = 'a'\nout = ''",
        "assert data != 'b', 'b is bad'\nopen(f'{out}/seen.txt', 'w').write(data)",
        name="ingest",
    )
    monkeypatch.setattr(graph, "template", lambda stage: path)
    out = tmp_path / "ingest"

    def run(data):
        return graph._run_stage(tmp_path, "ingest", {"data": data, "out": str(out)}, data, True)

    run("a")
    assert json.loads((out / "done.json").read_text())["key"] == "a"
    with pytest.raises(NotebookError, match="b is bad"):
        run("b")
    assert not (out / "done.json").exists() and "b is bad" in json.loads((out / "error.json").read_text())["error"]
    run("a")
    assert not (out / "error.json").exists() and not (out / "ingest.failed.ipynb").exists()


def pictures(folder, classes=("crack", "whole"), each=8, size=16):
    random = np.random.default_rng(0)
    for c in classes:
        (folder / c).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            Image.fromarray(random.integers(0, 255, (size, size, 3), np.uint8)).save(folder / c / f"{i:02}.png")
    return folder


def no_images(folder):
    folder.mkdir()


def one_class(folder):
    pictures(folder, ["crack"])


def few(folder):
    pictures(folder), [path.unlink() for path in sorted((folder / "crack").iterdir())[3:]]


def twins(folder):
    pictures(folder), (folder / "whole/00.png").write_bytes((folder / "crack/00.png").read_bytes())


def wrong_yaml(folder):
    pictures(folder), (folder / "dataset.yaml").write_text("ownr: Ada")


@pytest.mark.parametrize(
    "prepare, words",
    [
        (no_images, "expected images (.bmp, "),
        (one_class, "expected at least 2 classes, found 1 ('crack')"),
        (few, "class 'crack' has 3 images, 5 folds need at least 5"),
        (twins, "one image under the labels crack, whole"),
        (wrong_yaml, "got ownr; correct the name or remove it"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_folder_that_cannot_be_learned_from(tmp_path, prepare, words):
    prepare(tmp_path / "data")
    verb = (
        ("ingest", tmp_path / "data", "--out", "ingest")
        if prepare in (no_images, one_class, wrong_yaml)
        else ("train", tmp_path / "data", "--out", "train", "--size", "32")
    )
    done = cvkit(tmp_path, *verb)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, "one sentence"


def test_a_walk_over_a_bad_folder_ends_with_the_sentence_of_the_first_stage(tmp_path):
    one_class(tmp_path / "data")
    done = cvkit(tmp_path, "demo", "--data", tmp_path / "data", "--out", "run")
    assert (
        done.returncode == 1
        and "DataError: expected at least 2 classes" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert (tmp_path / "run/ingest/ingest.failed.ipynb").exists()


def test_a_server_that_is_down_is_noticed_before_the_first_stage(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    done = cvkit(tmp_path, "demo", "--data", "surfaces", "--out", "run", MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}")
    assert (
        done.returncode == 1
        and f"expected an MLflow store at http://127.0.0.1:{port}" in done.stderr
        and "start it, correct MLFLOW_TRACKING_URI" in done.stderr
    )
    assert not (tmp_path / "run").exists()


def test_no_seldon_environment_is_noticed_before_the_first_stage(tmp_path):
    done = cvkit(tmp_path, "demo", "--data", "surfaces", "--out", "run", CVKIT_SELDON_PYTHON=str(tmp_path / "absent"))
    assert (
        done.returncode == 1
        and "absent does not exist; correct it, or unset it" in done.stderr
        and not (tmp_path / "run").exists()
    )


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "taken").write_text("a file")
    done = cvkit(tmp_path, "demo", "--data", "surfaces", "--out", tmp_path / "taken" / "run")
    assert done.returncode == 1 and "cannot be written (not a directory); choose another with --out" in done.stderr
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/dear.txt").write_text("Dear")
    done = cvkit(tmp_path, "demo", "--data", "surfaces", "--out", "letters")
    assert done.returncode == 1 and "found dear.txt; choose another with --out" in done.stderr
    assert [p.name for p in (tmp_path / "letters").iterdir() if p.name != ".pipeline.lock"] == ["dear.txt"]


def test_two_walks_do_not_share_a_folder(tmp_path):
    with claim_folder(tmp_path / "run", "elpv"):
        done = cvkit(tmp_path, "demo", "--data", "elpv", "--out", "run")
    assert done.returncode == 1 and "another pipeline is running in it" in done.stderr


@pytest.mark.parametrize(
    "words, code, expected",
    [
        (["trian"], 2, "no command 'trian'; did you mean train?"),
        (["why", "nowhere"], 1, "expected a trained model in nowhere/train"),
        (["predict", "nowhere"], 1, "expected a bundle in nowhere"),
        (["evaluate", "nowhere", "none"], 1, "none"),
        (["serve", "nowhere"], 1, "run `cvkit evaluate` first"),
        (["ingest", "nowhere"], 1, "'nowhere', which is no folder"),
        (["why", "nowhere", "--stage", "moon"], 1, "nowhere"),
        (["run", "nowhere.ipynb"], 1, "expected a notebook at nowhere.ipynb"),
        (["approve", "nowhere"], 1, "expected a trained model"),
        (["register", "nowhere"], 1, "nowhere"),
        (["monitor", "nowhere"], 1, "nowhere"),
    ],
)
def test_a_mistake_gets_one_sentence(tmp_path, monkeypatch, capsys, words, code, expected):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == code
    printed = capsys.readouterr().err
    assert expected in printed and printed.startswith("cvkit") and len(printed.strip().splitlines()) == 1


@pytest.mark.parametrize("command", cli.find_commands())
def test_every_command_explains_its_options(command, capsys):
    import inspect

    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    for name in inspect.signature(cli.load_command(command)).parameters:
        assert name.replace("_", "-") in printed or name in printed, name


def test_a_command_is_one_notebook(tmp_path):
    "A copy of the package and one more notebook: the command is in Python, in the terminal and in the help."
    shutil.copytree(root / "cvkit", tmp_path / "cvkit", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "settings.ini", "setup.py"):
        shutil.copy(root / name, tmp_path)
    cells = [
        "#| default_exp commands.greet",
        "#| export\ndef greet(\n    name: str,  # whom\n    *,\n    times: int = 1,  # how often\n):\n"
        "    'Say hello.'\n    return ', '.join([f'hello {name}'] * times)",
    ]
    (tmp_path / "nbs").mkdir()
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(made, tmp_path / "nbs/26_greet.ipynb")
    exporter = Path(sys.executable).with_name("nbdev-export")
    subprocess.run([exporter], cwd=tmp_path, check=True, capture_output=True, timeout=60)

    def python(code):
        settings = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", f"from cvkit.commands.cli import main\n{code}"]
        return subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=60)

    assert "  greet      Say hello.\n" in python("main(['--help'])").stdout
    assert python("main(['greet', '--times', '2', 'Ada'])").stdout == "hello Ada, hello Ada\n"
    assert python("import cvkit; print(cvkit.greet('Bo'), 'greet' in dir(cvkit))").stdout == "hello Bo True\n"
    assert "how often" in python("main(['greet', '--help'])").stdout


def test_without_a_commit_or_git_a_record_names_an_author(tmp_path, monkeypatch):
    from cvkit.pipeline.run_records import author

    monkeypatch.setenv("PATH", "")
    assert author()
