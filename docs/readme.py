"Write README.md from nbs/index.ipynb: `python docs/readme.py`."

import re
from pathlib import Path

root = Path(__file__).resolve().parents[1]


def readme():
    "The text of README.md: the front page with its stored outputs, as markdown."
    from nbconvert import MarkdownExporter

    body, resources = MarkdownExporter().from_filename(root / "nbs" / "index.ipynb")
    if resources.get("outputs"):
        raise ValueError(f"the README shows text only, got {sorted(resources['outputs'])}; keep pictures to the pages")
    return (
        "<!-- Written by docs/readme.py from nbs/index.ipynb: edit that, then `make export`. -->\n\n"
        + re.sub(r"\n{3,}", "\n\n", body).strip()
        + "\n"
    )


if __name__ == "__main__":
    (root / "README.md").write_text(readme(), encoding="utf-8")
