"""The comparison as a person sees it: a real server, a real browser."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from recorded_sweep import recorded_sweep

from segsweep.records import DEFAULT_OBJECTIVES, Evaluation, TrialStatus
from segsweep.tracking.mlflow_tracker import MlflowTracker
from segsweep.tracking.server import free_port, server_command
from segsweep.tracking.tracker import MlflowLink, SweepInfo
from segsweep.tracking.views import comparison_url

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
CHARTS = "[...document.querySelectorAll('.js-plotly-plot')]"


@pytest.fixture(scope="module")
def sweep(
    empty_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Evaluation], MlflowLink]:
    folder = tmp_path_factory.mktemp("ui")
    (folder / "mlflow.db").write_bytes(empty_database.read_bytes())
    figure = folder / "pareto.png"
    figure.write_bytes(PNG)
    evaluations = recorded_sweep(20, seed=1)
    tracker = MlflowTracker(f"sqlite:///{folder / 'mlflow.db'}", experiment="eseg-camvid")
    tracker.start_sweep(
        SweepInfo(sweep_id="eseg-1", name="eseg-1", method="eseg", objectives=DEFAULT_OBJECTIVES)
    )
    tracker.sweep_finished(evaluations, {"pareto.png": figure})
    return evaluations, tracker.close()


@pytest.fixture(scope="module")
def server(
    sweep: tuple[list[Evaluation], MlflowLink], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = server_command(sweep[1].tracking_uri, port=port)
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        base = f"http://127.0.0.1:{port}"
        try:
            wait_until_up(f"{base}/health", log)
            yield base
        finally:
            process.terminate()


def wait_until_up(url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def test_the_server_shows_the_artifacts_of_the_store(
    sweep: tuple[list[Evaluation], MlflowLink], server: str
) -> None:
    query = urllib.parse.urlencode({"path": "pareto.png", "run_uuid": sweep[1].parent_run_id})
    with urllib.request.urlopen(f"{server}/get-artifact?{query}", timeout=20) as answer:
        assert answer.read() == PNG


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_deep_link_opens_on_the_connected_fronts(
    sweep: tuple[list[Evaluation], MlflowLink], server: str
) -> None:
    evaluations, link = sweep
    complete = [e for e in evaluations if e.status is TrialStatus.COMPLETE]
    with Browser() as browser:
        browser.open(comparison_url(server, link.experiment_id))
        browser.wait_for(f"{CHARTS}.filter(chart => chart.data && chart.data.length).length >= 4")
        text = browser.text()
        for title in ("front/miou_pct_vs_gmacs", "front/miou_pct_vs_images_per_second", "gmacs vs. miou_pct"):
            assert title in text
        assert "Compare the Pareto fronts" in text
        assert "Pareto front: eseg-1" in text
        assert f"{len(complete) + 1} matching runs" in text.replace("\n", " ")
        assert "Model metrics" not in text  # MLflow's own bar charts are kept away
        modes, xs = browser.evaluate(f"(({CHARTS}[0]).data.map(d => [d.mode, d.x]))")[0]
        assert "lines" in modes
        assert xs == sorted(xs)
        assert len(xs) > 2
