"""The live display of a sweep, as a terminal and as a log file see it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from segsweep.records import CostReport, Evaluation, Point, Score, TrialStatus
from segsweep.reporting.progress import SweepProgress

COST = CostReport(num_params=1000, macs=1_234_000_000, size=(64, 128), num_classes=9, images_per_second=56.78)


def _evaluation(
    number: int, status: TrialStatus, reason: str = "", *, miou: float | None = None
) -> Evaluation:
    scores = () if miou is None else (Score(epoch=4, fidelity=1.0, miou=miou, train_loss=0.5, seconds=1.0),)
    return Evaluation(
        trial_id=f"{number:04d}",
        number=number,
        point=Point({"neck.kind": "bi[f]pn", "recipe.lr": 0.0123456}),
        status=status,
        reason=reason,
        cost=COST,
        scores=scores,
    )


def _shown(*evaluations: Evaluation, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)
    with SweepProgress(console, trials=3, epochs=4) as progress:
        for index, item in enumerate(evaluations):
            progress.trial_started(item)
            progress.trial_cost(item, COST)
            for score in item.scores:
                progress.trial_score(item, score)
            progress.trial_finished(item, evaluations[: index + 1])
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_log_file_gets_exactly_one_line_per_finished_trial() -> None:
    shown = _shown(
        _evaluation(0, TrialStatus.COMPLETE, miou=0.4567),
        _evaluation(1, TrialStatus.STOPPED, "others were better", miou=0.2),
    )
    assert shown.splitlines() == [
        "  0 complete    mIoU  45.7 % after 4 epochs   1.234 GMACs    56.8 images/s",
        "  1 stopped     mIoU  20.0 % after 4 epochs   1.234 GMACs    56.8 images/s",
    ]


@pytest.mark.parametrize("status", [TrialStatus.FAILED, TrialStatus.INFEASIBLE])
@pytest.mark.parametrize(
    "reason",
    [
        "RuntimeError: shape [8, 3] is invalid; see [/tmp/log] and [bold]",
        "a reason " + "of many words " * 40,
    ],
)
def test_a_reason_is_shown_letter_by_letter_in_one_line(status: TrialStatus, reason: str) -> None:
    (line,) = _shown(_evaluation(7, status, reason)).splitlines()
    assert line.startswith(f"  7 {status}") and line.rstrip().endswith(reason.rstrip())


def test_a_trial_without_cost_is_shown_too() -> None:
    failed = Evaluation(
        trial_id="0000", number=0, point=Point({}), status=TrialStatus.FAILED, reason="no memory"
    )
    assert _shown(failed).split() == ["0", "failed", "no", "memory"]


def test_a_terminal_sees_the_running_trial_with_its_point() -> None:
    shown = _shown(_evaluation(2, TrialStatus.COMPLETE, miou=0.5), terminal=True)
    assert "kind=bi[f]pn lr=0.0123" in shown
    assert "trials" in shown


def test_infeasible_trials_do_not_count_as_trained() -> None:
    shown = _shown(
        _evaluation(0, TrialStatus.INFEASIBLE, "too dear"),
        _evaluation(1, TrialStatus.COMPLETE, miou=0.5),
        terminal=True,
    )
    assert "1/3" in shown and "2/3" not in shown
