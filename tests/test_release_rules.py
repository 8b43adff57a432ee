"""Who may ship what: rules that answer pass, fail or insufficient, signatures that show what was changed, cards whose
numbers resolve."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import cvkit
from cvkit.core import DataError, PolicyError, digest_file, read_json, write_json
from cvkit.data.licences import licence_allows
from cvkit.release.approvals import read_approvals, record_approval
from cvkit.release.model_card import check_card, model_card, stale_quotes, verdicts_page
from cvkit.release.policy import ROLES, Policy, Verdict, judge
from cvkit.release.policy_rules import more_needed, same_person
from cvkit.stats import bootstrap, bootstrap_weights, clopper_pearson, wilson
from cvkit.task_info import TASK_INFO

bundle = "a" * 64
shipped = Path(cvkit.__file__).parent / "policy.yaml"


def policy_of(*rules):
    return Policy(
        "test",
        "AI Lead",
        "limited",
        "sort photographs",
        {"production": [{"rule": r["kind"], "role": "AI Lead", "why": "", **r} for r in rules]},
        "d" * 64,
    )


def answer(rule, evidence):
    "(answer, text) of one rule."
    found = judge(policy_of(rule), {"bundle": bundle, **evidence}, "production")
    assert found.verdict == found.answers[0]["answer"] and len(found.answers) == 1
    return found.answers[0]["answer"], found.answers[0]["text"]


# ---- every kind of rule

accuracy = dict(kind="metric", metric="accuracy", at_least=0.85)
ece = dict(kind="metric", metric="ece", at_most=0.1)
fields = dict(kind="declared", fields=["name", "owner"])
looks = dict(kind="looks", at_most=3)
maps = dict(kind="explained", verdicts=["reliable"])
parity = dict(kind="parity", at_most=1e-4)
monitored = dict(kind="monitored", at_most=0.1)
leaks = dict(kind="leaks")
signed = dict(kind="approved", roles=["Legal"])
pii = dict(kind="pii", allow=["none", "redacted", "cleared"])
basis, retention, erasure = (dict(kind=kind) for kind in ("basis", "retention", "erasure"))
commercial = dict(kind="licence", use="commercial")


def metrics(**named):
    return {"metrics": named}


def measured(value, low, high, n=100, method="bootstrap"):
    return dict(value=value, low=low, high=high, n=n, method=method)


def alarms(k, n=200):
    return {"drift": {"null_alarm_rate": clopper_pearson(k, n).to_dict()}}


def data(**named):
    return {"dataset": named}


def signature(decision="approve", name="Lin", role="Legal", stage="production", note="", author="", **digests):
    return dict(
        role=role,
        name=name,
        stage=stage,
        decision=decision,
        note=note,
        author=author,
        digests={"bundle": bundle, "policy": "d" * 64, **digests},
    )


cases = [
    (
        accuracy,
        metrics(accuracy=measured(0.9, 0.85, 0.93)),
        "pass",
        r"accuracy 0.900 \[0.850, 0.930\], at least 0.85 demanded$",
    ),
    (accuracy, metrics(accuracy=measured(0.8, 0.75, 0.849)), "fail", "at least 0.85 demanded$"),
    (
        accuracy,
        metrics(accuracy=wilson(435, 500).to_dict()),
        "insufficient",
        "straddles it; about 741 more held-out images",
    ),
    (accuracy, metrics(accuracy=measured(0.84, 0.8, 0.88)), "insufficient", "never clear it at this estimate"),
    (
        accuracy,
        metrics(accuracy=measured(None, None, None, 4, "undefined: 4 of at least 10 needed")),
        "insufficient",
        "not measured .undefined: 4 of",
    ),
    (accuracy, metrics(accuracy=measured(0.9, None, None)), "insufficient", "has no interval"),
    (accuracy, metrics(accuracy=measured(float("nan"), 0.9, 0.95)), "insufficient", "has no interval"),
    (accuracy, {}, "insufficient", "not measured; run `cvkit evaluate`"),
    (
        dict(kind="metric", metric="recall", at_least=0.8),
        metrics(accuracy=measured(0.9, 0.88, 0.92, 500), recall=wilson(84, 100).to_dict()),
        "insufficient",
        "about 1,47[0-9] more held-out images",
    ),
    (ece, metrics(ece=measured(0.04, 0.03, 0.1)), "pass", "at most 0.1 demanded$"),
    (ece, metrics(ece=measured(0.2, 0.11, 0.3)), "fail", "at most 0.1 demanded$"),
    (ece, metrics(ece=measured(0.09, 0.05, 0.12)), "insufficient", "about 800 more"),
    (fields, data(name="cells", owner="us"), "pass", "declared: name, owner"),
    (fields, data(name="cells", owner=" "), "fail", "not declared: owner; add to dataset.yaml"),
    (fields, {}, "fail", "not declared: name, owner"),
    (dict(kind="licence", use="commercial"), data(licence="CC0-1.0"), "pass", "CC0-1.0 allows commercial use"),
    (dict(kind="licence", use="commercial"), data(licence="cc by nc 4.0"), "fail", "does not allow commercial use"),
    (dict(kind="licence", use="research"), data(licence="CC-BY-NC-4.0"), "pass", "allows research use"),
    (dict(kind="licence", use="research"), data(licence="mine"), "fail", "'mine' is not in the table"),
    (dict(kind="licence", use="research"), data(licence=None), "fail", "no licence of the data is declared"),
    (dict(kind="risk", levels=["minimal", "limited"]), {}, "pass", "risk level limited is declared"),
    (dict(kind="risk", levels=["minimal"]), {}, "fail", "minimal may pass"),
    (looks, dict(looks=3), "pass", "3 looks at the hold-out, 3 allowed$"),
    (looks, dict(looks=4), "fail", "evaluate on images that nobody has looked at"),
    (looks, {}, "insufficient", "no ledger"),
    (
        maps,
        dict(explanation=dict(verdict="reliable", methods=["a"])),
        "pass",
        "explained by 1 method; verdict on the maps: reliable",
    ),
    (maps, dict(explanation=dict(verdict="unreliable", methods=["a"])), "fail", "the maps are unreliable"),
    (maps, dict(explanation=dict(verdict="insufficient", methods=["a"])), "insufficient", "the maps are insufficient"),
    (maps, {}, "insufficient", "run `cvkit explain`"),
    (parity, dict(parity=dict(n=40, max_abs_diff=1e-4)), "pass", "40 images through the server"),
    (parity, dict(parity=dict(n=40, max_abs_diff=1.1e-4)), "fail", "0.0001 allowed"),
    (parity, dict(parity=dict(n=40, max_abs_diff=float("nan"))), "fail", "differ by at most nan"),
    (parity, dict(parity=dict(n=0, max_abs_diff=0.0)), "insufficient", "run `cvkit serve`"),
    (parity, {}, "insufficient", "run `cvkit serve`"),
    (monitored, alarms(10), "pass", r"0.050 \[0.024, 0.090\], at most 0.1 demanded$"),
    (monitored, alarms(19), "insufficient", "straddles it; about [0-9,]+ more windows"),
    (monitored, alarms(22), "insufficient", "more windows never clear it"),
    (monitored, alarms(40), "fail", "share of 200 windows"),
    (
        monitored,
        {"drift": {"null_alarm_rate": dict(value=0.05, low=None, high=None, n=200)}},
        "insufficient",
        "has no interval",
    ),
    (monitored, {"drift": {}}, "insufficient", "run `cvkit monitor`"),
    (leaks, dict(leaks=dict(verdict="pass", sentence="Nothing crosses.")), "pass", "^Nothing crosses.$"),
    (
        leaks,
        dict(leaks=dict(verdict="fail", sentence="It leaks: 3 groups.")),
        "fail",
        "^It leaks: 3 groups. Correct the split",
    ),
    (
        leaks,
        dict(leaks=dict(verdict="insufficient", sentence="Not searched.")),
        "insufficient",
        "^Not searched. Search near duplicates, and run `cvkit train` again.$",
    ),
    (leaks, dict(leaks=dict(verdict="maybe", sentence="")), "insufficient", "no leak certificate"),
    (leaks, {}, "insufficient", "no leak certificate of these splits; run `cvkit train` again"),
    (signed, dict(approvals=[signature()]), "pass", "approved by Lin"),
    (signed, dict(approvals=[signature("refuse", note="no licence")]), "fail", "Lin refused: no licence"),
    (signed, dict(approvals=[signature("refuse"), signature()]), "pass", "approved by Lin"),
    (signed, dict(approvals=[signature(), signature("refuse", name="Max")]), "fail", "Max refused$"),
    (signed, dict(approvals=[signature(bundle="b" * 64)]), "insufficient", "waiting for the approval of Legal"),
    (signed, dict(approvals=[signature(stage="staging")]), "insufficient", "waiting"),
    (signed, dict(approvals=[signature(role="AI Lead")]), "insufficient", "waiting"),
    (
        signed,
        dict(approvals=[signature(policy="e" * 64)]),
        "insufficient",
        "Lin approved under another policy; Legal must approve again",
    ),
    (signed, dict(approvals=[signature(policy=None)]), "insufficient", "under another policy"),
    (signed, dict(approvals=[{**signature(), "digests": {"bundle": bundle}}]), "insufficient", "under another policy"),
    (signed, dict(approvals=[signature("refuse", policy="e" * 64)]), "fail", "Lin refused"),
    (signed, dict(approvals=[signature()], author="  LIN"), "insufficient", "Lin made this model and cannot sign it"),
    (signed, dict(approvals=[signature(author="lin")]), "insufficient", "somebody else must sign as Legal"),
    (signed, {}, "insufficient", "waiting"),
    (commercial, data(licence="CC-BY-NC-4.0 OR MIT"), "pass", "CC-BY-NC-4.0 OR MIT allows commercial use"),
    (commercial, data(licence="CC-BY-4.0 AND LicenseRef-house"), "fail", "not in the table"),
    (
        commercial,
        dict(licences={"CC0-1.0": 900, "CC-BY-4.0": 100}, **data(licence="CC-BY-NC-4.0")),
        "pass",
        r"^CC0-1.0 .900 images., CC-BY-4.0 .100 images. allows commercial use$",
    ),
    (
        commercial,
        dict(licences={"CC0-1.0": 900, "CC-BY-NC-4.0": 1}),
        "fail",
        r"^CC-BY-NC-4.0 .1 image. does not allow commercial use",
    ),
    (commercial, dict(licences={"CC0-1.0": 900, "found": 2}), "fail", r"'found' .2 images. is not in the table"),
    (commercial, dict(licences={"CC0-1.0": 900, "": 3}), "fail", "no licence is declared of 3 images"),
    (dict(kind="licence", use="derived"), data(licence="CC-BY-ND-4.0"), "fail", "does not allow derived use"),
    (pii, dict(pii={"none": 20}), "pass", "nobody and nothing personal is in the pictures, as a person declares"),
    (pii, dict(pii={"none": 20, "redacted": 2000, "cleared": 3}), "pass", "20 none, 2,000 redacted, 3 cleared"),
    (pii, dict(pii={"none": 20, "found": 1}), "fail", "of 21 images 1 found; run `cvkit redact`"),
    (pii, dict(pii={"none": 20, "found": 0}), "pass", "as a person declares"),
    (pii, dict(pii={"unchecked": 1234}), "fail", "of 1,234 images 1,234 unchecked"),
    (pii, dict(pii={"clean": 4}), "fail", "4 clean"),
    (pii, dict(pii={"unchecked": 4}, **data(pii_status="none")), "fail", "4 unchecked"),
    (pii, data(pii_status="none"), "pass", "as a person declares"),
    (pii, data(pii_status="cleared"), "insufficient", "were not counted"),
    (pii, {}, "insufficient", "were not counted"),
    (dict(kind="pii", allow=["cleared"]), dict(pii={"none": 4}), "fail", "4 none"),
    (basis, dict(pii={"none": 4}), "pass", "no personal data"),
    (basis, dict(pii={"redacted": 4}), "fail", "not declared: lawful_basis, contact; add to dataset.yaml"),
    (basis, {}, "fail", "not declared: lawful_basis, contact"),
    (basis, data(lawful_basis="public task", contact="a@b.org"), "pass", "processed by public task; a@b.org answers"),
    (basis, data(lawful_basis="consent", contact="a@b.org"), "fail", "not declared: consent;"),
    (basis, data(lawful_basis="consent", contact="a@b.org", consent="a signed form"), "pass", "processed by consent"),
    (retention, dict(pii={"none": 4}), "pass", "no day is due"),
    (retention, {}, "fail", "not declared: retention_until"),
    (
        retention,
        dict(today="2026-06-30", **data(retention_until="2026-06-30")),
        "pass",
        "until 2026-06-30, 0 more days$",
    ),
    (retention, dict(today="2026-06-29", **data(retention_until="2026-06-30")), "pass", "1 more day$"),
    (
        retention,
        dict(today="2026-07-02", **data(retention_until="2026-06-30")),
        "fail",
        "had to be gone by 2026-06-30, 2 days ago; erase them with `cvkit forget`",
    ),
    (retention, dict(today="2026-07-02", pii={"none": 4}, **data(retention_until="2026-06-30")), "fail", "2 days ago"),
    (retention, data(retention_until="1999-01-01"), "fail", "had to be gone"),
    (retention, data(retention_until="2999-01-01"), "pass", "may be kept"),
    (
        retention,
        data(retention_until="soon"),
        "fail",
        "expected days such as 2027-12-31, but .*'soon'; correct retention_until",
    ),
    (erasure, dict(erased=[]), "pass", "nothing that it learned from was erased since"),
    (
        erasure,
        dict(erased=[dict(image="a", when="2026-01-01")]),
        "fail",
        "learned from 1 image that was erased since; train again without it",
    ),
    (
        erasure,
        dict(erased=[dict(image=str(i), when="2026-01-01") for i in range(3)], pii={"none": 9}),
        "fail",
        "learned from 3 images that were erased since; train again",
    ),
    (erasure, dict(pii={"redacted": 9}), "insufficient", "nobody looked whether"),
    (erasure, dict(pii={"none": 9}), "pass", "nobody can be in the pictures"),
]


@pytest.mark.parametrize(
    "rule, evidence, expected, words", cases, ids=[f"{c[0]['kind']} {c[2]} {i}" for i, c in enumerate(cases)]
)
def test_rule(rule, evidence, expected, words):
    found, text = answer(rule, evidence)
    assert found == expected and re.search(words, text), text


rank = {"fail": 0, "insufficient": 1, "pass": 2}
interval = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted)


@given(
    ends=interval,
    bars=st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted),
    method=st.sampled_from(["wilson", "bootstrap", "clopper-pearson"]),
    n=st.integers(10, 9999),
)
def test_a_stricter_threshold_never_helps(ends, bars, method, n):
    low, value, high = ends
    estimate = measured(value, low, high, n, method)
    asked = [rank[answer({**accuracy, "at_least": bar}, metrics(accuracy=estimate))[0]] for bar in bars]
    assert asked[1] <= asked[0]
    for kind, evidence in ((dict(ece), metrics(ece=estimate)), (monitored, {"drift": {"null_alarm_rate": estimate}})):
        asked = [rank[answer({**kind, "at_most": bar}, evidence)[0]] for bar in bars]
        assert asked[0] <= asked[1]


@given(ends=interval, bar=st.floats(0, 1))
def test_an_interval_that_straddles_is_neither_pass_nor_fail(ends, bar):
    low, value, high = ends
    for rule, evidence in (
        ({**accuracy, "at_least": bar}, metrics(accuracy=measured(value, low, high))),
        ({**ece, "at_most": bar}, metrics(ece=measured(value, low, high))),
        (
            {**monitored, "at_most": bar},
            {"drift": {"null_alarm_rate": measured(value, low, high, 200, "clopper-pearson")}},
        ),
    ):
        found, _ = answer(rule, evidence)
        if low < bar < high:
            assert found == "insufficient"
        elif low > bar:
            assert found == ("pass" if "at_least" in rule else "fail")
        elif high < bar:
            assert found == ("fail" if "at_least" in rule else "pass")


def test_one_fail_refuses_and_nothing_asked_is_no_pass():
    three = policy_of(accuracy, looks, signed)
    evidence = metrics(accuracy=measured(0.9, 0.86, 0.93)) | {"bundle": bundle}
    assert judge(three, {**evidence, "looks": 9}, "production").verdict == "fail"
    assert judge(three, {**evidence, "looks": 1}, "production").verdict == "insufficient"
    assert judge(three, {**evidence, "looks": 1, "approvals": [signature()]}, "production").verdict == "pass"
    assert judge(policy_of(), evidence, "production").verdict == "insufficient"
    with pytest.raises(PolicyError, match="expected a stage of policy 'test' .production., got 'prod'"):
        judge(three, evidence, "prod")


def test_the_verdict_in_a_terminal_and_on_a_page():
    found = judge(
        policy_of(accuracy, {**signed, "roles": ["Legal", "AI Lead"]}),
        {"bundle": bundle, "approvals": [signature("refuse", name="<Lin>")]},
        "production",
    )
    assert str(found).splitlines() == [
        "production: refused",
        "  AI Lead",
        "    insufficient metric: accuracy was not measured; run `cvkit evaluate`",
        "    insufficient approved: waiting for the approval of AI Lead",
        "  Legal",
        "    fail         approved: <Lin> refused",
    ]
    html = found._repr_html_()
    assert (
        "&lt;Lin&gt; refused" in html and "<Lin>" not in html and html.index("refused") < html.index("was not measured")
    )
    assert found.sentence == "Production is refused: 0 of 3 rules hold; AI Lead, Legal can change that."
    assert found.to_dict()["reasons"] == found.reasons == found.answers


# ---- how much more


@pytest.mark.parametrize(
    "k, n, bar", [(435, 500, 0.85), (18, 20, 0.8), (5, 100, 0.1), (1, 400, 0.01), (990, 1000, 0.985)]
)
def test_more_needed_for_a_wilson_interval(k, n, bar):
    "At the same rate, that many more clear the threshold and three in a hundred fewer do not."
    more, rate = more_needed(wilson(k, n).to_dict(), bar), k / n

    def clears(found):
        return found.low >= bar - 1e-9 if rate > bar else found.high <= bar + 1e-9

    assert clears(wilson(rate * (n + more), n + more)) and not clears(
        wilson(rate * (n + more) * 0.97, (n + more) * 0.97)
    )


@pytest.mark.parametrize("k, n, bar", [(6, 60, 0.2), (19, 20, 0.85), (30, 30, 0.95), (0, 40, 0.02), (19, 200, 0.1)])
def test_more_needed_for_an_exact_interval(k, n, bar):
    "In steps in which the rate can stay what it is."
    more, step = more_needed(clopper_pearson(k, n).to_dict(), bar), n // np.gcd(k, n) if k % n else 1

    def clears(trials):
        return (
            clopper_pearson(k * trials // n, trials).low >= bar
            if k / n > bar
            else clopper_pearson(k * trials // n, trials).high <= bar
        )

    total = -(-(n + more) // step) * step
    assert clears(total) and not clears(total - 2 * step)


def test_more_needed_for_a_bootstrap_interval():
    "Drawn anew with as many images as it says, the interval ends at the threshold."

    def found(n):
        right = np.arange(n) < round(0.87 * n)
        return bootstrap(lambda w: w @ right / w.sum(1), bootstrap_weights(n, replicates=2000))

    more = more_needed(found(200).to_dict(), 0.84)
    assert found(200).low < 0.83 and abs(found(200 + more).low - 0.84) < 0.004


@pytest.mark.parametrize(
    "estimate, bar",
    [
        (measured(0.85, 0.8, 0.9), 0.85),
        (measured(0.85 + 1e-8, 0.8, 0.9, 100, "wilson"), 0.85),
        (measured(0.8501, 0.8, 0.9, 100, "wilson"), 0.85),
    ],
)
def test_no_number_would_do(estimate, bar):
    assert more_needed(estimate, bar) is None


# ---- reading a policy

text = shipped.read_text(encoding="utf-8")


def refusal(tmp_path, written):
    (tmp_path / "policy.yaml").write_bytes(written if isinstance(written, bytes) else written.encode())
    with pytest.raises(PolicyError) as caught:
        Policy.load(tmp_path / "policy.yaml")
    return str(caught.value)


broken = [
    ("", "got NoneType"),
    ("- a", "got list"),
    ("name: [", "expected YAML in"),
    ("\t- a", "expected YAML in"),
    (b"\xff\xfe\x00", "expected YAML in"),
    ("? [a]\n: b", "expected YAML in"),
    ("a: &x [*x]", "expected YAML in"),
    ("!!python/object/apply:os.system [ls]", "expected YAML in"),
    ("1: 2", "1 is no text"),
    ("name: x\nstages: []", "stages should be a mapping"),
    ("stages: {development: x}", "stages.development should be a valid list"),
    ("stages: {development: [x]}", "development, rule 1: kind should be a mapping"),
    ("stages: {development: [{rule: a}]}", "development, rule a: kind is missing"),
    ("stages: {development: [{kind: [a]}]}", "unknown kind"),
]
edits = [
    ("at_least: 0.70", "at_lest: 0.70", "development, rule accuracy: unknown key 'at_lest', did you mean 'at_least'?"),
    ("at_least: 0.70", "at_least: '0.70'", "at_least should be a valid number, got '0.70'"),
    ("at_least: 0.70", "at_least: 70", "at_least should lie in 0 to 1, got 70"),
    ("at_least: 0.70", "at_least: .nan", "at_least should be a finite number, got nan"),
    ("at_least: 0.70", "at_least: true", "should be a valid number, got True"),
    ("at_least: 0.70", "at_most: 0.70", "accuracy takes at_least, and only that"),
    ("metric: accuracy, at_least: 0.70", "metric: log_loss, at_most: -1", "at_most should lie in 0 to 1, got -1"),
    ("at_most: 1.0e-4", "at_most: 1e-4", "write 1.0e-4"),
    ("at_most: 1.0e-4", "at_most: 10", "rule parity: at_most should lie in 0 to 1, got 10"),
    (
        "MLOps Engineer, at_most: 0.15",
        "MLOps Engineer, at_most: 10",
        "rule monitoring: at_most should lie in 0 to 1, got 10",
    ),
    ("at_most: 10,", "at_most: 0,", "at_most should be 1 or more, got 0"),
    ("at_most: 10,", "at_most: 10.5,", "should be a valid integer, got 10.5"),
    ("metric: f1", "metric: f2", "metric should be 'accuracy'"),
    ("kind: leaks,", "kind: leaks, at_most: 1,", "staging, rule leaks: unknown key 'at_most'"),
    ("kind: looks", "kind: look", "unknown kind 'look', did you mean 'looks'?"),
    ("role: Legal", "role: Lawyer", "role should be 'AI Lead'"),
    ("risk_level: limited", "risk_level: none", "risk_level should be 'minimal'"),
    ("  staging:", "  stagging:", "unknown key 'stages.stagging', did you mean 'staging'?"),
    ("owner: AI Lead", "owner: ''", "owner is empty"),
    ("owner: AI Lead", "owner: AI Lead\nowner: me", "'owner' stands twice"),
    ("rule: licence,", "rule: source,", "two rules are named 'source'"),
    ("fields: [name, source, licence]", "fields: []", "fields is empty; name at least one"),
    ("fields: [name, source, licence]", "fields: [colour]", "got 'colour'"),
    ("roles: [AI Lead,", "roles: [Me,", "got 'Me'"),
    ("rule: source, kind", "rule: source, rule: source, kind", "'rule' stands twice"),
]


@pytest.mark.parametrize("written, words", broken)
def test_a_broken_policy(tmp_path, written, words):
    assert words in refusal(tmp_path, written)


@pytest.mark.parametrize("right, wrong, words", edits, ids=[wrong.strip() for _, wrong, _ in edits])
def test_a_slip_in_a_policy(tmp_path, right, wrong, words):
    assert right in text
    assert words in refusal(tmp_path, text.replace(right, wrong, 1))


def test_a_stage_without_rules_would_let_everything_pass(tmp_path):
    found = yaml.safe_load(text)
    found["stages"]["production"] = []
    assert "production: no rules, so everything would pass" in refusal(tmp_path, yaml.safe_dump(found))


def test_a_policy_that_is_not_there(tmp_path):
    with pytest.raises(PolicyError, match="no such file or directory; leave the policy out"):
        Policy.load(tmp_path / "mine.yaml")
    with pytest.raises(PolicyError, match="is a directory"):
        Policy.load(tmp_path)


def test_the_policy_that_ships():
    found = Policy.load()
    rules = {r["rule"]: r for r in found.stages["production"]}
    assert found.digest == digest_file(shipped) and list(found.stages) == ["development", "staging", "production"]
    assert (
        rules["monitoring"]["at_most"] == 0.15
        and rules["licence"]["use"] == "commercial"
        and rules["approvals"]["roles"] == ["AI Lead", "Data Governance", "Legal", "MLOps Engineer"]
    )
    assert ["leaks" in {r["kind"] for r in stage} for stage in found.stages.values()] == [False, True, True] and rules[
        "leaks"
    ]["role"] == "Data Scientist"
    bars = [{r["metric"]: r["at_least"] for r in rules if r.get("at_least")} for rules in found.stages.values()]
    assert bars[0]["accuracy"] < bars[1]["accuracy"] < bars[2]["accuracy"], "each stage asks more"
    assert found.digest[:12] in repr(found) and "upper end of the drift monitor" in found._repr_html_()


def test_an_unknown_licence_is_not_known_to_allow_anything():
    assert [
        licence_allows(name, use)
        for name in ("MIT", "CC-BY-NC-ND-4.0", "WTFPL", "", 4.0)
        for use in ("research", "commercial")
    ] == [True, True, True, False, None, None, None, None, None, None]


# ---- approvals

read = {"bundle": bundle, "policy": "d" * 64}


@pytest.fixture
def signed_file(tmp_path):
    path = tmp_path / "deep" / "approvals.jsonl"
    for role, name in (("AI Lead", "Ada"), ("Legal", "Lin"), ("Data Governance", "Jörg"), ("Legal", "Lin")):
        record_approval(path, role, name, "production", read, note="gelesen \u2028 und\nverstanden")
    return path


def test_the_last_word_of_each_role_counts(tmp_path):
    path = tmp_path / "approvals.jsonl"
    assert read_approvals(path) == []
    record_approval(path, "Legal", "Lin", "production", read, decision="refuse", note="no licence")
    record_approval(path, "Legal", "Lin", "staging", read)
    record_approval(path, "Legal", "Max", "production", {**read, "bundle": "b" * 64})
    assert [a["decision"] for a in read_approvals(path, bundle, "production")] == ["refuse"]
    record_approval(path, "Legal", "Lin", "production", read, note="a licence was bought")
    assert [(a["stage"], a["decision"], a["note"]) for a in read_approvals(path, bundle)] == [
        ("staging", "approve", ""),
        ("production", "approve", "a licence was bought"),
    ]
    policy = policy_of(signed)
    assert judge(policy, {"bundle": bundle, "approvals": read_approvals(path, bundle)}, "production").verdict == "pass"


def test_what_is_written_comes_back(signed_file):
    found = read_approvals(signed_file)
    assert (
        {a["name"] for a in found} == {"Ada", "Lin", "Jörg"}
        and {a["note"] for a in found} == {"gelesen und verstanden"}
        and found[-1]["digests"] == read
    )
    assert (
        found.head == json.loads(signed_file.read_text(encoding="utf-8").split("\n")[3])["digest"]
        and len(repr(found).splitlines()) == 3
    )


def test_a_name_cannot_forge_a_line(tmp_path):
    record_approval(
        tmp_path / "a.jsonl",
        "Legal",
        "Lin\nproduction  AI Lead         approve  Ada",
        "production",
        read,
        note="<img src=x>",
    )
    found = read_approvals(tmp_path / "a.jsonl")
    assert len(repr(found).splitlines()) == 1 and "<img" not in found._repr_html_()


@given(where=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_any_changed_byte_of_an_approval_is_noticed(tmp_path_factory, where, change):
    path = tmp_path_factory.getbasetemp() / "approvals.jsonl"
    if not path.exists():
        for role in ROLES[:3]:
            record_approval(path, role, "Jörg", "production", read)
    kept = path.read_bytes()
    changed = bytearray(kept)
    changed[int(where * len(kept))] ^= change
    path.write_bytes(changed)
    try:
        with pytest.raises(PolicyError, match="restore the file from a copy"):
            read_approvals(path)
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize(
    "old, new",
    [
        (b',"name"', b', "name"'),
        (b'{"at"', b'{"role":"Legal","at"'),
        (b"}\n", b"}\r\n"),
        (b"J\xc3\xb6rg", b"J\\u00f6rg"),
        (b"}\n", b',"more":1}\n'),
    ],
)
def test_a_line_has_one_form(signed_file, old, new):
    kept = signed_file.read_bytes()
    assert old in kept
    signed_file.write_bytes(kept.replace(old, new, 1))
    with pytest.raises(PolicyError, match=r"expected line \d of .* as it was written"):
        read_approvals(signed_file)


def test_a_line_separator_of_unicode_ends_no_line(tmp_path):
    record_approval(tmp_path / "a.jsonl", "Legal", "Lin", "production", {**read, "minutes": "page 1\u2028page 2\u0085"})
    record_approval(tmp_path / "a.jsonl", "AI Lead", "Ada", "production", read)
    assert [a["digests"].get("minutes") for a in read_approvals(tmp_path / "a.jsonl")] == [
        "page 1\u2028page 2\u0085",
        None,
    ]


def test_lines_that_were_removed_swapped_repeated_or_cut(signed_file):
    lines, head = signed_file.read_bytes().split(b"\n")[:-1], read_approvals(signed_file).head
    for order in ([1, 2, 3], [0, 2, 3], [0, 1, 3], [1, 0, 2, 3], [0, 1, 3, 2], [0, 0, 1, 2, 3], [3]):
        signed_file.write_bytes(b"".join(lines[i] + b"\n" for i in order))
        with pytest.raises(PolicyError, match="restore the file from a copy"):
            read_approvals(signed_file)
        with pytest.raises(PolicyError):
            record_approval(signed_file, "Legal", "Lin", "production", read)
    whole = b"".join(line + b"\n" for line in lines)
    for end in range(len(whole) - len(lines[3]), len(whole)):
        signed_file.write_bytes(whole[:end])
        with pytest.raises(PolicyError, match="cut short|as it was written"):
            read_approvals(signed_file)
    signed_file.write_bytes(b"".join(line + b"\n" for line in lines[:3]))
    assert len(read_approvals(signed_file)) == 3, "a chain does not show that its end is missing; its head does"
    with pytest.raises(PolicyError, match=f"expected approval {head[:12]}"):
        read_approvals(signed_file, head=head)
    signed_file.write_bytes(whole)
    record_approval(signed_file, "Legal", "Max", "production", read)
    assert read_approvals(signed_file, head=head)[-1]["name"] == "Max"


@pytest.mark.parametrize("line", ["Dear Sir", "[]", "{}", "null", '{"before":"","digest":NaN}', '{"role":"Legal"}'])
def test_a_line_that_is_no_approval(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(PolicyError, match="expected line 1 of .* as it was written, but this approval was changed"):
        read_approvals(tmp_path / "a.jsonl")


def test_two_processes_that_sign_at_once_lose_nothing(tmp_path):
    code = """
import sys, time
from pathlib import Path
from cvkit.release.approvals import record_approval
Path(sys.argv[1], sys.argv[2]).touch()
while len(list(Path(sys.argv[1]).glob("ready*"))) < 2: time.sleep(.001)
path = Path(sys.argv[1], "approvals.jsonl")
digests = {"bundle": "a" * 64, "policy": "d" * 64}
for i in range(40):
    record_approval(path, "Legal", f"{sys.argv[2]} {i}", "production", digests)
"""
    both = [subprocess.Popen([sys.executable, "-c", code, tmp_path, f"ready {i}"]) for i in range(2)]
    assert [p.wait(60) for p in both] == [0, 0]
    names = [json.loads(line)["name"] for line in (tmp_path / "approvals.jsonl").read_text().splitlines()]
    assert read_approvals(tmp_path / "approvals.jsonl")[0]["name"] == names[-1]
    assert sorted(names) == sorted(f"ready {p} {i}" for p in range(2) for i in range(40))
    assert any(a[:7] != b[:7] for a, b in pairwise(names[1:])), "they did sign at once"


refused = [
    (dict(role="Manager"), "a role"),
    (dict(stage="prod"), "a stage"),
    (dict(decision="maybe"), "a decision"),
    (dict(name="  "), "expected the name of the person"),
    (dict(digests={"policy": "d" * 64}), "digest of the bundle"),
    (dict(digests={**read, "bundle": "A" * 64}), "digest of the bundle"),
    (dict(digests={"bundle": bundle}), "digest of the policy"),
    (dict(author="ADA  lovelace"), "made this model"),
    (dict(name="Zoë", author="zoe\u0308"), "made this model"),
]


@pytest.mark.parametrize("change, words", refused)
def test_what_nobody_can_sign(tmp_path, change, words):
    with pytest.raises(PolicyError, match=words):
        record_approval(
            tmp_path / "a.jsonl",
            **{**dict(role="Legal", name="Ada Lovelace", stage="production", digests=read), **change},
        )
    assert not (tmp_path / "a.jsonl").exists()


def test_one_person_is_one_person():
    assert (
        same_person(" Ada  Lovelace", "ada lovelace")
        and same_person("Straße", "STRASSE")
        and not same_person("Ada", "Ida")
        and not same_person("", "")
    )


# ---- cards


@pytest.fixture
def evidence(tmp_path):
    "Files as evaluate and explain write them."
    evaluation = dict(
        n=200,
        looks=1,
        classes=["bad", "good"],
        positive="bad",
        confusion=[[90, 6], [8, 96]],
        digests=dict(bundle=bundle, manifest="b" * 64),
        published=[dict(source="A. Uthor", metric="accuracy", value=0.9, protocol="theirs")],
        metrics=dict(
            accuracy=wilson(186, 200).to_dict(),
            recall=wilson(90, 96).to_dict(),
            auroc=measured(0.9712, 0.95, 0.99, 200),
            precision=measured(None, None, None, 4, "undefined: 4 of at least 10 needed"),
        ),
        slices=[dict(attribute="light", value="dusk", n=80, accuracy=wilson(70, 80).to_dict())],
    )
    explanation = dict(
        verdict="unreliable",
        methods=["grad-cam"],
        sentence="No method beats chance.",
        digests=dict(bundle=bundle),
        faithfulness={"grad-cam": measured(-0.1, -0.2, -0.05, 16) | {"answer": "unreliable"}},
    )
    return write_json(tmp_path / "evaluation.json", evaluation), write_json(tmp_path / "explanation.json", explanation)


spec = dict(
    name="cells",
    task="classification",
    classes=["bad", "good"],
    positive="bad",
    licence="CC-BY-NC-4.0",
    digests=dict(manifest="b" * 64, splits="c" * 64),
    code=dict(commit="e" * 40, dirty=False),
    weights=dict(source="a package", licence="MIT"),
    dataset=dict(
        name="solar",
        source="a roof",
        owner="us",
        licence="CC-BY-NC-4.0",
        intended_use="Find bad cells.",
        pii_basis="no people",
        citation="Us 2024",
    ),
)


def card_of(evidence, spec=spec, **more):
    return model_card(spec, bundle, evidence[0], Policy.load(), images=1000, explanation=evidence[1], **more)


class Page(HTMLParser):
    "Tags, attributes, headings and visible words of a page."

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words, self.headings, self.inside = set(), set(), [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {a for a, _ in attrs}
        if tag not in ("meta", "br"):
            self.inside.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_endtag(self, tag):
        self.inside.pop()

    def handle_data(self, data):
        if "style" in self.inside or "head" in self.inside:
            return
        self.words.append(data)
        if self.inside and self.inside[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data


def body(card):
    return card.markdown.split("\n---\n", 1)[1]


sections = [
    "May it be used?",
    "Intended use",
    "How good it is",
    "Slices",
    "How it decides",
    "Data",
    "Limits",
    "Where it came from",
    "How to reproduce and check",
]


def test_the_verdict_comes_first_and_the_facts_next(evidence):
    card = card_of(evidence)
    page, top = Page(card.html), body(card).split("## May it be used?")[0]
    assert page.headings == ["cells", *sections] and re.findall("^#+ (.+)$", body(card), re.M) == ["cells", *sections]
    assert top.index("**fail**: Production is refused") < top.index("| Bundle |") and card.html.index(
        "Production is refused"
    ) < card.html.index("Licence of the data</td>")
    for fact in (
        f"| Bundle | `{bundle}` |",
        f"| Data | solar, 1,000 images, manifest `{'b' * 64}` |",
        "| Licence of the data | CC-BY-NC-4.0: allows research use; does not allow commercial use |",
        "| Owner of the data | us |",
        "| Risk level | limited, as",
        f"| Policy | cvkit default, owned by AI Lead, `{Policy.load().digest}` |",
        f"| Code | `{'e' * 40}` |",
        "| Hold-out | 200 images, looked at 1 time |",
        "| Starting weights | a package, licence MIT |",
    ):
        assert fact in top


def test_page_and_markdown_say_the_same(evidence):
    card = card_of(evidence)

    def split(words):
        return set(re.findall(r"[\w.,%+-]*\w", words)) - {"pass", "fail"}

    rendered = Page(MarkdownIt("commonmark").enable("table").render(body(card)))
    footer = "Model card of bundle aaaaaaaaaaaa, made by cvkit register. Its numbers quote the evidence by digest."
    assert split(" ".join(Page(card.html).words)) - split(footer) == split(" ".join(rendered.words)) - split(footer)


def test_every_number_is_that_of_the_evidence(evidence):
    markdown, found = body(card_of(evidence)), read_json(evidence[0])
    for name, e in found["metrics"].items():
        row = next(
            line for line in markdown.splitlines() if line.startswith(f"| {TASK_INFO['classification'].title(name)} |")
        ).split(" | ")
        assert row[1:4] == (
            ["undefined here", "none", "4"]
            if e["value"] is None
            else [f"{e['value']:.3f}", f"{e['low']:.3f} to {e['high']:.3f}", str(e["n"])]
        )
    assert (
        "| bad | 90 | 6 |\n| good | 8 | 96 |" in markdown
        and "| light dusk | 80 | 0.875 | 0.785 to 0.931 |" in markdown
        and "| grad-cam | method | -0.100 | -0.200 to -0.050 | 16 | **unreliable** |" in markdown
    )
    assert (
        "Too few images to state: precision" in markdown
        and "Accuracy is lowest where light is dusk" in markdown
        and "not shown to be better than chance" in markdown
        and "commercial use: the licence of the data does not allow it" in markdown
    )


def test_every_quote_resolves_and_a_changed_file_makes_the_card_stale(evidence, tmp_path):
    card = card_of(evidence)
    place = card.save(tmp_path / "register")
    expected = {f"{p.name}@{digest_file(p)[:12]}" for p in evidence}
    for written in (card.markdown, card.html):
        assert set(re.findall(r"[\w.-]+\.json@\w+", written)) == expected and stale_quotes(written, *evidence) == []
    check_card(place, *evidence)
    for path in evidence:
        kept = path.read_bytes()
        path.write_bytes(kept.replace(b" ", b"  ", 1))
        with pytest.raises(DataError, match=f"expected every quote of model_card.md to resolve, but {path.name}@"):
            check_card(place, *evidence)
        path.write_bytes(kept)
    with pytest.raises(DataError, match="explanation.json@"):
        check_card(place, evidence[0])


def test_evidence_and_verdicts_of_another_bundle_are_refused(evidence):
    for path in evidence:
        kept = read_json(path)
        for digests, named in (({"bundle": "f" * 64}, "f" * 12), ({}, "none")):
            write_json(path, {**kept, "digests": digests})
            message = f"expected {path.name} of bundle aaaaaaaaaaaa, but it speaks of {named}"
            with pytest.raises(DataError, match=message):
                card_of(evidence)
        write_json(path, kept)
    with pytest.raises(DataError, match="expected verdicts on bundle"):
        card_of(evidence, verdicts={"production": Verdict("production", "pass", [], "d" * 64, "f" * 64)})


def test_verdicts_that_are_given_are_the_ones_shown(evidence):
    passed = Verdict(
        "production", "pass", [dict(rule="licence", role="Legal", answer="pass", text="free")], "d" * 64, bundle
    )
    card = card_of(evidence, verdicts={"production": passed})
    assert (
        "**pass**: Production may ship: 1 of 1 rules hold." in card.markdown
        and "| production | **pass** | 1 of 1 | - |" in card.markdown
        and "Production may ship" in card.html
    )


def test_hugging_face_reads_the_front_matter(evidence):
    hub = pytest.importorskip("huggingface_hub")
    found = hub.ModelCard(card_of(evidence).markdown).data
    assert (found.license, found.library_name, found.pipeline_tag, found.model_name) == (
        "cc-by-nc-4.0",
        "onnx",
        "image-classification",
        "cells",
    )
    results = {r.metric_type: r for r in found.eval_results}
    assert {k: r.metric_value for k, r in results.items()} == {"accuracy": 0.93, "recall": 0.9375, "roc_auc": 0.9712}, (
        "what is undefined is left out"
    )
    assert {(r.task_type, r.dataset_name, r.dataset_split) for r in results.values()} == {
        ("image-classification", "solar", "hold-out")
    }
    assert results["recall"].metric_args == {
        k: v for k, v in read_json(evidence[0])["metrics"]["recall"].items() if k != "value"
    }
    again = hub.ModelCard.from_template(found, template_str="---\n{{ card_data }}\n---\n").data
    assert again.eval_results == found.eval_results
    other = hub.ModelCard(card_of(evidence, {**spec, "licence": "LicenseRef-own"}).markdown).data
    assert (other.license, other.license_name) == ("other", "licenseref-own")


hostile = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "x\n---\nlicense: mit\n---\n",
    "a\r\n\r\n# Forged\n\n",
    "| a | b |",
    "*bold* _it_ `code`",
    "[x](javascript:alert(1))",
    "![x](http://a/b.png)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;",
    "- item",
    "1. item",
    "> quote",
    "a: b # c",
    "'\"",
    "!!python/name:os.system",
    "\u2028\u0085---\u2028",
    "\\",
    "~~x~~",
    "<!-- x -->",
]


@pytest.mark.parametrize("name", hostile)
def test_hostile_names_stay_names(evidence, name):
    evil = {
        **spec,
        "name": name,
        "classes": [name, "good"],
        "positive": name,
        "dataset": dict.fromkeys(spec["dataset"], name),
        "weights": dict(source=name, licence=name),
        "licence": name,
    }
    found, maps = (read_json(p) for p in evidence)
    write_json(
        evidence[0],
        {
            **found,
            "classes": [name, "good"],
            "slices": [{**found["slices"][0], "attribute": name, "value": name}],
            "published": [dict(source=name, metric=name, value=0.5, protocol=name)],
        },
    )
    write_json(evidence[1], {**maps, "sentence": name, "methods": [name]})
    card, plain = card_of(evidence, evil), card_of(evidence)
    page, shown = Page(card.html), " ".join(name.split())
    assert (
        page.tags == Page(plain.html).tags
        and page.attributes == Page(plain.html).attributes
        and page.headings == [shown, *sections]
    )
    front = yaml.safe_load(card.markdown[4:].split("\n---\n", 1)[0])
    assert (
        list(front) == ["library_name", "license", "license_name", "pipeline_tag", "tags", "model-index"]
        and front["license"] == "other"
        and front["model-index"][0]["name"] == shown
    )
    inside = [
        t
        for t in MarkdownIt("commonmark", {"html": True}).enable("table").parse(body(card))
        if t.type in ("inline", "html_block")
    ]
    kinds = [c.type for t in inside for c in (t.children if t.type == "inline" else [t])]
    assert set(kinds) <= {"text", "text_special", "code_inline", "softbreak", "strong_open", "strong_close"}
    assert kinds.count("strong_open") == len(
        re.findall(r"\*\*(?:fail|pass|insufficient evidence|unreliable)\*\*", body(card))
    )
    assert [t.content for t in inside].count("May it be used?") == 1 and len(
        re.findall("^## ", body(card), re.M)
    ) == len(sections)
    assert shown in [" ".join(c.content for c in t.children) for t in inside] + [
        "".join(c.content for c in t.children) for t in inside
    ]


def test_little_is_known(evidence):
    "No explanation, no slices, no metrics that could be stated, code outside Git, nothing declared."
    found = read_json(evidence[0])
    write_json(
        evidence[0],
        {
            **{k: found[k] for k in ("n", "digests")},
            "looks": 2,
            "metrics": {"accuracy": measured(None, None, None, 4, "undefined: few")},
        },
    )
    card = model_card(
        {**spec, "dataset": {}, "licence": "", "code": dict(commit=None, dirty=None), "weights": {}, "positive": None},
        bundle,
        evidence[0],
        Policy.load(),
        images=1000,
    )
    front = yaml.safe_load(card.markdown.split("---\n")[1])
    assert "model-index" not in front
    assert front["license"] == "unknown"
    for words in (
        "Not explained.",
        "No slices were compared",
        "not in Git, so it cannot be named",
        "The exact code is not on record",
        "looked at 2 times",
        "| Owner of the data | not declared |",
        "nothing is known to be allowed",
        "| Accuracy | undefined here | none | 4 |",
    ):
        assert words in card.markdown
    changed = {**spec, "code": dict(commit="e" * 40, dirty=True)}
    dirty = model_card(changed, bundle, evidence[0], Policy.load(), images=1000)
    assert "with uncommitted changes" in dirty.markdown and "git checkout" not in dirty.markdown


def test_every_look_of_a_real_ledger_stands_on_the_card(evidence, tmp_path):
    "Who, when, which model and what for; the count is the ledger's, and a ledger that lost a look is refused."
    from cvkit.data.ledger import Ledger

    ledger = Ledger(tmp_path / "ledger.jsonl")
    for who, digest, purpose in (
        ("Ada", bundle, "evaluate"),
        ("Lin | <b>", "c" * 64, "tune *more*"),
        ("Ada", "d" * 64, "evaluate"),
    ):
        ledger.look(purpose, digest, "s" * 64, who=who)
    card = card_of(evidence, looks=ledger.looks)
    rows = re.findall(r"^\| (\d) \| (.+) \| (\S+) \| `(\w+)` \| (.+) \|$", body(card), re.M)
    assert rows == [
        (str(i), who, look["at"], look["bundle"][:12], what)
        for i, (look, who, what) in enumerate(
            zip(ledger.looks, ("Ada", r"Lin \| \<b\>", "Ada"), ("evaluate", r"tune \*more\*", "evaluate")), 1
        )
    ]
    assert (
        f"the last line of the ledger is `{ledger.head[:12]}`" in card.markdown
        and "looked at 1 time when this model was evaluated, 3 by now" in card.markdown
    )
    words = " ".join(Page(card.html).words)
    assert "Lin | <b>" in words and "tune *more*" in words and all(look["at"] in words for look in ledger.looks)
    assert (
        Page(card.html).headings == Page(card_of(evidence).html).headings
        and "Every look" not in card_of(evidence).markdown
    )
    for n in (3, 6):  # the default policy allows three
        looks = [*ledger.looks, *ledger.looks][:n]
        assert (
            "3 allowed; evaluate on images that nobody has looked at" in card_of(evidence, looks=looks).markdown
        ) == (n > 3)
    write_json(evidence[0], {**read_json(evidence[0]), "looks": 4})
    with pytest.raises(
        DataError,
        match=(
            "expected at least 4 looks at the hold-out in the ledger, as the evaluation says, got 3; fetch the "
            "original ledger"
        ),
    ):
        card_of(evidence, looks=ledger.looks)


def test_a_page_of_verdicts_puts_the_strictest_first():
    policy = Policy.load()
    html = verdicts_page(
        "May <cells> ship?", [judge(policy, {"bundle": bundle}, stage) for stage in policy.stages], policy
    )
    assert [heading for heading in Page(html).headings if not heading.startswith("What ")] == [
        "May <cells> ship?",
        "Production",
        "Staging",
        "Development",
        "The policy",
    ] and "<cells>" not in html


def test_a_model_is_judged_by_the_numbers_of_its_own_task():
    policy, good = Policy.load(), {"value": 0.9, "low": 0.8, "high": 0.95, "n": 200, "method": "bootstrap"}

    def asked(task):
        return {
            a["rule"]: a["answer"]
            for a in judge(
                policy, {"task": task, "metrics": {"ap50": good, "accuracy": good, "map": good}}, "development"
            ).answers
        }

    assert asked("detection")["boxes"] == "pass" and "accuracy" not in asked("detection")
    assert asked("multilabel")["labels"] == "pass" and "boxes" not in asked("multilabel")
    assert asked("classification")["accuracy"] == "pass" and not {"boxes", "labels"} & set(asked("classification"))


def test_a_stage_that_is_silent_on_a_task_is_insufficient(tmp_path):
    rules = [r for r in Policy.load().stages["development"] if r.get("task", "classification") == "classification"]
    policy = Policy("p", "o", "limited", "any", {"development": rules}, "0" * 64)
    answered = [a for a in judge(policy, {"task": "detection"}, "development").answers if a["rule"] == "how good"]
    assert answered[0]["answer"] == "insufficient" and "nothing of detection" in answered[0]["text"]


def test_a_metric_of_another_task_is_refused(tmp_path):
    import cvkit

    text = (
        (Path(cvkit.__file__).parent / "policy.yaml")
        .read_text()
        .replace("task: detection, role: Data Scientist, metric: ap50", "role: Data Scientist, metric: ap50", 1)
    )
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PolicyError, match="ap50 is no metric of classification"):
        Policy.load(tmp_path / "p.yaml")
