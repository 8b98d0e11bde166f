"""One MLflow run outside a sweep: what ``segsweep train`` records."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segsweep.records import TrialStatus
from segsweep.tracking import views
from segsweep.tracking.artifacts import attach
from segsweep.tracking.run_writer import RunWriter
from segsweep.tracking.store import ensure_experiment, open_client, resolve_uri, ui_base
from segsweep.tracking.tracker import MlflowLink, ParamValue
from segsweep.tracking.trial_runs import REASON, RUN_KIND, RUN_STATUS, STATUS

RUN_ID = "segsweep.run_id"
STEPPED = ("val_miou", "train_loss")


class MlflowRunLogger:
    """Writes one run with an explicit id; wrap it in a ``BackgroundRunLogger`` wherever time matters."""

    def __init__(self, tracking_uri: str, *, experiment: str) -> None:
        self._uri = resolve_uri(tracking_uri)
        self._experiment = experiment
        self._experiment_id = ""
        self._client: Any = None
        self._writer: RunWriter | None = None
        self._opening: tuple[str, dict[str, str], dict[str, str]] | None = None
        self._ended = False
        self._now: int | None = None

    def at(self, timestamp_ms: int | None) -> None:
        """State when the next events happened, if that was not just now."""
        self._now = timestamp_ms

    def start_run(
        self,
        name: str,
        *,
        params: Mapping[str, ParamValue],
        tags: Mapping[str, str],
        artifacts: Mapping[str, str],
    ) -> None:
        """Open the run; ``artifacts`` is file name -> text."""
        self._opening = (name, {RUN_KIND: "train", STATUS: "running", **tags}, dict(artifacts))
        self._run().params(params)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one epoch."""
        self._run().metrics(metrics, step=step, timestamp_ms=self._time())

    def attach(self, files: Mapping[str, Path]) -> None:
        """Attach files (path in the run -> file on disk)."""
        run_id = self._run().run_id
        for name, path in files.items():
            attach(self._client, run_id, name, path)

    def finish(self, status: TrialStatus, reason: str = "") -> None:
        """Record how the training ended and end the run."""
        writer = self._run()
        writer.tags({STATUS: str(status), REASON: reason})
        writer.terminate(RUN_STATUS[status], timestamp_ms=self._time())
        self._ended = True

    def flush(self) -> None:
        """Write what is collected."""
        if self._writer is not None:
            self._writer.flush()

    def link(self) -> MlflowLink:
        """Where the run is, as far as it is known now."""
        run_id = self._writer.run_id if self._writer else ""
        return MlflowLink(
            tracking_uri=self._uri,
            experiment_id=self._experiment_id,
            parent_run_id=run_id,
            url=views.run_url(ui_base(self._uri), self._experiment_id, run_id) if run_id else "",
        )

    def close(self) -> MlflowLink:
        """Write what is left; a run that was not finished is marked as interrupted."""
        if self._writer is not None and not self._ended:
            self._writer.tags({STATUS: "interrupted"})
            self._writer.terminate("KILLED", timestamp_ms=self._time())
        self.flush()
        return self.link()

    def _earlier_run(self, tags: dict[str, str]) -> Any:
        """The run that an interrupted training with the same id left; ``None`` if there is none."""
        if RUN_ID not in tags:
            return None
        condition = f"tags.`{RUN_ID}` = '{tags[RUN_ID]}'"
        found = self._client.search_runs([self._experiment_id], filter_string=condition, max_results=1)
        return found[0] if found else None

    def _time(self) -> int:
        return self._now if self._now is not None else time.time_ns() // 1_000_000

    def _run(self) -> RunWriter:
        if self._opening is None:
            raise RuntimeError("start_run must be the first call to a run logger")
        if self._client is None:
            self._client = open_client(self._uri)
        if not self._experiment_id:
            self._experiment_id = ensure_experiment(self._client, self._uri, self._experiment)
        if self._writer is None:
            name, tags, artifacts = self._opening
            run = self._earlier_run(tags) or self._client.create_run(
                self._experiment_id, start_time=self._time(), tags=tags, run_name=name
            )
            writer = RunWriter.reopen(self._client, run, stepped=STEPPED)
            writer.reopen_status()
            writer.tags(tags)
            for file_name, text in artifacts.items():
                self._client.log_text(run.info.run_id, text, file_name)
            self._writer = writer
        return self._writer
