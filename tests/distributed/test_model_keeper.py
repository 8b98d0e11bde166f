"""Networks of the front stay on disk, all others go."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_folders import trial

from segsweep.distributed.model_keeper import ModelKeeper
from segsweep.records import Evaluation, Objective, TrialStatus
from segsweep.training.model_file import model_path

OBJECTIVES = (
    Objective(metric="miou", direction="maximize"),
    Objective(metric="macs", direction="minimize"),
)


def _dominates(one: Evaluation, other: Evaluation) -> bool:
    ours, theirs = one.metrics(), other.metrics()
    as_good = ours["miou"] >= theirs["miou"] and ours["macs"] <= theirs["macs"]
    return as_good and (ours["miou"] > theirs["miou"] or ours["macs"] < theirs["macs"])


def _write(folder: Path, evaluation: Evaluation) -> None:
    path = model_path(folder, evaluation.trial_id)
    path.parent.mkdir(exist_ok=True)
    path.touch()


def _kept(folder: Path) -> set[str]:
    return {path.name.removesuffix(".pt") for path in (folder / "models").glob("*")}


RESULTS = st.tuples(st.integers(0, 5), st.integers(1, 6), st.sampled_from(["complete", "stopped"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(RESULTS, max_size=12), st.integers(0, 12))
def test_at_every_time_exactly_the_front_is_kept(results: list[tuple[int, int, str]], resumed: int) -> None:
    """``resumed``: after so many trials the driver was killed and began again with a tidy folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keeper, ended = ModelKeeper(folder, OBJECTIVES), []
        for number, (miou, macs, status) in enumerate(results):
            if number == resumed:
                keeper = ModelKeeper(folder, OBJECTIVES)
                keeper.tidy(ended)
            item = trial(number, miou / 10, macs * 10**6, status=TrialStatus(status))
            if item.status is TrialStatus.COMPLETE:
                _write(folder, item)
            ended.append(item)
            keeper.trial_finished(item, ended)
            complete = [item for item in ended if item.status is TrialStatus.COMPLETE]
            front = {a.trial_id for a in complete if not any(_dominates(b, a) for b in complete)}
            assert _kept(folder) == front


def test_a_network_whose_trial_has_not_been_recorded_yet_is_left_alone(tmp_path: Path) -> None:
    keeper, best, running = ModelKeeper(tmp_path, OBJECTIVES), trial(0, 0.5, 1000), trial(1, 0.4, 2000)
    _write(tmp_path, best)
    _write(tmp_path, running)  # written by the trial, its end is still on its way to the driver
    keeper.trial_finished(best, [best])
    assert _kept(tmp_path) == {best.trial_id, running.trial_id}
    keeper.trial_finished(running, [best, running])
    assert _kept(tmp_path) == {best.trial_id}


def test_a_crash_leaves_too_much_and_the_next_start_tidies_it(tmp_path: Path) -> None:
    best, dominated, lost = trial(0, 0.5, 1000), trial(1, 0.4, 2000), trial(2, 0.9, 500)
    for item in (best, dominated, lost):
        _write(tmp_path, item)
    (tmp_path / "models" / f".{lost.trial_id}.pt.4711").touch()  # a writer that was killed
    ModelKeeper(tmp_path, OBJECTIVES).tidy([best, dominated])
    assert _kept(tmp_path) == {best.trial_id}
