"""The whole `run_all.sh` from nothing: seconds, and peak memory summed over its processes.

    python benchmarks/run_all.py [--json FILE] [--root FOLDER] [run_all.sh's own flags, such as --profile smoke]

Writes to a folder without runs/ (else a temporary one), so that nothing is reused; installation is not counted (`.venv`
must be there).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Run, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--root", type=Path)
    arguments, flags = parser.parse_known_args()
    if arguments.root and (arguments.root / "runs").exists():
        parser.error(f"{arguments.root}/runs exists: its runs would be used again")
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(arguments.root or temporary)
        began, peak = time.perf_counter(), 0
        command = [str(ROOT / "run_all.sh"), *flags]
        process = subprocess.Popen(command, env={**os.environ, "HYBRIDLIB_ROOT": folder})
        while process.poll() is None:
            peak = max(peak, tree_memory(process.pid))
            time.sleep(0.2)
        records = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("runs/records/*/*.json"))]
    report = {
        "exit": process.returncode,
        "seconds": round(time.perf_counter() - began, 1),
        "peak_mb_of_the_process_tree": round(peak / 2**20),
        "notebooks": {record["notebook"]: {k: record[k] for k in ("seconds", "peak_mb", "runs")} for record in records},
    }
    print(json.dumps(report, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    return process.returncode


def tree_memory(pid: int) -> int:
    """Resident bytes of a process and all below it; pages that they share are counted more than once."""
    total = 0
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
    return total


if __name__ == "__main__":
    sys.exit(main())
