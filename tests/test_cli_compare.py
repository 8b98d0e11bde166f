"""``segsweep compare`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compared_sweeps import trials, write_sweep

from segsweep import cli


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_sweep(tmp_path, "eseg-0", trials(8, seed=0))
    write_sweep(tmp_path, "hfgd-0", trials(8, seed=1), space="hfgd_camvid")
    write_sweep(tmp_path, "other-0", trials(8, seed=1, size=(64, 64)), space="hfgd_camvid")
    return tmp_path


def segsweep(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["segsweep", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_sentences_and_files(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = segsweep(monkeypatch, "compare", "eseg-0", "hfgd-0", "--out", str(out), "--no-mlflow")
    told = capsys.readouterr().out
    assert code == 0
    assert told.startswith("eseg against hfgd\n")
    assert "mIoU (%) against GMACs per image" in told
    assert " leads by " in told
    for name in ("comparison.png", "comparison.md", "comparison.json", "front.csv", "report.html"):
        (path,) = [Path(line.split()[-1]) for line in told.splitlines() if line.startswith(name)]
        assert path.stat().st_size > 500


def test_json_is_one_document(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--metric", "macs", "--reference", "macs=3e9", "--no-report", "--no-mlflow", "--json"]
    code = segsweep(monkeypatch, "compare", "eseg-0", "hfgd-0", "--out", str(out), *options)
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [panel["reference"] for panel in document["panels"]] == [{"miou": 0.0, "macs": 3e9}]
    assert document["joint"] is None
    assert document["mlflow"] is None
    assert document["headline"].startswith("In mIoU (%) against GMACs per image")
    assert [item["label"] for item in document["contenders"]] == ["eseg", "hfgd"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eseg-0", "other-0"], "size is 64x64, that of eseg-0 is 180x240"),
        (["eseg-0", "hfgd-0", "--reference", "macs=many"], "is no number; write METRIC=VALUE"),
        (["eseg-0", "hfgd-0", "--metric", "watts"], "--metric watts: is no cost; allowed: macs"),
        (["eseg-0", "nobody"], "nobody"),
        (["eseg-0"], "give two or more"),
    ],
)
def test_a_mistake_ends_with_its_message(
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    code = segsweep(monkeypatch, "compare", *arguments, "--out", str(out), "--no-mlflow")
    captured = capsys.readouterr()
    assert code == 2
    assert words in captured.err
    assert captured.out == ""
    assert not (out / "comparisons").exists()
