"What a licence allows: every name that SPDX has, expressions, spellings, and what several licences allow together."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.licenses._spdx import LICENSES
from PIL import Image

from cvkit.core import DataError, ParameterError
from cvkit.data.ingest import ingest_table
from cvkit.data.licences import (
    KNOWN,
    USES,
    combine_terms,
    hub_licence,
    licence_allows,
    licence_terms,
    manifest_licences,
)
from cvkit.data.manifest import Dataset

spdx = sorted(entry["id"] for entry in LICENSES.values())


def allows(expression):
    return tuple(getattr(licence_terms(expression), use) for use in USES)


@pytest.mark.parametrize("name", [name for name in spdx if name.startswith("CC-BY-")])
def test_creative_commons_by_their_names(name):
    "The name says it: NC forbids to sell, ND to pass on what was made of it, SA asks for the same terms."
    terms, parts = licence_terms(name), name.split("-")
    assert (terms.research, terms.commercial, terms.derived, terms.share_alike, terms.attribution) == (
        True,
        "NC" not in parts,
        "ND" not in parts,
        "SA" in parts,
        True,
    )
    assert terms.url == f"https://spdx.org/licenses/{name}.html" and terms.expression == name


def test_every_name_in_the_table_is_spdx_or_a_reference():
    assert [name for name in KNOWN if name not in spdx and not name.startswith("LicenseRef-")] == []


def test_what_is_not_in_the_table_allows_nothing():
    listed = {name.lower() for name in KNOWN}
    others = [name for name in spdx if name.rstrip("+").lower() not in listed and not name.startswith("CC-BY-")]
    assert len(others) > 500 and {allows(name) for name in others} == {(None, None, None)}
    assert "Legal must read it" in licence_terms("CC-SA-1.0").why


@pytest.mark.parametrize(
    "text, expected",
    [
        ("cc-by-4.0", "CC-BY-4.0"),
        ("CC BY 4.0", "CC-BY-4.0"),
        ("  cc0-1.0 ", "CC0-1.0"),
        ("Apache 2.0", "Apache-2.0"),
        ("mit or cc-by-4.0", "MIT OR CC-BY-4.0"),
        ("licenseref-OWN", "LicenseRef-own"),
        ("LICENSEREF-pexels", "LicenseRef-Pexels"),
        ("gpl-2.0+", "GPL-2.0+"),
        ("CC-BY-4.0+", "CC-BY-4.0+"),
        ("https://spdx.org/licenses/CC-BY-4.0.html", "CC-BY-4.0"),
        ("https://spdx.org/licenses/MIT", "MIT"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/", "CC-BY-NC-SA-4.0"),
        ("http://creativecommons.org/licenses/by/3.0/de/", "CC-BY-3.0-DE"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("(MIT)", "MIT"),
        ("((MIT) AND (ISC))", "MIT AND ISC"),
        ("(MIT OR ISC) AND CC-BY-4.0", "(MIT OR ISC) AND CC-BY-4.0"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
    ],
)
def test_spellings(text, expected):
    terms = licence_terms(text)
    assert (terms.expression == expected and terms.commercial is not None) or text.lower().endswith("pexels")
    assert licence_terms(terms.expression) == terms, "what it is called is read as the same"


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        "  ",
        "proprietary",
        "all rights reserved",
        "unknown",
        "NONE",
        "NOASSERTION",
        "MIT AND",
        "AND",
        "(MIT",
        "MIT)",
        "MIT ISC",
        "CC-BY-5.0",
        "CC-BY-NC",
        "MIT WITH MIT",
        "a/b",
        "<script>alert(1)</script>",
        "MIT\nOR\nISC\nOR",
        "LicenseRef-",
        "LicenseRef-house",
        "__import__('os')",
        "()",
        "true",
        "1",
        "MIT OR (",
        "MIT " * 500,
        "(" * 400 + "MIT" + ")" * 400 + ")",
    ],
)
def test_what_is_no_licence_allows_nothing(text):
    assert allows(text) == (None, None, None) and licence_terms(text).why
    assert [licence_allows(text, use) for use in USES] == [None] * 3


atoms = (
    "CC0-1.0",
    "CC-BY-4.0",
    "CC-BY-NC-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-NC-ND-3.0",
    "LicenseRef-house",
    "LicenseRef-Pexels",
    "MPL-2.0",
)
trees = st.recursive(
    st.sampled_from(atoms), lambda inner: st.tuples(st.sampled_from(("AND", "OR")), inner, inner), max_leaves=8
)
order = {False: 0, None: 1, True: 2}


def written(tree):
    return tree if isinstance(tree, str) else f"({written(tree[1])}) {tree[0].lower()} ({written(tree[2])})"


def alternatives(tree):
    "The sets of licences that a choice at every OR leaves."
    if isinstance(tree, str):
        return [{tree}]
    left, right = alternatives(tree[1]), alternatives(tree[2])
    return left + right if tree[0] == "OR" else [a | b for a in left for b in right]


@given(trees)
def test_an_expression_allows_what_its_best_choice_allows(tree):
    """Against all choices written out: each is as strict as its strictest licence, and the chosen one allows commercial
    use where any does."""
    answers = [
        tuple(min((licence_allows(name, use) for name in names), key=order.get) for use in USES)
        for names in alternatives(tree)
    ]
    found = allows(written(tree))
    assert found in answers
    assert order[found[1]] == max(order[a[1]] for a in answers)


def test_and_binds_closer_than_or():
    assert allows("CC0-1.0 OR MIT AND CC-BY-NC-4.0") == (True, True, True) and allows(
        "(CC0-1.0 OR MIT) AND CC-BY-NC-4.0"
    ) == (True, False, True)


def test_two_that_each_ask_for_their_own_terms():
    terms = licence_terms("CC-BY-SA-4.0 AND ODbL-1.0")
    assert (terms.commercial, terms.derived, terms.share_alike) == (
        True,
        False,
        True,
    ) and "nothing that is made of both can be passed on" in terms.why
    assert (
        licence_terms("CC-BY-SA-3.0 AND CC-BY-SA-4.0").derived
        and licence_terms("CC-BY-SA-4.0 AND CC-BY-NC-SA-4.0").derived is False
    )


def test_a_use_that_is_none():
    with pytest.raises(ParameterError, match="expected a use .research, commercial, derived., got 'sale'"):
        licence_allows("MIT", "sale")


def set_of(tmp_path, rows, declared=""):
    for i in range(len(rows)):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / f"{i}.png")
    return ingest_table(
        pd.DataFrame({
            "uri": [f"{i}.png" for i in range(len(rows))],
            "label": [str(i) for i in range(len(rows))],
            "licence": rows,
        }),
        tmp_path,
        Dataset("set", licence=declared),
    )


def test_one_unknown_picture_makes_the_whole_unknown(tmp_path):
    found = manifest_licences(set_of(tmp_path, ["CC0-1.0"] * 5 + ["", "found it"], "CC-BY-4.0"))
    assert sum(found.images.values()) == 7 and found.images["CC0-1.0"] == 5 and found.terms.commercial is None
    assert "found it" in found.needing("commercial") and "CC0-1.0" not in found.needing("commercial")
    assert combine_terms(found.each) == found.terms
    with pytest.raises(DataError, match="expected images in the manifest, got none"):
        manifest_licences(set_of(tmp_path, ["MIT", "MIT"]).take([]))


def test_a_hostile_name_stays_a_name(tmp_path):
    html = manifest_licences(
        set_of(tmp_path, ["<script>alert(1)</script>", 'LicenseRef-x"onmouseover="y'])
    )._repr_html_()
    assert "<script" not in html and 'onmouseover="y' not in html and "&lt;script&gt;" in html


def test_the_hub_has_a_list_of_its_own():
    def hub(e):
        return hub_licence(licence_terms(e))

    named = {
        "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
        "CC-BY-3.0": "cc-by-3.0",
        "PDDL-1.0": "pddl",
        "ODbL-1.0": "odbl",
        "AGPL-3.0-only": "agpl-3.0",
        "GFDL-1.3-or-later": "gfdl",
        "C-UDA-1.0": "c-uda",
        "MIT": "mit",
        "ISC": "isc",
        "": "unknown",
    }
    assert {name: hub(name)["license"] for name in named} == named
    assert hub("CC-BY-3.0-DE") == {
        "license": "other",
        "license_name": "cc-by-3.0-de",
        "license_link": "https://spdx.org/licenses/CC-BY-3.0-DE.html",
    }
    assert hub("x\n---\nlicense: mit") == {"license": "other", "license_name": "x-license-mit"}
