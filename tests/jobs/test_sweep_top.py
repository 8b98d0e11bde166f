"""``segsweep top`` on a journal written by hand: every figure follows from it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from job_files import write_tiny_sweep
from typer.testing import CliRunner

from segsweep.cli import app
from segsweep.cost.energy import EnergyMeter
from segsweep.distributed.sweep import only_one_driver
from segsweep.jobs.bill import BILL, kept_bill, read_bill
from segsweep.jobs.load import load_job
from segsweep.jobs.top import sweep_state
from segsweep.records import CostReport, Evaluation, Point, Score, TrialStatus

BEGUN = 1_000_000.0  # Unix time at which every trial takes its first step
POINT = {"backbone.name": "efficientnet_tiny", "neck.kind": "bifpn", "neck.channels": 8}
COST = CostReport(num_params=1000, macs=5_000_000, size=(64, 128), num_classes=5)


def _score(epoch: int, miou: float, seconds: float) -> Score:
    return Score(
        epoch=epoch, fidelity=epoch / 8, miou=miou, train_loss=1.0, seconds=seconds, is_rung=epoch == 2
    )


def _begun(number: int, *scores: Score) -> list[dict[str, Any]]:
    ask = {"type": "ask", "number": number, "point": {**POINT, "neck.repeats": number}, "source": "sampler"}
    mark = {"type": "mark", "number": number, "name": "first_step", "at": BEGUN}
    return [ask, mark, *({"type": "score", "number": number, "score": item.to_json()} for item in scores)]


def _ended(number: int, status: TrialStatus, seconds: float, *scores: Score) -> list[dict[str, Any]]:
    evaluation = Evaluation(
        trial_id=f"{number:04d}-x",
        number=number,
        point=Point({**POINT, "neck.repeats": number}),
        status=status,
        cost=COST,
        scores=scores,
        seconds=seconds,
    )
    return [*_begun(number, *scores), {"type": "finish", "evaluation": evaluation.to_json()}]


def _sweep(tmp_path: Path, *more: dict[str, Any]) -> Path:
    """Eight trials of eight epochs on two workers: 0 complete, 1 stopped at the rung, 2 infeasible."""
    job = load_job(
        write_tiny_sweep(tmp_path),
        overrides=["sweep.trials=8", "sweep.workers=2", "recipe.epochs=8", "sweep.rungs=[2]"],
    )
    folder = tmp_path / "out" / "sweeps" / "tiny"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"job": job.model_dump(mode="json")}))
    (folder / "space.yaml").write_text((tmp_path / "tiny_space.yaml").read_text())
    events = [
        *_ended(0, TrialStatus.COMPLETE, 100.0, _score(2, 0.2, 20), _score(8, 0.5, 90)),
        *_ended(1, TrialStatus.STOPPED, 20.0, _score(2, 0.1, 18)),
        *_ended(2, TrialStatus.INFEASIBLE, 0.0),
        *more,
    ]
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def test_a_running_sweep(tmp_path: Path) -> None:
    folder = _sweep(tmp_path, *_begun(3, _score(2, 0.3, 25), _score(4, 0.35, 40)), *_begun(4))
    with only_one_driver(folder):
        state = sweep_state("tiny", out=tmp_path / "out", now=BEGUN + 50)
    assert (state.state, state.budget) == ("running", 8)
    assert state.trials == {"complete": 1, "stopped": 1, "failed": 0, "infeasible": 1}
    assert (state.best_miou, state.front_size) == (0.5, 1)
    third, fourth = state.running
    assert (third.number, third.epoch, third.epochs, third.miou, third.seconds) == (3, 4, 8, 0.35, 50.0)
    assert (fourth.epoch, fourth.miou, fourth.seconds) == (0, None, 50.0)
    (rung,) = state.rungs
    assert (rung.epoch, rung.reached, rung.stopped) == (2, 3, 1)
    assert state.epochs == 8 + 2 + 4
    assert state.epochs_per_second == pytest.approx(2 * 14 / (100 + 20 + 50 + 50))
    # trials take 60 s on average: four to come, and 10 s left of each that runs, on two workers
    assert state.seconds_left == pytest.approx((4 * 60 + 10 + 10) / 2)
    assert state.trial_hours == pytest.approx(220 / 3600)


def test_an_interrupted_sweep_stands_still(tmp_path: Path) -> None:
    _sweep(tmp_path, *_begun(3, _score(2, 0.3, 25)))
    state = sweep_state("latest", out=tmp_path / "out", now=BEGUN + 10_000)
    assert state.state == "interrupted"
    assert [(trial.number, trial.seconds) for trial in state.running] == [(3, 25.0)]
    assert state.epochs_per_second is None and state.seconds_left is None


def test_a_finished_sweep(tmp_path: Path) -> None:
    _sweep(tmp_path, {"type": "end", "interrupted": False})
    state = sweep_state("tiny", out=tmp_path / "out")
    assert (state.state, state.running, state.seconds_left) == ("finished", (), None)


def test_the_bill_is_trial_time_times_resources(tmp_path: Path) -> None:
    folder = _sweep(tmp_path)
    assert sweep_state(folder).cpu_hours is None  # recorded before there were bills
    with kept_bill(folder, cpus_per_trial=4, gpus_per_trial=0.5):
        assert read_bill(folder) is not None  # there from the first moment on
    state = sweep_state(folder)
    assert state.cpu_hours == pytest.approx(4 * 120 / 3600)
    assert state.gpu_hours == pytest.approx(0.5 * 120 / 3600)


def test_energy_is_told_with_what_it_is_of_or_why_there_is_none(tmp_path: Path) -> None:
    folder = _sweep(tmp_path)
    bill = {"cpus_per_trial": 1, "gpus_per_trial": 0, "machine": "node1"}
    (folder / BILL).write_text(json.dumps({**bill, "cpu_joules": 1.8e6, "gpu_joules": 3.6e6}))
    state = sweep_state(folder)
    assert state.kwh == pytest.approx(1.5)  # 1 kWh = 3.6 MJ
    assert state.kwh_of.startswith("processors and GPUs of node1")
    (folder / BILL).write_text(json.dumps({**bill, "cpu_joules": None, "gpu_joules": None}))
    state = sweep_state(folder)
    assert state.kwh is None
    assert state.kwh_of.startswith("not readable on node1")


def test_a_resumed_sweep_adds_to_its_bill(tmp_path: Path) -> None:
    folder = _sweep(tmp_path)
    (folder / BILL).write_text(
        json.dumps({"cpus_per_trial": 1, "gpus_per_trial": 0, "machine": "a", "gpu_joules": 100.0})
    )
    with kept_bill(folder, cpus_per_trial=2, gpus_per_trial=0):
        pass
    bill = read_bill(folder)
    assert bill is not None
    assert bill.cpus_per_trial == 2 and bill.gpu_joules is not None and bill.gpu_joules >= 100.0


def _zone(powercap: Path, zone_id: str, name: str, count: int) -> None:
    zone = powercap / zone_id
    zone.mkdir(exist_ok=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "energy_uj").write_text(f"{count}\n")
    (zone / "max_energy_range_uj").write_text("1000000\n")


def test_energy_of_packages_adds_up_over_the_counters_turn(tmp_path: Path) -> None:
    _zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    _zone(tmp_path, "intel-rapl:0:0", "core", 5)  # a part of package 0: counted there already
    _zone(tmp_path, "intel-rapl:1", "package-1-die-0", 100)
    meter = EnergyMeter(tmp_path)
    _zone(tmp_path, "intel-rapl:0", "package-0", 100_000)  # went through its ceiling: 100,001 + 100,000
    _zone(tmp_path, "intel-rapl:0:0", "core", 900_000)
    _zone(tmp_path, "intel-rapl:1", "package-1-die-0", 500_100)
    assert meter.read()[0] == pytest.approx((200_001 + 500_000) / 1e6)
    _zone(tmp_path, "intel-rapl:1", "package-1-die-0", 600_100)
    assert meter.read()[0] == pytest.approx((200_001 + 600_000) / 1e6)


def test_the_zone_of_the_whole_platform_does_not_count_its_packages_again(tmp_path: Path) -> None:
    _zone(tmp_path, "intel-rapl:0", "package-0", 0)
    _zone(tmp_path, "intel-rapl:1", "psys", 0)
    meter = EnergyMeter(tmp_path)
    _zone(tmp_path, "intel-rapl:0", "package-0", 300_000)
    _zone(tmp_path, "intel-rapl:1", "psys", 700_000)
    assert meter.read()[0] == pytest.approx(0.3)


def test_without_counters_there_is_no_energy(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()  # files that cannot be read are as good as none
    (tmp_path / "intel-rapl:0" / "name").write_text("package-0\n")
    assert EnergyMeter(tmp_path).read()[0] is None


def test_the_command_prints_one_document_or_lines_for_people(tmp_path: Path) -> None:
    _sweep(tmp_path, *_begun(3, _score(2, 0.3, 25)))
    arguments = ["top", "--out", str(tmp_path / "out")]
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert document["sweep"]["sweep_id"] == "tiny"
    shown = CliRunner().invoke(app, arguments).stdout
    assert "trials      2 of 8 trained; 1 complete, 1 stopped, 0 failed, 1 infeasible" in shown
    assert "rung        epoch 2: 3 reached it, 1 stopped there" in shown
    assert "waiting       3  epoch 2/8  mIoU  30.0 %  25 s" in shown
    assert "front       1 trials, best mIoU 50.00 %" in shown
    assert "bill        trials ran 2 min 25 s" in shown


def test_looking_on_does_not_stop_a_driver_from_starting(tmp_path: Path) -> None:
    folder = _sweep(tmp_path)
    with only_one_driver(folder):
        pass
    sweep_state(folder)
    begin = time.monotonic()
    with only_one_driver(folder):
        assert time.monotonic() - begin < 5
