"""A tracker that never keeps a sweep waiting, and says what it lost."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from recorded_sweep import recorded_sweep

from segsweep.records import DEFAULT_OBJECTIVES
from segsweep.tracking import background
from segsweep.tracking.background import BackgroundRunLogger, BackgroundTracker, Drain
from segsweep.tracking.mlflow_tracker import MlflowTracker
from segsweep.tracking.server import free_port
from segsweep.tracking.tracker import MlflowLink, SweepInfo

INFO = SweepInfo(sweep_id="s", name="s", method="eseg", objectives=DEFAULT_OBJECTIVES)


class Notebook:
    """A target that writes down what it is told, slowly or with failures if asked to."""

    def __init__(self, *, delay_s: float = 0.0, fail_on: tuple[str, ...] = (), failures: int = 10**6) -> None:
        self.lines: list[str] = []
        self.threads: set[str] = set()
        self.pending = 0
        self._delay_s = delay_s
        self._fail_on = fail_on
        self._failures = failures

    def at(self, timestamp_ms: int | None) -> None:
        self.timestamp_ms = timestamp_ms

    def write(self, line: str) -> None:
        time.sleep(self._delay_s)
        self.threads.add(threading.current_thread().name)
        if line in self._fail_on and self._failures:
            self._failures -= 1
            raise ConnectionError(f"no {line}")
        self.lines.append(line)

    def flush(self) -> None:
        pass

    def link(self) -> MlflowLink:
        return MlflowLink(tracking_uri="notebook", experiment_id="1", parent_run_id="2", url="here")

    def close(self) -> MlflowLink:
        return self.link()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "BACKOFF_S", 0.001)
    monkeypatch.setattr(background, "PAUSE_S", 0.01)
    monkeypatch.setattr(background, "LINGER_S", 0.01)


def test_calls_are_made_in_order_in_one_other_thread() -> None:
    notebook = Notebook()
    drain = Drain(lambda: notebook)
    for number in range(2000):
        drain.submit(lambda target, number=number: target.write(str(number)))
    assert drain.close(10).lost == 0
    assert notebook.lines == [str(number) for number in range(2000)]
    assert notebook.threads == {"segsweep-mlflow"}


def test_a_slow_store_does_not_slow_the_caller() -> None:
    drain = Drain(lambda: Notebook(delay_s=0.05))
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        drain.submit(lambda target: target.write("x"))
        seconds.append(time.perf_counter() - start)
    drain.close(10)
    assert sorted(seconds)[len(seconds) // 2] < 1e-3


def test_a_call_that_fails_twice_is_made_the_third_time() -> None:
    notebook = Notebook(fail_on=("b",), failures=2)
    drain = Drain(lambda: notebook)
    for line in "abc":
        drain.submit(lambda target, line=line: target.write(line))
    assert drain.close(10).lost == 0
    assert notebook.lines == ["a", "b", "c"]


def test_a_call_that_always_fails_is_told_and_the_others_are_made() -> None:
    notebook = Notebook(fail_on=("b",))
    drain = Drain(lambda: notebook)
    for line in "abc":
        drain.submit(lambda target, line=line: target.write(line))
    link = drain.close(10)
    assert notebook.lines == ["a", "c"]
    assert link.lost == 1
    assert "1 calls were not written" in link.problem
    assert "ConnectionError: no b" in link.problem


def test_a_healing_call_clears_what_was_lost_before() -> None:
    drain = Drain(lambda: Notebook(fail_on=("b",)))
    drain.submit(lambda target: target.write("b"))
    drain.submit(lambda target: target.write("everything again"), heals=True)
    assert drain.close(10).problem == ""


def test_of_waiting_calls_that_replace_each_other_only_the_last_is_made() -> None:
    notebook = Notebook()
    busy, gate = threading.Event(), threading.Event()
    drain = Drain(lambda: notebook)
    drain.submit(lambda target: (busy.set(), gate.wait(5)))
    assert busy.wait(5)  # from here on calls wait
    for number in range(5):
        drain.submit(lambda target, number=number: target.write(f"front {number}"), replaces="front")
        drain.submit(lambda target, number=number: target.write(f"trial {number}"))
    gate.set()
    drain.close(10)
    assert [line for line in notebook.lines if line.startswith("front")] == ["front 4"]
    assert len(notebook.lines) == 6


def test_close_gives_up_after_its_time_and_says_so() -> None:
    gate = threading.Event()
    drain = Drain(Notebook)
    drain.submit(lambda target: gate.wait(5))
    drain.submit(lambda target: target.write("late"))
    link = drain.close(0.1)
    gate.set()
    assert link.lost >= 1
    assert "not done after 0.1 s" in link.problem


def test_close_may_be_called_twice() -> None:
    drain = Drain(Notebook)
    drain.submit(lambda target: target.write("a"))
    assert drain.close(10) == drain.close(10)


def test_a_tracker_that_cannot_be_made_does_not_stop_the_sweep() -> None:
    tracker = BackgroundTracker(lambda: MlflowTracker("./mlruns", experiment="x"))
    tracker.start_sweep(INFO)
    link = tracker.close()
    assert link.lost == 1
    assert "sqlite:///" in link.problem


def test_a_server_that_is_down_costs_little_time() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    tracker = BackgroundTracker(lambda: MlflowTracker(uri, experiment="x"))
    start = time.monotonic()
    tracker.start_sweep(INFO)
    evaluations = recorded_sweep(20)
    for evaluation in evaluations:
        tracker.trial_finished(evaluation)
    tracker.sweep_finished(evaluations, {})
    link = tracker.close()
    assert time.monotonic() - start < 20
    assert link.lost == 22
    assert link.url == ""


def test_a_whole_sweep_reaches_the_store(store_uri: str) -> None:
    tracker = BackgroundTracker(lambda: MlflowTracker(store_uri, experiment="x"))
    evaluations = recorded_sweep(5)
    tracker.start_sweep(INFO)
    for number, evaluation in enumerate(evaluations, start=1):
        tracker.trial_started(evaluation.trial_id, evaluation.number, evaluation.point, evaluation.source)
        tracker.trial_finished(evaluation)
        tracker.front_updated(evaluations[:number])
    tracker.sweep_finished(evaluations, {})
    link = tracker.close()
    assert (link.lost, link.problem) == (0, "")
    assert link.url == (
        f"http://127.0.0.1:5000/#/experiments/{link.experiment_id}/runs"
        "?viewStateShareKey=pareto-fronts&compareRunsMode=CHART&workflowType=machine_learning"
    )


QUIET = """
import sys
from segsweep.records import DEFAULT_OBJECTIVES, TrialStatus
from segsweep.tracking.mlflow_tracker import BackgroundRunLogger, MlflowRunLogger
logger = BackgroundRunLogger(lambda: MlflowRunLogger(sys.argv[1], experiment="x"))
assert "mlflow" not in sys.modules
logger.start_run("r", params={}, tags={}, artifacts={})
logger.log(1, {"val_miou": 0.5})
logger.finish(TrialStatus.COMPLETE)
link = logger.close()
assert link.parent_run_id and not link.problem, link
"""


def test_nothing_is_printed_and_the_caller_never_imports_mlflow(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-c", QUIET, uri],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]  # no ./mlruns of MLflow's own


def test_the_run_logger_keeps_order_too(store_uri: str) -> None:
    from segsweep.tracking.run_logger import MlflowRunLogger

    logger = BackgroundRunLogger(lambda: MlflowRunLogger(store_uri, experiment="x"))
    logger.start_run("r", params={"lr": 0.1}, tags={}, artifacts={})
    for epoch in range(1, 4):
        logger.log(epoch, {"val_miou": epoch / 10})
    link = logger.close()
    assert link.problem == ""
