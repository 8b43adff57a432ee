"""The documentation builds without a warning, shows what the notebooks hold and fetches nothing; and in a real browser
nothing fails, everybody can read it, on a phone too, search finds, no link is dead."""

import functools
import http.server
import json
import re
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest

root = Path(__file__).resolve().parents[1]
modules = sorted(
    path.relative_to(root / "cvkit").with_suffix("")
    for path in (root / "cvkit").rglob("*.py")
    if path.name not in ("__init__.py", "_modidx.py")
)
phone, desk = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
read_closely = [
    "index.html",
    "tutorials/first_model.html",
    "guides/own_folder.html",
    "guides/check.html",
    "why/leaks.html",
    "overview.html",
    "data/index.html",
    "data/ledger.html",
    "search.html",
]


@pytest.fixture(scope="module")
def site(html):
    "The pages on a server of 127.0.0.1: its address."

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=html)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def pages_of(html):
    return sorted(path.relative_to(html).as_posix() for path in html.rglob("*.html") if "_static" not in path.parts)


def open_page(browser, viewport, theme="light"):
    "A page that notes what goes wrong in it."
    page = browser.new_context(viewport=viewport, color_scheme=theme).new_page()
    page.wrong = []
    page.on(
        "console", lambda message: page.wrong.append(f"console: {message.text}") if message.type == "error" else None
    )
    page.on("pageerror", lambda error: page.wrong.append(f"error: {error}"))
    left = "net::ERR_ABORTED"  # the page was left while its icon was still on the way
    page.on(
        "requestfailed",
        lambda request: page.wrong.append(f"{request.failure}: {request.url}") if request.failure != left else None,
    )
    page.on(
        "response",
        lambda response: page.wrong.append(f"{response.status}: {response.url}") if response.status >= 400 else None,
    )
    return page


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_no_page_has_an_error_asks_another_server_or_is_wider_than_a_phone(every, html, site, browser):
    page, asked, wide, names = open_page(browser, desk), [], {}, sorted({*pages_of(html)[::every], *read_closely})
    page.on("request", lambda request: asked.append(request.url))
    for name in names:
        page.goto(site + name, wait_until="load")
        page.set_viewport_size(phone)
        width = page.evaluate("document.scrollingElement.scrollWidth")
        page.set_viewport_size(desk)
        if width > phone["width"]:
            wide[name] = width
    assert page.wrong == []
    assert [url for url in asked if not url.startswith((site, "data:"))] == []
    assert len(asked) > len(names)
    assert wide == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", read_closely)
def test_everybody_can_read_it(name, theme, site, browser):
    Axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no accessibility tests: axe-playwright-python is not installed"
    ).Axe
    page = open_page(browser, desk, theme)
    page.goto(site + name, wait_until="load")
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    found = Axe().run(page).response
    assert len(found["passes"]) > 10
    grave = [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
    assert not grave, "\n".join(grave[:10])


@pytest.mark.parametrize("viewport", [desk, phone], ids=["desk", "phone"])
def test_search_finds_a_name(viewport, site, browser):
    page = open_page(browser, viewport)
    page.goto(site, wait_until="load")
    page.locator("button.search-button__button:visible, button.search-button:visible").first.click()
    page.keyboard.type("measure_faithfulness")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").evaluate_all("links => links.map(link => link.href)")
    assert any(url.startswith(f"{site}evidence/faithfulness.html") for url in found), found
    page.goto(next(url for url in found if "evidence/faithfulness" in url))
    assert page.locator("h1").first.inner_text().startswith("Faithfulness")
    assert page.wrong == []


def test_the_theme_can_be_switched_and_is_kept(site, browser):
    page = open_page(browser, desk)

    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.goto(site)
    light = paper()
    page.locator(".theme-switch-button:visible").click()
    page.locator("[data-mode=dark]:visible, button:has-text('Dark'):visible").first.click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = paper()
    page.goto(site + "reference.html")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark" and paper() == dark != light


def test_the_keyboard_reaches_the_content_and_what_scrolls(site, browser):
    page = open_page(browser, phone)
    page.goto(site, wait_until="load")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main-content"
    hidden = page.evaluate("""
        [...document.querySelectorAll('.bd-article *')]
            .filter(box => box.scrollWidth > box.clientWidth + 1
                && ['auto', 'scroll'].includes(getComputedStyle(box).overflowX)
                && box.tabIndex < 0 && !box.querySelector('a, [tabindex="0"]'))
            .map(box => box.className)
    """)
    assert hidden == []


class Links(HTMLParser):
    "What a page links to and what can be linked to in it."

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], {""}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given.get("id"), given.get("name") if tag == "a" else None} - {None}
        self.links += [
            given[name] for name in ("href", "src") if given.get(name) and tag in ("a", "img", "link", "script")
        ]


def test_no_link_is_dead(html):
    read = {name: Links((html / name).read_text(encoding="utf-8")) for name in pages_of(html)}
    dead, tried = [], 0
    for name, page in read.items():
        for link in page.links:
            if link.startswith(("http:", "https:", "mailto:", "data:", "javascript:")):
                continue
            url, anchor = urldefrag(urljoin(f"/{name}", link))
            target = unquote(url.partition("?")[0]).lstrip("/")
            target += "index.html" if target.endswith("/") or not target else ""
            tried += 1
            if not (html / target).is_file() or (target in read and unquote(anchor) not in read[target].anchors):
                dead.append(f"{name}: {link}")
    assert dead == []
    assert tried > 1000


def test_the_front_page_shows_what_the_tutorial_stored(html):
    from pathlib import Path

    cells = json.loads(
        (Path(__file__).resolve().parents[1] / "nbs/tutorials/first_model.ipynb").read_text(encoding="utf-8")
    )["cells"]
    page = (html / "index.html").read_text(encoding="utf-8")
    for tag in ("maps", "classes", "mistakes", "intervals", "faithfulness", "production"):
        (output,) = [output for cell in cells if tag in cell["metadata"].get("tags", []) for output in cell["outputs"]]
        assert "".join(output["data"]["text/html"]).strip() in page, tag


def test_a_page_a_module_with_its_public_names(html):
    import importlib

    for module in modules:
        page, name = (html / module.with_suffix(".html")).read_text(encoding="utf-8"), "cvkit." + ".".join(module.parts)
        held = importlib.import_module(name)
        public = [word for word in held.__all__ if getattr(getattr(held, word), "__module__", None) == name]
        missing = [
            word
            for word in public
            if f">{word}<" not in page and f'id="{name.replace(".", "-").replace("_", "-").lower()}-' not in page
        ]
        assert not missing, f"{name}: no heading for {missing}"


def test_each_page_is_in_the_navigation(html):
    rooms = (html / "reference.html").read_text(encoding="utf-8")
    for room in sorted({module.parent for module in modules if len(module.parts) > 1}):
        assert f'href="{room}/index.html' in rooms
        listing = (html / room / "index.html").read_text(encoding="utf-8")
        assert not [
            module for module in modules if module.parent == room and f'href="{module.name}.html' not in listing
        ]


def test_names_in_prose_are_links(html):
    page = (html / "core.html").read_text(encoding="utf-8")
    assert 'id="cvkit-core-digest-json"' in page
    linked = sum(
        len(re.findall(r'<a class="reference internal"[^>]*><code', path.read_text(encoding="utf-8")))
        for path in html.rglob("*.html")
    )
    assert linked > 0


def test_stored_pictures_and_tables_are_shown(html):
    assert list((html / "_images").iterdir()) or "data:image/png" in (html / "core.html").read_text(encoding="utf-8")


def test_pages_fetch_nothing_and_name_no_machine(html):
    for path in html.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]+"', page)
        assert not fetched, f"{path.name} would load {fetched[0]}"
        assert str(root) not in page, f"{path.name} holds this checkout's path"
