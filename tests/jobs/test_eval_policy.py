"""A policy network as a finished run: judged on what it was taught, used without its data set."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from data_trees import write_folder_tree
from PIL import Image
from trained_runs import train_here

from segsweep.errors import InvalidInput
from segsweep.jobs.predict import predict_images
from segsweep.jobs.run_eval import evaluate_run
from segsweep.jobs.trained_run import open_run
from segsweep.losses.superpatch_targets import superpatch_targets
from segsweep.models.methods.policy import PolicyConfig
from segsweep.records import Score

POLICY = """\
kind: train
name: policy
method: policy
preset: policy-nano
data: {source: synthetic, size: [96, 160], options: {train: 8, val: 3, height: 96, width: 160}}
recipe: {base: cts/policy, epochs: 2, batch_size: 4, lr: 3e-3}
"""
OWN = """\
kind: train
name: own
method: eseg
point: {{backbone.name: efficientnet_tiny, neck.channels: 8, neck.repeats: 1, neck.top_level: 5}}
data: {{source: folder, root: {root}, size: [64, 64]}}
recipe: {{epochs: 1, batch_size: 2, loss: cross_entropy, ema_decay: null}}
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("policy-runs")


@pytest.fixture(scope="module")
def scores(out: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Score]:
    path = tmp_path_factory.mktemp("policy-job") / "policy.yaml"
    path.write_text(POLICY)
    return train_here(path, out, "policy")


def test_evaluation_gives_the_score_of_the_last_validation(scores: list[Score], out: Path) -> None:
    result = evaluate_run("policy", "prepared", out=out, worst=1, gpu=False)
    assert result.report.miou == scores[-1].miou
    assert result.report.info.class_names == ("several classes", "one class")
    assert result.report.matrix.shape == (2, 3)
    assert len(result.worst) == 1 and result.worst[0].is_file()


def test_the_truth_is_that_of_squares(scores: list[Score], out: Path) -> None:
    report = evaluate_run("policy", "prepared", out=out, worst=0, gpu=False).report
    source = open_run("policy", out=out).source
    pixels = torch.zeros(2, dtype=torch.int64)
    for key in source.keys("val"):
        labels = torch.from_numpy(source.load("val", key).labels.astype(np.int64))[None]
        blocks = superpatch_targets(labels)[0]
        pixels += torch.bincount(blocks.flatten(), minlength=2) * 32 * 32  # 96x160: whole squares
    assert torch.equal(report.matrix.sum(1), pixels)


def test_labels_of_another_size_than_the_network_sees_are_refused(scores: list[Score], out: Path) -> None:
    with pytest.raises(InvalidInput, match="take --protocol prepared"):
        evaluate_run("policy", out=out, gpu=False)


def test_squares_lie_where_the_network_saw_them_at_any_size() -> None:
    model = PolicyConfig(network="nano").build(7).eval()
    images = torch.rand(1, 3, 40, 70)
    with torch.no_grad():
        output = model(images)
    assert output.logits.shape[-2:] == (2, 3)
    seen, enlarged = output.semantic_logits((40, 70)), output.semantic_logits((80, 140))
    assert torch.equal(enlarged[..., ::2, ::2], seen) and torch.equal(enlarged[..., 1::2, 1::2], seen)
    assert torch.equal(seen[..., 39, 69], output.logits[..., 1, 2])


def test_pictures_are_segmented_without_the_data_set(tmp_path: Path) -> None:
    """Classes and colours come from the run's folder: of a network for pixels, too."""
    write_folder_tree(tmp_path / "data", size=(64, 64))
    (tmp_path / "own.yaml").write_text(OWN.format(root=tmp_path / "data"))
    train_here(tmp_path / "own.yaml", tmp_path / "out", "own")
    picture = tmp_path / "picture.png"
    shutil.copy(next((tmp_path / "data" / "images" / "val").iterdir()), picture)
    shutil.rmtree(tmp_path / "data")
    (item,) = predict_images("own", [picture], tmp_path / "masks", runs=tmp_path / "out", gpu=False)
    assert set(item.shares) <= {"road", "building", "sky"}
    info = open_run("own", out=tmp_path / "out").info
    colours = np.asarray(Image.open(item.mask).convert("RGB"))
    assert {tuple(colour) for colour in colours.reshape(-1, 3).tolist()} <= set(info.palette)


def test_a_policy_shows_its_squares_in_pictures(scores: list[Score], out: Path, tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    (item,) = predict_images("policy", [tmp_path / "a.png"], tmp_path / "masks", runs=out, gpu=False)
    assert set(item.shares) <= {"several classes", "one class"}
    assert Image.open(item.mask).size == (200, 100)
