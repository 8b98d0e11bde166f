"""Oracles: matching written out in loops, attention with copied keys, the backbone without merging."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segsweep.cost.counting import count_macs
from segsweep.models.backbones.beit import BEITS, Beit
from segsweep.models.backbones.vit import ViT, ViTShape
from segsweep.models.layers.token_matching import (
    Merging,
    bipartite_soft_matching,
    global_merge,
    local_merge,
    merge,
    proportional_bias,
    unmerge,
)
from segsweep.models.methods.cts import CTSConfig
from segsweep.models.token_merging import ALGM, MergingEncoder, ToMe
from segsweep.models.token_sharing import SharedEncoder, SharingAmount

SHAPE = ViTShape(dim=32, depth=3, heads=2, drop_path=0.0)
DISTILLED = ViTShape(dim=32, depth=3, heads=2, distilled=True, drop_path=0.0)
GRID = (4, 6)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def groups(merging: Merging, image: int = 0) -> set[frozenset[int]]:
    slots = merging.slots[image].tolist()
    assert sorted(set(slots)) == list(range(merging.length))
    return {frozenset(i for i, slot in enumerate(slots) if slot == wanted) for wanted in set(slots)}


def looped_matching(metric: np.ndarray, *, protected: int) -> list[tuple[float, int, int]]:
    """ToMe, Sec. 3: best edge of every even token, most similar first."""
    edges = []
    for a in range(0, len(metric), 2):
        if a >= protected:
            edges.append(
                max((cosine(metric[a], metric[b]), a, b) for b in range(1, len(metric), 2) if b >= protected)
            )
    return sorted(edges, reverse=True)


def joined(edges: list[tuple[float, int, int]], length: int) -> set[frozenset[int]]:
    members = {b: {b} for b in range(length)}
    for _, a, b in edges:
        members[b].add(a)
        del members[a]
    return {frozenset(group) for group in members.values()}


@pytest.mark.parametrize("protected", [0, 1, 2])
@pytest.mark.parametrize(("length", "count"), [(12, 3), (13, 5), (13, 0)])
def test_matching_merges_the_most_similar_edges_between_alternate_tokens(
    length: int, count: int, protected: int
) -> None:
    metric = torch.randn(2, length, 8, generator=torch.Generator().manual_seed(length + protected))
    merging = bipartite_soft_matching(metric, count=count, protected=protected)
    assert merging.length == length - count
    for image in range(2):
        edges = looped_matching(metric[image].double().numpy(), protected=protected)
        assert groups(merging, image) == joined(edges[:count], length)


def test_protected_tokens_stay_alone_in_front_and_the_others_in_order() -> None:
    metric = torch.randn(1, 20, 4, generator=torch.Generator().manual_seed(0))
    merging = bipartite_soft_matching(metric, count=100, protected=2)
    assert merging.length == 20 - 9  # at most half of the 18 others
    assert {frozenset({0}), frozenset({1})} <= groups(merging)
    assert merging.slots[0, :2].tolist() == [0, 1]
    kept = torch.arange(1, 20, 2)
    assert (merging.slots[0, kept].diff() > 0).all()  # odd tokens all stay


def test_repeated_merging_is_the_mean_over_all_patches_of_a_token() -> None:
    tokens = torch.randn(2, 24, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    merged, sizes, total = tokens, None, None
    for count in (7, 5, 4):
        step = bipartite_soft_matching(merged, count=count)
        merged, sizes = merge(merged, step, sizes)
        total = step if total is None else step.after(total)
    assert total is not None
    assert sizes is not None
    assert merged.shape == (2, 8, 5)
    assert sizes.sum(1).tolist() == [24, 24]
    for image in range(2):
        for place, token in enumerate(merged[image]):
            members = tokens[image, total.slots[image] == place]
            assert sizes[image, place] == len(members)
            torch.testing.assert_close(token, members.mean(0), rtol=0, atol=1e-6)  # sizes are float32


def test_unmerging_gives_every_token_its_groups_value() -> None:
    merging = Merging(torch.tensor([[0, 1, 0, 2], [2, 1, 0, 1]]), 3)
    tokens = torch.tensor([[[1.0], [2], [5], [4]], [[1.0], [2], [3], [4]]])
    merged, sizes = merge(tokens, merging)
    assert merged.flatten(1).tolist() == [[3, 2, 4], [3, 3, 1]]
    assert sizes.tolist() == [[2, 1, 1], [1, 2, 1]]
    restored = unmerge(merged, merging)
    assert restored.flatten(1).tolist() == [[3, 2, 3, 4], [1, 3, 3, 3]]
    assert torch.equal(unmerge(merge(restored, merging)[0], merging), restored)


def test_merged_keys_weighted_by_size_attend_like_their_copies() -> None:
    generator = torch.Generator().manual_seed(2)
    query, key, value = (torch.randn(1, 2, n, 4, generator=generator) for n in (5, 3, 3))
    sizes = torch.tensor([[1.0, 3, 2]])
    copied = [each.repeat_interleave(torch.tensor([1, 3, 2]), dim=2) for each in (key, value)]
    expected = F.scaled_dot_product_attention(query, *copied)
    result = F.scaled_dot_product_attention(query, key, value, attn_mask=proportional_bias(sizes))
    torch.testing.assert_close(result, expected)


def test_local_merging_takes_windows_whose_patches_are_similar_on_average() -> None:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(1, 1 + 24, 6, generator=generator) + 1.5
    values = tokens[0, 1:].double().numpy()
    windows = [
        [r * 6 + c, r * 6 + c + 1, r * 6 + c + 6, r * 6 + c + 7]
        for r in range(0, 4, 2)
        for c in range(0, 6, 2)
    ]
    means = [
        np.mean([cosine(values[a], values[b]) for a, b in combinations(window, 2)]) for window in windows
    ]
    threshold = float(np.sort(means)[2:4].mean())  # the most similar three of six
    merging = local_merge(tokens, GRID, threshold=threshold, protected=1)
    expected = {
        frozenset(p + 1 for p in window)
        for window, mean in zip(windows, means, strict=True)
        if mean > threshold
    }
    assert merging.length == 25 - 3 * 3
    assert {group for group in groups(merging) if len(group) > 1} == expected


def test_global_merging_takes_the_edges_over_the_threshold() -> None:
    metric = torch.randn(1, 21, 4, generator=torch.Generator().manual_seed(4))
    edges = looped_matching(metric[0].double().numpy(), protected=1)
    merging = global_merge(metric, layer=5, threshold=0.7, protected=1)
    assert groups(merging) == joined([edge for edge in edges if edge[0] >= 0.7], 21)
    best = np.array([edge[0] for edge in edges])
    own = best.mean() + best.std(ddof=1) / 2  # tue-mps/algm-segmenter
    merging = global_merge(metric, layer=2, protected=1)
    assert groups(merging) == joined([edge for edge in edges if edge[0] >= own], 21)
    assert 0 < 21 - merging.length < 10


def test_in_a_batch_the_image_with_the_fewest_similar_windows_sets_the_number() -> None:
    flat, noise = torch.ones(1, 24, 8), torch.randn(1, 24, 8, generator=torch.Generator().manual_seed(5))
    assert local_merge(flat, GRID, threshold=0.9).length == 6
    assert local_merge(noise, GRID, threshold=0.9).length == 24
    assert local_merge(torch.cat([flat, noise]), GRID, threshold=0.9).length == 24


def test_windows_must_divide_the_grid() -> None:
    with pytest.raises(ValueError, match="grid of 4x6 patches is not divided by windows of 3x2"):
        local_merge(torch.zeros(1, 24, 4), GRID, threshold=0.9, window=(3, 2))


def backbone(shape: ViTShape = SHAPE, *, taps: tuple[int, ...] = (0, 2)) -> ViT:
    torch.manual_seed(0)
    return ViT(shape, grid=GRID, taps=taps).eval()


@pytest.mark.parametrize("shape", [SHAPE, DISTILLED])
@pytest.mark.parametrize(
    "reducer", [ToMe(count=0), ALGM(threshold=1.1, global_layer=2, global_threshold=1.1)]
)
def test_merging_nothing_is_the_backbone_itself(shape: ViTShape, reducer: ToMe | ALGM) -> None:
    images = torch.rand(2, 3, 64, 96)
    plain = SharedEncoder(backbone(shape), amount=SharingAmount())(images).features
    merged = MergingEncoder(backbone(shape), reducer=reducer)(images).features
    assert list(merged) == list(plain)
    for tap, tokens in merged.items():
        torch.testing.assert_close(tokens, plain[tap], rtol=0, atol=1e-6)


@pytest.mark.parametrize("reducer", [ToMe(count=4), ALGM(threshold=0.0, global_layer=2)])
def test_every_patch_has_a_token_again_and_merged_patches_the_same(reducer: ToMe | ALGM) -> None:
    outputs = MergingEncoder(backbone(DISTILLED), reducer=reducer)(torch.rand(1, 3, 64, 96)).features
    assert {tap: tuple(tokens.shape) for tap, tokens in outputs.items()} == {0: (1, 24, 32), 2: (1, 24, 32)}
    different = [len(tokens[0].detach().unique(dim=0)) for tokens in outputs.values()]
    assert different[1] < different[0] < 24
    if isinstance(reducer, ToMe):
        assert different[1] == 24 - 3 * 4


def test_image_of_one_colour_is_merged_without_loss_where_size_counts() -> None:
    """Without positions all patches are alike; with log sizes attention cannot tell that they were merged."""
    plain = backbone()
    torch.nn.init.zeros_(plain.pos_embed)
    images = torch.full((1, 3, 64, 96), 0.3)
    merged = MergingEncoder(plain, reducer=ToMe(count=9))(images).features[2]
    expected = SharedEncoder(plain, amount=SharingAmount())(images).features[2]
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-5)


def test_gradients_reach_every_parameter_and_bfloat16_runs() -> None:
    model = MergingEncoder(backbone(DISTILLED), reducer=ToMe(count=5)).train()
    model(torch.rand(2, 3, 64, 96)).features[2].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for reducer in (ToMe(count=5), ALGM(threshold=0.5, global_layer=2)):
            outputs = MergingEncoder(backbone(DISTILLED), reducer=reducer)(torch.rand(2, 3, 64, 96)).features
            assert all(tokens.isfinite().all() for tokens in outputs.values())


def test_tome_is_one_graph_of_static_shapes() -> None:
    model = MergingEncoder(backbone(), reducer=ToMe(count=4))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for seed in range(2):
        images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(compiled(images).features[2], model(images).features[2], rtol=0, atol=1e-5)


def test_tome_costs_what_the_tokens_cost_that_are_left() -> None:
    with torch.device("meta"):
        model = MergingEncoder(ViT(SHAPE, grid=GRID), reducer=ToMe(count=4))
    dim, macs, tokens = 32, 24 * 768 * 32, 25
    for _ in range(3):
        macs += 4 * tokens * dim**2 + 2 * tokens**2 * dim  # attention
        even, odd = (tokens + 1) // 2, tokens // 2
        macs += even * odd * dim // 2  # matching on the keys' mean over two heads
        tokens -= 4
        macs += 8 * tokens * dim**2  # MLP
    assert count_macs(model, (64, 96)) == macs


def test_unusable_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="Beit has relative positions"):
        MergingEncoder(Beit(BEITS["beit_nano"], grid=GRID), reducer=ToMe(count=4))
    with pytest.raises(ValueError, match="count=-1 is negative"):
        ToMe(count=-1)
    with pytest.raises(ValueError, match="local_layer=5 and global_layer=5 must rise"):
        ALGM(local_layer=5)


@pytest.mark.parametrize("host", ["segmenter_mask", "upernet"])
@pytest.mark.parametrize("reducer", [ToMe(count=5), ALGM(threshold=0.5, global_layer=2)])
def test_a_host_with_merged_tokens_loads_the_weights_without(host: str, reducer: ToMe | ALGM) -> None:
    config = CTSConfig.model_validate(
        {"backbone": {"name": "vit_nano"}, "host": host, "crop": (64, 96), "sharing": {"reduction": 0}}
    )
    torch.manual_seed(0)
    plain, merging = config.build(5).eval(), config.build(5).eval()
    merging.encoder = MergingEncoder(merging.encoder.backbone, reducer=reducer)
    merging.load_state_dict(plain.state_dict(), strict=True)
    images = torch.rand(1, 3, 65, 97)
    expected, found = (model(images).semantic_logits((65, 97)) for model in (plain, merging))
    assert found.shape == (1, 5, 65, 97)
    assert found.isfinite().all()
    assert not torch.equal(found, expected)
