"""Take the pictures of docs/mlflow_ui.md of finished sweeps: ``ui_screenshots.py docs/images SWEEP...``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from browser import Browser
from recorded_store import record_again

from segsweep.jobs.ui import plan_ui, serve
from segsweep.tracking.server import free_port
from segsweep.tracking.views import comparison_url

SETTLE_S = 4.0  # charts fade in
CHARTS = "[...document.querySelectorAll('.js-plotly-plot')].filter(c => c.data && c.data.length).length"
# view, mode, file, width and height in pixels, charts that must be drawn
PICTURES = (
    ("pareto-fronts", "CHART", "mlflow_fronts.png", (1600, 1500), 6),
    ("by-method", "CHART", "mlflow_by_method.png", (1600, 1500), 5),
    ("all-trials", "CHART", "mlflow_designs.png", (1600, 2300), 4),
)


def main(out: Path, sweeps: list[Path]) -> None:
    """Record the sweeps in a store of their own, show it, and photograph every view and the report."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        link = record_again(sweeps, f"sqlite:///{place}/mlflow.db", experiment="camvid", scratch=place)
        plan = plan_ui(out=place, port=free_port())

        def photograph(url: str) -> None:
            _photograph(plan.base, link.experiment_id, out)
            raise KeyboardInterrupt  # as a user ends the server

        serve(plan, say=print, show=photograph)


def _photograph(base: str, experiment: str, out: Path) -> None:
    for view, mode, name, (width, height), charts in PICTURES:
        with Browser(width=width, height=height) as browser:
            browser.open(comparison_url(base, experiment, view=view, mode=mode))
            browser.wait_for(
                f"{CHARTS} >= {charts} && document.body && /matching runs/.test(document.body.innerText)"
            )
            time.sleep(SETTLE_S)
            browser.screenshot(out / name)
    with Browser(width=1700, height=1300) as browser:
        browser.open(comparison_url(base, experiment))
        browser.wait_for("document.querySelector('a[href*=\"/artifacts/report.html\"]')")
        browser.open(browser.evaluate("document.querySelector('a[href*=\"/artifacts/report.html\"]').href"))
        browser.frame_with("window.segsweepReport && segsweepReport.snapshot().panels.length")
        time.sleep(SETTLE_S)
        browser.screenshot(out / "mlflow_report.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(item) for item in sys.argv[2:]])
