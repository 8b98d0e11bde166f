"""A policy network as an ordinary training: validated on superpatches, and its checkpoint taken by CTS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segsweep.data.interface import DatasetInfo, Sample
from segsweep.data.loader import EvalLoader
from segsweep.data.shards import ShardSet, prepare
from segsweep.data.transforms import TrainTransform
from segsweep.errors import Problem
from segsweep.labels import IGNORE_INDEX
from segsweep.losses.superpatch_targets import superpatch_targets
from segsweep.metrics.confusion import mean_iou, pixel_accuracy
from segsweep.models.methods.cts import CTSConfig
from segsweep.models.methods.policy import PolicyConfig, PolicyModel
from segsweep.records import Score
from segsweep.training.loop import Schedule, fit
from segsweep.training.recipe import Recipe
from segsweep.training.session import PlainSession

CONFIG = PolicyConfig(network="nano")
SIZE = (128, 192)
COLOURS = np.array([(60, 60, 60), (200, 70, 60), (70, 190, 80), (60, 80, 210)])
RECIPE = Recipe(
    epochs=12,
    batch_size=8,
    optimizer="adamw",
    lr=1e-2,
    schedule="cosine",
    loss="cross_entropy",
    ema_decay=0.9,
    augment=TrainTransform(scale_range=(1.0, 1.0)),
)


class Rectangles:
    """Noisy pictures of coloured rectangles on grey: about half of the superpatches show one class."""

    info = DatasetInfo(
        name="rectangles",
        class_names=("grey", "red", "green", "blue"),
        palette=((0, 0, 0),) * 4,
        ignore_index=IGNORE_INDEX,
    )

    def splits(self) -> tuple[str, ...]:
        return ("train", "val")

    def keys(self, split: str) -> list[str]:
        return [str(number) for number in (range(48) if split == "train" else range(100, 116))]

    def load(self, split: str, key: str) -> Sample:
        random = np.random.default_rng(int(key))
        labels = np.zeros(SIZE, np.uint8)
        for label in (1, 2, 3):
            top, left = random.integers(0, (80, 130))
            height, width = random.integers(40, 90, 2)
            labels[top : top + height, left : left + width] = label
        noisy = COLOURS[labels] + random.integers(-20, 21, (*SIZE, 3))
        return Sample(key=key, image=noisy.astype(np.uint8), labels=labels)

    def check(self) -> list[Problem]:
        return []

    def fingerprint(self) -> str:
        return "rectangles"


class Trained:
    def __init__(self, folder: Path) -> None:
        self.shards: ShardSet = prepare(Rectangles(), folder / "shards", size=SIZE)
        self.checkpoint = folder / "checkpoint.pt"
        torch.manual_seed(0)
        model = CONFIG.build(self.shards.info.num_classes)
        schedule = Schedule(
            shards=self.shards, recipe=RECIPE, criterion=CONFIG.criterion, targets=CONFIG.targets
        )
        session = PlainSession(save_to=self.checkpoint)
        self.scores: list[Score] = fit(model, schedule, session, device=torch.device("cpu"))

    def model(self) -> PolicyModel:
        """The averaged weights, which were validated."""
        model = CONFIG.build(2)
        model.load_state_dict(torch.load(self.checkpoint, weights_only=True)["average"])
        return model.eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("policy"))


@torch.inference_mode()
def test_a_policy_tells_superpatches_better_than_their_majority(trained: Trained) -> None:
    model, matrix, blocks = trained.model(), torch.zeros(2, 2, dtype=torch.int64), []
    for images, labels in EvalLoader(trained.shards.dataset("val"), batch_size=8):
        matrix += CONFIG.block_matrix(model(images), labels)
        blocks.append(superpatch_targets(labels).flatten())
    share = float(torch.cat(blocks).double().mean())
    assert pixel_accuracy(matrix) > max(share, 1 - share) + 0.1
    assert trained.scores[-1].miou == pytest.approx(mean_iou(matrix))  # blocks are whole here


def test_cts_takes_the_policy_from_the_checkpoint_of_a_training(trained: Trained) -> None:
    values = {
        "backbone": {"name": "vit_nano"},
        "crop": SIZE,
        "sharing": {"policy": "nano", "weights": str(trained.checkpoint)},
    }
    model = CTSConfig.model_validate(values).build(11).eval()
    images = torch.randn(1, 3, *SIZE)
    policy = model.encoder.policy
    assert policy is not None
    with torch.inference_mode():
        torch.testing.assert_close(policy(images), trained.model()(images).logits, atol=0, rtol=0)
        assert model(images).semantic_logits(SIZE).isfinite().all()
