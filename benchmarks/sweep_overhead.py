"""What a sweep costs beyond its trainings: the whole sweep against a plain loop in one process.

    python benchmarks/sweep_overhead.py [JOB] [--set KEY=VALUE ...] [--repeats N]

The sweep runs one trial at a time on Ray Tune. Then the very same trainings (same points, same epochs,
cost counted and speed measured anew) run one after the other in this process, with nothing around them.
``--keep-memory`` runs them once more with freed memory kept, as the processes of trials do: there the sweep
has no advantage. Prints one JSON document: the ratio of the wall times, with and without the start of Ray
and of the warm process, and the gaps between trials.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segsweep.allocator import keep_freed_memory
from segsweep.distributed.controller import stub_of
from segsweep.distributed.sweep import JOURNAL, SweepPlan
from segsweep.jobs.builtin import find_file
from segsweep.jobs.check import sweep_space
from segsweep.jobs.common import prepared
from segsweep.jobs.load import load_job
from segsweep.jobs.run_sweep import run_sweep_job, sweep_plan
from segsweep.jobs.spec import SweepJob
from segsweep.records import Evaluation, Score
from segsweep.search.journal import Journal
from segsweep.training.session import PlainSession, SaveCheckpoint
from segsweep.trial import evaluate_point


class StopAt(PlainSession):
    """Plain session that ends a training after the epochs that the sweep gave it."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def report(self, score: Score, save: SaveCheckpoint) -> bool:
        super().report(score, save)
        return score.epoch < self._epochs


def plain_loop(plan: SweepPlan, evaluations: Sequence[Evaluation], scratch: Path) -> list[Evaluation]:
    task = replace(plan.task, scratch=scratch)
    return [
        evaluate_point(
            item.point,
            task,
            StopAt(len(item.scores)),
            stub=stub_of(item.number, item.point, item.source),
        )
        for item in evaluations
    ]


def gaps(journal: Path) -> dict[str, float]:
    """Medians in seconds.

    ``last_step_to_next_first_step_s`` holds the last validation of one trial and, of the next, counting,
    building and the speed measurement; ``end_of_work_to_next_fork_s`` is what Ray and the driver add.
    """
    marks: dict[int, dict[str, list[float]]] = {}
    for event in Journal(journal).read():
        if event["type"] == "mark":
            marks.setdefault(event["number"], {}).setdefault(event["name"], []).append(event["at"])
    trained = [number for number in sorted(marks) if "first_step" in marks[number]]
    pairs = list(itertools.pairwise(trained))
    work_ends = {
        number: max(marks[number].get("ended", []) + marks[number]["last_step"]) for number in trained
    }
    return {
        "end_of_work_to_next_fork_s": statistics.median(
            marks[after]["forked"][0] - work_ends[before] for before, after in pairs
        ),
        "last_step_to_next_first_step_s": statistics.median(
            marks[after]["first_step"][0] - max(marks[before]["last_step"]) for before, after in pairs
        ),
        "fork_to_first_step_s": statistics.median(
            marks[number]["first_step"][0] - marks[number]["forked"][0] for number in trained
        ),
    }


def started(journal: Path) -> float:
    """Wall-clock time at which the first trial was forked."""
    return min(event["at"] for event in Journal(journal).read() if event["type"] == "mark")


def compare(job: SweepJob, folder: Path, *, keep_memory: bool) -> dict[str, float | int | bool]:
    """One sweep as a user runs it (MLflow, tables and figure included), then its trainings alone."""
    job = job.model_copy(
        update={"out": folder, "sweep": job.sweep.model_copy(update={"workers": 1, "cpus_per_trial": None})}
    )
    shards = prepared(job.data, folder, say=lambda line: None)
    plan = sweep_plan(job, sweep_space(job), shards, folder)
    begin_clock, begin = time.time(), time.perf_counter()
    result = run_sweep_job(job)
    sweep_seconds = time.perf_counter() - begin
    journal = result.folder / JOURNAL
    start_up = started(journal) - begin_clock
    begin = time.perf_counter()
    again = plain_loop(plan, result.evaluations, folder / "plain")
    loop_seconds = time.perf_counter() - begin
    kept: dict[str, float] = {}
    if keep_memory:
        keep_freed_memory()
        begin = time.perf_counter()
        plain_loop(plan, result.evaluations, folder / "kept")
        kept["plain_loop_keeping_memory_s"] = time.perf_counter() - begin
        kept["ratio_keeping_memory"] = sweep_seconds / kept["plain_loop_keeping_memory_s"]
    same = all(
        [score.miou for score in a.scores] == [score.miou for score in b.scores]
        for a, b in zip(result.evaluations, again, strict=True)
    )
    return {
        "trials": len(again),
        "epochs": sum(len(item.scores) for item in again),
        "sweep_s": sweep_seconds,
        "plain_loop_s": loop_seconds,
        "ratio": sweep_seconds / loop_seconds,
        "start_up_s": start_up,
        "ratio_without_start_up": (sweep_seconds - start_up) / loop_seconds,
        "same_scores": same,
        **kept,
        **gaps(journal),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", nargs="?", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--keep-memory", action="store_true")
    arguments = parser.parse_args()
    path = find_file(arguments.job, kind="jobs", beside=Path())
    if path is None:
        parser.error(f"no job {arguments.job}")
    job = load_job(path, overrides=arguments.set)
    if not isinstance(job, SweepJob):
        parser.error(f"{path} is no sweep")
    runs = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(compare(job, Path(folder), keep_memory=arguments.keep_memory))
    print(json.dumps({"job": arguments.job, "overrides": arguments.set, "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
