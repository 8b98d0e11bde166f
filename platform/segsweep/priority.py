"""Let trainings go first on the machine that they share with Ray's services and MLflow's writer.

A training step ends when its slowest thread does: on two cores, each CPU second of a service that interrupts
one thread costs nearly a second of the step. Services of lower priority run while a training thread waits.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

NICE = 10  # of what may wait; 0 is ordinary, 19 the lowest
SERVICES = ("gcs_server", "log_monitor.py", "dashboard.py", "monitor.py", "DashboardAgent", "RuntimeEnvAgent")


def this_thread_may_wait() -> None:
    """Lower the priority of the calling thread, on Linux."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def services_may_wait(parent: int) -> list[int]:
    """Lower the priority of Ray's services among the descendants of a process, on Linux.

    The raylet is left alone: the workers that it starts would inherit the lower priority.

    Args:
        parent: Process that started Ray.

    Returns:
        The processes whose priority was lowered.
    """
    lowered = []
    for process in _descendants(parent):
        with suppress(OSError, AttributeError):
            command = (
                Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            program = command.split(" --")[0]  # the raylet's options name the agents that it starts
            if any(service in program for service in SERVICES):
                for thread in Path(f"/proc/{process}/task").iterdir():
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), NICE)
                lowered.append(process)
    return lowered


def _descendants(parent: int) -> list[int]:
    found = []
    with suppress(OSError):
        for thread in Path(f"/proc/{parent}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found
