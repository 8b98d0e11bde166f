"""The search spaces that come with segsweep."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from segsweep.models.methods import METHODS
from segsweep.records import Point
from segsweep.search.draw import random_points
from segsweep.search.load import load_space
from segsweep.search.schema import schema_text
from segsweep.search.space import nest

FOLDER = Path(__file__).parents[2] / "search_spaces"
FILES = sorted(FOLDER.glob("*.yaml"))
ESEG = load_space(FOLDER / "eseg.yaml")


def build(method: str, point: Point) -> torch.nn.Module:
    config = {key: value for key, value in nest(point).items() if key != "recipe"}
    with torch.device("meta"):
        return METHODS[method](**config).build(num_classes=19)


def test_the_schema_is_up_to_date() -> None:
    written = (FOLDER / "schema.json").read_text()
    remedy = "run: python -m segsweep.search.schema search_spaces/schema.json"
    assert written == schema_text(), remedy


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_point_makes_a_model(file: Path) -> None:
    space = load_space(file)
    for point in random_points(space, 12, seed=0):
        build(space.method, point)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_seed_makes_a_model(file: Path) -> None:
    space = load_space(file)
    assert space.seeds
    for seed in space.seeds:
        build(space.method, space.check_point(seed.point))


@pytest.mark.parametrize(
    "seed", [s for s in ESEG.seeds if "params" in s.published["cityscapes"]], ids=lambda seed: seed.name
)
def test_published_designs_have_their_published_size(seed: object) -> None:
    model = build("eseg", ESEG.check_point(seed.point))  # type: ignore[attr-defined]
    params = sum(parameter.numel() for parameter in model.parameters())
    # The papers print two or three digits.
    assert params == pytest.approx(seed.published["cityscapes"]["params"], rel=0.01)  # type: ignore[attr-defined]


def test_all_published_designs_are_seeds() -> None:
    names = {seed.name for seed in ESEG.seeds}
    assert {"ESeg-S", "ESeg-M", "ESeg-L", "ESeg-Lite-S", "ESeg-Lite-M", "ESeg-Lite-L"} <= names
    assert all(seed.published["cityscapes"]["miou"] for seed in ESEG.seeds)
    assert all(seed.point["recipe.lr"] == 0.08 for seed in ESEG.seeds)  # the paper's one rate
