"The house style, as far as it can be counted: layout, lint, rules of reading, words, chapters, documented parameters."

import ast
import subprocess
import sys
from pathlib import Path

import code_style
import pytest

root = Path(__file__).resolve().parents[1]
modules = [(path, path.read_text(encoding="utf-8")) for path in code_style.modules()]


# What still breaks a rule, by module and chapter: each is to be opened and then comes off its list.
WAITING = set()
CROWDED = set()


def name_of(path):
    return str(path.relative_to(root / "cvkit").with_suffix(""))


def ruff(*words):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *words, "--no-cache", "."], cwd=root, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout[-3000:] + done.stderr[-3000:]


def listed(find):
    "Where each module breaks a rule, as `path:line: what`; modules that wait are left out."
    return [
        f"{path.relative_to(root)}:{line}: {what}"
        for path, text in modules
        if name_of(path) not in WAITING
        for line, what in find(text)
    ]


def test_ruff_format_changes_nothing():
    code, output = ruff("format", "--check")
    assert code == 0, output


def test_ruff_check_finds_nothing():
    code, output = ruff("check", "--output-format", "concise")
    assert code == 0, output


def test_code_is_read_once():
    assert listed(lambda text: code_style.broken_rules(ast.parse(text))) == []


def test_no_private_name_is_imported():
    assert listed(lambda text: code_style.private_imports(ast.parse(text))) == []


def test_names_are_the_fields():
    assert listed(code_style.old_words) == []


def test_prose_uses_the_fields_words():
    found = [
        f"{where}: {word[0]}" for where, text in code_style.prose() for word in code_style.OLD_PROSE.finditer(text)
    ]
    assert found == []


def test_no_block_is_worse_than_c():
    blocks = code_style.complexity([path for path, _ in modules if name_of(path) not in WAITING])
    assert [f"{path.relative_to(root)}:{line}: {what}" for path, line, what in blocks] == []


def crowded():
    "Chapters in which a public definition stands before the example of the one above."
    return {path: list(code_style.crowded_chapters(path)) for path in code_style.notebooks()}


def test_each_definition_has_its_example_before_the_next():
    found = [
        f"{path.relative_to(root)}, code cell {cell}: {what}"
        for path, places in crowded().items()
        if str(path.relative_to(root / "nbs")) not in CROWDED
        for cell, what in places
    ]
    assert found == []


def test_what_waits_is_not_done_yet():
    done = {str(path.relative_to(root / "nbs")) for path, places in crowded().items() if not places}
    assert CROWDED & done == set(), "these chapters are done: take them off the list"
    rules = (
        lambda text: code_style.broken_rules(ast.parse(text)),
        lambda text: code_style.private_imports(ast.parse(text)),
        code_style.old_words,
        code_style.undocumented_parameters,
        code_style.uncut_lines,
    )
    clean = {name_of(path) for path, text in modules if not any(list(rule(text)) for rule in rules)}
    assert WAITING & clean == set(), "these modules are done: take them off the list"


def test_public_parameters_and_fields_are_documented():
    assert listed(code_style.undocumented_parameters) == [], "ruff moves comments: look above the line, and beside it"


def test_lines_are_short_but_for_strings_that_cannot_be_cut():
    assert listed(code_style.uncut_lines) == []


def test_lines_are_light():
    found = code_style.density([path for path, _ in modules])
    assert found["mean"] <= 8.5 and found["p95"] <= 26, found


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("a, b = f(x), g(y)", "tuple"),
        ("a = b if c else d if e else f", "nested conditional"),
        ("f = lambda x: x", "lambda"),
        ("a = 's' * (n > 1)", "string times"),
        ("a = [x for y in z for x in y if x]", "comprehension"),
        ("def f(a, b, c, d, e, g): pass", "positional"),
    ],
)
def test_the_counter_finds_what_breaks_a_rule(code, rule):
    (found,) = code_style.broken_rules(ast.parse(code))
    assert rule in found[1]


@pytest.mark.parametrize(
    "code",
    [
        "a, b = f(x)",
        "a, b = b, a",
        "a = b if c else d",
        "a = 2 * (n > 1)",
        "a = [x for y in z for x in y]",
        "def f(a, b, c, d, e, *, g): pass",
        "class A:\n    def f(self, a, b, c, d, e): pass",
    ],
)
def test_the_counter_leaves_the_rest_alone(code):
    assert list(code_style.broken_rules(ast.parse(code))) == []


def test_the_counter_sees_a_parameter_that_lost_its_words():
    kept = "def f(\n    a,  # one\n    # two, too long for its line\n    b,\n):\n    pass\n"
    lost = "def f(\n    a,  # one\n    b,\n):\n    pass\n"
    assert list(code_style.undocumented_parameters(kept)) == []
    assert list(code_style.undocumented_parameters(lost)) == [(3, "f: no word on the parameter b")]
