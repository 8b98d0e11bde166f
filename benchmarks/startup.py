"""How fast the command line answers: medians of whole processes, beside ``import torch`` alone.

python benchmarks/startup.py [--runs N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

SEGSWEEP = str(Path(sys.executable).parent / "segsweep")
COMMANDS = {
    "segsweep --help": [SEGSWEEP, "--help"],
    "segsweep cost, ESeg-L": [SEGSWEEP, "cost", "--method", "eseg", "--preset", "eseg-l", "--json"],
    "segsweep points": [SEGSWEEP, "points", "eseg", "-n", "5"],
    "python -c 'import torch'": [sys.executable, "-c", "import torch"],
}


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs + 1):
        for name, command in COMMANDS.items():  # interleaved, so that a drift meets all alike
            times[name].append(seconds(command))
    figures = {
        name: {"median_s": statistics.median(values[1:]), "min_s": min(values[1:]), "max_s": max(values[1:])}
        for name, values in times.items()
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
