"""How sure the mIoU of a choice is, over validation images and over training seeds."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np
from scipy import stats

from segsweep.errors import SegsweepError
from segsweep.jobs.image_scores import Progress, counts_per_image
from segsweep.jobs.recommendation import Candidate, Interval, RunnerUp
from segsweep.metrics.bootstrap import LEVEL, percentile_interval, resampled_mean_iou
from segsweep.reporting.report.families import family

FEWEST_SEEDS = 3  # the interval of two is wider than any difference between designs


def miou_interval(candidate: Candidate, *, progress: Progress | None = None) -> tuple[Interval | None, str]:
    """Bootstrap interval over the validation images, or ``None`` and the reason why there is none."""
    try:
        counts = counts_per_image(candidate.sweep, candidate.evaluation, progress=progress)
    except (SegsweepError, RuntimeError, OSError, MemoryError) as error:  # a full GPU is a RuntimeError
        return None, _first_line(error)
    if len(counts) < 2:
        return None, f"{len(counts)} validation image says nothing about others"
    low, high = percentile_interval(resampled_mean_iou(counts))
    return Interval(low=low, high=high, over="images", count=len(counts)), ""


def runner_up(
    chosen: Candidate, second: Candidate, *, with_interval: bool, progress: Progress | None = None
) -> RunnerUp:
    """The second choice; where both networks are at hand, with the paired difference over the same images."""
    plain = RunnerUp(candidate=second, miou_difference=chosen.miou - second.miou)
    if not with_interval or not _same_images(chosen, second):
        return plain
    try:
        ours, theirs = (
            resampled_mean_iou(counts_per_image(item.sweep, item.evaluation, progress=progress))
            for item in (chosen, second)
        )
    except (SegsweepError, RuntimeError, OSError, MemoryError):  # dominated trials keep no weights
        return plain
    difference = ours - theirs
    low, high = percentile_interval(difference)
    count = len(counts_per_image(chosen.sweep, chosen.evaluation))
    return dataclasses.replace(
        plain,
        interval=Interval(low=low, high=high, over="images", count=count),
        share_better=float(np.mean(difference > 0)),
    )


def _first_line(error: Exception) -> str:
    if isinstance(error, SegsweepError):
        return str(error)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"the network could not look at the validation images: {reason}"


def _same_images(one: Candidate, other: Candidate) -> bool:
    return one.sweep.conditions.data_digest == other.sweep.conditions.data_digest


def seed_interval(candidate: Candidate, candidates: Sequence[Candidate]) -> Interval | None:
    """Student's t interval over trials of the same point in sweeps that differ in their seed only.

    Returns:
        ``None`` with fewer than three seeds.
    """
    ours = family(candidate.sweep, same_machine=False)
    by_seed = {
        item.sweep.conditions.seed: item.miou
        for item in candidates
        if item.evaluation.point == candidate.evaluation.point
        and family(item.sweep, same_machine=False) == ours
    }
    values = list(by_seed.values())
    if len(values) < FEWEST_SEEDS:
        return None
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1)) * error
    return Interval(low=max(0.0, mean - half), high=min(1.0, mean + half), over="seeds", count=len(values))
