"""The report as a file: self-contained, safe, small, and true to the records."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_sweeps import EPOCHS, made_up, recorded, trial

from segsweep.errors import DataError, InvalidInput
from segsweep.pareto.front import front_of
from segsweep.pareto.knee import knee_of
from segsweep.records import DEFAULT_OBJECTIVES, Objective, TrialStatus
from segsweep.reporting.html_report import report_html, write_report
from segsweep.reporting.report.pictures import BUDGET, embedded
from segsweep.reporting.report.records import RecordedSweep


class Page(HTMLParser):
    """Elements of a page and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", {}))

    def handle_data(self, text: str) -> None:
        if self.tags and self.tags[-1][0] in {"script", "style", "title"}:
            self.texts.append((*self.tags[-1], text))

    def data(self) -> dict[str, Any]:
        found = [text for tag, attrs, text in self.texts if attrs.get("id") == "segsweep-data"]
        return dict(json.loads("".join(found)))


def document(sweeps: Sequence[RecordedSweep], **options: Any) -> dict[str, Any]:
    return Page(report_html(sweeps, **options)).data()


def png(width: int = 800, height: int = 200, *, noise: bool = False) -> bytes:
    pixels = Image.effect_noise((width, height), 90) if noise else Image.new("L", (width, height), 90)
    file = io.BytesIO()
    pixels.convert("RGB").save(file, "PNG")
    return file.getvalue()


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    path = write_report([recorded(made_up(30))], tmp_path / "new" / "report.html")
    page = Page(path.read_text())
    for _, attributes in page.tags:
        links = {attributes.get(name) for name in ("src", "href", "action", "data", "poster", "srcset")}
        assert all(link is None or link.startswith("#") for link in links)
    styles = "".join(text for tag, _, text in page.texts if tag == "style")
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_policy_runs_this_script_alone_and_fetches_nothing() -> None:
    page = Page(report_html([recorded(made_up(5))]))
    policy = next(
        str(a["content"]) for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    script = "".join(text for tag, attributes, text in page.texts if tag == "script" and not attributes)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "text",
    [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "{{data}}",
        "\u2028' \" & \\u003c",
        "é",
    ],
)
def test_user_text_is_data_and_never_markup(text: str) -> None:
    evaluation = trial(
        0, point={f"axis{text}": text}, source=f"seed:{text}", reason=text, status=TrialStatus.FAILED
    )
    front = trial(1, point={f"axis{text}": text}, source=f"seed:{text}")
    sweep = recorded([evaluation, front], text, method=text, conditions={"data": text})
    html = report_html([sweep], title=text, pictures={text: [png()]})
    plain = Page(report_html([recorded([trial(0), trial(1)])], pictures={"x": [png()]}))
    page = Page(html)
    cells = {"th", "td", "tr"}  # the fallback table has a column for each axis
    counted = [tag for tag, _ in page.tags if tag.strip("/") not in cells]
    assert counted == [tag for tag, _ in plain.tags if tag.strip("/") not in cells]
    data = page.data()
    assert data["title"] == text
    assert data["trials"]["axes"] == {f"axis{text}": [text, text]}
    assert data["pictures"][0]["heading"] == text
    assert "<title>" in html


def test_only_complete_trials_have_a_final_miou() -> None:
    evaluations = made_up(40)
    columns = document([recorded(evaluations)])["trials"]
    for index, evaluation in enumerate(evaluations):
        final = columns["metrics"]["miou"][index]
        if evaluation.miou is None:
            assert final is None
        else:
            assert final == pytest.approx(100 * evaluation.miou)
            assert columns["reached"][index] is None
    stopped = columns["status"].index("stopped")
    assert columns["reached"][stopped] == pytest.approx(100 * evaluations[stopped].scores[-1].miou, abs=1e-6)


def test_members_are_those_of_the_front_of_all_objectives() -> None:
    evaluations = made_up(60)
    columns = document([recorded(evaluations)])["trials"]
    members = {name for name, flag in zip(columns["id"], columns["member"], strict=True) if flag}
    assert members == {item.trial_id for item in front_of(evaluations, DEFAULT_OBJECTIVES)}


def test_values_are_in_the_units_that_people_read() -> None:
    data = document([recorded([trial(0, miou=0.5, macs=12.5e9, speed=40.0)])])
    values = {name: column[0] for name, column in data["trials"]["metrics"].items()}
    assert values["miou"] == pytest.approx(50.0)
    assert values["macs"] == pytest.approx(12.5)
    assert values["num_params"] == pytest.approx(12.5)
    assert values["latency_ms_p50"] == pytest.approx(25.0)


def test_the_knee_is_the_bend_of_each_panel() -> None:
    # 2 GMACs buy 30 points over 1 GMAC; 16 GMACs buy 2 more
    trials = [trial(0, miou=0.3, macs=1e9), trial(1, miou=0.6, macs=2e9), trial(2, miou=0.62, macs=16e9)]
    assert document([recorded(trials)])["sweeps"][0]["knees"]["macs"] == trials[1].trial_id


def test_equal_designs_of_sweeps_that_differ_only_in_seed_are_one_design() -> None:
    point = {"neck.channels": 64}
    first = recorded([trial(0, point=point), trial(1)], "a", conditions={"seed": 0})
    second = recorded(
        [trial(5, miou=0.6, point=point), trial(1, status=TrialStatus.STOPPED)], "b", conditions={"seed": 1}
    )
    assert document([first, second])["designs"] == [[0, 2]]


@pytest.mark.parametrize(
    "changed",
    [
        {"conditions": {"seed": 1, "epochs": 12}},
        {"conditions": {"seed": 1, "device": "gpu-9"}},
        {"conditions": {"seed": 1}, "method": "hfgd"},
        {"conditions": {"seed": 1}, "job": {"recipe": {"lr": 0.3}}},
        {"conditions": {"seed": 0}},
    ],
)
def test_designs_are_not_averaged_over_anything_but_seeds(changed: dict[str, Any]) -> None:
    point = {"neck.channels": 64}
    first = recorded([trial(0, point=point)], "a")
    second = recorded([trial(0, point=point)], "b", **changed)
    assert document([first, second])["designs"] == []


def test_what_must_not_be_compared_is_said() -> None:
    first = recorded(made_up(5), "a")
    second = recorded(made_up(5), "b", conditions={"device": "gpu-9", "size": (512, 512)}, interrupted=True)
    data = document([first, second])
    told = " ".join(data["warnings"])
    assert "b was interrupted" in told
    assert "differ in input size (a: 64x128; b: 512x512), so their mIoU are not comparable" in told
    assert "device (a: cpu-1; b: gpu-9)" in told
    assert "images_per_second" in data["mixed_speed"]
    assert document([first])["warnings"] == []


@pytest.mark.parametrize("unknown", [{"speed": None}, {"device": "", "threads": 0}, {"size": (0, 0)}])
def test_what_was_not_recorded_is_no_difference(unknown: dict[str, Any]) -> None:
    sweeps = [recorded(made_up(5), "a"), recorded(made_up(5), "b", conditions=unknown)]
    assert document(sweeps)["warnings"] == []


def test_the_knee_of_all_objectives_is_among_the_designs_to_look_at_first() -> None:
    evaluations = made_up(60)
    cards = document([recorded(evaluations)])["sweeps"][0]["cards"]
    named = [card["trial"] for card in cards if "knee of all objectives" in card["label"]]
    assert named == [knee_of(evaluations, DEFAULT_OBJECTIVES)[0].trial_id]


def test_hypervolume_has_one_corner_for_all_sweeps() -> None:
    a = recorded([trial(0, miou=0.5, macs=1e9, speed=10)], "a", reference={"miou": 0.0, "macs": 2e9})
    b = recorded([trial(0, miou=0.5, macs=1e9, speed=10)], "b", reference={"miou": 0.0, "macs": 4e9})
    volumes = [sweep["volume"] for sweep in document([a, b])["sweeps"]]
    # (0.5 - 0) x (4 - 1) GMAC x 10 images/s, over 4 GMAC
    assert volumes == pytest.approx([0.5 * 3 / 4 * 10] * 2)


def test_long_learning_curves_keep_their_last_value() -> None:
    long = trial(0, miou=0.8, epochs=300)
    curve = document([recorded([long])])["trials"]["curve"][0]
    assert len(curve[0]) <= 24
    assert (curve[0][-1], curve[1][-1]) == (300, 80.0)


def test_a_thousand_trials_are_small_enough(tmp_path: Path) -> None:
    pictures = {f"knee {n}": [png(700, 240, noise=True)] * 4 for n in range(2)}
    path = write_report([recorded(made_up(1000))], tmp_path / "report.html", pictures=pictures)
    assert path.stat().st_size < 2_000_000


def test_pictures_shrink_alike_until_they_fit() -> None:
    noisy = png(600, 300, noise=True)
    found = embedded({"a": [noisy, noisy], "b": [noisy]}, budget=50_000)
    assert sum(len(picture.data) for picture in found) <= 50_000
    assert [picture.heading for picture in found] == ["a", "a", "b"]
    sizes = {Image.open(io.BytesIO(base64.b64decode(p.data.split(",")[1]))).size for p in found}
    assert len(sizes) == 1
    width, height = sizes.pop()
    assert width == pytest.approx(2 * height, abs=2)


def test_pictures_that_never_fit_are_left_out_from_the_end() -> None:
    noisy = png(300, 300, noise=True)
    found = embedded({"a": [noisy], "b": [noisy] * 12}, budget=100_000)
    assert found[0].heading == "a"
    assert 1 < len(found) < 13
    assert BUDGET < 2_000_000


def test_a_small_picture_keeps_its_size(tmp_path: Path) -> None:
    file = tmp_path / "sample.png"
    file.write_bytes(png(120, 40))
    (found,) = embedded({"knee": [file]})
    assert Image.open(io.BytesIO(base64.b64decode(found.data.split(",")[1]))).size == (120, 40)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(DataError, match=re.escape(str(bad))):
        report_html([recorded(made_up(3))], pictures={"knee": [bad]})


def test_readers_without_scripts_get_the_front_as_a_table() -> None:
    evaluations = made_up(20)
    html = report_html([recorded(evaluations)])
    table = html[html.index("<noscript>") : html.index("</noscript>")]
    assert table.count("<tr>") == 1 + len(front_of(evaluations, DEFAULT_OBJECTIVES))


@pytest.mark.parametrize("trials", [[], [trial(0, status=TrialStatus.FAILED, cost=None, scores=())]])
def test_a_sweep_without_a_complete_trial_has_a_report(trials: list[Any]) -> None:
    data = document([recorded(trials)])
    assert data["warnings"] == ["sweep-a has no complete trial, so it has no front."]
    assert data["sweeps"][0]["knees"] == {}


def test_values_that_are_not_finite_are_left_out() -> None:
    broken = trial(1, miou=float("nan"))
    data = document([recorded([trial(0), broken])])
    assert data["trials"]["metrics"]["miou"][1] is None


def test_two_and_four_objectives() -> None:
    for metrics in (("miou", "macs"), ("miou", "macs", "num_params", "latency_ms_p90")):
        objectives = tuple(
            Objective(metric=m, direction="maximize" if m == "miou" else "minimize") for m in metrics
        )
        data = document([recorded(made_up(30), objectives=objectives)])
        assert data["objectives"] == list(metrics)
        assert set(data["sweeps"][0]["knees"]) == set(metrics[1:])


def test_no_sweep_and_the_same_sweep_twice_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no sweep"):
        report_html([])
    with pytest.raises(InvalidInput, match="sweep-a given twice"):
        report_html([recorded(made_up(2)), recorded(made_up(2))])


def test_the_schedule_is_told() -> None:
    rows = dict(document([recorded(made_up(2))])["sweeps"][0]["conditions"])
    assert rows["epochs of the full schedule"] == str(EPOCHS)
    assert rows["input size"] == "64x128 pixels (height x width)"
    assert rows["device of the speed measurement"] == "cpu-1"
