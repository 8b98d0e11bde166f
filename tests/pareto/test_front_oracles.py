"""Fronts, ranks and hypervolumes against pymoo, moocore and Optuna, on random and degenerate sets."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from optuna._hypervolume import compute_hypervolume
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from segsweep.pareto.archive import ParetoArchive
from segsweep.pareto.front import front_mask, non_dominated_rank
from segsweep.pareto.hypervolume import hypervolume

Values = NDArray[np.float64]


def degenerate_sets(objectives: int) -> dict[str, Values]:
    """Sets on which sorting, ties and bounds go wrong first."""
    random = np.random.default_rng(objectives)
    cloud = random.random((60, objectives))
    sphere = np.abs(random.normal(size=(40, objectives)))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    one_tied = cloud.copy()
    one_tied[:, 0] = 0.5
    return {
        "one point": cloud[:1],
        "equal points": np.repeat(cloud[:1], 7, axis=0),
        "duplicates": np.concatenate([cloud, cloud[::2]]),
        "ties everywhere": random.integers(0, 3, (50, objectives)).astype(float),
        "one objective tied": one_tied,
        "a chain": np.repeat(np.linspace(0, 1, 20)[:, None], objectives, axis=1),
        "all on the front": sphere,
        "many scales": 10.0 ** random.uniform(-9, 9, (50, objectives)),
        "negative and zero": np.round(cloud * 4) - 2,
        "random": cloud,
    }


CASES = [(k, name) for k in (1, 2, 3, 4) for name in degenerate_sets(k)]


def directions(objectives: int) -> list[list[bool]]:
    alternating = [index % 2 == 0 for index in range(objectives)]
    return [[False] * objectives, [True] * objectives, alternating]


@pytest.mark.parametrize(("objectives", "name"), CASES)
def test_ranks_are_those_of_pymoo(objectives: int, name: str) -> None:
    values = degenerate_sets(objectives)[name]
    for maximize in directions(objectives):
        losses = np.where(maximize, -values, values)
        fronts = NonDominatedSorting(method="fast_non_dominated_sort").do(losses)
        expected = np.empty(len(values), dtype=int)
        for rank, members in enumerate(fronts):
            expected[members] = rank
        assert non_dominated_rank(values, maximize).tolist() == expected.tolist()
        assert front_mask(values, maximize).tolist() == (expected == 0).tolist()


@pytest.mark.parametrize(("objectives", "name"), CASES)
def test_hypervolume_is_that_of_moocore(objectives: int, name: str) -> None:
    values = degenerate_sets(objectives)[name]
    for maximize in directions(objectives):
        worst = np.where(maximize, values.min(axis=0), values.max(axis=0))
        best = np.where(maximize, values.max(axis=0), values.min(axis=0))
        for corner in (worst + 0.1 * (worst - best), (worst + best) / 2):  # beyond all points; amid them
            expected = moocore.hypervolume(values, ref=corner, maximise=maximize)
            assert hypervolume(values, corner, maximize) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_is_that_of_optuna(objectives: int) -> None:
    for seed in range(10):
        losses = np.random.default_rng(seed).random((30, objectives))
        expected = compute_hypervolume(losses, np.ones(objectives))
        assert hypervolume(losses, np.ones(objectives), [False] * objectives) == pytest.approx(expected)


@pytest.mark.parametrize(("objectives", "name"), CASES)
def test_an_archive_has_the_front_and_volume_of_its_points_at_every_moment(
    objectives: int, name: str
) -> None:
    values = degenerate_sets(objectives)[name]
    maximize = directions(objectives)[2]
    corner = np.where(maximize, np.quantile(values, 0.1, axis=0), np.quantile(values, 0.9, axis=0))
    archive = ParetoArchive(maximize, reference=corner)
    for count, point in enumerate(values, start=1):
        archive.add(point)
        if count % 7 == 0 or count == len(values):
            front = np.flatnonzero(front_mask(values[:count], maximize))
            assert archive.members.tolist() == front.tolist()
            expected = moocore.hypervolume(values[:count], ref=corner, maximise=maximize)
            assert archive.hypervolume == pytest.approx(expected, rel=1e-7, abs=1e-12 * abs(expected))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Values, list[bool]]:
    objectives = draw(st.integers(1, 4))
    rows = draw(
        st.lists(
            st.lists(st.integers(0, 4).map(float), min_size=objectives, max_size=objectives),
            min_size=1,
            max_size=25,
        )
    )
    return np.array(rows), draw(st.lists(st.booleans(), min_size=objectives, max_size=objectives))


@settings(max_examples=150, deadline=None)
@given(tables())
def test_an_archive_says_of_each_point_whether_it_stands_on_the_front(
    case: tuple[Values, list[bool]],
) -> None:
    values, maximize = case
    archive = ParetoArchive(maximize)
    for count, point in enumerate(values, start=1):
        assert archive.add(point) == front_mask(values[:count], maximize)[-1]
    assert archive.members.tolist() == np.flatnonzero(front_mask(values, maximize)).tolist()


@settings(max_examples=100, deadline=None)
@given(tables())
def test_the_volume_of_an_archive_does_not_depend_on_the_order(case: tuple[Values, list[bool]]) -> None:
    values, maximize = case
    corner = np.where(maximize, -1.0, 5.0)
    there, back = (ParetoArchive(maximize, reference=corner) for _ in range(2))
    for point in values:
        there.add(point)
    for point in values[::-1]:
        back.add(point)
    assert there.hypervolume == pytest.approx(back.hypervolume)
    assert there.hypervolume == pytest.approx(hypervolume(values, corner, maximize))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_archive_refuses_what_is_not_finite_and_stays_as_it_was(bad: float) -> None:
    archive = ParetoArchive([True, False], reference=[0.0, 10.0])
    archive.add([1.0, 1.0])
    with pytest.raises(ValueError, match="not finite"):
        archive.add([bad, 0.0])
    assert (archive.added, archive.members.tolist(), archive.hypervolume) == (1, [0], 9.0)


def test_an_archive_without_a_reference_has_no_volume() -> None:
    with pytest.raises(ValueError, match="no reference point"):
        _ = ParetoArchive([True]).hypervolume


def test_points_beyond_the_reference_stand_on_the_front_without_volume() -> None:
    archive = ParetoArchive([True, False], reference=[0.5, 10.0])
    assert archive.add([0.9, 20.0])
    assert archive.add([0.4, 1.0])
    assert (archive.hypervolume, len(archive)) == (0.0, 2)


def test_a_dominated_point_of_a_large_front_is_found_among_many_scales() -> None:
    archive = ParetoArchive([False] * 3)
    for index in range(200):  # more than the archive has room for at first
        archive.add([index * 1e-6, -index * 1e6, 0.0])
    assert len(archive) == 200
    assert not archive.add([5e-6, 0.0, 0.0])
    assert archive.add([-1.0, -1e9, -1.0])
    assert archive.members.tolist() == [201]
