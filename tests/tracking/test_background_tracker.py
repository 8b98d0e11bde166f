"""A tracker that never keeps a sweep waiting, and says what MLflow does not have."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from recorded_sweep import recorded_sweep

from segsweep.records import DEFAULT_OBJECTIVES
from segsweep.tracking import drain as drain_module
from segsweep.tracking.background import BackgroundTracker
from segsweep.tracking.drain import Drain
from segsweep.tracking.mlflow_tracker import MlflowTracker
from segsweep.tracking.pump import Pump
from segsweep.tracking.replay import Replay
from segsweep.tracking.server import free_port
from segsweep.tracking.spool import SPOOL, Destination, Record, Spool
from segsweep.tracking.tracker import MlflowLink, SweepInfo

INFO = SweepInfo(sweep_id="s", name="s", method="eseg", objectives=DEFAULT_OBJECTIVES)
STORE = Destination(tracking_uri="http://127.0.0.1:1", experiment="x")


class Notebook:
    """A target that writes down what it is told, slowly or with failures if asked to."""

    def __init__(
        self,
        *,
        delay_s: float = 0.0,
        fail_on: tuple[str, ...] = (),
        failures: int = 10**6,
        error: type[Exception] = ConnectionError,
    ) -> None:
        self.lines: list[str] = []
        self.times: list[int | None] = []
        self.threads: set[str] = set()
        self.closed = 0
        self._delay_s, self._fail_on, self._failures, self._error = delay_s, fail_on, failures, error
        self._now: int | None = None

    def at(self, timestamp_ms: int | None) -> None:
        self._now = timestamp_ms

    def write(self, line: str) -> None:
        time.sleep(self._delay_s)
        self.threads.add(threading.current_thread().name)
        if line in self._fail_on and self._failures:
            self._failures -= 1
            raise self._error(f"no {line}")
        self.lines.append(line)
        self.times.append(self._now)

    def flush(self) -> None:
        pass

    def link(self) -> MlflowLink:
        return MlflowLink(tracking_uri="notebook", experiment_id="1", parent_run_id="2", url="here")

    def close(self) -> MlflowLink:
        self.closed += 1
        return self.link()


class Lines:
    """Events of a notebook."""

    def take(self, record: Record) -> None:
        pass

    def restore(self, target: Notebook) -> None:
        pass

    def tell(self, target: Notebook, record: Record) -> None:
        if "line" in record:
            target.write(record["line"])


def new_drain(folder: Path, notebook: Any) -> Drain[Notebook]:
    spool = Spool(folder / SPOOL, kind="run", destination=STORE)
    drain = Drain(
        spool, lambda: Pump(spool.path, destination=STORE, replay=Replay(lambda: notebook, Lines()))
    )
    drain.submit("start")
    return drain


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "BACKOFF_S", 0.001)
    monkeypatch.setattr(drain_module, "PAUSE_S", 0.01)
    monkeypatch.setattr(drain_module, "LINGER_S", 0.01)


def test_calls_are_made_in_order_in_one_other_thread(tmp_path: Path) -> None:
    notebook = Notebook()
    drain = new_drain(tmp_path, notebook)
    for number in range(2000):
        drain.submit("line", line=str(number))
    link = drain.close(10)
    assert (link.lost, link.waiting, link.problem, link.url) == (0, 0, "", "here")
    assert notebook.lines == [str(number) for number in range(2000)]
    assert notebook.threads == {"segsweep-mlflow"}
    assert notebook.closed == 1


def test_events_carry_the_time_of_the_call_not_that_of_the_write(tmp_path: Path) -> None:
    notebook = Notebook(fail_on=("a",), failures=2)
    drain = new_drain(tmp_path, notebook)
    before = time.time_ns() // 1_000_000
    drain.submit("line", line="a")
    after = time.time_ns() // 1_000_000
    drain.close(10)
    (told,) = notebook.times
    assert told is not None
    assert before <= told <= after


def test_a_slow_store_does_not_slow_the_caller(tmp_path: Path) -> None:
    drain = new_drain(tmp_path, Notebook(delay_s=0.05))
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        drain.submit("line", line="x")
        seconds.append(time.perf_counter() - start)
    drain.close(10)
    assert sorted(seconds)[len(seconds) // 2] < 1e-3


def test_a_store_that_fails_twice_is_asked_the_third_time(tmp_path: Path) -> None:
    notebook = Notebook(fail_on=("b",), failures=2)
    drain = new_drain(tmp_path, notebook)
    for line in "abc":
        drain.submit("line", line=line)
    assert drain.close(10).problem == ""
    assert notebook.lines == ["a", "b", "c"]


def test_a_store_that_is_away_for_long_gets_everything_in_order_when_it_is_back(tmp_path: Path) -> None:
    notebook = Notebook(fail_on=("b",), failures=40)
    drain = new_drain(tmp_path, notebook)
    for line in "abcd":
        drain.submit("line", line=line)
    end = time.monotonic() + 20
    while len(notebook.lines) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert drain.close(10).problem == ""
    assert notebook.lines == ["a", "b", "c", "d"]


def test_what_a_store_does_not_take_in_time_waits_on_disk(tmp_path: Path) -> None:
    notebook = Notebook(fail_on=("b",))
    drain = new_drain(tmp_path, notebook)
    for line in "abc":
        drain.submit("line", line=line)
    link = drain.close(10)
    assert notebook.lines == ["a"]
    assert link.lost == 0
    assert link.waiting == 5  # the start, all three lines and the close: no batch was complete
    assert f"5 records wait on disk; when MLflow is back run `segsweep sync {tmp_path}`" in link.problem
    assert "ConnectionError: no b" in link.problem


def test_a_record_that_can_never_be_written_is_told_and_the_others_are_made(tmp_path: Path) -> None:
    notebook = Notebook(fail_on=("b",), error=ValueError)
    drain = new_drain(tmp_path, notebook)
    for line in "abc":
        drain.submit("line", line=line)
    link = drain.close(10)
    assert notebook.lines == ["a", "c"]
    assert (link.lost, link.waiting) == (1, 0)
    assert link.problem == "MLflow refused 1 entries: ValueError: no b"


def test_of_waiting_front_updates_only_the_last_is_told(tmp_path: Path) -> None:
    notebook = Notebook(fail_on=("first",), failures=30)  # what follows waits meanwhile
    drain = new_drain(tmp_path, notebook)
    drain.submit("line", line="first")
    for number in range(5):
        drain.submit("front", line=f"front {number}")
        drain.submit("line", line=f"trial {number}")
    time.sleep(1.0)
    assert drain.close(10).problem == ""
    assert [line for line in notebook.lines if line.startswith("front")] == ["front 4"]
    assert [line for line in notebook.lines if line.startswith("trial")] == [f"trial {n}" for n in range(5)]


def test_close_gives_up_after_its_time_and_says_so(tmp_path: Path) -> None:
    drain = new_drain(tmp_path, Notebook(delay_s=1.0))
    drain.submit("line", line="slow")
    time.sleep(0.1)
    start = time.monotonic()
    link = drain.close(0.2)
    assert time.monotonic() - start < 0.9
    assert link.waiting == 3
    assert "MLflow was not done after 0.2 s" in link.problem


def test_close_may_be_called_twice(tmp_path: Path) -> None:
    drain = new_drain(tmp_path, Notebook())
    assert drain.close(10) == drain.close(10)


def test_a_call_after_close_is_not_made(tmp_path: Path) -> None:
    notebook = Notebook()
    drain = new_drain(tmp_path, notebook)
    drain.close(10)
    drain.submit("line", line="late")
    assert notebook.lines == []


def test_a_tracker_that_cannot_be_made_does_not_stop_the_sweep(tmp_path: Path) -> None:
    tracker = BackgroundTracker(lambda: MlflowTracker("./mlruns", experiment="x"), spool=tmp_path / SPOOL)
    tracker.start_sweep(INFO)
    link = tracker.close()
    assert link.waiting == 2
    assert "sqlite:///" in link.problem


def test_without_a_file_what_was_not_written_is_lost_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tracker = BackgroundTracker(lambda: MlflowTracker("./mlruns", experiment="x"))
    tracker.start_sweep(INFO)
    link = tracker.close()
    assert (link.lost, link.waiting) == (2, 0)
    assert "2 records are not written" in link.problem
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_down_costs_little_time(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    tracker = BackgroundTracker(lambda: MlflowTracker(uri, experiment="x"), spool=tmp_path / SPOOL)
    start = time.monotonic()
    tracker.start_sweep(INFO)
    evaluations = recorded_sweep(20)
    for evaluation in evaluations:
        tracker.trial_finished(evaluation)
    tracker.sweep_finished(evaluations, {})
    link = tracker.close()
    assert time.monotonic() - start < 20
    assert (link.lost, link.waiting) == (0, 23)  # start, trials, end, close
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
    assert (link.lost, link.waiting, link.problem) == (0, 0, "")
    assert link.url == (
        f"http://127.0.0.1:5000/#/experiments/{link.experiment_id}/runs"
        "?viewStateShareKey=pareto-fronts&compareRunsMode=CHART&workflowType=machine_learning"
    )


QUIET = """
import sys
from pathlib import Path
from segsweep.records import DEFAULT_OBJECTIVES, TrialStatus
from segsweep.tracking.durable import durable_run_logger
logger = durable_run_logger(sys.argv[1], experiment="x", spool=Path("run/mlflow-spool.jsonl"))
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "run"]  # no ./mlruns of MLflow's own
