"""CTS in its hosts: the laws that sharing obeys, gradients, graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from cts_hosts import HOSTS
from torch import Tensor, nn

from segsweep.losses.per_pixel import CrossEntropy
from segsweep.models.layers.superpatches import (
    select_superpatches,
    superpatch_members,
    tokens_to_map,
    unshare,
)
from segsweep.models.methods.cts import CTSConfig

CLASSES, SIZE, GRID = 5, (64, 96), (4, 6)
PATCHES, SUPERPATCHES = 24, 6


def config(host: str = "mask", *, shared: int = 2, **sharing: Any) -> CTSConfig:
    values = HOSTS[host]
    if shared:
        sharing |= {"policy": "nano"}
    return CTSConfig.model_validate(
        {"backbone": {"name": "vit_nano"}, "crop": SIZE}
        | values
        | {"sharing": {"shared_superpatches": shared} | sharing}
    )


def build(host: str = "mask", *, shared: int = 2, **sharing: Any) -> nn.Module:
    torch.manual_seed(0)
    model = config(host, shared=shared, **sharing).build(CLASSES)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # initial weights are so small that tokens hardly matter to each other
        for name, parameter in model.named_parameters():
            if "policy" not in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def images(size: tuple[int, int] = SIZE, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(2))


def labels(size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randint(0, CLASSES, (2, *size), generator=torch.Generator().manual_seed(3))


def plain_attention(tokens: Tensor, weights: dict[str, Tensor], prefix: str, heads: int) -> Tensor:
    qkv = F.linear(tokens, weights[f"{prefix}attn.qkv.weight"], weights[f"{prefix}attn.qkv.bias"])
    query, key, value = (
        part.view(*tokens.shape[:2], heads, -1).transpose(1, 2) for part in qkv.chunk(3, dim=-1)
    )
    attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return F.linear(attended, weights[f"{prefix}attn.proj.weight"], weights[f"{prefix}attn.proj.bias"])


def plain_norm(tokens: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(
        tokens, tokens.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-5
    )


def plain_blocks(
    tokens: Tensor, weights: dict[str, Tensor], prefix: str, *, depth: int, heads: int
) -> Tensor:
    for index in range(depth):
        block = f"{prefix}blocks.{index}."
        tokens = tokens + plain_attention(plain_norm(tokens, weights, f"{block}norm1"), weights, block, heads)
        hidden = plain_norm(tokens, weights, f"{block}norm2")
        hidden = F.linear(hidden, weights[f"{block}mlp.fc1.weight"], weights[f"{block}mlp.fc1.bias"])
        hidden = F.linear(F.gelu(hidden), weights[f"{block}mlp.fc2.weight"], weights[f"{block}mlp.fc2.bias"])
        tokens = tokens + hidden
    return tokens


def plain_segmenter(
    pixels: Tensor,
    weights: dict[str, Tensor],
    *,
    depth: int,
    heads: int,
    positions: Tensor,
    num_extra: int = 1,
) -> Tensor:
    """Segmenter with a mask transformer of two blocks as its paper describes it; logits of patches."""
    encoder, decoder = "encoder.backbone.", "head."
    conv = f"{encoder}patch_embed.proj"
    patches = F.conv2d(pixels, weights[f"{conv}.weight"], weights[f"{conv}.bias"], stride=16)
    patches = patches.flatten(2).transpose(1, 2) + positions
    extra = [weights[f"{encoder}{name}"] for name in ("cls_token", "dist_token")[:num_extra]]
    extra_tokens = torch.cat(extra, 1) + weights[f"{encoder}pos_embed"][:, :num_extra]
    tokens = torch.cat([extra_tokens.expand(len(pixels), -1, -1), patches], dim=1)
    tokens = plain_blocks(tokens, weights, encoder, depth=depth, heads=heads)
    tokens = plain_norm(tokens[:, num_extra:], weights, f"{encoder}norm")
    tokens = F.linear(tokens, weights[f"{decoder}proj_dec.weight"], weights[f"{decoder}proj_dec.bias"])
    tokens = torch.cat([tokens, weights[f"{decoder}cls_emb"].expand(len(pixels), -1, -1)], dim=1)
    tokens = plain_blocks(tokens, weights, decoder, depth=2, heads=heads)
    tokens = plain_norm(tokens, weights, f"{decoder}decoder_norm")
    patches = tokens[:, :-CLASSES] @ weights[f"{decoder}proj_patch"]
    classes = tokens[:, -CLASSES:] @ weights[f"{decoder}proj_classes"]
    patches = patches / patches.norm(dim=-1, keepdim=True)
    classes = classes / classes.norm(dim=-1, keepdim=True)
    return plain_norm(patches @ classes.transpose(1, 2), weights, f"{decoder}mask_norm")


def half_range(pixels: Tensor) -> Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels * std.view(3, 1, 1) + mean.view(3, 1, 1) - 0.5) / 0.5


def test_without_sharing_it_is_the_host() -> None:
    model = build(shared=0)
    weights = dict(model.state_dict())
    with torch.no_grad():
        positions = weights["encoder.backbone.pos_embed"][:, 1:]
        pixels = model.encoder.input_range(images())
        expected = plain_segmenter(pixels, weights, depth=4, heads=3, positions=positions)
        assert torch.equal(model(images()).logits, tokens_to_map(expected, GRID))
        torch.testing.assert_close(pixels, half_range(images()), rtol=1e-5, atol=1e-5)


def test_without_sharing_a_distilled_host_drops_both_extra_tokens() -> None:
    torch.manual_seed(0)
    values = {"backbone": {"name": "deit_base_distilled"}, "crop": SIZE, "sharing": {"reduction": 0}}
    model = CTSConfig.model_validate(values).build(CLASSES).eval()
    weights = dict(model.state_dict())
    with torch.no_grad():
        positions = weights["encoder.backbone.pos_embed"][:, 2:]
        expected = plain_segmenter(
            images(), weights, depth=12, heads=12, positions=positions, num_extra=2
        )  # DeiT sees images normalised by ImageNet's statistics
        assert torch.equal(model(images()).logits, tokens_to_map(expected, GRID))


def test_a_seed_gives_the_host_the_same_weights_with_sharing_and_without() -> None:
    shared, plain = build(shared=2).state_dict(), build(shared=0).state_dict()
    assert set(shared) - set(plain) == {name for name in shared if name.startswith("encoder.policy.")}
    assert all(torch.equal(value, shared[name]) for name, value in plain.items())


def test_sharing_everything_is_the_host_at_half_the_resolution() -> None:
    model = build(shared=SUPERPATCHES)
    weights = dict(model.state_dict())
    with torch.no_grad():
        pixels = F.avg_pool2d(model.encoder.input_range(images()), 2)
        maps = weights["encoder.backbone.pos_embed"][:, 1:].transpose(1, 2).unflatten(2, GRID)
        positions = F.avg_pool2d(maps, 2).flatten(2).transpose(1, 2)
        coarse = plain_segmenter(pixels, weights, depth=4, heads=3, positions=positions)
        expected = F.interpolate(tokens_to_map(coarse, (2, 3)), scale_factor=2, mode="nearest")
        torch.testing.assert_close(model(images()).logits, expected, rtol=1e-5, atol=1e-5)


def test_the_order_of_the_tokens_does_not_matter() -> None:
    model = build()
    with torch.no_grad():
        selection = select_superpatches(torch.randn(2, SUPERPATCHES), 2, GRID)
        pixels = model.encoder.input_range(images())
        tokens = model.encoder._tokens(pixels, GRID, selection)
        order = torch.randperm(tokens.shape[1])
        results = []
        for given, inverse in (
            (tokens, selection.inverse),
            (tokens[:, order], order.argsort()[selection.inverse]),
        ):
            (encoded,) = model.encoder.backbone.encode(given, grid=GRID).values()
            results.append(unshare(model.head(encoded), inverse))
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def uniform_case() -> tuple[Tensor, Tensor]:
    """An image with one superpatch of one colour, and margins that choose this one."""
    pixels = images(batch=1)
    pixels[..., 32:64, 32:64] = torch.tensor([0.5, -1.0, 2.0]).view(3, 1, 1)
    margins = torch.zeros(1, SUPERPATCHES)
    margins[0, 4] = 1.0
    return pixels, margins


def without_positions_inside(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        own = model.encoder.backbone.pos_embed[:, 1:]
        for members in superpatch_members(GRID).tolist():
            own[:, members] = own[:, members[:1]].clone()
    return model


def test_a_uniform_superpatch_has_the_token_of_each_of_its_patches() -> None:
    model = without_positions_inside(build(shared=1))
    pixels, margins = uniform_case()
    with torch.no_grad():
        pixels = model.encoder.input_range(pixels)
        selection = select_superpatches(margins, 1, GRID)
        shared = model.encoder._tokens(pixels, GRID, selection)[0, -1]
        patches = model.encoder._tokens(pixels, GRID, None)[0, superpatch_members(GRID)[4]]
        torch.testing.assert_close(patches, shared.expand(4, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("host", ["linear", "mask"])
def test_one_key_weighs_less_than_four_unless_it_is_made_proportional(host: str) -> None:
    pixels, margins = uniform_case()
    plain, shared, proportional = (
        without_positions_inside(build(host, **sharing))
        for sharing in ({"shared": 0}, {"shared": 1}, {"shared": 1, "proportional_attention": True})
    )
    with torch.no_grad():
        expected = plain(pixels).logits
        assert (shared(pixels, margins).logits - expected).abs().max() > 1e-3
        torch.testing.assert_close(proportional(pixels, margins).logits, expected, rtol=1e-4, atol=1e-4)


def test_beit_shares_with_the_mean_of_the_biases_or_with_one_of_them() -> None:
    outputs = [build("beit", representative=kind)(images()).logits for kind in ("top_left", "mean")]
    assert outputs[0].shape == outputs[1].shape
    assert not torch.allclose(outputs[0], outputs[1])


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (100, 64)])
def test_any_size_is_padded_to_superpatches_and_comes_back(host: str, size: tuple[int, int]) -> None:
    model = build(host)
    with torch.no_grad():
        output = model(images(size))
        padded = tuple(-(-side // 32) * 32 for side in size)
        assert output.logits.shape == (2, CLASSES, *(side // model.stride for side in padded))
        assert output.semantic_logits(size).shape == (2, CLASSES, *size)
        if size != padded:
            whole = F.pad(images(size), (0, padded[1] - size[1], 0, padded[0] - size[0]))
            cropped = model(whole).semantic_logits(padded)[..., : size[0], : size[1]]
            assert torch.equal(output.semantic_logits(size), cropped)


@pytest.mark.parametrize("host", HOSTS)
def test_all_but_the_policy_learn(host: str) -> None:
    model = build(host).train()
    terms = config(host).criterion(CrossEntropy())(model(images()), labels())
    assert set(terms) == {"segmentation"} | ({"auxiliary"} if "upernet" in host else set())
    sum(term.weight * term.loss.total / term.loss.count for term in terms.values()).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("encoder.policy."):
            assert parameter.grad is None and not parameter.requires_grad, name
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert model.training and not any(part.training for part in model.encoder.policy.modules())


def test_upernet_divides_by_all_pixels_and_segmenter_by_the_labelled_ones() -> None:
    truth = labels()
    truth[:, :7] = 255
    for host, count in (("upernet-vit", 2 * 64 * 96), ("mask", 2 * 57 * 96)):
        terms = config(host).criterion(CrossEntropy())(build(host).train()(images()), truth)
        assert int(terms["segmentation"].loss.count) == count
        assert all(int(term.loss.count) == 2 * 64 * 96 for name, term in terms.items() if name == "auxiliary")


def test_training_leaves_the_policys_statistics_alone() -> None:
    model = build().train()
    before = {name: value.clone() for name, value in model.encoder.policy.state_dict().items()}
    model(images())
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.policy.state_dict().items())


def test_autocast_does_not_touch_the_ranking() -> None:
    model = build()
    with torch.no_grad():
        expected = model.encoder.policy.margins(images())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(model.encoder.policy.margins(images()), expected)
            assert model(images()).logits.isfinite().all()


@pytest.mark.parametrize("host", ["mask", "upernet-vit", "upernet-beit"])
def test_one_graph_serves_all_scores(host: str) -> None:
    torch._dynamo.reset()
    model = build(host)
    graphs = 0

    def count_graphs(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        nonlocal graphs
        graphs += 1
        return graph

    compiled = torch.compile(model, fullgraph=True, backend=count_graphs)
    with torch.no_grad():
        for pixels in (images(), images().flip(-1)):
            torch.testing.assert_close(compiled(pixels).logits, model(pixels).logits, rtol=1e-5, atol=1e-5)
    assert graphs == 1


def test_the_backward_pass_compiles() -> None:
    torch._dynamo.reset()
    model = build("linear").train()
    torch.compile(model, fullgraph=True, backend="aot_eager")(images()).logits.square().mean().backward()
    assert model.encoder.backbone.patch_embed.proj.weight.grad.isfinite().all()


@pytest.mark.parametrize("host", HOSTS)
def test_weights_survive_a_round_trip(host: str) -> None:
    source, target = build(host), config(host).build(CLASSES).eval()
    target.load_state_dict(source.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(target(images()).logits, source(images()).logits)
