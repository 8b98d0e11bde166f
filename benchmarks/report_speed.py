"""How fast the HTML report is written and how large it is, for sweeps of rising size; made-up records.

python benchmarks/report_speed.py [--runs N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fixtures"))
from report_sweeps import made_up, recorded

from segsweep.reporting.html_report import write_report

TRIALS = (20, 100, 1000, 5000)
PEER = "plotly.js inline, as plotly.io.to_html(include_plotlyjs=True) writes it"


def build(trials: int, folder: Path, *, runs: int) -> dict[str, float]:
    sweep = recorded(made_up(trials))
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        path = write_report([sweep], folder / f"{trials}.html")
        seconds.append(time.perf_counter() - begin)
    return {
        "median_s": statistics.median(seconds),
        "max_s": max(seconds),
        "kilobytes": path.stat().st_size / 1e3,
    }


def plotly_peer(folder: Path) -> dict[str, float]:
    """One scatter of 1,000 points: what a page with plotly costs before it shows anything of ours."""
    import plotly.graph_objects as go

    trials = [evaluation.metrics() for evaluation in made_up(1000)]
    xs, ys = [row["macs"] for row in trials], [row.get("miou") for row in trials]
    begin = time.perf_counter()
    path = folder / "plotly.html"
    path.write_text(go.Figure(go.Scatter(x=xs, y=ys, mode="markers")).to_html(include_plotlyjs=True))
    return {"seconds": time.perf_counter() - begin, "kilobytes": path.stat().st_size / 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, object] = {
            f"{trials} trials": build(trials, Path(folder), runs=runs) for trials in TRIALS
        }
        figures[PEER] = plotly_peer(Path(folder))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
