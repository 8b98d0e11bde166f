"""When a checkpoint is due, how many stay, and which one a restart takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segsweep.errors import DataError
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


def test_never_due_within_an_epoch_if_nothing_is_asked_for(folder: Folder) -> None:
    checkpoints = folder.checkpoints(every_minutes=None)
    assert not any(checkpoints.due(step) for step in range(100))


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_stay(folder: Folder, keep: int) -> None:
    checkpoints = folder.checkpoints(keep=keep)
    for step in range(1, 6):
        checkpoints.write(step, lambda step=step: _state(step))  # type: ignore[misc]
    assert folder.store.steps() == [5, 4, 3][:keep]


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
