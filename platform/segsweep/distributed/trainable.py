"""The Tune trainable of one-worker trials: a reused actor that owns a warm fork host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ray import tune

from segsweep.distributed.trial_host import TrialHost
from segsweep.records import Evaluation

EVENTS = "events"  # key of a Tune result: JSON text of the trial's events since the last result


def assignment(stub: Evaluation) -> dict[str, str]:
    """Tune config of a trial: plain text, so that Tune finds nothing in it to resolve."""
    return {"assignment": json.dumps(stub.to_json())}


class TrialActor(tune.Trainable):  # type: ignore[misc]
    """Runs trials one after the other in children of its fork host.

    Whatever goes wrong inside a trial is a failed evaluation, not an exception: Tune keeps the actor.
    """

    def setup(self, config: dict[str, Any], task: bytes, logs: Path) -> None:
        """Start the host, which imports torch once, and fork the first trial."""
        self._task, self._logs = task, logs
        self._host = TrialHost(logs / "fork_host.log")
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; the host stays warm."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        stub = Evaluation.from_json(json.loads(config["assignment"]))
        self._host.begin(stub, self._task, log=self._logs / f"{stub.trial_id}.log")

    def step(self) -> dict[str, Any]:
        """Wait for the next validation or the end of the trial."""
        events = self._host.next_events()
        return {EVENTS: json.dumps(events), "done": events[-1]["event"] == "evaluation"}

    def cleanup(self) -> None:
        """End the host."""
        self._host.close()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: the journal is the truth, an interrupted trial starts again."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load."""
