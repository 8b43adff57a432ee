"""Run every library notebook as a test, each in its own process.

  python tests/notebooks.py [NOTEBOOK ...] [--jobs 2] [--quick]

nbdev's own runner keeps its worker processes, so what one notebook leaves behind reaches the next; here nothing
does. The processes share one cache ($CVKIT_CACHE), so features are extracted once. One thread each: two notebooks
at a time are quicker than two threads in one.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

root = Path(__file__).resolve().parents[1]


# Slow chapters that `--quick` leaves out, and the tests that take their functions anyway.
SLOW = {
    "data.preprocess": "test_data_preprocess.py",
    "data.redact": "test_data_redact.py",
    "model.features": "test_model_features.py",
    "model.partial_finetuning": "test_model_recipes.py",
    "model.training_loop": "test_model_recipes.py",
    "model.cross_validation": "test_model_recipes.py",
    "model.detector_network": "test_model_detect.py",
    "model.detector_training": "test_model_detect.py",
    "evidence.explain": "test_evidence_explain.py",
    "evidence.leak_impact": "test_evidence_leaks.py",
    "serving.seldon_server": "test_serving_seldon.py",
    "monitoring.drift": "test_serving.py",
    "tasks.classification": "test_tasks_classification.py",
    "tasks.multilabel": "test_walk_tasks.py",
    "tasks.detection": "test_walk_tasks.py",
    "pipeline.kernels": "test_flow.py",
    "pipeline.graph": "test_flow.py",
    "commands.ingest": "test_data*.py",
    "commands.train": "test_walk.py",
    "commands.evaluate": "test_walk.py",
    "commands.explain": "test_walk.py",
    "commands.run_evidence": "test_walk.py",
    "commands.why": "test_walk.py",
    "commands.register": "test_walk.py",
    "commands.approve": "test_walk.py",
    "commands.serve": "test_walk.py",
    "commands.monitor": "test_walk.py",
    "commands.demo": "test_walk.py",
    "commands.redact": "test_redact_command.py",
    "commands.forget": "test_forget.py",
    "commands.out_of_fold": "test_audit.py",
    "commands.fairness": "test_audit.py",
    "commands.stress": "test_audit.py",
    "commands.compare": "test_audit.py",
}


def module_of(path):
    "The module that a notebook's path stands for: `nbs/04_data/02_manifest.ipynb` is `data.manifest`."
    parts = path.relative_to(root / "nbs").with_suffix("").parts
    return ".".join(part[3:] if part[:2].isdigit() else part for part in parts)


def library_notebooks():
    "The notebooks in reading order, index.ipynb last."
    found = [
        path
        for path in (root / "nbs").rglob("*.ipynb")
        if not any(part[0] in "._" for part in path.relative_to(root).parts)
    ]
    return sorted(found, key=lambda path: (path.name == "index.ipynb", path))


def run(path, threads):
    "Run one notebook: (seconds, return code, what it printed)."
    start = time.perf_counter()
    done = subprocess.run(
        [Path(sys.executable).with_name("nbdev-test"), path, "--n-workers", "0"],
        cwd=root,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "MPLBACKEND": "agg"},
    )
    return time.perf_counter() - start, done.returncode, done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of nbs/ when none is named")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="how many at a time")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the tutorials, and chapters that are tested elsewhere"
    )
    args = parser.parse_args()
    notebooks = [path.resolve() for path in args.notebooks] or library_notebooks()
    later = [path for path in notebooks if args.quick and (path.parent.name == "tutorials" or module_of(path) in SLOW)]
    if later:
        print(f"not run here: {', '.join(str(path.relative_to(root)) for path in later)} (make test-full)", flush=True)
    notebooks = [path for path in notebooks if path not in later]
    missing = [path for path in notebooks if not path.exists()]
    if missing or not notebooks:
        sys.exit(f"no such notebook: {', '.join(map(str, missing)) or root / 'nbs'}")
    threads = max(1, (os.cpu_count() or 1) // args.jobs)
    failed, start = [], time.perf_counter()
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = {pool.submit(run, path, threads): path for path in notebooks}
        for job in as_completed(jobs):
            name, (seconds, code, text) = jobs[job].relative_to(root), job.result()
            print(f"{seconds:6.1f} s  {'ok  ' if code == 0 else 'FAIL'}  {name}", flush=True)
            if code:
                failed.append(name)
                print(text, flush=True)
    print(
        f"{time.perf_counter() - start:6.1f} s  in all, {args.jobs} at a time\n"
        f"notebooks: {len(notebooks) - len(failed)} passed, {len(failed)} failed"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
