"""Lines between an actor and its fork host. Imports no torch: the actor's process starts in a second."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from segsweep.records import Evaluation

if TYPE_CHECKING:
    from segsweep.trial import TrialTask

GO, STOP = "go", "stop"  # commands to a trial that waits at a rung
REQUEST = "trial "  # begins a line that asks for a trial


class Request(NamedTuple):
    """One trial to run.

    Attributes:
        stub: The trial before it has run.
        task: A pickled ``TrialTask``: made by our own driver, passed on unread by the actor.
        log: File for what the trial prints.
    """

    stub: Evaluation
    task: bytes
    log: Path

    def encode(self) -> str:
        """One line of text."""
        return REQUEST + base64.b64encode(pickle.dumps(tuple(self))).decode()

    @classmethod
    def decode(cls, line: str) -> Request:
        """The request of a line from our own parent's pipe."""
        return cls(*pickle.loads(base64.b64decode(line.removeprefix(REQUEST))))

    def load_task(self) -> TrialTask:
        """The task; imports torch."""
        task: TrialTask = pickle.loads(self.task)
        return task
