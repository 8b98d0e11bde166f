"""The warm process that trials are forked from: ``python -m segsweep.distributed.fork_host``.

It has imported everything and computed nothing: no OpenMP pool, no CUDA context. So a fork is safe, a
trial starts in milliseconds, and a trial that crashes or leaks takes only its own process along.

Requests and commands come as lines on standard input, events leave as JSON lines on standard output.
While a trial runs, the child reads the commands and the host only waits for it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
import traceback
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from segsweep.allocator import keep_freed_memory
from segsweep.cost.machine_lock import MachineLock
from segsweep.cost.measure import exact_cost
from segsweep.distributed.fork_protocol import GO, REQUEST, Request
from segsweep.models.methods import METHODS
from segsweep.records import CostReport, Score
from segsweep.training.session import SaveCheckpoint
from segsweep.trial import evaluate_point

PR_SET_PDEATHSIG = 1
WARM_UP_SIZE = (512, 512)  # every method's default design takes it
OOM_SCORE = "800"  # when memory runs out the kernel ends a trial, not the host, the driver or Ray


class ForkedSession:
    """Session of a trial in a forked child: events to the actor, commands from it at rungs."""

    rank = 0
    world_size = 1

    def __init__(self, channel: int, *, lock: MachineLock) -> None:
        self._channel = channel
        self._lock = lock

    def cost(self, report: CostReport) -> None:
        """Send the cost."""
        send(self._channel, event="cost", cost=report.to_json())

    def report(self, score: Score, save: SaveCheckpoint) -> bool:
        """Send the score; at a rung wait for the scheduler's word."""
        send(self._channel, event="score", score=score.to_json())
        return not score.is_rung or read_line(sys.stdin.fileno()) == GO

    def computing(self) -> AbstractContextManager[None]:
        """Let a measurement of another trial on this machine go first."""
        return self._lock.shared()

    def mark(self, name: str) -> None:
        """Send the wall-clock time of an event."""
        send(self._channel, event="mark", name=name, at=time.time())


def send(channel: int, **event: Any) -> None:
    """Write one event as a line of JSON."""
    data = (json.dumps(event) + "\n").encode()
    while data:
        data = data[os.write(channel, data) :]


def read_line(descriptor: int) -> str | None:
    """Read one line without reading ahead, since host and child share the pipe; ``None`` at its end."""
    line = bytearray()
    while byte := os.read(descriptor, 1):
        if byte == b"\n":
            return line.decode()
        line += byte
    return None


def main() -> None:
    """Serve requests until standard input closes."""
    channel = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not mix with the events
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which ends us in order
    _die_with_parent()
    keep_freed_memory()  # children inherit it
    _warm_up()
    gc.collect()
    gc.freeze()  # keeps the pages of imported modules shared with the children
    send(channel, event="ready")
    while (line := read_line(0)) is not None:
        if not line.startswith(REQUEST):  # the rest of a command to a child that has died meanwhile
            continue
        child = os.fork()
        if child == 0:
            _run_child(Request.decode(line), channel)
        _, status = os.waitpid(child, 0)
        os.write(channel, b"\n")  # ends a line that a killed child left half written
        send(channel, event="exit", code=os.waitstatus_to_exitcode(status))


def _run_child(request: Request, channel: int) -> None:
    code = 1
    try:
        _die_with_parent()
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
        request.log.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        send(channel, event="mark", name="forked", at=time.time())
        task = request.load_task()
        session = ForkedSession(channel, lock=MachineLock(task.scratch))
        evaluation = evaluate_point(request.stub.point, task, session, stub=request.stub)
        send(channel, event="mark", name="ended", at=time.time())
        send(channel, event="evaluation", evaluation=evaluation.to_json())
        code = 0
    except BaseException:
        traceback.print_exc()  # to the trial's log, which the evaluation names
    finally:
        sys.stderr.flush()
        os._exit(code)  # no clean-up of what the host owns: the child shares its objects


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, so that no training is left behind."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _warm_up() -> None:
    """Do once what every child would do: late imports, and a count on the meta device.

    Nothing here may compute on the CPU: an OpenMP pool does not survive a fork.
    """
    import numpy.ma  # noqa: F401
    import torch._dynamo
    import torch.profiler  # noqa: F401

    for config in METHODS.values():
        exact_cost(config(), num_classes=2, size=WARM_UP_SIZE)


if __name__ == "__main__":
    main()
