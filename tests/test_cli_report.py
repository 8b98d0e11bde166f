"""``segsweep report`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compared_sweeps import trials, write_sweep

from segsweep import cli


def segsweep(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["segsweep", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_says_where_the_report_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sweep(tmp_path, "eseg-0", trials(6, seed=0))
    assert segsweep(monkeypatch, "report", "latest", "--out", str(tmp_path), "--no-pictures") == 0
    told = capsys.readouterr().out
    assert f"report      {folder / 'report.html'} (" in told
    assert f"figure      {folder / 'pareto.png'}" in told
    assert (folder / "report.html").stat().st_size > 50_000


def test_json_is_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path, "eseg-0", trials(6, seed=0))
    to = tmp_path / "elsewhere" / "mine.html"
    assert segsweep(monkeypatch, "report", "eseg-0", "--out", str(tmp_path), "--to", str(to), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["report"] == str(to)
    assert document["bytes"] == to.stat().st_size
    assert document["figure"] == str(to.with_suffix(".png"))
    assert document["sweeps"] == ["eseg-0"]
    assert "no network of the front was kept" in document["notes"][0]


def test_a_mistake_is_told_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path, "eseg-0", trials(6, seed=0))
    assert segsweep(monkeypatch, "report", "eseg-1", "--out", str(tmp_path)) == 2
    told = capsys.readouterr().err
    assert "it holds eseg-0" in told
    assert "Traceback" not in told
