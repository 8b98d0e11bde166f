"""Services wait, trainings do not: checked on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from segsweep.priority import NICE, services_may_wait, this_thread_may_wait

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="threads have priorities of their own on Linux"
)


def test_only_the_thread_that_asks_gets_a_lower_priority() -> None:
    seen = []

    def work() -> None:
        this_thread_may_wait()
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [NICE]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_services_wait_and_the_raylet_that_starts_workers_does_not(tmp_path: Path) -> None:
    sleeper = "import time; time.sleep(60)"
    for name in ("log_monitor.py", "raylet"):
        (tmp_path / name).write_text(sleeper)
    service = subprocess.Popen([sys.executable, tmp_path / "log_monitor.py"])
    raylet = subprocess.Popen([sys.executable, tmp_path / "raylet", "--dashboard_agent_command=dashboard.py"])
    try:
        assert services_may_wait(os.getpid()).count(service.pid) == 1
        assert os.getpriority(os.PRIO_PROCESS, service.pid) == NICE
        assert os.getpriority(os.PRIO_PROCESS, raylet.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        for process in (service, raylet):
            process.kill()
            process.wait()
