"""Context encoders against transformers' modules, direct formulas and HFGD's parameter counts."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from segsweep.models.context import CLASS_AWARE_KINDS, ContextKind, ContextOutput, build_context
from segsweep.models.context.aspp import ASPP
from segsweep.models.context.ocr import ObjectContext
from segsweep.models.context.ppm import PyramidPooling
from segsweep.models.context.self_attention import SelfAttention
from segsweep.torchvision_compat import ensure_torchvision

ensure_torchvision()
from transformers import MobileViTConfig, SwinConfig, UperNetConfig  # noqa: E402
from transformers.models.mobilevit.modeling_mobilevit import MobileViTASPP  # noqa: E402
from transformers.models.upernet.modeling_upernet import UperNetHead  # noqa: E402

KINDS: tuple[ContextKind, ...] = get_args(ContextKind)
NARROW: dict[str, dict[str, Any]] = {
    "ocr": {"width": 16, "key_channels": 8},
    "self_attention": {"width": 16, "qk_channels": 4},
    "sa_car": {"width": 16, "qk_channels": 4},
    "cae": {"wide_channels": 24, "width": 16, "qk_channels": 4},
}


def narrow(kind: ContextKind) -> nn.Module:
    torch.manual_seed(0)
    return build_context(kind, 12, channels=8, num_classes=5, **NARROW.get(kind, {}))


def num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def randomised(module: nn.Module) -> nn.Module:
    """Random norms and statistics, so that no norm is an identity."""
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module.eval()


def same_weights(ours: nn.Module, *theirs: nn.Module) -> None:
    """Copy in the order of construction; names differ."""
    source = [tensor for module in theirs for tensor in module.state_dict().values()]
    ours.load_state_dict(dict(zip(ours.state_dict(), source, strict=True)))


@pytest.mark.parametrize("size", [(9, 7), (2, 3)])
def test_pyramid_pooling_computes_what_transformers_upernet_computes(size: tuple[int, int]) -> None:
    config = UperNetConfig(backbone_config=SwinConfig(), hidden_size=8, pool_scales=[1, 2, 3, 6])
    oracle = randomised(UperNetHead(config, in_channels=[12, 12, 12, 12]))
    ours = PyramidPooling(12, channels=8).eval()
    same_weights(ours, oracle.psp_modules, oracle.bottleneck)
    features = torch.randn(2, 12, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours(features), oracle.psp_forward([features]))


def test_atrous_pooling_computes_what_transformers_deeplab_computes() -> None:
    config = MobileViTConfig(
        neck_hidden_sizes=[4, 4, 4, 4, 4, 12, 4], aspp_out_channels=8, atrous_rates=[2, 4, 6]
    )
    oracle = randomised(MobileViTASPP(config))
    ours = ASPP(12, channels=8, rates=(2, 4, 6), dropout=0.1).eval()
    same_weights(ours, oracle)
    features = torch.randn(2, 12, 9, 7)
    with torch.no_grad():
        torch.testing.assert_close(ours(features), oracle(features))


def test_separable_atrous_convolutions_have_one_tap_set_a_channel() -> None:
    dense, separable = (ASPP(12, channels=8, separable=separable) for separable in (False, True))
    # DeepLabV3+: 3x3 of 12 channels and its norm, 1x1 of 12 x 8, for each of three rates
    assert num_params(dense) - num_params(separable) == 3 * (9 * 12 * 8 - (9 * 12 + 2 * 12 + 12 * 8))


def test_self_attention_is_the_unscaled_mean_over_all_pixels() -> None:
    torch.manual_seed(0)
    module = SelfAttention(6, qk_channels=4).double()
    features = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    query, key, value = (layer(features).flatten(2) for layer in (module.query, module.key, module.value))
    shares = torch.einsum("bcp,bcq->bpq", query, key).softmax(-1)
    expected = torch.einsum("bpq,bcq->bcp", shares, value).reshape(2, 6, 3, 5)
    torch.testing.assert_close(module(features), expected, rtol=1e-12, atol=1e-12)


def test_object_context_follows_the_equations_of_ocrnet() -> None:
    torch.manual_seed(0)
    module = randomised(ObjectContext(6, channels=8, num_classes=5, width=10, key_channels=4)).double()
    features = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    output = module(features)
    logits = module.regions(features)
    pixels = module.pixels(features)
    region_shares = logits.flatten(2).softmax(-1)  # over pixels
    regions = torch.einsum("bkp,bcp->bck", region_shares, pixels.flatten(2))[..., None]
    query, key, value = (
        part.flatten(2) for part in (module.query(pixels), module.key(regions), module.value(regions))
    )
    shares = (torch.einsum("bcp,bck->bpk", query, key) / 2).softmax(-1)  # root of 4 key channels
    context = torch.einsum("bpk,bck->bcp", shares, value).reshape(2, 4, 3, 4)
    expected = module.merge(torch.cat([module.expand(context), pixels], dim=1))
    torch.testing.assert_close(output.features, expected)
    torch.testing.assert_close(output.auxiliary_logits, logits)


def test_class_aware_encoder_has_the_parameters_of_hfgd() -> None:
    with torch.device("meta"):
        encoder = build_context("cae", 2048, num_classes=59)
        without = build_context("cae", 2048, num_classes=59, attention=False)
    assert num_params(encoder) == 5_970_560  # HFGD with ResNet-50, 256 token channels
    assert num_params(encoder) - num_params(without) == 2 * (512 * 64 + 64) + 512 * 512 + 512


def test_cars_variant_of_self_attention_adds_a_linear_map_and_ends_with_one_by_one() -> None:
    with torch.device("meta"):
        plain, car = (build_context(kind, 2048, num_classes=59) for kind in ("self_attention", "sa_car"))
    assert num_params(car) - num_params(plain) == 512 * 512 + 512 - 8 * 512 * 256


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(2, 3), (3, 4), (17, 17)])
def test_every_encoder_keeps_the_size_and_trains_all_its_parameters(
    kind: ContextKind, size: tuple[int, int]
) -> None:
    encoder = narrow(kind).train()
    output: ContextOutput = encoder(torch.randn(2, 12, *size))
    assert output.features.shape == (2, 8, *size)
    assert (output.class_features is not None) == (kind in CLASS_AWARE_KINDS)
    assert (output.auxiliary_logits is not None) == (kind == "ocr")
    (output.features * torch.randn_like(output.features)).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_every_encoder_compiles_whole_and_runs_in_bfloat16(kind: ContextKind) -> None:
    encoder = narrow(kind).eval()
    features = torch.randn(1, 12, 4, 5)
    expected: ContextOutput = encoder(features)
    compiled: ContextOutput = torch.compile(encoder, fullgraph=True, backend="aot_eager")(features)
    torch.testing.assert_close(compiled.features, expected.features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved: Tensor = encoder(features).features
    torch.testing.assert_close(halved.float(), expected.features, rtol=0.1, atol=0.1)


def test_unknown_kind_names_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match=r"'psp' is unknown.*identity, aspp, ppm"):
        build_context("psp", 8, num_classes=3)  # type: ignore[arg-type]
