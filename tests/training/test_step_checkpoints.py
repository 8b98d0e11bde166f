"""When a checkpoint is due, how many stay, and which one a restart takes."""

from __future__ import annotations

import errno
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from segsweep.errors import DataError, EnvironmentProblem
from segsweep.training.checkpoint import load_checkpoint, save_checkpoint
from segsweep.training.checkpoint_settings import CheckpointSettings
from segsweep.training.checkpoint_store import FolderStore
from segsweep.training.step_checkpoints import StepCheckpoints


class Folder:
    """A training's folder with its store, and what it was told."""

    def __init__(self, folder: Path) -> None:
        self.published = folder / "checkpoint.pt"
        self.store = FolderStore(folder / "checkpoints")
        self.said: list[str] = []
        self.found: list[int] = []

    def checkpoints(self, **settings: Any) -> StepCheckpoints:
        return StepCheckpoints(
            self.store,
            CheckpointSettings(**settings),
            published=self.published,
            say=self.said.append,
            found=lambda state: self.found.append(state["step"]),
        )

    def damage(self, step: int) -> None:
        path = self.store.folder / f"step-{step:09d}.pt"
        path.write_bytes(path.read_bytes()[:-100])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def _state(step: int, *, epoch: int = 0, losses: tuple[float, ...] = (0.5,)) -> dict[str, Any]:
    return {"step": step, "epoch": epoch, "losses": [[loss, {}] for loss in losses], "scores": []}


def test_due_after_every_so_many_steps(folder: Folder) -> None:
    checkpoints = folder.checkpoints(every_minutes=None, every_steps=3)
    assert [step for step in range(1, 10) if checkpoints.due(step)] == [3, 6, 9]


def test_due_when_the_time_has_passed_since_the_last_one(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    checkpoints = folder.checkpoints(every_minutes=2)
    due = []
    for step in range(1, 12):  # a step takes 30 s
        now += 30
        if checkpoints.due(step):
            due.append(step)
            checkpoints.write(step, lambda: _state(0))
        if step == 6:  # the end of an epoch is written, due or not
            save_checkpoint(folder.published, _state(6))
            checkpoints.add(6, folder.published)
    assert due == [4, 10]


def test_the_clock_is_looked_at_rarely_and_the_time_is_kept(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look costs several ranks a message that the step waits for."""
    now, step_seconds = 0.0, 0.1
    looks: list[int] = []

    def agreed(value: int, **_: Any) -> int:
        looks.append(step)
        return value

    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("segsweep.training.step_checkpoints.agreed", agreed)
    checkpoints = folder.checkpoints(every_minutes=5, every_steps=4_001)
    written: list[tuple[int, float]] = []
    for step in range(1, 10_001):
        now += step_seconds
        if step == 5_000:
            step_seconds = 0.3
        if checkpoints.due(step):
            written.append((step, now))
            checkpoints.write(step, lambda: _state(0))
    assert len(looks) < 500
    times = [time for _, time in written]
    assert 4_001 in [step for step, _ in written] and 8_002 in [step for step, _ in written]
    by_time = [(time, previous) for previous, time in zip([0.0, *times], times, strict=False)]
    assert all(time - previous <= 300 * 1.1 for time, previous in by_time)
    first, second = times[:2]
    assert 300 <= first <= 306 and second == pytest.approx(400.1)  # by time, then after 4,001 steps


def _ask(rank: int, folder: str) -> None:
    """Which steps are due on a rank whose clock runs as it likes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=2)
    now = 1000.0 * rank
    time.monotonic = lambda: now  # type: ignore[assignment]
    settings = CheckpointSettings(every_minutes=1, every_steps=200)
    checkpoints = StepCheckpoints(FolderStore(Path(folder) / "steps"), settings, rank=rank, world_size=2)
    due = []
    for step in range(1, 301):
        now += 0.5 if rank == 0 else 3.0  # rank 1's clock is six times as fast
        if checkpoints.due(step):
            due.append(step)
            checkpoints.write(step, lambda: _state(0))
    (Path(folder) / f"due{rank}").write_text(json.dumps(due))
    dist.barrier()
    dist.destroy_process_group()


def test_all_ranks_agree_on_what_is_due_whatever_their_clocks(tmp_path: Path) -> None:
    mp.start_processes(_ask, args=(str(tmp_path),), nprocs=2, start_method="fork")
    first, second = (json.loads((tmp_path / f"due{rank}").read_text()) for rank in range(2))
    assert first == second
    by_time, by_steps = first  # by the clock of rank 0: 60 s, at most 2 % later
    assert 120 <= by_time <= 123 and by_steps == 200


def test_never_due_within_an_epoch_if_nothing_is_asked_for(folder: Folder) -> None:
    checkpoints = folder.checkpoints(every_minutes=None)
    assert not any(checkpoints.due(step) for step in range(100))


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_stay(folder: Folder, keep: int) -> None:
    checkpoints = folder.checkpoints(keep=keep)
    for step in range(1, 6):
        checkpoints.write(step, lambda step=step: _state(step))  # type: ignore[misc]
    assert folder.store.steps() == [5, 4, 3][:keep]


class Unreliable(FolderStore):
    """A store that may be out of reach."""

    away = False

    def write(self, step: int, state: dict[str, Any]) -> None:
        if self.away:
            raise EnvironmentProblem(f"store: cannot write step {step}")
        super().write(step, state)

    def add(self, step: int, file: Path) -> None:
        if self.away:
            raise EnvironmentProblem(f"store: cannot add step {step}")
        super().add(step, file)

    def read(self, step: int) -> dict[str, Any]:
        if self.away:
            raise EnvironmentProblem(f"store: cannot read step {step}")
        return super().read(step)


def test_a_store_away_within_an_epoch_costs_only_the_checkpoints_of_that_time(folder: Folder) -> None:
    folder.store = store = Unreliable(folder.store.folder)
    checkpoints = folder.checkpoints(every_minutes=None, every_steps=1, keep=9)
    for step in range(1, 8):
        store.away = step in (3, 4, 5)
        assert checkpoints.due(step)
        checkpoints.write(step, lambda step=step: _state(step))  # type: ignore[misc]
    assert store.steps() == [7, 6, 2, 1]
    assert folder.said == [
        "no checkpoint after step 3; the training goes on and tries again when the next is due. The cause: "
        "store: cannot write step 3",
        "checkpoints can be written again: there is one after step 6",
    ]


def test_a_write_that_failed_is_tried_again_when_the_time_has_passed_once_more(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    folder.store = store = Unreliable(folder.store.folder)
    store.away = True
    checkpoints = folder.checkpoints(every_minutes=1)
    due = []
    for step in range(1, 10):
        now += 20
        if checkpoints.due(step):
            due.append(step)
            checkpoints.write(step, lambda: _state(0))
    assert due == [3, 6, 9]


def test_a_store_away_at_the_end_of_an_epoch_is_an_error(folder: Folder) -> None:
    folder.store = store = Unreliable(folder.store.folder)
    store.away = True
    save_checkpoint(folder.published, _state(4, epoch=1, losses=()))
    with pytest.raises(EnvironmentProblem, match="cannot add step 4"):
        folder.checkpoints().add(4, folder.published)


def test_a_checkpoint_out_of_reach_is_not_passed_over_for_an_older_one(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (4, 8):
        folder.store.write(step, _state(step))
    whole_open = Path.open

    def refuse(path: Path, *args: Any, **keywords: Any) -> Any:
        if path.name == "step-000000008.pt":
            raise OSError(errno.EIO, "Input/output error")
        return whole_open(path, *args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(EnvironmentProblem, match=r"step-000000008\.pt: .* could not be read"):
            folder.checkpoints().newest()
    assert folder.store.steps() == [8, 4] and folder.said == []
    state = folder.checkpoints().newest()
    assert state is not None and state["step"] == 8


def test_a_new_training_has_nothing_to_go_on_from(folder: Folder) -> None:
    assert folder.checkpoints().newest() is None
    assert (folder.said, folder.found) == ([], [])


def test_a_restart_takes_the_newest_and_says_so(folder: Folder) -> None:
    for step in (4, 8):
        folder.store.write(step, _state(step, epoch=1))
    state = folder.checkpoints().newest()
    assert state is not None and state["step"] == 8
    assert folder.found == [8]
    assert folder.said == [f"going on after step 8 (whole epochs: 1): {folder.store.name(8)}"]


def test_a_damaged_one_is_set_aside_and_the_one_before_it_taken(folder: Folder) -> None:
    for step in (4, 8, 12):
        folder.store.write(step, _state(step))
    folder.damage(12)
    folder.damage(8)
    state = folder.checkpoints().newest()
    assert state is not None and state["step"] == 4
    assert folder.store.steps() == [4]
    assert [path.name for path in sorted(folder.store.folder.glob("*.damaged"))] == [
        "step-000000008.pt.damaged",
        "step-000000012.pt.damaged",
    ]
    first, second, last = folder.said
    assert folder.store.name(12) in first and folder.store.name(8) in second
    assert "the newest that is whole" in last


def test_if_all_are_damaged_nothing_is_lost_and_nothing_begins_anew(folder: Folder) -> None:
    folder.store.write(4, _state(4))
    save_checkpoint(folder.published, _state(4))
    folder.published.write_bytes(b"")
    folder.damage(4)
    for _ in range(2):  # nor does a second attempt begin anew
        with pytest.raises(DataError, match=r"every checkpoint is damaged: .*delete them to start again"):
            folder.checkpoints().newest()
    assert folder.store.steps() == [4] and folder.published.exists()


def test_the_end_of_an_epoch_counts_if_it_is_newer_than_the_store(folder: Folder) -> None:
    folder.store.write(5, _state(5))
    save_checkpoint(folder.published, _state(8, epoch=1, losses=()))
    state = folder.checkpoints().newest()
    assert state is not None and state["step"] == 8
    folder.store.write(9, _state(9))
    state = folder.checkpoints().newest()
    assert state is not None and state["step"] == 9


def test_a_checkpoint_of_an_earlier_version_is_gone_on_from(folder: Folder) -> None:
    import torch

    torch.save({"format": 1, "epoch": 3, "scores": []}, folder.published)
    checkpoints = StepCheckpoints(
        folder.store, CheckpointSettings(), published=folder.published, say=folder.said.append
    )
    state = checkpoints.newest()
    assert state is not None and state["epoch"] == 3
    assert folder.said == [f"going on after epoch 3: {folder.published}"]


@pytest.mark.parametrize("fault", ["gone", "damaged", "older"])
def test_the_file_of_the_last_epoch_is_made_good_from_the_store(folder: Folder, fault: str) -> None:
    folder.store.write(8, _state(8, epoch=1, losses=()))
    if fault == "damaged":
        folder.published.write_bytes(b"damaged")
    if fault == "older":
        save_checkpoint(folder.published, _state(4, losses=()))
    folder.checkpoints().newest()
    assert load_checkpoint(folder.published)["step"] == 8
