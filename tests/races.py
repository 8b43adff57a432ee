"""How often a test fails under load: `python tests/races.py [--runs 200] [--load 2] TESTID ...`.

A race shows itself only now and then, so one green run says little. This script runs each test (a pytest id, such as
`tests/test_data_redact.py::test_name`) many times while busy loops keep the processors occupied; a process of pytest
runs it twenty times (`--a-process`), and then a fresh one takes over. It prints how many runs failed, what the first
of them said, and how large the rate of failure may still be: the exact (Clopper-Pearson) upper bound at 95 %
confidence, as failures in a hundred runs. Without any failure in n runs that is about 3/n (the rule of three). The exit
status is 1 if a run failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from scipy.stats import beta

ROOT = Path(__file__).resolve().parents[1]
BUSY_LOOP = "while True: pass"


def upper_bound(
    failures: int,  # of the runs
    runs: int,  # all of them
    confidence: float = 0.95,  # one-sided
) -> float:  # 0 to 1
    "The largest rate of failure that so few failures do not rule out."
    if failures == runs:
        return 1.0
    return float(beta.ppf(confidence, failures + 1, runs - failures))


@contextmanager
def busy_loops(
    number: int,  # of processes that do nothing but compute
):
    "Keep processors occupied in a `with` block."
    processes = []
    try:
        for _ in range(number):
            processes.append(subprocess.Popen([sys.executable, "-c", BUSY_LOOP]))
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


class Repeat:
    "A plugin of pytest: each test several times; how often it passed, and what the first failure said."

    def __init__(
        self,
        runs: int,  # of each test
    ):
        self.runs = runs
        self.passed = 0
        self.skipped = 0
        self.failed = 0
        self.text = ""

    def pytest_generate_tests(self, metafunc):
        metafunc.fixturenames.append("run_number")
        metafunc.parametrize("run_number", range(self.runs))

    def pytest_runtest_logreport(self, report):
        if report.failed:  # in any of setup, call and teardown
            self.failed += 1
            self.text = self.text or report.longreprtext
        elif report.skipped:
            self.skipped += 1
        elif report.when == "call":
            self.passed += 1


def run_here(
    test: str,  # pytest id
    runs: int,  # of the test
    path: str,  # JSON to write
):
    "What a process of its own does: run the test several times, and write what came of it."
    repeat = Repeat(runs)
    status = pytest.main(["-q", "-p", "no:cacheprovider", test], plugins=[repeat])
    result = {"status": int(status), "passed": repeat.passed, "skipped": repeat.skipped, "failed": repeat.failed}
    Path(path).write_text(json.dumps({**result, "text": repeat.text}))


def run_apart(
    test: str,  # pytest id
    runs: int,  # of the test
    seconds: float,  # that they may take together
) -> dict:  # passed, skipped, failed, text
    "Run a test several times in a process of its own; one that does not end counts as one failure."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, __file__, test, "--here", str(path), "--runs", str(runs)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            text = f"expected an end within {seconds:g} seconds, got none"
            return {"passed": 0, "skipped": 0, "failed": 1, "text": text}
        result = json.loads(path.read_text()) if path.exists() else {}
    counted = sum(result.get(kind, 0) for kind in ("passed", "skipped", "failed"))
    if not counted:
        raise SystemExit(f"expected a test {test}, but none ran:\n{(done.stdout + done.stderr)[-2000:]}")
    return result


def examine(
    test: str,  # pytest id
    *,
    runs: int,  # of the test
    a_process: int,  # runs in one process
    seconds: float,  # that one run may take
) -> int:  # runs that failed
    "Run a test many times and print what came of it."
    passed = 0
    failed = 0
    for begun in range(0, runs, a_process):
        number = min(a_process, runs - begun)
        result = run_apart(test, number, seconds * number)
        if result["skipped"]:
            raise SystemExit(f"expected a test that runs, but {test} is skipped here")
        if result["failed"] and not failed:
            print(f"a failure among runs {begun + 1} to {begun + number}:\n{result['text'][-3000:]}", flush=True)
        passed += result["passed"]
        failed += result["failed"]
        print(f"{passed + failed} of {runs} runs, {failed} failed", file=sys.stderr, flush=True)
    bound = upper_bound(failed, passed + failed)
    print(
        f"{test}: {failed} of {passed + failed} runs failed; with 95 % confidence at most {100 * bound:.1f} in a "
        "hundred do",
        flush=True,
    )
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tests", nargs="+", metavar="TESTID", help="pytest id")
    parser.add_argument("--runs", type=int, default=200, help="of each test (default 200)")
    parser.add_argument("--load", type=int, default=2, help="busy loops beside them (default 2)")
    parser.add_argument("--a-process", type=int, default=20, help="runs in one process of pytest (default 20)")
    parser.add_argument("--seconds", type=float, default=60, help="that one run may take (default 60)")
    parser.add_argument("--here", metavar="JSON", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_here(options.tests[0], options.runs, options.here)
        return
    failures = 0
    with busy_loops(options.load):
        for test in options.tests:
            failures += examine(test, runs=options.runs, a_process=options.a_process, seconds=options.seconds)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
