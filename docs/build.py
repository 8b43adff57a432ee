"""Build the documentation from the notebooks: python docs/build.py [--out docs/_build]

nbdev's steps prepare the notebooks, a few of ours turn them into what myst-nb reads, Sphinx makes the pages. Signatures
are shown as they were written, stored outputs as they are; nothing is run, nothing is fetched, and a warning is an
error. Pages written by hand lie in docs/pages: a line `{{ tutorials.first_model.maps }}` in one stands for the stored
output of the cell that is tagged `maps` in that notebook.
"""

import argparse
import ast
import importlib
import os
import re
import shutil
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
rooms = {  # package of cvkit -> title and sentence of the room
    "": ("Ground", "What every room stands on."),
    "reports": ("Reports", "The pages that people read: blocks, one stylesheet, plots."),
    "data": ("Data", "From a folder of images to a manifest and to splits that do not leak."),
    "data.formats": ("Formats", "How labels are written down: folders, tables, COCO, VOC, YOLO."),
    "data.sources": ("Sources", "Where images come from: archives, downloads, databases."),
    "model": ("Model", "A frozen backbone, cached features, a calibrated head; networks that are trained further."),
    "evidence": ("Evidence", "What the model can and cannot do, with intervals, and whether its explanations hold."),
    "release": ("Release", "Bundles, tracking, policy, approvals, cards, registry."),
    "serving": ("Serving", "The predictor, and Seldon around it."),
    "monitoring": ("Monitoring", "What is watched in production."),
    "tasks": ("Tasks", "What trains, judges and explains, by what an image has: a label, several, or boxes."),
    "pipeline": ("Pipeline", "Notebooks as jobs, their graph, and the record of a run."),
    "erasure": ("Erasure", "What `cvkit forget` needs: files, lineage, stores."),
    "commands": ("Commands", "One module a command, the same in Python and in a terminal."),
}


def with_chapter_links(text, path):
    "Prose whose links to other notebooks lead to their pages."

    def replace(match):
        target = (path.parent / match[1]).resolve()
        return f"](#cvkit.{module_of(target)})" if target.exists() else match[0]

    return re.sub(r"\]\(([\w./]+\.ipynb)\)", replace, text)


def rendered(path):
    """One notebook after nbdev's steps for documentation; nothing is run, and exported cells are kept: we show them
    ourselves."""
    from fastcore.nbio import read_nb
    from nbdev import processors

    class Pages(processors.FilterDefaults):
        def base_procs(self):
            own = ("add_show_docs", "exec_show_docs", "clean_show_doc", "rm_export", "add_fold", "mv_exports")
            return [step for step in super().base_procs() if step.__name__ not in own]

    notebook = read_nb(path)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_chapter_links(cell.source, path)
    Pages()(notebook)
    return notebook


def exports(notebook):
    "The module that a notebook exports, as `data.manifest`; None for a tutorial."
    return next(
        (value for cell in notebook.cells if (value := (getattr(cell, "directives_", None) or {}).get("default_exp"))),
        None,
    )


def anchor(module, name):
    "Where a definition is linked; targets know no capitals, so a class is kept apart from a function of its name."
    return f"{module}.{name}" + "-class" * name[:1].isupper()


def symbols():
    "Every name in `_modidx` and every module: how prose may call it -> the target it links to."
    index = importlib.import_module("cvkit._modidx").d["syms"]
    names, private = {}, re.compile(r"(^|\.)_")
    for module, entries in index.items():
        names.setdefault(module, {module})
        names.setdefault(module.removeprefix("cvkit."), {module})
        for name in entries:
            if private.search(short := name.removeprefix(module + ".")):
                continue
            target = anchor(module, short.split(".")[0])  # a method is shown with its class
            for called in (name, short, name.removeprefix("cvkit.")):
                names.setdefault(called, set()).add(target)
    return {called: targets for called, targets in names.items() if len(targets) == 1 or "." not in called}


def link(text, names, module):
    "Prose with its backticked names linked; a name that two modules have means that of this page, or is left alone."

    def replace(found):
        targets = names.get(found[1].removesuffix("()"), set())
        own = {target for target in targets if target.rpartition(".")[0] == module}
        if len(targets) != 1:
            targets = own
        return f"[`{found[1]}`](#{next(iter(targets))})" if len(targets) == 1 else found[0]

    parts = re.split(
        r"(^```.*?^```|^#+ .*?$|\[[^\]]*\]\([^)]*\))", text, flags=re.M | re.S
    )  # not in code, headings and links
    return "".join(
        part if i % 2 else re.sub(r"(?<![`\w])`([\w.]+(?:\(\))?)`(?!`)", replace, part) for i, part in enumerate(parts)
    )


functions = (ast.FunctionDef, ast.AsyncFunctionDef)


def head(node, lines):
    """The lines of a definition before its body, as they were written: with decorators, types and what each parameter
    means."""
    first = node.body[0]
    kept = lines[min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1 : first.lineno]
    kept[-1] = kept[-1].encode()[: first.col_offset].decode()
    return [line.rstrip() for line in kept if line.strip()]


def methods(node):
    "A class's public methods and properties, as a table; empty when it has none."
    rows = []
    for method in node.body:
        if not isinstance(method, functions) or method.name.startswith("_") or not ast.get_docstring(method):
            continue
        known = [
            name
            for decorator in method.decorator_list
            if (name := getattr(decorator, "id", "")) in ("property", "cached_property")
        ]
        parameters = [
            parameter.arg for parameter in [*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs]
        ]
        called = (
            method.name
            if known
            else f"{method.name}({', '.join(name for name in parameters if name not in ('self', 'cls'))})"
        )
        rows.append(f"| `{called}` | {' '.join(ast.get_docstring(method).split())} |")
    return "\n".join(["", "| method | |", "|:--|:--|", *rows]) if rows else ""


def signatures(text, module):
    """What an exported cell defines, as markdown: a heading that can be linked, the signature as written, the
    docstring, the methods."""
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if not isinstance(node, (*functions, ast.ClassDef)) or node.name.startswith("_"):
            continue
        shown = head(node, lines)
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, ast.AnnAssign):
                    shown += lines[part.lineno - 1 : part.end_lineno]
                if isinstance(part, functions) and part.name == "__init__":
                    shown += head(part, lines)
        words = (ast.get_docstring(node) or "").split("\n\n", 1)
        words = "\n\n".join([f"*{words[0]}*", *words[1:]]) if words[0] else ""
        table = methods(node) if isinstance(node, ast.ClassDef) else ""
        code = "\n".join(shown)
        heading = f"({anchor(module, node.name)})=\n### {node.name}"
        yield f"{heading}\n\n```python\n{code}\n```\n\n{words}\n{table}"


def page(notebook, module, names):
    "The cells of a rendered notebook as myst-nb wants them."
    from nbformat.v4 import new_code_cell, new_markdown_cell

    front, cells, named = notebook.frontmatter_, [], f"\n\n`{module}`" if module.startswith("cvkit.") else ""
    cells.append(new_markdown_cell(f"({module})=\n# {front['title']}\n\n{front.get('description', '')}{named}"))
    for cell in notebook.cells:
        text = "\n".join(line for line in (cell.source or "").splitlines() if not line.startswith("#|")).strip()
        directives = getattr(cell, "directives_", None) or {}
        if (
            cell.cell_type == "raw"
            or not text
            or "AUTOGENERATED" in text
            or {"default_exp", "hide"} & directives.keys()
        ):
            continue
        if cell.cell_type == "markdown":
            cells.append(new_markdown_cell(link(text, names, module)))
        elif not {"export", "exports", "exporti"} & directives.keys():
            cells.append(new_code_cell(text, outputs=[tidy(output) for output in cell.get("outputs", [])]))
        elif not only_imports(text):
            cells += [new_markdown_cell(link(words, names, module)) for words in signatures(text, module)]
            cells.append(new_code_cell(text, metadata={"tags": ["hide-input"]}))
    return cells


def only_imports(text):
    "Whether a cell has nothing but imports in it."
    return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(text).body)


def tidy(output):
    "An output without the JPEG twin of its picture."
    from nbformat import from_dict

    data = output.get("data", {})
    if "image/png" in data:
        data.pop("image/jpeg", None)
    return from_dict(output)


def write(path, cells):
    import nbformat

    notebook = nbformat.v4.new_notebook(
        cells=cells, metadata={"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    )
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i}"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def toctree(entries, **options):
    lines = "".join(f":{key}: {value}\n" for key, value in options.items())
    return "```{toctree}\n" + lines + "\n" + "\n".join(entries) + "\n```\n"


def sources(folder):
    "Write Sphinx's sources: a page a module, a page a room, a page a tutorial, the pages written by hand."
    names, found = symbols(), {room: [] for room in rooms}
    notebooks = [
        path
        for path in (root / "nbs").rglob("*.ipynb")
        if path.name != "index.ipynb" and ".ipynb_checkpoints" not in path.parts
    ]
    for path in sorted(notebooks):
        notebook = rendered(path)
        name = exports(notebook)
        module = f"cvkit.{name}" if name else f"tutorials.{path.stem}"
        place = name.replace(".", "/") if name else f"tutorials/{path.stem}"
        write(folder / f"{place}.ipynb", page(notebook, module, names))
        if name:
            found[name.rpartition(".")[0]].append((
                name.rpartition(".")[2],
                notebook.frontmatter_["title"],
                notebook.frontmatter_.get("description", ""),
                module,
            ))
    write(folder / "overview.ipynb", overview(names))
    reference(folder, {room: pages for room, pages in found.items() if pages})
    for path in (root / "docs" / "pages").rglob("*.md"):
        copy = folder / path.relative_to(root / "docs" / "pages")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(with_outputs(link(path.read_text(encoding="utf-8"), names, ""), notebooks), encoding="utf-8")
    return sum(map(len, found.values()))


def reference(folder, found):
    "A page a room, and the page that lists the rooms."
    tops = []
    for room, pages in found.items():
        title, sentence = rooms[room]
        rows = "\n".join(
            f"| [{label}](#{module}) | `{module}` | {' '.join(text.split())} |" for _, label, text, module in pages
        )
        prefix = f"/{room.replace('.', '/')}" if room else ""
        entries = [f"{prefix}/{page}" for page, *_ in pages]
        index = f"{prefix}/index" if room else "/ground"
        (folder / f"{index[1:]}.md").write_text(
            f"# {title}\n\n{sentence}\n\n| page | module | |\n|:--|:--|:--|\n{rows}\n\n{toctree(entries, hidden='')}",
            encoding="utf-8",
        )
        tops.append((index, title, sentence))
    rows = "\n".join(f"| [{title}]({index}.md) | {sentence} |" for index, title, sentence in tops)
    (folder / "reference.md").write_text(
        (
            "# Reference\n\nThe library by room, in the order in which data flows. Each page is a notebook: prose, "
            "code, and what it showed when it was run.\n\n"
            f"| room | |\n|:--|:--|\n{rows}\n\n{toctree([index for index, *_ in tops], hidden='')}"
        ),
        encoding="utf-8",
    )


def module_of(path):
    "What a notebook's path stands for: `nbs/04_data/02_manifest.ipynb` is `data.manifest`."
    parts = path.relative_to(root / "nbs").with_suffix("").parts
    return ".".join(re.sub(r"^\d\d_", "", part) for part in parts)


def with_outputs(text, notebooks):
    "A page with the stored outputs of the tagged cells that it names."
    import nbformat

    stored = {module_of(path): path for path in notebooks}

    def output(found):
        cells = nbformat.read(stored[found[1]], 4).cells if found[1] in stored else []
        shown = [
            output.data["text/html"]
            for cell in cells
            if found[2] in cell.metadata.get("tags", [])
            for output in cell.outputs
            if "text/html" in output.get("data", {})
        ]
        if not shown:
            raise SystemExit(
                f"expected a cell tagged {found[2]} with a stored HTML output in a notebook {found[1]}.ipynb, found "
                f"none; run the notebook, or correct {found[0]}"
            )
        return '```{raw} html\n<div class="cell_output">\n' + "\n".join(shown) + "\n</div>\n```"

    return re.sub(r"^\{\{ ([\w.]+)\.([\w-]+) \}\}$", output, text, flags=re.M)


def overview(names):
    "The README as a page of the site."
    import nbformat

    cells = [cell for cell in nbformat.read(root / "nbs" / "index.ipynb", 4).cells if cell.source.strip()]
    cells[0].source = cells[0].source.replace("# cvkit", "# Overview", 1)
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = link(cell.source, names, "")
    return cells


def report_colours():
    """The colours of cvkit's reports, tied to the theme's switch: reports on their own follow the reader's system
    instead."""
    from cvkit.reports.pages import STYLE

    light, dark = re.findall(r"\.cvkit \{\s*(--[^;}]+(?:;\s*--[^;}]+)*)", STYLE)[:2]
    return "".join(
        f'html[data-theme="{name}"] .cvkit{{{colours}}}\n' for name, colours in (("light", light), ("dark", dark))
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=root / "docs" / "_build", help="folder for sources, doctrees and html"
    )
    out = parser.parse_args().out.resolve()
    os.chdir(root)
    sys.path.insert(0, str(root))  # this checkout's modules, wherever cvkit was installed from
    folder = out / "source"
    for old in (folder, out / "static", out / "html", out / "doctrees"):
        shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True)
    (out / "static").mkdir(exist_ok=True)
    (out / "static" / "reports.css").write_text(report_colours(), encoding="utf-8")
    count = sources(folder)
    from sphinx.cmd.build import main as sphinx

    code = sphinx([
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "-c",
        str(root / "docs"),
        "-D",
        f"html_static_path={root / 'docs' / 'static'},{out / 'static'}",
        "-d",
        str(out / "doctrees"),
        str(folder),
        str(out / "html"),
    ])
    if code == 0:
        print(f"{count} modules documented: {out / 'html' / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
