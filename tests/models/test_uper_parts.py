"""UPerNet's decoder and the auxiliary head against those of transformers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import UperNetConfig
from transformers.models.upernet.modeling_upernet import UperNetFCNHead, UperNetHead

from segsweep.models.heads.fcn import FCNHead
from segsweep.models.heads.uper import UperHead

IN_CHANNELS = {2: 8, 3: 12, 4: 16, 5: 20}
CONFIG = UperNetConfig(
    backbone_config=None, hidden_size=24, num_labels=5, auxiliary_channels=10, auxiliary_in_channels=16
)


def pyramid(size: tuple[int, int]) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        level: torch.randn(
            2, width, *(-(-n // 2**level) for n in size), generator=generator, dtype=torch.float64
        )
        for level, width in IN_CHANNELS.items()
    }


def randomised(module: nn.Module) -> nn.Module:
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5) if "running" in name else nn.init.normal_(value, std=0.3)
    return module.double()


def layers(*modules: nn.Module) -> list[nn.Module]:
    """Convolutions and batch norms in their order of definition."""
    return [
        layer
        for module in modules
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    ]


def copy_weights(ours: list[nn.Module], theirs: list[nn.Module]) -> None:
    for target, source in zip(ours, theirs, strict=True):
        target.load_state_dict(source.state_dict())


def uper_heads() -> tuple[UperHead, nn.Module]:
    theirs = randomised(UperNetHead(CONFIG, list(IN_CHANNELS.values())))
    ours = UperHead(IN_CHANNELS, channels=24, num_classes=5).double()
    pooling, top_down = ours.pyramid.pooling, ours.pyramid.top_down
    copy_weights(
        layers(pooling, top_down.laterals, top_down.outputs, ours.fusion, ours.classifier),
        layers(
            theirs.psp_modules, theirs.bottleneck, theirs.lateral_convs, theirs.fpn_convs,
            theirs.fpn_bottleneck, theirs.classifier,
        ),
    )  # fmt: skip
    return ours, theirs


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (130, 70)])
@pytest.mark.parametrize("training", [False, True])
def test_uper_head_computes_what_transformers_computes(size: tuple[int, int], training: bool) -> None:
    ours, theirs = uper_heads()
    for head in (ours, theirs):
        head.train(training)
    ours.classifier[0].eval()  # dropout; transformers has none
    expected = theirs(list(pyramid(size).values()))
    assert expected.shape[-2:] == (-(-size[0] // 4), -(-size[1] // 4))
    torch.testing.assert_close(ours(pyramid(size)), expected, rtol=1e-10, atol=1e-10)


def test_uper_head_has_the_gradients_of_transformers() -> None:
    ours, theirs = (head.eval() for head in uper_heads())
    ours(pyramid((65, 97))).square().sum().backward()
    theirs(list(pyramid((65, 97)).values())).square().sum().backward()
    for mine, other in zip(layers(ours.pyramid.top_down.laterals), layers(theirs.lateral_convs), strict=True):
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, rtol=1e-9, atol=1e-9)


def test_top_of_the_pyramid_is_the_bottleneck_itself() -> None:
    ours, theirs = (head.eval() for head in uper_heads())
    levels = pyramid((64, 96))
    outputs = ours.pyramid(levels)
    assert list(outputs) == [2, 3, 4, 5]
    torch.testing.assert_close(outputs[5], theirs.psp_forward(list(levels.values())), rtol=1e-10, atol=1e-10)


def test_fcn_head_computes_what_transformers_computes() -> None:
    theirs = randomised(UperNetFCNHead(CONFIG, list(IN_CHANNELS.values()))).eval()
    ours = FCNHead(16, channels=10, num_classes=5).double().eval()
    copy_weights(layers(ours), layers(theirs))
    levels = pyramid((65, 97))
    torch.testing.assert_close(ours(levels[4]), theirs(list(levels.values())), rtol=1e-10, atol=1e-10)


def test_dropout_drops_whole_channels_in_training_only() -> None:
    torch.manual_seed(0)
    dropout = FCNHead(4, channels=8, num_classes=2).classifier[0]
    dropped = dropout(torch.ones(64, 8, 3, 3)).flatten(2)
    assert torch.equal(dropped.amin(2), dropped.amax(2))
    assert 0.05 < (dropped == 0).float().mean() < 0.2
    assert torch.equal(dropout.eval()(torch.ones(1, 8, 3, 3)), torch.ones(1, 8, 3, 3))
