"""Collects what is to be written to one run and sends it with as few calls as MLflow allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segsweep.tracking.failures import EntriesRefused, first_line, is_refusal
from segsweep.tracking.tracker import ParamValue

# Limits of MLflow 3.17's log_batch (mlflow/utils/validation.py), in entities per call and characters
MAX_METRICS = 900
MAX_PARAMS = 90
MAX_TAGS = 90
MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 5000

_Entry = tuple[str, tuple[Any, ...]]  # "metrics", "params" or "tags", and the fields of the entity


class RunWriter:
    """Buffers metrics, params and tags of one run; what is already recorded is not sent again.

    ``flush`` keeps what could not be sent, so that it can be tried again: sending twice is harmless,
    since MLflow takes equal params, equal tags and equal metric rows only once.
    """

    def __init__(self, client: Any, run_id: str, *, status: str = "RUNNING") -> None:
        self.run_id = run_id
        self.status = status
        self._client = client
        self._metrics: list[tuple[str, float, int, int]] = []
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._known_metrics: dict[tuple[str, int], float] = {}
        self._known_params: dict[str, str] = {}
        self._known_tags: dict[str, str] = {}
        self._unread: set[str] = set()  # metrics of a reopened run whose history was not read

    @classmethod
    def reopen(cls, client: Any, run: Any, *, stepped: tuple[str, ...]) -> RunWriter:
        """Continue a run that exists; the history of the ``stepped`` metrics is read back now.

        That of any other metric is read when another step of it is written.
        """
        writer = cls(client, run.info.run_id, status=run.info.status)
        writer._known_params.update(run.data.params)
        writer._known_tags.update(run.data.tags)
        for key, latest in run.data.metrics.items():
            writer._unread.add(key)
            if key in stepped:
                writer._read_history(key)
            else:
                writer._known_metrics[key, 0] = latest
        return writer

    @property
    def pending(self) -> int:
        """Number of entries that are not written yet."""
        return len(self._metrics) + len(self._params) + len(self._tags)

    def tag(self, key: str) -> str:
        """The value of a tag, empty if it is not set."""
        return self._known_tags.get(key, "")

    def has_metric(self, key: str, step: int) -> bool:
        """Whether this step of the metric is recorded or waits to be written."""
        return (key, step) in self._known_metrics

    def metrics(self, values: Mapping[str, float], *, step: int, timestamp_ms: int) -> None:
        """Add one step of some metrics; a step with the same value as before is left out."""
        for key, value in values.items():
            if key in self._unread and step != 0:
                self._read_history(key)
            if not _same(self._known_metrics.get((key, step)), value):
                self._known_metrics[key, step] = value
                self._metrics.append((key, float(value), timestamp_ms, step))

    def params(self, values: Mapping[str, ParamValue]) -> None:
        """Add params. They are write-once in MLflow: a changed one goes to the tag ``changed.<name>``."""
        for key, value in values.items():
            text = str(value)[:MAX_PARAM_CHARS]
            if key not in self._known_params:
                self._known_params[key] = self._params[key] = text
            elif self._known_params[key] != text:
                self.tags({f"changed.{key}": text})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags; a tag that already has the value is left out."""
        for key, value in values.items():
            text = value[:MAX_TAG_CHARS]
            if self._known_tags.get(key) != text:
                self._known_tags[key] = text
                self._tags[key] = text

    def flush(self) -> None:
        """Send everything, in as few calls as the limits allow: one for an epoch or the end of a trial.

        Raises:
            EntriesRefused: After everything else of the call was sent: MLflow will never take these.
        """
        while self.pending:
            metrics = self._metrics[:MAX_METRICS]
            params = list(self._params.items())[:MAX_PARAMS]
            tags = list(self._tags.items())[:MAX_TAGS]
            entries: list[_Entry] = [
                *(("metrics", row) for row in metrics),
                *(("params", item) for item in params),
                *(("tags", item) for item in tags),
            ]
            refused = self._send(entries)
            del self._metrics[: len(metrics)]
            for key, _ in params:
                del self._params[key]
            for key, _ in tags:
                del self._tags[key]
            if refused:
                raise EntriesRefused(len(refused), refused[0])

    def reopen_status(self) -> None:
        """Mark the run as running again."""
        if self.status != "RUNNING":
            self._client.update_run(self.run_id, status="RUNNING")
            self.status = "RUNNING"

    def terminate(self, status: str, *, timestamp_ms: int) -> None:
        """Write what is left and end the run with an MLflow status (FINISHED, FAILED, KILLED)."""
        self.flush()
        if self.status != status:
            self._client.set_terminated(self.run_id, status=status, end_time=timestamp_ms)
            self.status = status

    def _read_history(self, key: str) -> None:
        rows = self._client.get_metric_history(self.run_id, key)
        self._known_metrics.update({(row.key, row.step): row.value for row in rows})
        self._unread.discard(key)

    def _send(self, entries: list[_Entry]) -> list[str]:
        """Send entries in one call; of a call that MLflow refuses, those that it takes alone.

        Returns:
            What MLflow said of each entry that it will never take.
        """
        try:
            self._log(entries)
        except Exception as error:
            if not is_refusal(error):
                raise
            if len(entries) == 1 or self._is_gone():
                return [f"{kind} {fields[0]}: {first_line(error)}" for kind, fields in entries]
            half = len(entries) // 2
            return [*self._send(entries[:half]), *self._send(entries[half:])]
        return []

    def _log(self, entries: list[_Entry]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        entities = {"metrics": Metric, "params": Param, "tags": RunTag}
        self._client.log_batch(
            self.run_id,
            **{
                name: [make(*fields) for kind, fields in entries if kind == name]
                for name, make in entities.items()
            },
        )

    def _is_gone(self) -> bool:
        """Whether someone deleted the run: then no entry of it can be written."""
        try:
            return str(self._client.get_run(self.run_id).info.lifecycle_stage) == "deleted"
        except Exception as error:
            if not is_refusal(error):
                raise
            return True


def _same(before: float | None, now: float) -> bool:
    if before is None:
        return False
    return before == now or (math.isnan(before) and math.isnan(now))
