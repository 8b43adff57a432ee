"The documentation builds without a warning, and its pages show what the notebooks hold and fetch nothing."
import re
from pathlib import Path

root = Path(__file__).resolve().parents[1]
modules = sorted(path.relative_to(root / "cvkit").with_suffix("") for path in (root / "cvkit").rglob("*.py")
                 if path.name not in ("__init__.py", "_modidx.py"))


def test_a_page_a_module_with_its_public_names(html):
    import importlib
    for module in modules:
        page, name = (html / module.with_suffix(".html")).read_text(encoding="utf-8"), "cvkit." + ".".join(module.parts)
        held = importlib.import_module(name)
        public = [word for word in held.__all__ if getattr(getattr(held, word), "__module__", None) == name]
        missing = [word for word in public if f">{word}<" not in page and f'id="{name.replace(".", "-").replace("_", "-").lower()}-' not in page]
        assert not missing, f"{name}: no heading for {missing}"


def test_each_page_is_in_the_navigation(html):
    front = (html / "index.html").read_text(encoding="utf-8")
    for room in sorted({module.parts[0] for module in modules if len(module.parts) > 1}):
        assert f'href="{room}/index.html"' in front
        listing = (html / room / "index.html").read_text(encoding="utf-8")
        assert not [module for module in modules if module.parts[0] == room and f'href="{module.name}.html' not in listing]


def test_names_in_prose_are_links(html):
    page = (html / "core.html").read_text(encoding="utf-8")
    assert 'id="cvkit-core-digest-json"' in page
    linked = sum(len(re.findall(r'<a class="reference internal"[^>]*><code', path.read_text(encoding="utf-8"))) for path in html.rglob("*.html"))
    assert linked > 0


def test_stored_pictures_and_tables_are_shown(html):
    assert list((html / "_images").iterdir()) or "data:image/png" in (html / "core.html").read_text(encoding="utf-8")


def test_pages_fetch_nothing_and_name_no_machine(html):
    for path in html.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]+"', page)
        assert not fetched, f"{path.name} would load {fetched[0]}"
        assert str(root) not in page, f"{path.name} holds this checkout's path"
