"""The file that holds what MLflow is told: whole lines, in order, whatever happens to the process or disk."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from segsweep.tracking.spool import (
    SPOOL,
    Destination,
    Spool,
    count_records,
    last_destination,
    read_header,
    read_records,
    records_of,
)

STORE = Destination(tracking_uri="http://127.0.0.1:5000", experiment="x")


def new_spool(folder: Path, destination: Destination = STORE) -> Spool:
    return Spool(folder / SPOOL, kind="run", destination=destination)


def steps(path: Path) -> list[int]:
    return [record["step"] for record, _ in read_records(path, 0, limit=10**6) if record.get("do") == "log"]


def test_a_record_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    for step in range(3):
        spool.append({"at": 1, "do": "log", "step": step})
        last = json.loads((tmp_path / SPOOL).read_bytes().splitlines()[-1])
        assert last == {"at": 1, "do": "log", "step": step}


def test_nan_and_infinity_come_back(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    spool.append({"at": 1, "do": "log", "metrics": {"a": float("nan"), "b": float("inf")}})
    (record,) = records_of(tmp_path / SPOOL, ("log",))
    assert record["metrics"]["a"] != record["metrics"]["a"]
    assert record["metrics"]["b"] == float("inf")


def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    spool.append({"at": 1, "do": "log", "step": 0})
    spool.close()
    with (tmp_path / SPOOL).open("ab") as file:
        file.write(b'{"at":1,"do":"log","st')
    assert steps(tmp_path / SPOOL) == [0]
    again = new_spool(tmp_path)
    again.append({"at": 1, "do": "log", "step": 1})
    assert steps(tmp_path / SPOOL) == [0, 1]


def test_a_damaged_line_is_told_apart_and_the_others_are_read(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    spool.append({"at": 1, "do": "log", "step": 0})
    spool.close()
    with (tmp_path / SPOOL).open("ab") as file:
        file.write(b"\xff\xfe not json\n")
    again = new_spool(tmp_path)
    again.append({"at": 1, "do": "log", "step": 1})
    kinds = [record.get("do") for record, _ in read_records(tmp_path / SPOOL, 0, limit=10)]
    assert kinds == [None, "destination", "log", "damaged", "log"]


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    for step in range(10):
        spool.append({"at": 1, "do": "log", "step": step})
    found, offset = [], 0
    while batch := read_records(tmp_path / SPOOL, offset, limit=3):
        found += [record["step"] for record, _ in batch if record.get("do") == "log"]
        offset = batch[-1][1]
    assert found == list(range(10))
    assert offset == (tmp_path / SPOOL).stat().st_size
    assert count_records(tmp_path / SPOOL, 0) == 10
    assert count_records(tmp_path / SPOOL, offset) == 0


def test_passwords_of_an_address_are_not_written_down(tmp_path: Path) -> None:
    uri = "https://me:pass%40word@mlflow.example.com:8080/path"
    spool = new_spool(tmp_path, Destination(tracking_uri=uri, experiment="x"))
    spool.append({"at": 1, "do": "log", "step": 0})
    assert "word" not in (tmp_path / SPOOL).read_text()
    known = last_destination(tmp_path / SPOOL)
    assert known is not None
    assert known.tracking_uri == "https://mlflow.example.com:8080/path"


def test_a_relative_database_means_the_same_file_from_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spool = new_spool(tmp_path, Destination(tracking_uri="sqlite:///runs/mlflow.db", experiment="x"))
    spool.append({"at": 1, "do": "log", "step": 0})
    monkeypatch.chdir("/")
    known = last_destination(tmp_path / SPOOL)
    assert known is not None
    assert known.tracking_uri == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_a_new_destination_is_noted_and_the_name_of_the_spool_stays(tmp_path: Path) -> None:
    names = set()
    for experiment in ("a", "a", "b"):
        spool = new_spool(tmp_path, Destination(tracking_uri="http://h:1", experiment=experiment))
        spool.append({"at": 1, "do": "log", "step": 0})
        spool.close()
        names.add(read_header(tmp_path / SPOOL)["spool"])
    assert len(names) == 1
    records = list(records_of(tmp_path / SPOOL, ("destination",)))
    assert [record["experiment"] for record in records] == ["a", "b"]


def test_two_writers_never_mix_their_records(tmp_path: Path) -> None:
    first, second = new_spool(tmp_path), new_spool(tmp_path)
    for step in range(5):
        first.append({"at": 1, "do": "log", "step": step})
        second.append({"at": 1, "do": "log", "step": 100 + step})
    assert first.path != second.path
    assert steps(first.path) == list(range(5))
    assert steps(second.path) == list(range(100, 105))
    assert second.path.name.endswith(SPOOL)


@pytest.mark.parametrize("text", ["", "not json\n", '{"a": 1}\n', '{"spool": "x", "version": 99}\n'])
def test_a_file_that_is_no_spool_is_not_touched_unless_it_is_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / SPOOL).write_text(text)
    spool = new_spool(tmp_path)
    spool.append({"at": 1, "do": "log", "step": 0})
    assert steps(spool.path) == [0]
    if text:
        assert (tmp_path / SPOOL).read_text() == text


FULL_DISK = """
import resource, sys
from pathlib import Path
from segsweep.tracking.spool import Destination, Spool
path = Path(sys.argv[1])
spool = Spool(path, kind="run", destination=Destination(tracking_uri="http://h:1", experiment="x"))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))  # the disk is full after 4,000 bytes
for step in range(100):
    spool.append({"at": 1, "do": "log", "step": step, "text": "x" * 37})
whole = path.read_bytes()
assert len(whole) <= 4000 and whole.endswith(b"\\n"), whole[-80:]
assert spool.held_back > 0
assert str(path) in spool.problem and "No space left" in spool.problem and "free space" in spool.problem
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))  # someone made room
spool.append({"at": 1, "do": "log", "step": 100})
assert (spool.held_back, spool.problem) == (0, "")
"""


def test_a_full_disk_leaves_whole_lines_and_nothing_is_lost_when_there_is_room_again(tmp_path: Path) -> None:
    path = tmp_path / SPOOL
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert steps(path) == list(range(101))


def test_a_device_without_space_is_told_in_the_words_of_the_system(tmp_path: Path) -> None:
    (tmp_path / SPOOL).symlink_to("/dev/full")
    spool = new_spool(tmp_path)
    spool.append({"at": 1, "do": "log", "step": 0})
    assert spool.held_back == 1
    assert "No space left on device" in spool.problem


def test_a_folder_that_cannot_be_made_is_told_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / SPOOL, kind="run", destination=STORE)
    spool.append({"at": 1, "do": "log", "step": 0})
    spool.close()
    assert spool.held_back == 1
    assert "cannot be written" in spool.problem


KILLED = """
import os, signal, sys
from pathlib import Path
from segsweep.tracking.spool import Destination, Spool
store = Destination(tracking_uri="http://h:1", experiment="x")
spool = Spool(Path(sys.argv[1]), kind="run", destination=store)
for step in range(1000):
    spool.append({"at": 1, "do": "log", "step": step})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_appended_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / SPOOL
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert steps(path) == list(range(1000))


def test_harden_may_be_called_at_any_time(tmp_path: Path) -> None:
    spool = new_spool(tmp_path)
    spool.harden()  # nothing is there yet
    spool.append({"at": 1, "do": "log", "step": 0})
    spool.harden()
    spool.close()
    assert (tmp_path / SPOOL).stat().st_size > 0


def test_a_moments_lock_of_a_sync_does_not_divert_the_writer(tmp_path: Path) -> None:
    path = tmp_path / SPOOL
    path.touch()
    with path.open("r+b") as looking:
        fcntl.flock(looking, fcntl.LOCK_EX)
        timer = threading.Timer(0.03, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        spool = new_spool(tmp_path)
        spool.append({"at": 1, "do": "log", "step": 0})
        timer.join()
    assert (spool.path, steps(path)) == (path, [0])


def test_a_writer_that_may_not_divert_writes_nowhere_else(tmp_path: Path) -> None:
    first = new_spool(tmp_path)
    first.append({"at": 1, "do": "log", "step": 0})
    second = Spool(tmp_path / SPOOL, kind="run", destination=STORE, may_divert=False)
    second.append({"at": 2, "do": "close"})
    second.close()
    assert "cannot be written" in second.problem
    assert [file.name for file in tmp_path.iterdir()] == [SPOOL]
