"""Trackers that never keep a sweep waiting: every call is on disk when it returns, one thread tells MLflow.

The records stay in the run's folder (``mlflow-spool.jsonl``), so a store that is down, slow or restarted
delays them but loses none: what it lacks at the end, ``segsweep sync`` writes later.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from segsweep.records import CostReport, Evaluation, Point, Score, TrialStatus
from segsweep.tracking import run_events, sweep_events
from segsweep.tracking.drain import Drain
from segsweep.tracking.pump import Pump
from segsweep.tracking.replay import FINISHED, START, Buffered, Events, Replay
from segsweep.tracking.run_events import BufferedRunLogger, RunEvents, portable
from segsweep.tracking.run_logger import RUN_ID
from segsweep.tracking.spool import SPOOL, Destination, Spool, records_of
from segsweep.tracking.sweep_events import BufferedTracker, SweepEvents
from segsweep.tracking.tracker import MlflowLink, ParamValue, SweepInfo

NOWHERE = Destination(tracking_uri="", experiment="")
Target = TypeVar("Target", bound=Buffered)


class BackgroundTracker:
    """A ``Tracker`` whose calls return at once.

    Args:
        make_tracker: Called in the thread that talks to MLflow.
        spool: File that keeps the records; ``None`` keeps them only until the tracker is closed.
        destination: Where ``make_tracker``'s tracker writes; ``segsweep sync`` finds it there.
    """

    def __init__(
        self,
        make_tracker: Callable[[], BufferedTracker],
        *,
        spool: Path | None = None,
        destination: Destination = NOWHERE,
    ) -> None:
        self._spool = _spool(spool, sweep_events.SWEEP, destination)
        self._drain = _drain(
            self._spool, make_tracker, SweepEvents, destination=destination, is_kept=spool is not None
        )
        self._ended: dict[str, None] | None = None  # trials that the spool knows, in order of their end

    def start_sweep(self, info: SweepInfo) -> None:
        """Record the call."""
        self._drain.submit(START, **sweep_events.start_fields(info))

    def trial_started(self, trial_id: str, number: int, point: Point, source: str) -> None:
        """Record the call."""
        fields = {"trial": trial_id, "number": number, "point": point.as_dict(), "source": source}
        self._drain.submit(sweep_events.TRIAL_STARTED, **fields)

    def trial_cost(self, trial_id: str, cost: CostReport) -> None:
        """Record the call."""
        self._drain.submit(sweep_events.TRIAL_COST, trial=trial_id, cost=cost.to_json())

    def trial_score(self, trial_id: str, score: Score) -> None:
        """Record the call."""
        self._drain.submit(sweep_events.TRIAL_SCORE, trial=trial_id, score=score.to_json())

    def trial_finished(self, evaluation: Evaluation) -> None:
        """Record the call."""
        self._known()[evaluation.trial_id] = None
        self._drain.submit(sweep_events.TRIAL_FINISHED, evaluation=evaluation.to_json())

    def front_updated(self, evaluations: Sequence[Evaluation]) -> None:
        """Record the call; of several that wait together only the last is told, it covers the others."""
        self._drain.submit(sweep_events.FRONT, trials=self._trials(evaluations))

    def sweep_finished(
        self, evaluations: Sequence[Evaluation], figures: Mapping[str, Path], *, interrupted: bool = False
    ) -> None:
        """Record the call; the figures must stay where they are."""
        folder = self._spool.path.parent
        fields = sweep_events.finished_fields(
            self._trials(evaluations), figures, folder=folder, interrupted=interrupted
        )
        self._drain.submit(FINISHED, **fields)

    def close(self, timeout_s: float = 60.0) -> MlflowLink:
        """Wait until MLflow has everything, at most so long; the link says what it does not have."""
        return self._drain.close(timeout_s)

    def _known(self) -> dict[str, None]:
        if self._ended is None:
            kinds = (sweep_events.TRIAL_FINISHED, sweep_events.EVALUATION)
            path = self._spool.path
            records = records_of(path, kinds) if path.exists() else ()
            self._ended = sweep_events.readable_trials(records)
        return self._ended

    def _trials(self, evaluations: Sequence[Evaluation]) -> list[str] | int:
        """How a record names evaluations: their number if they are the first ones of the spool."""
        known = self._known()
        for evaluation in evaluations:
            if evaluation.trial_id not in known:
                known[evaluation.trial_id] = None
                self._drain.submit(sweep_events.EVALUATION, evaluation=evaluation.to_json())
        names = [evaluation.trial_id for evaluation in evaluations]
        return len(names) if names == list(known)[: len(names)] else names


class BackgroundRunLogger:
    """A ``RunLogger`` whose calls return at once; arguments as ``BackgroundTracker``."""

    def __init__(
        self,
        make_logger: Callable[[], BufferedRunLogger],
        *,
        spool: Path | None = None,
        destination: Destination = NOWHERE,
    ) -> None:
        self._spool = _spool(spool, run_events.RUN, destination)
        self._drain = _drain(
            self._spool, make_logger, RunEvents, destination=destination, is_kept=spool is not None
        )

    def start_run(
        self,
        name: str,
        *,
        params: Mapping[str, ParamValue],
        tags: Mapping[str, str],
        artifacts: Mapping[str, str],
    ) -> None:
        """Record the call."""
        named = {RUN_ID: uuid.uuid4().hex, **tags}  # so that the same run is found again, whatever happens
        self._drain.submit(START, name=name, params=dict(params), tags=named, artifacts=dict(artifacts))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the call."""
        values = {name: float(value) for name, value in metrics.items()}
        self._drain.submit(run_events.LOG, step=step, metrics=values)

    def attach(self, files: Mapping[str, Path]) -> None:
        """Record the call; the files must stay where they are."""
        folder = self._spool.path.parent
        paths = {name: portable(path, folder) for name, path in files.items()}
        self._drain.submit(run_events.ATTACH, files=paths)

    def finish(self, status: TrialStatus, reason: str = "") -> None:
        """Record the call."""
        self._drain.submit(FINISHED, status=str(status), reason=reason)

    def close(self, timeout_s: float = 60.0) -> MlflowLink:
        """Wait until MLflow has everything, at most so long; the link says what it does not have."""
        return self._drain.close(timeout_s)


def _spool(path: Path | None, kind: str, destination: Destination) -> Spool:
    unkept = Path(tempfile.gettempdir()) / f"segsweep-{uuid.uuid4().hex}" / SPOOL
    return Spool(path or unkept, kind=kind, destination=destination)


def _drain(
    spool: Spool,
    make_target: Callable[[], Target],
    events: Callable[[Path], Events[Target]],
    *,
    destination: Destination,
    is_kept: bool,
) -> Drain[Target]:
    def make_pump() -> Pump[Target]:  # in the thread, after the spool was opened: only then its path is sure
        replay = Replay(make_target, events(spool.path.parent))
        return Pump(spool.path, destination=destination, replay=replay)

    return Drain(spool, make_pump, is_kept=is_kept)
