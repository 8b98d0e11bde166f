"""The report as a reader uses it: a real browser, a real mouse and keyboard, no network."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from report_sweeps import made_up, recorded, trial

from segsweep.pareto.front import front_of, objective_values
from segsweep.pareto.knee import knee_points
from segsweep.records import DEFAULT_OBJECTIVES, Evaluation, Objective, TrialStatus
from segsweep.reporting.html_report import write_report
from segsweep.reporting.report.records import RecordedSweep

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
EVIL = '</script><img src=x onerror="window.hacked=1"><b>"\''


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser(width=1400, height=1600) as opened:
        yield opened


class Reader:
    """One report in the browser."""

    def __init__(self, browser: Browser, sweeps: list[RecordedSweep], folder: Path) -> None:
        self.browser = browser
        path = write_report(sweeps, folder / "report.html")
        browser.open(path.as_uri())
        browser.wait_for("window.segsweepReport")
        self.state = lambda: browser.evaluate("window.segsweepReport.snapshot()")

    def place(self, panel: int, trial_id: str) -> tuple[float, float]:
        found = self.browser.evaluate(f"window.segsweepReport.whereIs({panel}, {json.dumps(trial_id)})")
        return found["x"], found["y"]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        self.mouse("mousePressed", x, y, button="left", clickCount=1, buttons=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse("mousePressed", *start, button="left", clickCount=1, buttons=1)
        for share in (0.3, 1.0):
            x, y = (a + (b - a) * share for a, b in zip(start, end, strict=True))
            self.mouse("mouseMoved", x, y, button="left", buttons=1)
        self.mouse("mouseReleased", *end, button="left", clickCount=1)

    def key(self, name: str) -> None:
        codes = {"ArrowRight": 39, "Enter": 13, "Escape": 27, "Tab": 9}
        for kind in ("rawKeyDown", "keyUp"):
            self.browser.call(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=codes[name]
            )

    def press_button(self, text: str) -> None:
        buttons = "[...document.querySelectorAll('button')]"
        script = f"{buttons}.find(b => b.innerText.trim() === {json.dumps(text)}).click()"
        self.browser.evaluate(script)

    def shown(self, selector: str) -> str:
        return str(self.browser.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))


def best(evaluations: list[Evaluation]) -> Evaluation:
    return max(front_of(evaluations, DEFAULT_OBJECTIVES), key=lambda item: item.miou or 0)


def ids(evaluations: list[Evaluation]) -> set[str]:
    return {evaluation.trial_id for evaluation in evaluations}


def test_every_panel_draws_its_own_front(browser: Browser, tmp_path: Path) -> None:
    evaluations = made_up(60)
    state = Reader(browser, [recorded(evaluations)], tmp_path).state()
    assert [panel["x"] for panel in state["panels"]] == [
        "macs",
        "images_per_second",
        "num_params",
        "latency_ms_p90",
    ]
    complete = [e for e in evaluations if e.status is TrialStatus.COMPLETE]
    for panel in state["panels"]:
        up = panel["x"] == "images_per_second"
        pair = (
            Objective(metric="miou", direction="maximize"),
            Objective(metric=panel["x"], direction="maximize" if up else "minimize"),
        )
        assert set(panel["fronts"]["0"]) == ids(front_of(evaluations, pair))
        _, values = objective_values(evaluations, pair)
        (knee,) = knee_points(values, [True, up], log=[False, True])
        assert panel["knees"]["0"] == [complete[knee].trial_id]
        assert panel["drawn"] == len(complete)
        assert panel["foot"] == len(evaluations) - len(complete)


def test_pointing_at_a_dot_tells_its_score_and_cost(browser: Browser, tmp_path: Path) -> None:
    evaluations = made_up(30)
    reader = Reader(browser, [recorded(evaluations)], tmp_path)
    one = best(evaluations)
    reader.mouse("mouseMoved", *reader.place(0, one.trial_id))
    assert reader.state()["hovered"] == [one.trial_id]
    told = reader.shown("#tooltip")
    assert f"{100 * one.metrics()['miou']:.2f}" in told
    assert f"{one.metrics()['macs'] / 1e9:.3f}" in told
    assert "neck.channels" in told
    marked = browser.evaluate("document.querySelectorAll('.ring.hovered').length")
    assert marked == 4  # the same design in every panel
    assert browser.evaluate("document.querySelectorAll('.highlight.hovered').length") == 1


def test_a_click_keeps_a_design_with_its_whole_record(browser: Browser, tmp_path: Path) -> None:
    evaluations = made_up(30)
    reader = Reader(browser, [recorded(evaluations)], tmp_path)
    one = best(evaluations)
    reader.click(*reader.place(1, one.trial_id))
    assert reader.state()["pinned"] == [one.trial_id]
    assert one.trial_id in reader.shown("#detail")
    assert browser.evaluate("document.querySelectorAll('#detail .curve .stairs').length") == 1


def test_stopped_trials_are_at_the_foot_and_called_not_final(browser: Browser, tmp_path: Path) -> None:
    evaluations = made_up(30)
    reader = Reader(browser, [recorded(evaluations)], tmp_path)
    stopped = next(e for e in evaluations if e.status is TrialStatus.STOPPED)
    reader.mouse("mouseMoved", *reader.place(0, stopped.trial_id))
    told = reader.shown("#tooltip")
    assert f"stopped after {len(stopped.scores)} of 6 epochs" in told
    assert "not final" in told
    assert stopped.trial_id not in [
        name for p in reader.state()["panels"] for f in p["fronts"].values() for name in f
    ]


def test_a_brush_links_panels_lines_and_table(browser: Browser, tmp_path: Path) -> None:
    evaluations = made_up(60)
    reader = Reader(browser, [recorded(evaluations)], tmp_path)
    places = {e.trial_id: reader.place(0, e.trial_id) for e in evaluations if e.miou is not None}
    target = best(evaluations).trial_id
    x, y = places[target]
    reader.drag((x - 40, y - 9), (x + 9, y + 25))
    inside = {name for name, (px, py) in places.items() if x - 40 <= px <= x + 9 and y - 9 <= py <= y + 25}
    state = reader.state()
    assert set(state["chosen"]) == inside
    assert target in inside
    assert len(state["visible"]) == 60  # faded, not gone
    assert browser.evaluate("document.querySelectorAll('#table tbody tr').length") == len(inside)
    faded = browser.evaluate("document.querySelectorAll('.lines path.out').length")
    assert faded == 60 - len(inside)
    assert "in the brush" in reader.shown("#toolbar .count")
    reader.press_button("reset")
    assert len(reader.state()["chosen"]) == 60


def test_a_column_of_the_parallel_axes_is_brushed(browser: Browser, tmp_path: Path) -> None:
    evaluations = made_up(40)
    reader = Reader(browser, [recorded(evaluations)], tmp_path)
    browser.evaluate("document.getElementById('parallel').scrollIntoView()")
    box = "document.querySelectorAll('.column line')[1].getBoundingClientRect()"
    script = f"(() => {{ const b = {box}; return [b.left, b.top, b.bottom]; }})()"
    x, top, bottom = browser.evaluate(script)
    middle = (top + bottom) / 2
    reader.drag((x, top - 4), (x, middle - 20))  # neck.channels from above the middle of 32..160, which is 96
    expected = {e.trial_id for e in evaluations if int(e.point["neck.channels"]) > 96}
    assert set(reader.state()["chosen"]) == expected


def test_filters_leave_what_they_say_and_fronts_follow(browser: Browser, tmp_path: Path) -> None:
    evaluations = made_up(60)
    reader = Reader(browser, [recorded(evaluations)], tmp_path)
    browser.evaluate("document.querySelector('details.filter').open = true")
    reader.press_button("bifpn")
    left = [e for e in evaluations if e.point["neck.kind"] == "fpn"]
    state = reader.state()
    assert set(state["visible"]) == ids(left)
    pair = (DEFAULT_OBJECTIVES[0], DEFAULT_OBJECTIVES[1])
    assert set(state["panels"][0]["fronts"]["0"]) == ids(front_of(left, pair))
    count = sum(e.status is TrialStatus.STOPPED for e in evaluations)
    reader.press_button(f"{count} stopped")
    assert set(reader.state()["visible"]) == ids([e for e in left if e.status is not TrialStatus.STOPPED])


def test_sweeps_have_fronts_of_their_own_or_one_together(browser: Browser, tmp_path: Path) -> None:
    first, second = made_up(30), made_up(30, seed=4, gain=0.05)
    sweeps = [recorded(first, "a"), recorded(second, "b", method="hfgd")]
    reader = Reader(browser, sweeps, tmp_path)
    pair = (DEFAULT_OBJECTIVES[0], DEFAULT_OBJECTIVES[1])
    fronts = reader.state()["panels"][0]["fronts"]
    assert set(fronts["0"]) == ids(front_of(first, pair))
    assert set(fronts["1"]) == ids(front_of(second, pair))
    reader.press_button("one common front")
    together = reader.state()["panels"][0]["fronts"]
    assert set(together["-1"]) == ids(front_of([*first, *second], pair))
    reader.press_button("b")
    assert set(reader.state()["visible"]) == ids(first)


def test_speeds_of_two_devices_never_share_a_front(browser: Browser, tmp_path: Path) -> None:
    sweeps = [recorded(made_up(20), "a"), recorded(made_up(20), "b", conditions={"device": "gpu-9"})]
    reader = Reader(browser, sweeps, tmp_path)
    reader.press_button("one common front")
    panels = {panel["x"]: set(panel["fronts"]) for panel in reader.state()["panels"]}
    assert panels["macs"] == {"-1"}
    assert panels["images_per_second"] == panels["latency_ms_p90"] == {"0", "1"}
    assert "do not compare" in reader.shown(".panel:nth-of-type(2) .note")


def test_designs_of_several_seeds_are_one_dot_with_error_bars(browser: Browser, tmp_path: Path) -> None:
    point = {"neck.channels": 64}
    sweeps = [
        recorded(
            [trial(0, miou=miou, macs=2e9, point=point), trial(1, miou=0.2, macs=1e9)],
            f"s{seed}",
            conditions={"seed": seed},
        )
        for seed, miou in enumerate([0.50, 0.54, 0.58])
    ]
    reader = Reader(browser, sweeps, tmp_path)
    assert reader.state()["panels"][0]["drawn"] == 2
    reader.mouse("mouseMoved", *reader.place(0, sweeps[0].evaluations[0].trial_id))
    told = reader.shown("#tooltip")
    assert "54.00 ± 4.00" in told  # mean and standard deviation of 50, 54, 58
    assert "mean of 3 seeds" in told
    bars = browser.evaluate("[...document.querySelectorAll('.bars')].map(b => b.getAttribute('d')).join('')")
    assert "V" in bars
    reader.press_button("mean of seeds")
    assert reader.state()["panels"][0]["drawn"] == 6


def test_the_keyboard_reaches_every_design(browser: Browser, tmp_path: Path) -> None:
    evaluations = made_up(12)
    reader = Reader(browser, [recorded(evaluations)], tmp_path)
    browser.evaluate("document.querySelector('.panel svg.plot').focus()")
    seen = set()
    for _ in evaluations:
        reader.key("ArrowRight")
        seen |= set(reader.state()["hovered"])
    assert seen == ids(evaluations)
    reader.key("Enter")
    assert reader.state()["pinned"]
    reader.key("Escape")
    assert not reader.state()["pinned"]


def test_the_table_sorts_by_a_column_and_keeps_unfinished_trials_last(
    browser: Browser, tmp_path: Path
) -> None:
    evaluations = made_up(30)
    Reader(browser, [recorded(evaluations)], tmp_path)
    column = "[...document.querySelectorAll('#table tbody tr')].map(row => row.cells[3].innerText)"
    finals = [100 * e.miou for e in evaluations if e.miou is not None]
    shown = browser.evaluate(column)
    assert shown[: len(finals)] == [f"{value:.2f}" for value in sorted(finals, reverse=True)]
    browser.evaluate("document.querySelectorAll('#table thead button')[3].click()")
    assert browser.evaluate(column)[: len(finals)] == [f"{value:.2f}" for value in sorted(finals)]


def test_records_are_copied_by_hand_where_the_frame_may_not(browser: Browser, tmp_path: Path) -> None:
    evaluations = made_up(10)
    reader = Reader(browser, [recorded(evaluations)], tmp_path)
    browser.evaluate(
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async () => { throw 0; }}});"
        "document.execCommand = () => false"
    )
    reader.press_button("copy JSON")
    browser.wait_for("document.querySelector('.hand-copy textarea')", timeout_s=10)
    rows = json.loads(browser.evaluate("document.querySelector('.hand-copy textarea').value"))
    assert {row["trial_id"] for row in rows} == ids(evaluations)
    stopped = next(row for row in rows if row["status"] == "stopped")
    assert stopped["miou_pct"] is None
    assert stopped["miou_pct_not_final"] > 0


@contextmanager
def inside_the_frame(browser: Browser) -> Iterator[None]:
    """A sandboxed frame is a target of its own: talk to it instead of to its page."""
    page = browser._session
    frames = [t for t in browser.call("Target.getTargets")["targetInfos"] if t["type"] == "iframe"]
    attached = browser.call("Target.attachToTarget", targetId=frames[0]["targetId"], flatten=True)
    browser._session = attached["sessionId"]
    try:
        yield
    finally:
        browser._session = page


def test_it_works_in_the_sandboxed_frame_of_the_artifact_viewer(browser: Browser, tmp_path: Path) -> None:
    evaluations = made_up(10)
    report = write_report([recorded(evaluations)], tmp_path / "inner.html")
    encoded = base64.b64encode(report.read_bytes()).decode()
    outer = tmp_path / "outer.html"
    outer.write_text(
        "<body style='margin: 0'></body><script>"
        f"const page = new TextDecoder().decode(Uint8Array.from(atob('{encoded}'), c => c.charCodeAt(0)));"
        "const frame = document.createElement('iframe'); frame.sandbox = 'allow-scripts';"
        "frame.width = 1300; frame.height = 1500; frame.style.border = 0;"
        "frame.src = URL.createObjectURL(new Blob([page], {type: 'text/html'}));"
        "frame.onload = () => { window.loaded = true; }; document.body.append(frame);</script>"
    )
    browser.open(outer.as_uri())
    browser.wait_for("window.loaded", timeout_s=20)
    target = best(evaluations).trial_id
    with inside_the_frame(browser):
        assert browser.evaluate("window.origin") == "null"
        place = browser.evaluate(f"window.segsweepReport.whereIs(0, {json.dumps(target)})")
    deadline = time.monotonic() + 60
    hovered: list[str] = []
    while not hovered:  # a frame that was never painted gets no mouse events yet
        assert time.monotonic() < deadline
        for nudge in (0, 1):
            x, y = place["x"] + nudge, place["y"]
            browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        with inside_the_frame(browser):
            hovered = browser.evaluate("window.segsweepReport.snapshot().hovered")
    assert hovered == [target]


def test_user_text_never_becomes_markup(browser: Browser, tmp_path: Path) -> None:
    one = trial(0, point={EVIL: EVIL, "n": 1}, source=f"seed:{EVIL}")
    two = trial(1, miou=0.4, macs=2e9, point={EVIL: "x", "n": 2}, reason=EVIL, status=TrialStatus.STOPPED)
    reader = Reader(browser, [recorded([one, two], EVIL, method=EVIL, conditions={"data": EVIL})], tmp_path)
    reader.mouse("mouseMoved", *reader.place(0, one.trial_id))
    reader.click(*reader.place(0, one.trial_id))
    time.sleep(0.1)
    assert browser.evaluate("window.hacked") is None
    assert browser.evaluate("document.querySelectorAll('img, b').length") == 0
    assert EVIL in reader.shown("#detail")
    assert browser.evaluate("document.title") == EVIL


def test_dark_and_light(browser: Browser, tmp_path: Path) -> None:
    reader = Reader(browser, [recorded(made_up(5))], tmp_path)
    assert reader.state()["theme"] == "light"
    light = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    reader.press_button("dark page")
    assert reader.state()["theme"] == "dark"
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_a_sweep_without_a_complete_trial_still_opens(browser: Browser, tmp_path: Path) -> None:
    failed = trial(0, status=TrialStatus.FAILED, cost=None, scores=(), reason="out of memory")
    for evaluations in ([], [failed], [trial(0)]):
        reader = Reader(browser, [recorded(evaluations)], tmp_path)
        assert len(reader.state()["visible"]) == len(evaluations)
        assert "Conditions" in browser.text()
