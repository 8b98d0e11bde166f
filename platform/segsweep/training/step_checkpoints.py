"""Checkpoints of a running training: when one is due, and which one a restart takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from segsweep.errors import DataError, EnvironmentProblem
from segsweep.training.checkpoint import checkpoint_step, load_checkpoint, remove_leftovers
from segsweep.training.checkpoint_settings import CheckpointSettings
from segsweep.training.checkpoint_store import CheckpointStore
from segsweep.training.ranks import agreed

State = dict[str, Any]
CPU = torch.device("cpu")
_NONE, _PUBLISHED = -1, -2  # places beside the steps of the store
_DAMAGED = ".damaged"
_LATENESS = 0.02  # of the minutes between two checkpoints, that one may come late for want of a look


def _ignore(*_: Any) -> None:
    """Tell nobody."""


class StepCheckpoints:
    """Writes on rank 0 what all ranks agree on; every rank calls every method unless it says otherwise.

    Args:
        store: Where checkpoints are kept.
        settings: When they are due and how many stay.
        published: The checkpoint of the last finished epoch, which evaluation reads; a restart may take it.
        rank: Of this process; ``world_size``: their number; ``device``: where they can exchange numbers.
        say: Told on rank 0, in one line, which checkpoint a restart took, which it found damaged, and that
            one could not be written within an epoch.
        found: Given on rank 0 the state that a restart took.
    """

    def __init__(
        self,
        store: CheckpointStore,
        settings: CheckpointSettings,
        *,
        published: Path | None = None,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device = CPU,
        say: Callable[[str], None] = _ignore,
        found: Callable[[State], None] = _ignore,
    ) -> None:
        self._store, self._settings, self._published = store, settings, published
        self._rank, self._world_size, self._device = rank, world_size, device
        self._say, self._found = say, found
        self._written_at = time.monotonic()
        self._clock = _Clock(self._written_at)
        self._failing = False

    def due(self, step: int) -> bool:
        """Whether to write one now that ``step`` optimiser steps are done.

        By steps every rank knows it; by time rank 0 says so, and when all ask it again: that is a message
        which every step would wait for, so it is sent every ``_LATENESS`` of the time between checkpoints.
        """
        settings = self._settings
        if settings.every_steps is not None and step % settings.every_steps == 0:
            return True
        if settings.every_minutes is None or step < self._clock.next_look:
            return False
        interval = 60 * settings.every_minutes
        wait = self._clock.steps_during(_LATENESS * interval, step)
        due = self._clock.looked_at - self._written_at >= interval
        told = agreed(-wait if due else wait, world_size=self._world_size, device=self._device)
        self._clock.look_after(step, abs(told))
        return told < 0

    def write(self, step: int, state: Callable[[], State]) -> None:
        """Write the state on rank 0; if that fails, say so; the training goes on till the next is due."""
        if self._rank == 0:
            try:
                self._store.write(step, state())
                self._forget_older(step)
            except EnvironmentProblem as error:
                if not self._failing:
                    self._say(
                        f"no checkpoint after step {step}; the training goes on and tries again when the "
                        f"next is due. The cause: {error}"
                    )
                self._failing = True
            else:
                self._tell_of_success(step)
        self._written_at = time.monotonic()

    def add(self, step: int, file: Path) -> None:
        """On rank 0 alone: keep a file that was written at the end of an epoch.

        Raises:
            EnvironmentProblem: If that is not possible; older checkpoints are intact then.
        """
        self._store.add(step, file)
        self._forget_older(step)
        self._tell_of_success(step)
        self._written_at = time.monotonic()

    def newest(self) -> State | None:
        """State of the newest checkpoint that is whole, the same on every rank; ``None`` if there is none.

        Raises:
            DataError: If there are some and all are damaged.
            EnvironmentProblem: If the store cannot be reached, or does not give out what it holds.
            MemoryError: If the memory does not suffice for the newest.
        """
        place, state = self._search() if self._rank == 0 else (_NONE, None)
        if self._world_size > 1:
            place = agreed(place, world_size=self._world_size, device=self._device)
            if self._rank > 0 and place != _NONE:
                state = self._read(place)
        self._written_at = time.monotonic()
        return state

    def _forget_older(self, step: int) -> None:
        others = [other for other in self._store.steps() if other != step]
        for old in others[self._settings.keep - 1 :]:
            self._store.remove(old)

    def _tell_of_success(self, step: int) -> None:
        if self._failing:
            self._say(f"checkpoints can be written again: there is one after step {step}")
        self._failing = False

    def _search(self) -> tuple[int, State | None]:
        self._store.tidy()
        if self._published is not None:
            remove_leftovers(self._published)
        damaged: list[int] = []
        for place in self._places():
            try:
                state = self._read(place)
            except DataError as error:
                self._say(str(error))
                damaged.append(place)
                continue
            for other in damaged:
                self._set_aside(other)
            self._tell(place, state, bool(damaged))
            return place, state
        if damaged:
            raise DataError(
                f"every checkpoint is damaged: {', '.join(map(self._name, damaged))}; put back an intact "
                f"copy, or delete them to start again"
            )
        return _NONE, None

    def _places(self) -> list[int]:
        """All that might be taken, newest first: by what it says of itself, or where it says nothing last."""
        steps = self._store.steps()
        if self._published is None or not self._published.is_file():
            return list(steps)
        try:
            step = checkpoint_step(self._published)
        except DataError:
            return [_PUBLISHED, *steps]  # to be found damaged, and told so
        newer = [other for other in steps if step is None or other >= step]
        return [*newer, _PUBLISHED, *steps[len(newer) :]]

    def _read(self, place: int) -> State:
        if place == _PUBLISHED and self._published is not None:
            return load_checkpoint(self._published)
        return self._store.read(place)

    def _name(self, place: int) -> str:
        return str(self._published) if place == _PUBLISHED else self._store.name(place)

    def _set_aside(self, place: int) -> None:
        if place == _PUBLISHED and self._published is not None:
            self._published.replace(self._published.with_name(self._published.name + _DAMAGED))
        else:
            self._store.set_aside(place)

    def _tell(self, place: int, state: State, older: bool) -> None:
        why = ", the newest that is whole" if older else ""
        after = (
            f"step {state['step']} (whole epochs: {state['epoch']})"
            if "step" in state
            else f"epoch {state['epoch']}"
        )
        self._say(f"going on after {after}{why}: {self._name(place)}")
        if place != _PUBLISHED and not state["losses"]:
            self._publish(place)
        self._found(state)

    def _publish(self, step: int) -> None:
        """Make good the file of the last finished epoch if a fault has taken it."""
        if self._published is None:
            return
        try:
            if load_checkpoint(self._published).get("step") == step:
                return
        except DataError:
            pass
        self._store.copy_to(step, self._published)


class _Clock:
    """Looks at the time every few steps: few enough for a purpose, from the speed of those before.

    Attributes:
        next_look: Step after which to look again, the same on every rank.
        looked_at: Time of the last look of this rank, in seconds of ``time.monotonic``.
    """

    def __init__(self, now: float) -> None:
        self.next_look = 0
        self.looked_at = now
        self._step, self._wait = 0, 1

    def steps_during(self, seconds: float, step: int) -> int:
        """Look, and estimate the steps of a duration: at least 1, at most twice those since the last look."""
        now = time.monotonic()
        per_step = (now - self.looked_at) / max(1, step - self._step)
        self.looked_at = now
        return max(1, int(min(2 * self._wait, seconds / max(per_step, 1e-9))))

    def look_after(self, step: int, wait: int) -> None:
        """Take over what the ranks agreed on."""
        self._step, self._wait = step, wait
        self.next_look = step + wait
