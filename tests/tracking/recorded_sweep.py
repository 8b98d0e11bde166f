"""Evaluations of a sweep that never ran: the shape of a real one (cost against accuracy), made by rule."""

from __future__ import annotations

import math
import random

from segsweep.records import CostReport, Evaluation, Point, Score, TrialStatus

EPOCHS = 6
ENDINGS = {3: TrialStatus.STOPPED, 6: TrialStatus.FAILED, 11: TrialStatus.INFEASIBLE, 13: TrialStatus.STOPPED}
REASONS = {
    TrialStatus.COMPLETE: "",
    TrialStatus.STOPPED: "rung 0.33: position 5 of 6, the best 3 go on",
    TrialStatus.FAILED: "TrainingDiverged: the loss became NaN in epoch 2",
    TrialStatus.INFEASIBLE: "budget: cost.macs <= 60e9",
}


def recorded_sweep(trials: int = 20, *, seed: int = 0, gain: float = 0.0) -> list[Evaluation]:
    """``trials`` evaluations in order of number; ``gain`` lifts every mIoU (another method)."""
    draw = random.Random(seed)
    return [_evaluation(number, draw, gain) for number in range(trials)]


def _evaluation(number: int, draw: random.Random, gain: float) -> Evaluation:
    channels = draw.choice([32, 48, 64, 96, 160])
    repeats = draw.randint(1, 6)
    kind = draw.choice(["fpn", "bifpn"])
    point = Point({"neck.kind": kind, "neck.channels": channels, "neck.repeats": repeats})
    status = ENDINGS.get(number % 20, TrialStatus.COMPLETE)
    macs = int(4e9 * (channels / 32) ** 1.3 * (1 + 0.25 * repeats) * draw.uniform(0.9, 1.1))
    best = 0.52 + 0.075 * math.log2(macs / 4e9) + 0.02 * (kind == "bifpn") + draw.gauss(0, 0.022) + gain
    speed = 2.2e12 / macs / (1 + 0.12 * repeats) * draw.uniform(0.8, 1.1)
    epochs = {TrialStatus.COMPLETE: EPOCHS, TrialStatus.INFEASIBLE: 0}.get(status, 2)
    return Evaluation(
        trial_id=f"{number:04d}-{point.key}",
        number=number,
        point=point,
        status=status,
        reason=REASONS[status],
        source="seed:ESeg-S" if number == 0 else "sampler",
        cost=CostReport(
            num_params=int(macs / 5e3),
            macs=macs,
            size=(512, 1024),
            num_classes=19,
            images_per_second=speed,
            latency_ms_p50=1000 / speed,
            latency_ms_p90=1100 / speed,
            latency_ms_p99=1300 / speed,
            batch_size=1,
            samples=20,
            device="cpu-3f2a",
        ),
        scores=tuple(_score(epoch, best) for epoch in range(1, epochs + 1)),
        seconds=12.0 * epochs,
    )


def _score(epoch: int, best: float) -> Score:
    share = epoch / EPOCHS
    return Score(
        epoch=epoch,
        fidelity=share,
        miou=best * (1 - 0.55 * math.exp(-4 * share)),
        train_loss=(2.9 - best) * math.exp(-1.8 * share),
        seconds=12.0 * epoch,
        is_rung=epoch == 2,
    )
