from __future__ import annotations

from pathlib import Path

import pytest

from segsweep.errors import InvalidSpace
from segsweep.search.load import load_space, parse_space

GOOD = """\
method: eseg
source: a test
axes:
  kind: {choice: [fpn, bifpn]}
  neck.repeats: {int: [1, 3], when: {kind: [bifpn]}}
  recipe.lr: {float: [1e-3, 2e-1], log: true}
constraints:
  - {name: c, require: "neck.repeats <= 2", why: "fits"}
seeds:
  - name: s
    source: a paper
    published: {cityscapes: {miou: 0.8, macs: 34.5e9}}
    point: {kind: bifpn, neck.repeats: 1, recipe.lr: 1e-2}
"""


# Nine lists, each of ten aliases of the one before it: 10^9 values.
BOMB = "[" + ", ".join(f"&l{i} [{', '.join([f'*l{i - 1}' if i else '0'] * 10)}]" for i in range(9)) + "]"


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(InvalidSpace) as error:
        parse_space(text, file="x.yaml")
    return [(problem.where, problem.message) for problem in error.value.problems]


def test_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(GOOD)
    space = load_space(path)
    assert (space.name, space.method, space.source) == ("tiny", "eseg", "a test")
    assert [axis.name for axis in space.axes] == ["kind", "neck.repeats", "recipe.lr"]
    assert space.axes[1].when == {"kind": ("bifpn",)}
    assert space.seeds[0].published == {"cityscapes": {"miou": 0.8, "macs": 34.5e9}}


def test_a_number_with_an_exponent_is_a_number() -> None:
    # PyYAML (YAML 1.1) reads 1e-2 as text.
    assert parse_space(GOOD, file="x.yaml").seeds[0].point["recipe.lr"] == 0.01


def test_a_name_in_the_file_wins_over_the_file_name() -> None:
    assert parse_space("name: other\n" + GOOD, file="x.yaml").name == "other"


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ("source: a test", "souce: a test", "x.yaml:2 souce", "did you mean 'source'"),
        ("source: a test\n", "", "x.yaml:1 source", "missing key 'source'"),
        ("choice:", "chioce:", "x.yaml:4 axes.kind", "did you mean 'choice'"),
        (
            "[1, 3]",
            "[1, 3], choice: [1]",
            "x.yaml:5 axes.neck.repeats.int",
            "unknown key 'int'; allowed: when, choice",
        ),
        (
            "  recipe.lr:",
            "  kind: {choice: [a]}\n  recipe.lr:",
            "x.yaml:6",
            "key 'kind' is already given in line 4",
        ),
        ("[1, 3]", "[3, 1]", "x.yaml:5 axes.neck.repeats", "empty range: 3 is larger than 1"),
        (
            "[1, 3]",
            "[1, 2.5]",
            "x.yaml:5 axes.neck.repeats.int.1",
            "Input should be a valid integer; found 2.5",
        ),
        ("[1, 3]", "[1]", "x.yaml:5 axes.neck.repeats.int.1", "missing key 1"),
        ("[1, 3]", "3", "x.yaml:5 axes.neck.repeats.int", "found 3"),
        ("[1, 3],", "[1, 3], step: 0,", "x.yaml:5 axes.neck.repeats.step", "greater than or equal to 1"),
        ("[1e-3,", "[0,", "x.yaml:6 axes.recipe.lr", "log needs a range above 0"),
        ("[1e-3,", "[.nan,", "x.yaml:6 axes.recipe.lr.float.0", "finite number"),
        ("log: true", "log: true, step: 0.1", "x.yaml:6 axes.recipe.lr", "log and step cannot be together"),
        ("log: true", "log: 1", "x.yaml:6 axes.recipe.lr.log", "valid boolean"),
        ("[fpn, bifpn]", "[fpn, bifpn, fpn]", "x.yaml:4 axes.kind", "'fpn' is given twice"),
        ("[fpn, bifpn]", "[fpn, bifpn, 3]", "x.yaml:4 axes.kind", "mixes number and text"),
        ("[fpn, bifpn]", "[]", "x.yaml:4 axes.kind.choice", "at least 1"),
        ("[fpn, bifpn]", "[bifpn, [fpn]]", "x.yaml:4 axes.kind.choice.1", "allowed: a number, text"),
        ("when: {kind:", "when: {knid:", "x.yaml:5 axes.neck.repeats.when.knid", "did you mean 'kind'"),
        (
            "{kind: [bifpn]}",
            "{kind: [bifnp]}",
            "x.yaml:5 axes.neck.repeats.when.kind",
            "kind is never 'bifnp'",
        ),
        (
            "{kind: [bifpn]}",
            "{kind: bifpn}",
            "x.yaml:5 axes.neck.repeats.when.kind",
            "found 'bifpn'",
        ),
        (
            "when: {kind: [bifpn]}",
            "when: {recipe.lr: [0.1]}",
            "x.yaml:5 axes.neck.repeats.when.recipe.lr",
            "not above",
        ),
        ("recipe.lr: {float", "recipe..lr: {float", "x.yaml:6 axes.recipe..lr", "no dotted path"),
        ("recipe.lr: {float", "cost.lr: {float", "x.yaml:6 axes.cost.lr", "no dotted path"),
        ("recipe.lr: {float", "neck.repeats.lr: {float", "x.yaml:5 axes.neck.repeats", "inside the other"),
        (', why: "fits"', "", "x.yaml:8 constraints.0.why", "missing key 'why': say why"),
        ('why: "fits"', 'why: ""', "x.yaml:8 constraints.0.why", "at least 1 character"),
        (
            "neck.repeats <=",
            "neck.repeat <=",
            "x.yaml:8 constraints.0.require",
            "did you mean 'neck.repeats'",
        ),
        ("neck.repeats <= 2", "exit()", "x.yaml:8 constraints.0.require", "not allowed in a constraint"),
        (
            "<= 2",
            "> 1",
            "x.yaml:13 seeds.0.point",
            "against constraint 'c' (neck.repeats > 1): fits",
        ),
        (
            "neck.repeats: 1, recipe",
            "neck.repeats: 4, recipe",
            "x.yaml:13 seeds.0.point.neck.repeats",
            "found 4; allowed: whole",
        ),
        ("kind: bifpn, neck", "kind: fpn, neck", "x.yaml:13 seeds.0.point.neck.repeats", "not active here"),
        (
            ", recipe.lr: 1e-2",
            "",
            "x.yaml:13 seeds.0.point.recipe.lr",
            "missing; allowed: numbers 0.001..0.2",
        ),
        ("miou: 0.8", "miou: good", "x.yaml:12 seeds.0.published.cityscapes.miou", "valid number"),
        ("    source: a paper\n", "", "x.yaml:10 seeds.0.source", "say where it was published"),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_remedy(old: str, new: str, where: str, message: str) -> None:
    assert GOOD.count(old) == 1
    found = problems(GOOD.replace(old, new))
    assert any(place == where and message in text for place, text in found), found


def test_all_mistakes_are_reported_at_once_and_none_twice() -> None:
    text = GOOD.replace("[1, 3]", "[3, 1]")  # an axis without values
    text = text.replace("log: true", "lgo: true")  # another of a wrong form
    text = text.replace("constraints:", "constraints:\n  - {name: d, require: kind == 'pan', why: w}")
    text = text.replace("point: {kind: bifpn", "point: {kind: pan")
    assert [place for place, _ in problems(text)] == [
        "x.yaml:5 axes.neck.repeats",
        "x.yaml:6 axes.recipe.lr.lgo",
        "x.yaml:8 constraints.0.require",
        "x.yaml:14 seeds.0.point.kind",
    ]


def test_conditions_that_contradict_each_other_are_found() -> None:
    text = GOOD.replace(
        "  recipe.lr:", "  deep: {choice: [1], when: {neck.repeats: [1], kind: [fpn]}}\n  recipe.lr:"
    )
    assert problems(text) == [
        (
            "x.yaml:6 axes.deep.when",
            "deep can never exist: its conditions contradict those of the axes that they name",
        )
    ]


def test_a_point_published_twice_is_found() -> None:
    seed = GOOD[GOOD.index("  - name: s") :]
    ((where, message),) = problems(GOOD + seed.replace("name: s", "name: t"))
    assert where == "x.yaml:17 seeds.1.point"
    assert message == "the point of 't' is that of 's'; remove one"


@pytest.mark.parametrize(
    "text", ["", "# nothing", "- a", "3", "a: [", "a: b: c", "\t", "&a [*a]", "!!x y", BOMB]
)
def test_a_file_that_is_no_space_is_refused_with_a_line(text: str) -> None:
    assert problems(text)[0][0].startswith("x.yaml:1")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpace, match="cannot read the search space"):
        load_space(tmp_path / "gone.yaml")
