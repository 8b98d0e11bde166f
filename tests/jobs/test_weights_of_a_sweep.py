"""Initial weights of all trials of a sweep: by backbone, looked for before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from job_files import write_tiny_sweep

from segsweep.data.loader import EvalLoader
from segsweep.data.shards import open_shards
from segsweep.jobs.check import check_paths, sweep_space
from segsweep.jobs.load import load_job
from segsweep.jobs.run_sweep import sweep_plan
from segsweep.jobs.spec import SweepJob
from segsweep.metrics.confusion import mean_iou
from segsweep.models.methods import METHODS
from segsweep.records import Evaluation, Point, TrialStatus
from segsweep.training.inference import evaluate
from segsweep.training.session import PlainSession
from segsweep.trial import evaluate_point

POINT = {"backbone.name": "efficientnet_tiny", "neck.kind": "bifpn", "neck.channels": 8, "neck.repeats": 1}
STILL = "recipe: {epochs: 1, batch_size: 4, lr: 1.0e-12, loss: cross_entropy, ema_decay: null}"


def write_weights(path: Path) -> torch.nn.Module:
    torch.manual_seed(7)
    values = {
        "backbone": {"name": "efficientnet_tiny"},
        "neck": {"kind": "bifpn", "channels": 8, "repeats": 1, "top_level": 5},
    }
    model = METHODS["eseg"].model_validate(values).build(9)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save({"format": 2, "model": model.state_dict()}, path)
    return model.eval()


def test_a_trial_begins_with_the_weights_of_its_backbone(
    tmp_path: Path, tiny_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = open_shards(tiny_shards)
    given = write_weights(tmp_path / "efficientnet_tiny.pt")
    path = write_tiny_sweep(
        tmp_path,
        ("recipe: {epochs: 2, batch_size: 4, loss: cross_entropy, ema_decay: 0.5}", STILL),
        ("  rungs: [1]\n", ""),
        ("name: tiny\n", 'name: tiny\nweights: "{backbone.name}.pt"\n'),
        ("speed: {warmup: 1, min_samples: 2, min_seconds: 0.0}", "speed: null"),
    )
    space = tmp_path / "tiny_space.yaml"
    space.write_text(space.read_text().replace("  recipe.lr: {choice: [0.02, 0.08]}\n", ""))
    job = load_job(path, overrides=[f"out={tmp_path / 'out'}"])
    assert isinstance(job, SweepJob)
    task = sweep_plan(job, sweep_space(job), shards, tmp_path / "sweep").task
    point = Point({**POINT, "neck.top_level": 5})
    stub = Evaluation(trial_id="t", number=0, point=point, status=TrialStatus.FAILED)
    session = PlainSession(save_to=tmp_path / "trained.pt")
    found = evaluate_point(point, task, session, stub=stub)
    assert found.status is TrialStatus.COMPLETE, found.reason
    assert f"weights {tmp_path / 'efficientnet_tiny.pt'} (segsweep)" in capsys.readouterr().out
    # at such a learning rate only the statistics of the batch norms move; those of the trial are these
    torch.manual_seed(0)
    trained = {name: value for name, value in given.state_dict().items() if "running_" not in name}
    kept = torch.load(tmp_path / "trained.pt", weights_only=True)["model"]
    for name, value in trained.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(kept[name], value, atol=1e-6, rtol=1e-5)
    given.load_state_dict(kept)
    matrix = evaluate(
        given, EvalLoader(shards.dataset("val"), batch_size=4), num_classes=9, device=torch.device("cpu")
    )
    assert found.miou == pytest.approx(mean_iou(matrix))


def test_a_missing_or_foreign_file_is_told_by_backbone(tmp_path: Path) -> None:
    path = write_tiny_sweep(tmp_path, ("name: tiny\n", 'name: tiny\nweights: "{backbone.name}.pt"\n'))
    ((where, message),) = [(item.where, item.message) for item in check_paths([path])[path]]
    assert where == f"{path} weights (backbone.name = efficientnet_tiny)"
    assert message.startswith(f"{tmp_path / 'efficientnet_tiny.pt'}: no such file of weights")
    write_weights(tmp_path / "efficientnet_tiny.pt")
    assert check_paths([path])[path] == ()
