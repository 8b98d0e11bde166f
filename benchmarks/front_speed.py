"""What one more point costs a front of many: the archive's update against computing anew, and peers.

    python benchmarks/front_speed.py [--points N]

Points come one after another; after each the front and its hypervolume are known. ``sphere`` puts every
point on the front (the worst case), ``cloud`` nearly none. Prints one JSON document: median and 99th
percentile in CPU milliseconds of an update (other programs do not count), the total in CPU seconds, and
what Optuna, moocore and pymoo take for the front or the hypervolume of all the points at once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna._hypervolume import compute_hypervolume
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from segsweep.pareto.archive import ParetoArchive
from segsweep.pareto.front import front_mask, non_dominated_rank
from segsweep.pareto.hypervolume import hypervolume

Values = NDArray[np.float64]


def points_of(shape: str, count: int, objectives: int) -> Values:
    """Losses in [0, 1]."""
    random = np.random.default_rng(0)
    if shape == "cloud":
        return random.random((count, objectives))
    directions = np.abs(random.normal(size=(count, objectives)))
    return 1 - directions / np.linalg.norm(directions, axis=1, keepdims=True)


def updates(points: Values) -> dict[str, float]:
    """Time of every update of one archive."""
    archive = ParetoArchive([False] * points.shape[1], reference=np.full(points.shape[1], 1.1))
    milliseconds = []
    for point in points:
        start = time.thread_time_ns()
        archive.add(point)
        _ = archive.hypervolume
        milliseconds.append((time.thread_time_ns() - start) / 1e6)
    last = milliseconds[-max(1, len(milliseconds) // 10) :]  # when the front is largest
    return {
        "median_ms": round(float(np.median(milliseconds)), 4),
        "p99_ms": round(float(np.percentile(milliseconds, 99)), 4),
        "max_ms": round(max(milliseconds), 3),
        "p99_of_last_tenth_ms": round(float(np.percentile(last, 99)), 4),
        "total_s": round(sum(milliseconds) / 1e3, 3),
        "members": len(archive),
        "hypervolume": archive.hypervolume,
    }


def seconds(call: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.thread_time()
    call()
    return round(time.thread_time() - start, 4)


def at_once(points: Values) -> dict[str, float]:
    """Time for all points together, here and by peers."""
    objectives = points.shape[1]
    minimize, corner = [False] * objectives, np.full(objectives, 1.1)
    found = {
        "front_s": seconds(lambda: front_mask(points, minimize)),
        "ranks_s": seconds(lambda: non_dominated_rank(points, minimize)),
        "moocore_front_s": seconds(lambda: moocore.is_nondominated(points, keep_weakly=True)),
        "moocore_hypervolume_s": seconds(lambda: moocore.hypervolume(points, ref=corner)),
    }
    if objectives < 4 or len(points) <= 500:  # slicing takes minutes beyond
        found["hypervolume_s"] = seconds(lambda: hypervolume(points, corner, minimize))
    if len(points) <= 2000:
        found["pymoo_ranks_s"] = seconds(lambda: NonDominatedSorting().do(points))
        if objectives < 4:
            found["optuna_hypervolume_s"] = seconds(lambda: compute_hypervolume(points, corner))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--points-4d", type=int, default=300)
    arguments = parser.parse_args()
    report: dict[str, object] = {}
    for objectives in (2, 3, 4):
        for shape in ("cloud", "sphere"):
            count = arguments.points_4d if (objectives, shape) == (4, "sphere") else arguments.points
            points = points_of(shape, count, objectives)
            report[f"{objectives} objectives, {shape}"] = {
                "points": count,
                "update": updates(points),
                "at_once": at_once(points),
            }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
