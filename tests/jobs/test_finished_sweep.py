"""A sweep's folder, read back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from sweep_folders import trial, write_sweep

from segsweep.errors import DataError, InvalidInput
from segsweep.jobs.finished_sweep import open_sweep, sweep_ids
from segsweep.records import TrialStatus
from segsweep.search.journal import Journal

TRIALS = (
    trial(0, 0.50, 2_000_000),
    trial(1, 0.60, 3_000_000),
    trial(2, 0.40, 4_000_000),  # dominated
    trial(3, 0.90, 1_000_000, status=TrialStatus.STOPPED),  # better than all, but never finished
)


def test_a_sweep_is_found_by_folder_by_id_and_as_the_latest(tmp_path: Path) -> None:
    older = write_sweep(tmp_path / "sweeps" / "older", TRIALS)
    newer = write_sweep(tmp_path / "sweeps" / "newer", TRIALS)
    os.utime(older / "journal.jsonl", (1, 1))
    found = [open_sweep(name, out=tmp_path).folder for name in (older, "older", "latest")]
    assert found == [older, older, newer]
    assert sweep_ids(tmp_path) == ["newer", "older"]


def test_an_unknown_sweep_is_refused_with_the_names_of_those_there_are(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweeps" / "camvid-1", TRIALS)
    with pytest.raises(InvalidInput, match=r"nosuch: found no sweep .* it holds camvid-1;"):
        open_sweep("nosuch", out=tmp_path)
    with pytest.raises(InvalidInput, match="it holds none"):
        open_sweep("latest", out=tmp_path / "empty")


def test_the_records_come_back_and_only_complete_trials_stand_on_the_front(tmp_path: Path) -> None:
    sweep = open_sweep(write_sweep(tmp_path / "sweeps" / "s", TRIALS))
    assert sweep.evaluations == TRIALS
    assert [item.number for item in sweep.complete] == [0, 1, 2]
    assert [item.number for item in sweep.front] == [0, 1]
    assert (sweep.method, sweep.axes) == ("eseg", ("neck.kind", "neck.channels"))
    assert sweep.space.name == "tiny"  # of the file that was copied to space.yaml
    assert sweep.out == tmp_path


def test_the_conditions_say_under_what_the_figures_hold(tmp_path: Path) -> None:
    trials = (trial(0, 0.5, 2_000_000, latency=4.0), trial(1, 0.5, 9, latency=4.0, device="card-b"))
    conditions = open_sweep(write_sweep(tmp_path / "s", trials, seed=3, speed={"batch_size": 1})).conditions
    assert (conditions.data, conditions.data_digest) == ("synthetic", "d1g35t")
    assert (conditions.size, conditions.num_classes, conditions.epochs, conditions.seed) == (
        (64, 128),
        4,
        4,
        3,
    )
    assert (conditions.device, conditions.threads) == ("card-a, card-b", 2)
    assert conditions.speed == {"batch_size": 1}


def test_a_reference_that_the_job_leaves_open_is_a_tenth_above_the_largest_cost(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", TRIALS)
    assert open_sweep(folder).reference == pytest.approx({"miou": 0.0, "macs": 1.1 * 4_000_000})


def test_constraints_of_the_job_are_those_of_the_space(tmp_path: Path) -> None:
    constraint = {"name": "budget", "require": "cost.macs <= 3e6", "why": "a test"}
    sweep = open_sweep(write_sweep(tmp_path / "s", TRIALS, constraints=[constraint]))
    assert [item.name for item in sweep.space.violated(TRIALS[2].point, TRIALS[2].cost)] == ["budget"]


@pytest.mark.parametrize(
    ("trials", "ends", "last", "interrupted"),
    [
        (4, True, None, False),
        (9, True, None, False),  # the journal says that it ended: its space was exhausted
        (4, False, None, False),  # an older journal, with the budget used up
        (9, False, None, True),  # an older journal, with trials left
        (4, False, {"type": "ask", "number": 4, "point": {}, "source": "sampler"}, True),  # killed in a trial
        (4, False, {"type": "end", "interrupted": True, "exhausted": False}, True),  # Ctrl-C
        (4, True, {"type": "ask", "number": 4, "point": {}, "source": "sampler"}, True),  # it goes on
    ],
)
def test_an_interrupted_sweep_is_told_from_one_that_ended(
    tmp_path: Path, trials: int, ends: bool, last: dict[str, object] | None, interrupted: bool
) -> None:
    folder = write_sweep(tmp_path / "s", TRIALS, trials=trials, ends=ends)
    if last is not None:
        Journal(folder / "journal.jsonl").append(last)
    assert open_sweep(folder).interrupted is interrupted


def test_a_torn_last_line_of_the_journal_is_left_out(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", TRIALS)
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('{"type": "fini')
    assert open_sweep(folder).evaluations == TRIALS


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("job.json", None),
        ("job.json", "{}"),
        ("space.yaml", None),
        ("conditions.json", "{"),
        ("journal.jsonl", '{"type": "finish", "evaluation": {}}\n'),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: str | None) -> None:
    folder = write_sweep(tmp_path / "s", TRIALS)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(DataError, match=file):
        open_sweep(folder)


def test_a_sweep_from_before_conditions_were_recorded_opens_without_a_digest(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", TRIALS)
    (folder / "conditions.json").unlink()
    sweep = open_sweep(folder)
    assert (sweep.conditions.data_digest, sweep.prepared) == ("", None)
    (folder / "conditions.json").write_text(json.dumps({"prepared": "synthetic-64x128-abc"}))
    assert open_sweep(folder).prepared == Path("runs/data/synthetic-64x128-abc")
