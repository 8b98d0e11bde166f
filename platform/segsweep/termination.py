"""End in order when a scheduler asks: Ray, Kubernetes, systemd and `docker stop` send SIGTERM."""

from __future__ import annotations

import signal
from types import FrameType


def end_in_order_on_sigterm() -> None:
    """Treat SIGTERM like Ctrl-C from now on: records are closed as interrupted, and the run can be resumed.

    Call it in the main thread.
    """
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C would do now: Ray Tune, for example, puts its own handler there while it runs."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # SIGINT is ignored in whatever a script started in the background
        raise KeyboardInterrupt
    handler(number, frame)
