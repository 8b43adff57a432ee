"""What a newcomer waits for: from `git clone` to the first picture and to the finished table, from nothing. Run it by
hand: it downloads and installs everything again."""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

root = Path(__file__).parents[2]


def processor():
    "The processor's own name."
    names = (
        [
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        if Path("/proc/cpuinfo").exists()
        else []
    )
    return names[0] if names else platform.processor()


def main(source):
    with tempfile.TemporaryDirectory() as folder:
        clone, log = Path(folder, "cvkit"), Path(folder, "log.txt")
        start, load, picture = time.monotonic(), os.getloadavg()[0], None
        subprocess.run(["git", "clone", "--quiet", source, clone], check=True)
        with log.open("w") as out:
            job = subprocess.Popen(
                ["make", "run"],
                cwd=clone,
                stdout=out,
                stderr=out,
                env={**os.environ, "CVKIT_CACHE": str(Path(folder, "cache"))},
            )
        while job.poll() is None:
            if picture is None and (clone / "runs/demo/ingest/gallery.html").exists():
                picture = time.monotonic() - start
            time.sleep(0.2)
        table = time.monotonic() - start
        print(f"{processor()}, {os.cpu_count()} cores, load {load:.1f} at the start")
        if job.returncode:
            sys.exit(f"make run ended with {job.returncode}:\n{log.read_text()[-2000:]}")
        again = time.monotonic()
        subprocess.run(
            ["make", "run"],
            cwd=clone,
            check=True,
            capture_output=True,
            env={**os.environ, "CVKIT_CACHE": str(Path(folder, "cache"))},
        )
        print(
            f"from git clone to the first picture {picture / 60:.1f} minutes, to the finished table {table / 60:.1f} "
            f"minutes; make run again {time.monotonic() - again:.1f} seconds"
        )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(root))
