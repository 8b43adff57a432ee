"""The walk, once and for real: `cvkit demo --data surfaces` with MLflow, Luigi, papermill and a Seldon server, and what
it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cvkit.pipeline.graph import STAGES

command = Path(sys.executable).with_name("cvkit")
pages = {
    "index.html",
    "why.html",
    "ingest/gallery.html",
    "train/report.html",
    "evaluate/report.html",
    "explain/report.html",
    "check/report.html",
    "register/model_card.html",
    "register/verdicts.html",
    "serve/report.html",
    "monitor/report.html",
}


def cvkit(folder, *words, **settings):
    "Run the command line in a folder of its own, with a store of its own."
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "COLUMNS": "200"}
    return subprocess.run(
        [command, *map(str, words)], cwd=folder, env=env, capture_output=True, text=True, timeout=900, **settings
    )


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk")
    done = cvkit(folder, "demo", "--data", "surfaces", "--out", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, folder / "run", done.stdout


@pytest.fixture(scope="module")
def store(walked):
    before, os.environ["MLFLOW_TRACKING_URI"] = (
        os.environ.get("MLFLOW_TRACKING_URI"),
        f"sqlite:///{walked[0] / 'mlflow.db'}",
    )
    from cvkit.release.tracking import mlflow_module

    yield mlflow_module()
    os.environ.pop("MLFLOW_TRACKING_URI") if before is None else os.environ.update(MLFLOW_TRACKING_URI=before)


def read(*parts):
    return json.loads(Path(*parts).read_text())


def test_the_table_names_every_stage_and_what_keeps_it_from_production(walked):
    folder, _, output = walked
    for stage in STAGES:
        found = re.search(rf"^{stage} +(\d+\.\d)  \S.*  (run/{stage}/\S+)$", output, re.M)
        assert found and float(found[1]) > 0 and (folder / found[2]).exists(), stage
    assert re.search(r"^  accuracy +\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]$", output, re.M)
    assert re.search(r"^production: insufficient evidence$", output, re.M)
    assert re.findall(r"waiting for the approval of (.+)", output) == [
        "AI Lead",
        "Data Governance",
        "Legal",
        "MLOps Engineer",
    ]


def test_summary_repeats_what_the_files_hold(walked):
    _, run, _ = walked
    summary, held, oof = (
        read(run, "summary.json"),
        np.load(run / "evaluate/holdout.npz"),
        np.load(run / "train/oof.npz"),
    )
    from sklearn.metrics import accuracy_score, f1_score

    from cvkit.data.manifest import Manifest
    from cvkit.data.splits import Splits

    manifest = Manifest.load(run / "ingest")
    splits = Splits.load(run / "train/splits")
    rows = splits.rows(manifest, "holdout")
    truth, output = manifest.targets[rows], held["probabilities"].argmax(1)
    assert (held["images"] == manifest.table["image"].to_numpy(str)[rows]).all()
    assert summary["dataset"] == {"name": "surfaces", "images": 768, "digest": manifest.digest}
    assert summary["holdout"]["accuracy"]["value"] == pytest.approx(accuracy_score(truth, output))
    assert summary["holdout"]["f1"]["value"] == pytest.approx(f1_score(truth, output, average="macro"))
    for name, e in summary["holdout"].items():
        assert 0 <= e["low"] <= e["value"] <= e["high"] <= 1 and e["low"] < e["high"], name
    right = oof["probabilities"].argmax(1) == manifest.targets
    folds = [right[oof["folds"] == k].mean() for k in range(5)]
    assert (summary["cv"]["accuracy_mean"], summary["cv"]["accuracy_sd"], summary["cv"]["folds"]) == (
        pytest.approx(np.mean(folds)),
        pytest.approx(np.std(folds, ddof=1)),
        5,
    )
    assert set(summary["seconds"]) == set(STAGES) and min(summary["seconds"].values()) > 0
    assert set(summary["explain"]["methods"]) == {
        "layer integrated gradients",
        "grad-cam",
        "occlusion",
        "integrated gradients",
        "shap partition",
    }


def test_no_group_is_on_both_sides(walked):
    from cvkit.data.manifest import Manifest
    from cvkit.data.splits import Splits

    _, run, _ = walked
    manifest, splits = Manifest.load(run / "ingest"), Splits.load(run / "train/splits")
    parts = [set(manifest.groups[splits.rows(manifest, part)]) for part in ("holdout", "development")]
    assert len(parts[0]) > 50 and not parts[0] & parts[1]


def test_what_is_served_is_what_was_evaluated(walked):
    _, run, _ = walked
    parity, served = read(run, "serve/parity.json"), read(run, "serve/served.json")
    assert parity["n"] == 40 and parity["max_abs_diff"] == max(parity["rest"], parity["grpc"]) < 1e-6
    assert served["server"]["left"] == {"processes": [], "ports": []}
    lines = [json.loads(line) for line in (run / "serve/requests.jsonl").read_text().splitlines()]
    assert len(lines) == 80 and {len(line["answers"]) for line in lines} == {3}


def test_the_monitor_is_quiet_and_can_ring(walked):
    drift = read(walked[1], "monitor/drift.json")
    assert (
        drift["null_alarm_rate"]["windows"] == 1000
        and drift["shift_alarm"] is True
        and drift["requests"]["alarm"] is False
    )
    assert drift["null_alarm_rate"]["value"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / drift["null_alarm_rate"]["n"])


def test_a_bundle_that_was_registered_predicts_through_mlflow(walked, store):
    _, run, _ = walked
    from cvkit.data.manifest import Manifest

    version, held, manifest = (
        read(run, "register/version.json"),
        np.load(run / "evaluate/holdout.npz"),
        Manifest.load(run / "ingest"),
    )
    assert (
        store.MlflowClient().get_model_version(version["name"], str(version["version"])).tags["cvkit.bundle"]
        == version["bundle_digest"]
    )
    place = dict(zip(manifest.table["image"], range(len(manifest))))
    found = store.pyfunc.load_model(f"models:/{version['name']}/{version['version']}").predict([
        manifest.read(place[k]) for k in held["images"][:5]
    ])
    classes = [c.removeprefix("p.") for c in found.columns if c.startswith("p.")]
    assert found["label"].tolist() == [classes[i] for i in held["probabilities"][:5].argmax(1)]
    assert np.abs(found[[f"p.{c}" for c in classes]].to_numpy() - held["probabilities"][:5]).max() < 1e-6


def test_every_stage_is_a_run_with_its_notebook_its_commit_and_its_numbers(walked, store):
    _, run, _ = walked
    runs = store.search_runs(experiment_names=["cvkit"])
    client, stages = store.MlflowClient(), runs[runs["tags.cvkit.stage"] != "register"].set_index("tags.cvkit.stage")
    assert (runs["status"] == "FINISHED").all()
    for stage in STAGES:
        record = read(run, stage, "run.json")
        kept = {f.path for f in client.list_artifacts(record["run"])}
        assert f"{stage}.ipynb" in kept and {Path(name).name for name in record["files"]} <= kept, stage
        tags, metrics = client.get_run(record["run"]).data.tags, client.get_run(record["run"]).data.metrics
        assert {"git.commit", "git.dirty", "cvkit.version"} <= tags.keys() and metrics["seconds"] > 0
    e = read(run, "summary.json")["holdout"]["accuracy"]
    logged = client.get_run(read(run, "evaluate/run.json")["run"]).data.metrics
    assert [logged[k] for k in ("accuracy", "accuracy.low", "accuracy.high")] == pytest.approx([
        e[k] for k in ("value", "low", "high")
    ])
    assert len(stages) == len(STAGES) - 1


def test_executed_notebooks_have_run_to_the_end(walked):
    import nbformat

    for stage in STAGES:
        code = [
            cell for cell in nbformat.read(walked[1] / stage / f"{stage}.ipynb", 4).cells if cell.cell_type == "code"
        ]
        assert all(cell.execution_count for cell in code) and any(cell.outputs for cell in code)
        assert not [
            o for cell in code for o in cell.outputs if o.output_type == "error" or o.get("name") == "stderr"
        ], stage


def test_pages_carry_all_that_they_show(walked):
    _, run, _ = walked
    assert {path.relative_to(run).as_posix() for path in run.rglob("*.html")} == pages
    for name in pages:
        page = (run / name).read_text()
        assert not re.findall(r'(?:src|href)="(?!data:|#)(?:https?:)?//[^"]+"', page), name
        for where in re.findall(r'<a href="([^":]+)"', page):
            assert (run / name).parent.joinpath(where).exists(), f"{name} links {where}"
        assert 'class="verdict' in page, name


def test_a_second_walk_redoes_nothing_and_looks_no_second_time(walked):
    folder, run, output = walked
    marks = {stage: (run / stage / "done.json").stat().st_mtime_ns for stage in STAGES}
    again = cvkit(folder, "demo", "--data", "surfaces", "--out", "run")
    assert again.returncode == 0 and "..." not in again.stdout
    assert marks == {stage: (run / stage / "done.json").stat().st_mtime_ns for stage in STAGES}
    assert output.endswith(again.stdout), "the same table"
    assert len((run / "train/ledger.jsonl").read_text().splitlines()) == 1


def test_a_folder_belongs_to_one_data_set(walked):
    folder, _, _ = walked
    done = cvkit(folder, "demo", "--data", "elpv", "--out", "run")
    assert done.returncode == 1 and "its hold-out and its ledger are those of 'surfaces'" in done.stderr


def test_signed_by_four_roles_it_goes_to_production(walked, store):
    folder, run, _ = walked
    version = read(run, "register/version.json")
    assert cvkit(folder, "why", "run").returncode == 1
    for role, name in (("AI Lead", "Ada"), ("Data Governance", "Dai"), ("Legal", "Lin"), ("MLOps Engineer", "Mo")):
        done = cvkit(folder, "approve", "run", "--role", role, "--name", name)
        assert done.returncode == 0 and f"waiting for the approval of {role}" not in done.stdout
    assert cvkit(folder, "why", "run").returncode == 0
    done = cvkit(folder, "serve", "run")
    assert done.returncode == 0 and "alias production" in done.stdout, done.stderr
    assert (
        int(store.MlflowClient().get_model_version_by_alias(version["name"], "production").version)
        == version["version"]
    )
    shown = cvkit(folder, "demo", "--data", "surfaces", "--out", "run")
    assert "production: pass" in shown.stdout and read(run, "summary.json")["model"]["alias"] == "production"


def test_a_changed_byte_is_noticed_wherever_the_bundle_is_used(walked):
    folder, run, _ = walked
    graph = run / "train/bundle/model.onnx"
    whole = graph.read_bytes()
    try:
        graph.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
        for words in (
            ("predict", "run/train", next((run / "ingest/images").rglob("*.png"))),
            ("why", "run"),
            ("serve", "run"),
            ("evaluate", "run/train", "run/ingest", "--out", "again"),
        ):
            done = cvkit(folder, *words)
            assert (
                done.returncode == 1 and "model.onnx in " in done.stderr and "was changed: expected " in done.stderr
            ), words
    finally:
        graph.write_bytes(whole)


def members(group):
    "The processes of a group that still run."
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = stat.read_text().rpartition(") ")[2].split()[:3]
        except OSError:
            continue
        if int(number) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def start(folder, env, until):
    "Start a walk in a process group of its own, and wait until it says a line."
    process = subprocess.Popen(
        [command, "demo", "--data", "surfaces", "--out", "run"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    output = []
    for line in process.stdout:
        output.append(line.strip())
        if line.startswith(until):
            return process, output
    raise AssertionError(f"ended before {until!r}: {output} {process.stderr.read()}")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_ctrl_c_in_training_keeps_what_was_finished(tmp_path):
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}", "PYTHONUNBUFFERED": "1"}
    process, output = start(tmp_path, env, "train ...")
    time.sleep(3)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130 and "interrupted; what was finished is kept" in err and "Traceback" not in err
    assert (tmp_path / "run/ingest/done.json").exists() and not (tmp_path / "run/train/done.json").exists()
    end = time.monotonic() + 10
    while members(process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert members(process.pid) == []
    again, output = start(tmp_path, env, "train ...")
    assert output == ["train ..."], "ingest is not done again"
    os.killpg(again.pid, signal.SIGINT)
    again.communicate(timeout=240)
