"""Build the documentation from the notebooks: python docs/build.py [--out docs/_build]

nbdev renders the signatures, a few steps of ours turn its notebooks into what myst-nb reads, Sphinx makes the pages. Stored outputs are
shown as they are, nothing is run but imports and exported cells, nothing is fetched, and a warning is an error.
"""
import argparse, ast, importlib, inspect, os, re, shutil, sys
from pathlib import Path

os.environ["IN_TEST"] = "1" # what nbdev sets while it renders: no progress bars, no colab links
root = Path(__file__).resolve().parents[1]
rooms = { # folder of cvkit -> title and sentence of the room
    "": ("Ground", "What every room stands on."),
    "data": ("Data", "From a folder of images to a manifest and to splits that do not leak."),
    "model": ("Model", "A frozen backbone, cached features, a calibrated head."),
    "evidence": ("Evidence", "What the model can and cannot do, with intervals, and whether its explanations hold."),
    "release": ("Release", "Bundles, tracking, policy, approvals, cards, registry."),
    "operate": ("Operate", "The predictor, Seldon, and what is watched in production."),
    "flow": ("Flow", "The verbs, notebooks as jobs, the pipeline, the command line."),
}


def rendered(path):
    "One notebook with nbdev's `show_doc` cells executed; exported cells are kept."
    from fastcore.nbio import read_nb
    from nbdev.processors import FilterDefaults, rm_export

    class Pages(FilterDefaults):
        def base_procs(self): return [step for step in super().base_procs() if step is not rm_export]
    notebook = read_nb(path)
    Pages()(notebook)
    return notebook


def exports(notebook):
    "The module that a notebook exports, as `data.manifest`."
    return next(value for cell in notebook.cells if (value := (getattr(cell, "directives_", None) or {}).get("default_exp")))


def symbols():
    "Every name in `_modidx` and every module: how prose may call it -> the target it links to."
    index = importlib.import_module("cvkit._modidx").d["syms"]
    names, private = {}, re.compile(r"(^|\.)_")
    for module, entries in index.items():
        names.setdefault(module, {module})
        names.setdefault(module.removeprefix("cvkit."), {module})
        for name in entries:
            if private.search(short := name.removeprefix(module + ".")): continue
            target = f"{module}.{short.split('.')[0]}" # a method is shown with its class
            for called in (name, short, name.removeprefix("cvkit.")): names.setdefault(called, set()).add(target)
    return {called: targets for called, targets in names.items() if len(targets) == 1 or "." not in called}


def link(text, names, module):
    "Prose with its backticked names linked; a name that two modules have means that of this page, or is left alone."
    def replace(found):
        targets = names.get(found[1].removesuffix("()"), set())
        own = {target for target in targets if target.rpartition(".")[0] == module}
        if len(targets) != 1: targets = own
        return f"[`{found[1]}`](#{next(iter(targets))})" if len(targets) == 1 else found[0]
    parts = re.split(r"(^```.*?^```|^#+ .*?$|\[[^\]]*\]\([^)]*\))", text, flags=re.M | re.S) # not in code, headings and links
    return "".join(part if i % 2 else re.sub(r"(?<![`\w])`([\w.]+(?:\(\))?)`(?!`)", replace, part) for i, part in enumerate(parts))


def methods(owner):
    "A class's own public methods and properties with their signatures, as a table; empty when it has none."
    rows = []
    for name, member in vars(owner).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__: continue
        parameters = "" if isinstance(member, property) else f"({', '.join(list(inspect.signature(function).parameters)[1:])})"
        rows.append(f"| `{name}{parameters}` | {' '.join(function.__doc__.split())} |")
    return "\n".join(["", "| method | |", "|:--|:--|", *rows, ""]) if rows else ""


def signature(cell, module):
    "A `show_doc` cell as markdown: a heading that can be linked, the signature, what the parameters mean, the methods."
    name = re.search(r"show_doc\(([\w.]+)", cell.source)[1]
    value = getattr(sys.modules[module], name, None)
    heading = f"({module}.{name})=\n### {name}\n\n"
    if inspect.isclass(value) and issubclass(value, BaseException):
        return f"{heading}```python\nclass {name}({', '.join(base.__name__ for base in value.__bases__)})\n```\n\n*{inspect.getdoc(value)}*"
    text = next("".join(output["data"]["text/markdown"]) for output in cell.outputs if "text/markdown" in output.get("data", {}))
    text = re.sub(r"^.*?^### .*?$\s*", "", text.strip(), count=1, flags=re.M | re.S).replace("__main__.", "")
    if not inspect.isclass(value): return heading + text
    return heading + text.replace("\ndef ", "\nclass ", 1).replace(")->None:", "):", 1) + "\n" + methods(value)


def page(notebook, module, names):
    "The cells of a rendered notebook as myst-nb wants them."
    from nbformat.v4 import new_code_cell, new_markdown_cell
    front, cells, signatures, source = notebook.frontmatter_, [], [], []
    cells.append(new_markdown_cell(f"({module})=\n# {front['title']}\n\n{front.get('description', '')}\n\n`{module}`"))
    for cell in notebook.cells:
        text = "\n".join(line for line in (cell.source or "").splitlines() if not line.startswith("#|")).strip()
        directives = getattr(cell, "directives_", None) or {}
        if cell.cell_type == "raw" or not text or "AUTOGENERATED" in text or {"default_exp", "hide"} & directives.keys(): continue
        if cell.cell_type == "code" and text.startswith("show_doc("):
            signatures.insert(0, new_markdown_cell(link(signature(cell, module), names, module))) # nbdev has the last name first
            continue
        cells += signatures + source # the source follows the signatures that it defines
        signatures, source = [], []
        exported = {"export", "exports", "exporti"} & directives.keys()
        if cell.cell_type == "markdown": cells.append(new_markdown_cell(link(text, names, module)))
        elif not exported: cells.append(new_code_cell(text, outputs=[tidy(output) for output in cell.get("outputs", [])]))
        elif not only_imports(text): source = [new_code_cell(text, metadata={"tags": ["hide-input"]})]
    return cells + signatures + source


def only_imports(text):
    "Whether a cell has nothing but imports in it."
    return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(text).body)


def tidy(output):
    "An output without the JPEG twin of its picture."
    from nbformat import from_dict
    data = output.get("data", {})
    if "image/png" in data: data.pop("image/jpeg", None)
    return from_dict(output)


def write(path, cells):
    import nbformat
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python", "pygments_lexer": "ipython3"}})
    for i, cell in enumerate(notebook.cells): cell["id"] = f"cell-{i}"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def toctree(entries, **options):
    lines = "".join(f":{key}: {value}\n" for key, value in options.items())
    return "```{toctree}\n" + lines + "\n" + "\n".join(entries) + "\n```\n"


def sources(folder):
    "Write Sphinx's sources: a page a module, a page a room, the front page."
    from nbformat.v4 import new_markdown_cell
    names, found = symbols(), {room: [] for room in rooms}
    notebooks = [path for path in (root / "nbs").rglob("*.ipynb") if path.name != "index.ipynb" and ".ipynb_checkpoints" not in path.parts]
    for path in sorted(notebooks, key=lambda path: path.name):
        notebook = rendered(path)
        name = exports(notebook)
        front, module = notebook.frontmatter_, f"cvkit.{name}"
        importlib.import_module(module)
        write(folder / f"{name.replace('.', '/')}.ipynb", page(notebook, module, names))
        room = name.rpartition(".")[0]
        found[room].append((name.rpartition(".")[2], front["title"], front.get("description", ""), module))
    tops = []
    for room, (title, sentence) in rooms.items():
        if not found[room]: continue
        rows = "\n".join(f"| [{label}](#{module}) | `{module}` | {' '.join(text.split())} |" for _, label, text, module in found[room])
        entries = [f"/{room}/{page}" if room else f"/{page}" for page, *_ in found[room]]
        place = folder / (f"{room}/index.md" if room else "ground.md")
        place.write_text(f"# {title}\n\n{sentence}\n\n| page | module | |\n|:--|:--|:--|\n{rows}\n\n{toctree(entries, hidden='')}", encoding="utf-8")
        tops.append(f"{room}/index" if room else "ground")
    guides = sorted((root / "docs").glob("*.md"))
    for guide in guides: shutil.copy(guide, folder)
    front = [new_markdown_cell(link(cell.source, names, "")) if cell.cell_type == "markdown" else cell for cell in front_page()]
    write(folder / "index.ipynb", front + [new_markdown_cell(toctree(tops + [guide.stem for guide in guides], hidden=""))])
    return sum(map(len, found.values()))


def front_page():
    import nbformat
    return [cell for cell in nbformat.read(root / "nbs" / "index.ipynb", 4).cells if cell.source.strip()]


def report_colours():
    "The colours of cvkit's reports, tied to the theme's switch: reports on their own follow the reader's system instead."
    from cvkit.pages import STYLE
    light, dark = re.findall(r"\.cvkit\{(--[^;}]+(?:;\s*--[^;}]+)*)", STYLE)[:2]
    return "".join(f'html[data-theme="{name}"] .cvkit{{{colours}}}\n' for name, colours in (("light", light), ("dark", dark)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=root / "docs" / "_build", help="folder for sources, doctrees and html")
    out = parser.parse_args().out.resolve()
    os.chdir(root)
    sys.path.insert(0, str(root)) # this checkout's modules, wherever cvkit was installed from
    folder = out / "source"
    for old in (folder, out / "static", out / "html", out / "doctrees"): shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True)
    (out / "static").mkdir(exist_ok=True)
    (out / "static" / "reports.css").write_text(report_colours(), encoding="utf-8")
    count = sources(folder)
    from sphinx.cmd.build import main as sphinx
    code = sphinx(["-q", "-W", "--keep-going", "-b", "html", "-c", str(root / "docs"),
                   "-D", f"html_static_path={root / 'docs' / 'static'},{out / 'static'}", "-d", str(out / "doctrees"), str(folder), str(out / "html")])
    if code == 0: print(f"{count} modules documented: {out / 'html' / 'index.html'}")
    return code


if __name__ == "__main__": sys.exit(main())
