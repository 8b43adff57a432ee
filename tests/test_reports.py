"Pages in a real browser: nothing overflows a telephone, and what is read aloud has words."

import json
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from cvkit.reports.pages import (
    STYLE,
    Block,
    badge,
    code,
    definition,
    figure,
    markdown,
    page,
    pictures,
    section,
    table,
    text,
)

browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
sentence = "CC-BY-NC-SA-4.0 does not allow commercial use; license the data, or train on other data"


@pytest.fixture(scope="module")
def report():
    "A page with one of each block, none of them small."
    plt = pytest.importorskip("matplotlib.pyplot")
    fig, axes = plt.subplots(1, 2, figsize=(10, 4))
    for ax, title in zip(axes, ("Left", "Right & <b>")):
        ax.set_title(title)
    plt.close(fig)
    image = np.zeros((64, 64, 3), np.uint8)
    return page(
        "A report",
        section(
            "Words",
            table(
                [
                    {
                        "role": "AI Lead",
                        "rule": "licence",
                        "answer": badge("insufficient"),
                        "because": sentence,
                        **{f"a column with a long name, number {i}": i for i in range(4)},
                    }
                ]
                * 3,
                caption="A caption of many words that says how the numbers were made, and from what.",
            ),
        ),
        section("Numbers", table([{f"taken for class {i}": i for i in range(14)}])),
        section(
            "Digests",
            definition({"a name of several words": code("0" * 64)}),
            text(code("sha256sum --check " + "0" * 64)),
        ),
        section("Plot", figure(fig)),
        section(
            "Pictures",
            pictures(
                [(image, Block("<b>layer integrated gradients</b><br>+0.21 over chance"))] * 9, size=224, columns=5
            ),
        ),
        section(
            "Markdown",
            markdown(f"| what | digest |\n|---|---|\n| code | `{'0' * 64}` |\n"),
        ),
        answer=("fail", sentence),
    )


def measured(html, width, script, tmp_path):
    "What a script finds in a page that is as wide as this; `d` is the page's document."
    frame = f"""<iframe id=f style="width:{width}px;height:900px;border:0" srcdoc="{escape(html)}"></iframe>
<pre id=o></pre>
<script>
f.onload = () => {{
    const d = f.contentDocument, w = f.contentWindow;
    o.textContent = JSON.stringify({script});
}}
</script>"""
    (tmp_path / "frame.html").write_text(frame)
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={tmp_path}/profile",
            "--virtual-time-budget=5000",
            "--dump-dom",
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return json.loads(unescape(re.search(r'<pre id="o">(.*?)</pre>', done.stdout, re.S)[1]))


@pytest.mark.skipif(not browser, reason="needs Chromium")
def test_nothing_overflows_and_pictures_stay_large(report, tmp_path):
    script = """{
        page: d.documentElement.scrollWidth,
        row: d.querySelector('.stack tbody tr').offsetWidth,
        because: d.querySelectorAll(".stack td")[3].offsetWidth,
        numbers: d.querySelectorAll('table')[1].offsetWidth,
        pictures: [...d.querySelectorAll('.grid img')].map(i => i.offsetWidth),
        label: w.getComputedStyle(d.querySelectorAll('.stack td')[3], '::before').content
    }"""
    small, large = measured(report, 390, script, tmp_path), measured(report, 1280, script, tmp_path)
    assert small["page"] <= 390 and large["page"] <= 1280
    assert small["because"] == small["row"] <= 354 and small["label"] == '"because"', (
        "a row of words is a block, each value under its name"
    )
    assert small["numbers"] > 390, "numbers scroll inside their frame"
    assert (
        min(small["pictures"]) >= 140
        and len(set(large["pictures"])) == 1
        and 180 < large["pictures"][0] < 220
        and large["label"] == "none"
    )


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def all(self, name):
        return [attributes for tag, attributes in self.found if tag == name]


def test_pictures_and_scrolling_frames_have_names(report):
    tags = Tags(report)
    assert [i["alt"] for i in tags.all("img")] == ["Plot: Left; Right & <b>"] + ["layer integrated gradients"] * 9
    frames = [d for d in tags.all("div") if "wide" in d.get("class", "").split()]
    assert len(frames) == 4 and all(d["tabindex"] == "0" and d["role"] == "group" and d["aria-label"] for d in frames)
    assert (
        all(th.get("scope") == "col" for th in tags.all("th")[:22])
        and tags.all("html")[0]["lang"] == "en"
        and len(tags.all("main")) == len(tags.all("h1")) == 1
    )


def test_a_heading_from_outside_stays_text():
    html = table([{'"><img src=x>': "a cell of more than twenty-four letters", "b": "<td>"}])
    assert not Tags(html).all("img") and len(Tags(html).all("td")) == 2
    assert [td["data-label"] for td in Tags(html).all("td")] == ['"><img src=x>', "b"]


def ratio(a, b):
    "Contrast of two colours (WCAG 2.2, relative luminance)."

    def light(colour):
        c = colour.lstrip("#")
        rgb = np.array([int(x, 16) / 255 for x in (re.findall("..", c) if len(c) == 6 else [d * 2 for d in c])])
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_words_have_contrast(mode):
    blocks = re.findall(r"\.cvkit \{\s*(--[^}]*)", STYLE)
    colours = dict(re.findall(r"--(\w+): (#\w+)", blocks[mode]))
    assert ratio("#000", "#fff") == pytest.approx(21)
    assert {
        name: round(ratio(colours[name], colours[ground]), 1)
        for name in ("ink", "soft", "good", "bad", "unsure", "link")
        for ground in ("paper", "tint")
        if ratio(colours[name], colours[ground]) < 4.5
    } == {}
