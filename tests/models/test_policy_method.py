"""Policy networks: their sizes, their targets against a loop over pixels, and that they learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from segsweep.cost.measure import count_config
from segsweep.losses.per_pixel import CrossEntropy
from segsweep.losses.superpatch_targets import superpatch_targets
from segsweep.metrics.confusion import confusion_matrix, pixel_accuracy
from segsweep.models.methods import METHODS
from segsweep.models.methods.cts import CTSConfig
from segsweep.models.methods.policy import PRESETS, PolicyConfig
from segsweep.models.policy_network import PolicyNetwork

VOID = 255


def blocky_labels(size: tuple[int, int], batch: int = 4) -> Tensor:
    """Large regions, thin void at places, single pixels of another class: all cases of a superpatch."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 4, (batch, 1, size[0] // 16 + 1, size[1] // 16 + 1), generator=generator)
    coarse[torch.rand(coarse.shape, generator=generator) < 0.7] = 1
    labels = coarse.repeat_interleave(16, 2).repeat_interleave(16, 3)[:, 0, : size[0], : size[1]].clone()
    labels[0, :2] = VOID
    labels[1, :, -1] = VOID
    labels[2, 40:44, 40:44] = VOID
    labels[3, :70, :70] = VOID
    return labels


def by_pixels(labels: Tensor, *, skip_void_borders: bool = False) -> Tensor:
    """The rule of the official code, block by block, with sets."""
    batch, height, width = labels.shape
    rows, columns = height // 32, width // 32
    targets = torch.zeros(batch, rows, columns, dtype=torch.int64)
    for image in range(batch):
        for row in range(rows):
            for column in range(columns):
                block = labels[image, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
                found = set(block.flatten().tolist())
                targets[image, row, column] = int(len(found) == 1)
                border = row in (0, rows - 1) or column in (0, columns - 1)
                if skip_void_borders and border and VOID in found and len(found) == 2:
                    targets[image, row, column] = VOID
    return targets


@pytest.mark.parametrize("skip", [False, True])
def test_targets_follow_the_official_rule(skip: bool) -> None:
    labels = blocky_labels((128, 160))
    expected = by_pixels(labels, skip_void_borders=skip)
    assert torch.equal(superpatch_targets(labels, skip_void_borders=skip), expected)
    assert {0, 1} <= set(expected.flatten().tolist()) <= ({0, 1, VOID} if skip else {0, 1})
    assert (expected == VOID).any() == skip


def test_void_alone_may_share_and_void_beside_a_class_may_not() -> None:
    labels = torch.full((1, 32, 96), VOID)
    labels[:, :, 32:64] = 3
    labels[:, :16, 64:] = 3
    assert superpatch_targets(labels).tolist() == [[[1, 1, 0]]]


def test_background_counts_as_void_where_asked() -> None:
    labels = torch.zeros(1, 32, 64, dtype=torch.int64)
    labels[:, :16, 32:] = VOID
    assert superpatch_targets(labels).tolist() == [[[1, 0]]]
    assert superpatch_targets(labels, void_labels=(0,)).tolist() == [[[1, 1]]]


def test_other_sizes_are_continued_with_void() -> None:
    assert superpatch_targets(torch.zeros(1, 33, 64, dtype=torch.int64)).tolist() == [[[1, 1], [0, 0]]]
    labels = torch.zeros(1, 33, 64, dtype=torch.int64)
    assert superpatch_targets(labels, ignore_index=65535).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("name", "params", "giga_macs"),  # CTS, supplement, and counts of the official networks at 512x512
    [("small", 890_242, 3.51), ("lite0", 2.959e6, 1.90), ("large", 6.102e6, 2.86)],
)
def test_sizes_of_the_networks(name: str, params: float, giga_macs: float) -> None:
    found, operations = count_config(PRESETS[f"policy-{name}"], num_classes=150, size=(512, 512))
    assert found == pytest.approx(params, rel=2e-4)
    assert operations.macs / 1e9 == pytest.approx(giga_macs, abs=0.0051)


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
def test_logits_stand_at_stride_32_and_repeat_to_pixels(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = PolicyConfig(network="nano").build(19).eval()
    with torch.no_grad():
        output = model(torch.randn(2, 3, *size))
    rows, columns = (-(-side // 32) for side in size)
    assert output.logits.shape == (2, 2, rows, columns)
    enlarged = output.semantic_logits(size)
    assert enlarged.shape == (2, 2, *size)
    assert torch.equal(enlarged[:, :, 40, 70], output.logits[:, :, 1, 2])


def test_block_accuracy_is_the_share_of_right_superpatches_and_pixels() -> None:
    config = PolicyConfig(network="nano", skip_void_borders=True)
    torch.manual_seed(0)
    model = config.build(4).eval()
    labels = blocky_labels((128, 160))
    with torch.no_grad():
        output = model(torch.randn(4, 3, 128, 160))
    targets = by_pixels(labels, skip_void_borders=True)
    right = (output.logits.argmax(1) == targets)[targets != VOID].double().mean()
    accuracy = pixel_accuracy(config.block_matrix(output, labels))
    assert accuracy == pytest.approx(float(right))
    matrix = confusion_matrix(
        output.semantic_logits((128, 160)).argmax(1), config.targets(labels), num_classes=2
    )
    assert pixel_accuracy(matrix) == pytest.approx(accuracy)


def test_the_loss_is_the_mean_over_scored_superpatches() -> None:
    config = PolicyConfig(network="nano", skip_void_borders=True)
    torch.manual_seed(0)
    model = config.build(4).train()
    labels = blocky_labels((128, 160))
    output = model(torch.randn(4, 3, 128, 160))
    terms = config.criterion(CrossEntropy())(output, labels)
    targets = by_pixels(labels, skip_void_borders=True)
    logs = output.logits.log_softmax(1)
    scored = [
        -logs[image, targets[image, row, column], row, column]
        for image, row, column in (targets != VOID).nonzero().tolist()
    ]
    assert list(terms) == ["superpatches"]
    mean = terms["superpatches"].loss.total / terms["superpatches"].loss.count
    torch.testing.assert_close(mean, torch.stack(scored).mean())


def test_a_policy_learns_which_superpatches_are_uniform() -> None:
    config = PolicyConfig(network="nano")
    torch.manual_seed(0)
    model = config.build(4).train()
    labels = blocky_labels((128, 160))
    images = torch.nn.functional.one_hot(labels.clamp(max=3), 4)[..., :3].permute(0, 3, 1, 2).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        (term,) = config.criterion(CrossEntropy())(model(images), labels).values()
        optimizer.zero_grad()
        (term.loss.total / term.loss.count).backward()
        optimizer.step()
    assert pixel_accuracy(config.block_matrix(model(images), labels)) > 0.95


@pytest.mark.parametrize("averaged", [False, True])
def test_cts_takes_the_policy_from_a_checkpoint(tmp_path: Path, averaged: bool) -> None:
    torch.manual_seed(1)
    trained, other = (PolicyConfig(network="nano").build(4) for _ in range(2))
    path = tmp_path / "checkpoint.pt"
    state = {"model": other.state_dict(), "average": trained.state_dict()}
    torch.save(state if averaged else {"model": trained.state_dict(), "average": None}, path)
    sharing = {"policy": "nano", "weights": str(path)}
    values = {"backbone": {"name": "vit_nano"}, "crop": 64, "sharing": sharing}
    model = CTSConfig.model_validate(values).build(4)
    for name, value in trained.network.state_dict().items():
        assert torch.equal(model.encoder.policy.state_dict()[name], value), name
    with pytest.raises(ValueError, match="not of policy 'small'"):
        CTSConfig.model_validate(values | {"sharing": sharing | {"policy": "small"}}).build(4)


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    values = {"sharing": {"weights": str(tmp_path / "none.pt"), "policy": "nano"}}
    with pytest.raises(ValueError, match="cannot be read"):
        CTSConfig.model_validate(values).build(4)
    torch.save({"model": {"head.weight": torch.zeros(1)}}, tmp_path / "none.pt")
    with pytest.raises(ValueError, match="holds no policy network"):
        CTSConfig.model_validate(values).build(4)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"none of \('nano', 'small', 'lite0', 'large'\)"):
        PolicyNetwork("medium")  # type: ignore[arg-type]


def test_method_is_registered() -> None:
    assert METHODS["policy"] is PolicyConfig
