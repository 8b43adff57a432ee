"Every `cvkit ...` line that a page, the README or a template shows is one that the command line understands."

import json
import re
import shlex
from pathlib import Path

import pytest

from cvkit.commands.cli import command_parser, find_commands, load_command

root = Path(__file__).resolve().parents[1]
pages = [root / "README.md", *(root / "docs/pages").rglob("*.md"), *(root / "templates").rglob("*.md")]
notebooks = [path for path in (root / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]


def fenced(text):
    "The lines of fenced blocks for a shell, continued lines joined."
    blocks = re.findall(r"^```(?:sh|bash|shell|console)\n(.*?)^```", text, re.M | re.S)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def texts():
    for path in pages:
        yield path, path.read_text(encoding="utf-8")
    for path in notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path, "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def shown():
    "(where, words) of each command that is shown."
    for path, text in texts():
        for line in fenced(text):
            if line.strip().startswith("cvkit "):
                yield path.relative_to(root).as_posix(), shlex.split(line, comments=True)


@pytest.mark.parametrize(("page", "words"), [pytest.param(*one, id=" ".join(one[1])) for one in shown()])
def test_a_command_that_is_shown_is_understood(page, words):
    _, name, *rest = words
    assert name in find_commands(), f"{page} shows a command that does not exist"
    parser = command_parser(load_command(name), f"cvkit {name}")
    try:
        parser.parse_intermixed_args(rest)
    except SystemExit as error:
        assert error.code == 0, f"{page}: the command line does not understand {' '.join(words)}"


def test_commands_are_shown():
    assert len(list(shown())) > 30
