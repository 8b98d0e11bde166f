"""``segsweep ui`` as a person sees it: a real sweep, the real server, a real browser without a network.

The store holds a real finished sweep (newest) and a recorded one of 130 trials, more than the UI loads.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from cli_process import SEGSWEEP, run_segsweep
from job_files import write_tiny_sweep
from recorded_sweep import recorded_sweep

from segsweep.jobs.builtin import builtin_folder
from segsweep.records import DEFAULT_OBJECTIVES, Evaluation, TrialStatus
from segsweep.search.load import load_space
from segsweep.tracking.baselines import ARTIFACT, published_baselines, to_text
from segsweep.tracking.mlflow_tracker import MlflowTracker
from segsweep.tracking.server import free_port
from segsweep.tracking.tracker import SweepInfo
from segsweep.tracking.views import comparison_url

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
TRIALS = 4
CROWD = 130
ESEG_S = (34.5, 80.1)  # GMACs and mIoU in per cent: ESeg, Table 4, Cityscapes at 1024x2048
# By title of its x axis: the traces of every chart that is drawn. MLflow draws each line twice, once pale.
CHARTS = """Object.fromEntries([...document.querySelectorAll('.js-plotly-plot')]
  .filter(chart => chart.data && chart.data.length)
  .map(chart => [chart._fullLayout.xaxis.title.text, chart.data.map(trace => ({
    name: trace.name, mode: trace.mode, x: trace.x, y: trace.y,
    color: trace.marker && trace.marker.color}))]))"""

LINKS = "Object.fromEntries([...document.querySelectorAll('a')].map(a => [a.innerText.trim(), a.href]))"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the server shows."""

    link: str  # printed by ``segsweep ui``
    document: dict[str, Any]  # of the real sweep
    crowd_url: str
    crowd: list[Evaluation]


@pytest.fixture(scope="module")
def shown(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("ui")
    (folder / "runs").mkdir()
    database = folder / "runs" / "mlflow.db"
    database.write_bytes(empty_database.read_bytes())
    crowd = recorded_sweep(CROWD, seed=1)
    crowd_id = _record(crowd, f"sqlite:///{database}")
    write_tiny_sweep(folder, ("trials: 3", f"trials: {TRIALS}"))
    ran = run_segsweep("sweep", "tiny_sweep.yaml", "--json", "--set", "out=runs", folder=folder)
    assert ran.code == 0, ran.err
    command = [SEGSWEEP, "ui", "--out", "runs", "--port", str(free_port())]
    log = (folder / "ui.txt").open("wb")
    with log, subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True) as server:
        try:
            assert server.stdout is not None
            link = server.stdout.readline().strip()  # comes when the server answers
            assert link, (folder / "ui.txt").read_text()
            base = link.split("/#")[0]
            yield Shown(
                link=link, document=ran.document(), crowd_url=comparison_url(base, crowd_id), crowd=crowd
            )
        finally:
            server.terminate()
            server.wait(30)


def _record(evaluations: list[Evaluation], uri: str) -> str:
    """A sweep on the data set and size of the papers, so that published figures share its axes."""
    published = published_baselines(
        [load_space(builtin_folder("search_spaces") / "eseg.yaml")], data="cityscapes"
    )
    tracker = MlflowTracker(uri, experiment="crowd")
    tracker.start_sweep(
        SweepInfo(
            sweep_id="crowd-1",
            name="crowd-1",
            method="eseg",
            objectives=DEFAULT_OBJECTIVES,
            artifacts={ARTIFACT: to_text(published, data="cityscapes", size=(1024, 2048))},
        )
    )
    tracker.sweep_finished(evaluations, {})
    return tracker.close().experiment_id


@pytest.fixture(scope="module")
def browser(shown: Shown) -> Iterator[Browser]:
    with Browser(height=3600) as page:  # MLflow draws what is in the window
        yield page


@dataclass(frozen=True, kw_only=True)
class Page:
    """An opened page: what it draws and says."""

    drawn: dict[str, list[dict[str, Any]]]  # traces of each chart by the title of its x axis
    words: str
    links: dict[str, str]


def read(browser: Browser, url: str, *, charts: int) -> Page:
    """Open a page and read it as soon as so many charts are drawn."""
    browser.open(url)
    browser.wait_for(f"Object.keys({CHARTS}).length >= {charts}")
    browser.wait_for("/\\d+ matching runs/.test(document.body.innerText.replace(/\\s+/g, ' '))")
    drawn = {
        title: [trace for trace in traces if len(str(trace["color"])) != len("#RRGGBBAA")]
        for title, traces in browser.evaluate(CHARTS).items()
    }
    return Page(drawn=drawn, words=" ".join(browser.text().split()), links=browser.evaluate(LINKS))


@pytest.fixture(scope="module")
def fronts(browser: Browser, shown: Shown) -> Page:
    """What the printed link opens."""
    return read(browser, shown.link, charts=10)


@pytest.fixture(scope="module")
def crowd(browser: Browser, shown: Shown) -> Page:
    """The fronts of the sweep of 130 trials."""
    return read(browser, shown.crowd_url, charts=8)


def pairs(trace: dict[str, Any]) -> list[tuple[float, float]]:
    return list(zip(trace["x"], trace["y"], strict=True))


def test_the_printed_link_opens_on_the_fronts_of_the_newest_sweep(fronts: Page, shown: Shown) -> None:
    (line,) = fronts.drawn["GMACs"]
    front = sorted((item["macs"] / 1e9, 100 * item["miou"]) for item in shown.document["front"])
    assert line["name"] == "Pareto front: eseg" and "lines" in line["mode"]
    assert pairs(line) == [pytest.approx(point, rel=1e-4) for point in front]
    for title in ("parameters in M", "images per s", "median latency in ms"):
        (line,) = fronts.drawn[title]
        assert line["x"] == sorted(line["x"]) and len(line["x"]) >= 1
    assert "Model metrics" not in fronts.words  # MLflow's own bar charts are kept away


def test_counts_on_the_page_are_those_of_the_sweep(fronts: Page, shown: Shown) -> None:
    complete = shown.document["trials"]["complete"]
    (dots,) = fronts.drawn["gmacs"]
    assert len(dots["x"]) == complete
    published = [name for name in fronts.links if name.startswith("published: ")]
    assert "published: ESeg-S (cityscapes)" in published
    assert f"{1 + complete + len(published)} matching runs" in fronts.words  # 1 draws the front


def test_figures_of_other_data_have_charts_of_their_own(fronts: Page) -> None:
    assert "Published on other data: not measured here" in fronts.words
    (dots,) = fronts.drawn["published cityscapes GMACs"]
    assert ESEG_S in pairs(dots)
    assert ESEG_S[1] not in fronts.drawn["gmacs"][0]["y"]


def test_links_of_the_description_open_the_other_views(browser: Browser, fronts: Page) -> None:
    assert "Compare the Pareto fronts" in fronts.links and "table" in fronts.links
    trials = read(browser, fronts.links["all trials"], charts=4)
    assert f"{TRIALS} matching runs" in trials.words and "Designs side by side" in trials.words
    progress = read(browser, fronts.links["sweep progress"], charts=1)
    assert f"{1 + TRIALS} matching runs" in progress.words  # and the sweep itself
    methods = read(browser, fronts.links["by method"], charts=4)
    assert "Group: eseg" in methods.words


def test_the_report_is_interactive_inside_the_artifact_viewer(
    browser: Browser, fronts: Page, shown: Shown
) -> None:
    browser.open(fronts.links["report"])
    report = browser.frame_with("window.segsweepReport && segsweepReport.snapshot().panels.length")
    state = browser.evaluate("segsweepReport.snapshot()", frame=report)
    front = {item["trial_id"] for item in shown.document["front"]}
    assert state["trials"] == TRIALS and len(state["visible"]) == TRIALS
    (member,) = {state["panels"][0]["fronts"]["0"][0]} & front
    left, top = browser.evaluate(
        "(r => [r.left, r.top])(document.querySelector('iframe').getBoundingClientRect())"
    )
    dot = browser.evaluate(f"segsweepReport.whereIs(0, '{member}')", frame=report)
    browser.move_mouse(left + dot["x"], top + dot["y"])
    browser.wait_for_in(report, f"segsweepReport.snapshot().hovered.includes('{member}')")
    assert "mIoU" in browser.evaluate("document.getElementById('tooltip').innerText", frame=report)
    chip = "[...document.querySelectorAll('#toolbar button')].find(b => b.innerText.includes('complete'))"
    x, y = browser.evaluate(
        f"(r => [r.left + r.width / 2, r.top + r.height / 2])({chip}.getBoundingClientRect())", frame=report
    )
    browser.click(left + x, top + y)
    complete = shown.document["trials"]["complete"]
    browser.wait_for_in(report, f"segsweepReport.snapshot().visible.length === {TRIALS - complete}")


def test_of_more_trials_than_the_page_loads_the_fronts_are_whole(crowd: Page, shown: Shown) -> None:
    assert "100 matching runs" in crowd.words
    complete = [item.metrics() for item in shown.crowd if item.status is TrialStatus.COMPLETE]
    assert len(complete) > 100
    for title, metric, sign, factor in (
        ("GMACs", "macs", 1, 1e-9),
        ("images per s", "images_per_second", -1, 1),
    ):
        front = [
            item
            for item in complete
            if not any(
                other["miou"] >= item["miou"]
                and sign * other[metric] <= sign * item[metric]
                and other != item
                for other in complete
            )
        ]
        (line,) = crowd.drawn[title]
        expected = sorted((factor * item[metric], 100 * item["miou"]) for item in front)
        assert pairs(line) == [pytest.approx(point, rel=1e-4) for point in expected]


def test_published_figures_of_the_same_data_stand_in_black_beside_the_front(
    crowd: Page, shown: Shown
) -> None:
    (dots,) = crowd.drawn["gmacs"]
    colors = dict(zip(pairs(dots), dots["color"], strict=True))
    assert colors[ESEG_S] == "#111111"
    # all members of the front of three objectives are loaded, in the full colour of the method
    members = sum(color == "#0072B2" for color in dots["color"])
    assert members == len(_front(shown.crowd))
    assert set(dots["color"]) == {"#111111", "#0072B2", "#B8D8E9"}


def _front(evaluations: list[Evaluation]) -> list[Evaluation]:
    """By the definition, without the package's own front."""

    def gains(left: Evaluation, right: Evaluation) -> tuple[float, float, float]:
        a, b = left.metrics(), right.metrics()
        return (
            a["miou"] - b["miou"],
            b["macs"] - a["macs"],
            a["images_per_second"] - b["images_per_second"],
        )

    complete = [item for item in evaluations if item.status is TrialStatus.COMPLETE]
    return [
        item
        for item in complete
        if not any(min(gains(other, item)) >= 0 < max(gains(other, item)) for other in complete)
    ]
