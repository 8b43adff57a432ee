"""What the house style can count in the code: `python tests/code_style.py [--all] [PART ...]`.

PART is a piece of a path, such as `cvkit/data` or `evidence/calibration`; without one the whole library is counted.
The first table says how dense the generated modules are (tokens a line, without comments and layout); the rest lists
each place that breaks a rule. `tests/test_tree.py` asserts the same rules.
"""

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from pathlib import Path

root = Path(__file__).resolve().parents[1]
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
# Words of ours for which the field has a word (what a test can tell; the rest is judged by reading).
OLD_WORDS = re.compile(
    r"said(_\w+)?|Asked\w*|Lesson\w*|Learned|learned_word|wish(es)?|stairs|knobs|trunk|twins?|_Left|read_wish|\w+_wish"
)
functions = (ast.FunctionDef, ast.AsyncFunctionDef)


def modules():
    return sorted(path for path in (root / "cvkit").rglob("*.py") if path.name not in ("__init__.py", "_modidx.py"))


def notebooks():
    return sorted(path for path in (root / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def code_cells(path):
    "The sources of a notebook's code cells, magics as comments."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return ["\n".join("#" + line if line[:1] in "%!" else line for line in text.split("\n")) for text in sources]


def tokens_a_line(text):
    "How many tokens of code each line of code has."
    counts = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            counts[token.start[0]] = counts.get(token.start[0], 0) + 1
    return list(counts.values())


def density(paths):
    "Mean and 95th percentile of tokens a line, and the lines over 120 characters."
    counts, long = [], 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        counts += tokens_a_line(text)
        long += sum(len(line) > 120 for line in text.splitlines())
    counts.sort()
    return {
        "lines": len(counts),
        "mean": sum(counts) / max(1, len(counts)),
        "p95": counts[int(0.95 * len(counts))] if counts else 0,
        "long": long,
    }


def calls(node):
    return any(
        isinstance(part, (ast.Call, ast.Await, ast.Yield, ast.ListComp, ast.DictComp)) for part in ast.walk(node)
    )


def broken_rules(tree):
    "(line, rule) of each place in a tree that breaks one of the rules that ruff does not know."
    for node in ast.walk(tree):
        for holds, rule in RULES:
            if holds(node):
                yield node.lineno, rule
        if isinstance(node, functions) and (n := positional_parameters(node)) > 5:
            yield node.lineno, f"{node.name} has {n} positional parameters"


def unpacks_calls(node):
    if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)):
        return False
    return any(isinstance(target, ast.Tuple) for target in node.targets) and calls(node.value)


def nests_conditions(node):
    if not isinstance(node, ast.IfExp):
        return False
    return any(isinstance(part, ast.IfExp) for part in ast.walk(node) if part is not node)


def names_a_lambda(node):
    return isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)


def multiplies_text_by_truth(node):
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)):
        return False
    sides = (node.left, node.right)
    return any(map(is_text, sides)) and any(map(is_truth, sides))


def packs_a_comprehension(node):
    if not isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        return False
    return len(node.generators) > 1 and any(generator.ifs for generator in node.generators)


RULES = (
    (unpacks_calls, "a tuple on both sides where the right one calls"),
    (nests_conditions, "a nested conditional expression"),
    (names_a_lambda, "a lambda with a name"),
    (multiplies_text_by_truth, "a string times a boolean"),
    (packs_a_comprehension, "a comprehension with two `for` and an `if`"),
)


def is_text(node):
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def is_truth(node):
    return isinstance(node, (ast.Compare, ast.BoolOp)) or is_bool_call(node)


def positional_parameters(function):
    given = [*function.args.posonlyargs, *function.args.args]
    return len(given) - bool(given and given[0].arg in ("self", "cls"))


def is_bool_call(node):
    named = (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("bool", "isinstance", "any", "all")
    )
    return named or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def private_imports(tree):
    "(line, name) of each private name that is imported from another module of cvkit."
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("cvkit")):
            for alias in node.names:
                if alias.name.startswith("_"):
                    yield node.lineno, alias.name


def old_words(text):
    "(line, word) of each identifier that the glossary replaces."
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME and OLD_WORDS.fullmatch(
            token.string.lstrip("_") if token.string != "_Left" else token.string
        ):
            yield token.start[0], token.string


def public(node):
    return isinstance(node, (*functions, ast.ClassDef)) and not node.name.startswith("_")


def crowded_chapters(path):
    "Public definitions of a notebook that come before the example of the one above: (cell, name)."
    waiting = None
    for number, text in enumerate(code_cells(path)):
        exported = re.match(r"#\|\s*exports?\b", text)
        if not exported:
            if waiting and not only_imports(text):
                waiting = None
            continue
        for node in ast.parse(text).body:
            if not public(node) or is_only_a_name(node):
                continue
            if waiting:
                yield number, f"{node.name} before an example of {waiting}"
            waiting = node.name


def is_only_a_name(node):
    "Whether a class, such as an error, is a name with a docstring and nothing else."
    return isinstance(node, ast.ClassDef) and len(node.body) == 1 and ast.get_docstring(node) is not None


def only_imports(text):
    return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(text).body)


def complexity(paths, worst="C"):
    "Blocks that radon ranks worse than C (or than `worst`)."
    from radon.complexity import cc_rank, cc_visit

    for path in paths:
        for block in cc_visit(path.read_text(encoding="utf-8")):
            for part in [block, *getattr(block, "methods", [])]:
                if cc_rank(part.complexity) > worst:
                    yield path, part.lineno, f"{part.name} has a complexity of {part.complexity}"


def documented_lines(text):
    "The lines of a file that hold a comment."
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT}


def undocumented_parameters(text):
    "(line, what) of each parameter of a public function, and field of a public class, without a comment."
    commented = documented_lines(text)
    for node in ast.parse(text).body:
        if not public(node):
            continue
        documented = [node]
        if isinstance(node, ast.ClassDef):  # a method's words may stand once, at the protocol that it fulfils
            documented = [part for part in node.body if isinstance(part, functions) and part.name == "__init__"]
        for function in documented:
            for line, name in parameters(function):
                if not has_comment(line, function.lineno, commented, {n for n, _ in parameters(function)}):
                    yield line, f"{node.name}: no word on the parameter {name}"
        if isinstance(node, ast.ClassDef):
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            for field in fields:
                if not has_comment(field.lineno, node.lineno, commented, {other.lineno for other in fields}):
                    yield field.lineno, f"{node.name}: no word on the field {ast.unparse(field.target)}"


def parameters(function):
    "(line, name) of each parameter but self and cls."
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [(argument.lineno, argument.arg) for argument in named if argument.arg not in ("self", "cls")]


def has_comment(line, start, commented, others):
    "Whether a line has a comment of its own, or one above that is no other parameter's."
    above = line - 1
    return line in commented or (above > start and above in commented and above not in others)


OLD_PROSE = re.compile(r"\b(twins?|stairs|trunks?|lessons?|knobs?|wish(es)?|wished)\b", re.I)


def prose():
    "(where, text) of what people read: the notebooks' prose, the pages, the strings of the modules."
    for path in notebooks():
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            if cell["cell_type"] == "markdown":
                yield f"{path.relative_to(root)}, cell {number}", "".join(cell["source"])
    for path in sorted((root / "docs" / "pages").rglob("*.md")):
        yield str(path.relative_to(root)), path.read_text(encoding="utf-8")
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(root)}:{node.lineno}", node.value


def uncut_lines(text):
    "Lines over 120 characters in which more than one string that cannot be cut stands, and which nbdev did not write."
    written_by_nbdev = {line for node in ast.parse(text).body if is_list_of_names(node) for line in lines_of(node)}
    for number, line in enumerate(text.splitlines(), 1):
        longest = max((len(word) for word in re.split(r"\s", line.strip())), default=0)
        if len(line) > 120 and longest < 80 and number not in written_by_nbdev:
            yield number, f"{len(line)} characters"


def is_list_of_names(node):
    return isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"


def lines_of(node):
    return range(node.lineno, node.end_lineno + 1)


def places(parts=()):
    "(where, what) of each broken rule, below the paths that one of the parts names."
    chosen = [path for path in modules() if not parts or any(part in str(path.relative_to(root)) for part in parts)]
    chapters = [path for path in notebooks() if not parts or any(module_path(path).find(part) >= 0 for part in parts)]
    for path in chosen:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        private = [(line, f"imports the private name {name}") for line, name in private_imports(tree)]
        old = [(line, f"the old word {word}") for line, word in old_words(text)]
        for line, what in [*broken_rules(tree), *private, *old, *undocumented_parameters(text), *uncut_lines(text)]:
            yield f"{path.relative_to(root)}:{line}", what
    for path, line, what in complexity(chosen):
        yield f"{path.relative_to(root)}:{line}", what
    for path in chapters:
        for cell, what in crowded_chapters(path):
            yield f"{path.relative_to(root)}, code cell {cell}", what


def module_path(path):
    "The module that a notebook exports by its path: `nbs/04_data/02_manifest.ipynb` is `cvkit/data/manifest.py`."
    parts = path.relative_to(root / "nbs").with_suffix("").parts
    return "cvkit/" + "/".join(re.sub(r"^\d\d_", "", part) for part in parts) + ".py"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="pieces of paths, such as cvkit/data; all when none is named")
    args = parser.parse_args()
    chosen = [path for path in modules() if not args.parts or any(p in str(path.relative_to(root)) for p in args.parts)]
    if not chosen:
        sys.exit(f"no module's path has {' or '.join(args.parts)} in it")
    found = density(chosen)
    print(
        f"{found['lines']} lines of code, {found['mean']:.2f} tokens a line, 95th percentile {found['p95']}, "
        f"{found['long']} over 120"
    )
    listed = list(places(args.parts))
    print(*(f"{where}: {what}" for where, what in listed), sep="\n")
    print(f"{len(listed)} places break a rule")
    return bool(listed)


if __name__ == "__main__":
    sys.exit(main())
