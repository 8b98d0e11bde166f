"""A report that cannot be made does not spoil the end of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from segsweep.jobs import run_sweep


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory"), OSError(28, "No space left on device")]
)
def test_a_failed_report_is_a_line_of_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    news: list[str] = []
    monkeypatch.setattr(run_sweep, "open_sweep", lambda folder: folder)
    monkeypatch.setattr(run_sweep, "write_sweep_report", fails)
    assert run_sweep._report(tmp_path, say=news.append) is None
    (line,) = news
    assert str(error) in line and f"segsweep report {tmp_path}" in line
