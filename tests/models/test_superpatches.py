"""Selection, sharing and un-sharing of tokens against loops over images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segsweep.models.layers.superpatches import (
    representatives,
    select_superpatches,
    share,
    superpatch_means,
    superpatch_members,
    tokens_to_map,
    unshare,
)

GRID = (4, 6)
PATCHES, SUPERPATCHES = 24, 6


def scores(batch: int = 3) -> Tensor:
    return torch.randn(batch, SUPERPATCHES, generator=torch.Generator().manual_seed(0))


def tokens(channels: int = 5, count: int = PATCHES) -> Tensor:
    return torch.randn(3, count, channels, generator=torch.Generator().manual_seed(1))


def test_members_of_a_superpatch_are_its_corners_in_raster_order() -> None:
    assert superpatch_members((4, 6)).tolist() == [
        [0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11], [12, 13, 18, 19], [14, 15, 20, 21], [16, 17, 22, 23],
    ]  # fmt: skip


def test_an_odd_grid_has_no_superpatches() -> None:
    with pytest.raises(ValueError, match="multiple of 32 pixels"):
        superpatch_members((3, 4))


@pytest.mark.parametrize("count", range(SUPERPATCHES + 1))
def test_selection_is_that_of_a_loop_over_images(count: int) -> None:
    given = scores()
    selection = select_superpatches(given, count, GRID)
    members = superpatch_members(GRID).tolist()
    for image in range(3):
        ranked = sorted(range(SUPERPATCHES), key=lambda block: -given[image, block].item())
        shared = sorted(ranked[:count])
        kept = sorted(patch for block in ranked[count:] for patch in members[block])
        assert selection.shared[image].tolist() == shared
        assert selection.kept[image].tolist() == kept
        for patch in range(PATCHES):
            token = selection.inverse[image, patch].item()
            if patch in kept:
                assert token == kept.index(patch)
            else:
                assert patch in members[shared[token - len(kept)]]


@pytest.mark.parametrize("count", range(SUPERPATCHES + 1))
def test_each_own_token_is_used_once_and_each_shared_one_four_times(count: int) -> None:
    selection = select_superpatches(scores(), count, GRID)
    num_tokens = PATCHES - 3 * count
    for inverse in selection.inverse:
        uses = inverse.bincount(minlength=num_tokens)
        assert uses.tolist() == [1] * (PATCHES - 4 * count) + [4] * count


@pytest.mark.parametrize("count", [0, 2, SUPERPATCHES])
def test_unsharing_undoes_sharing_where_nothing_was_shared(count: int) -> None:
    patches = tokens()
    selection = select_superpatches(scores(), count, GRID)
    restored = unshare(share(patches, superpatch_means(patches, GRID), selection), selection.inverse)
    for image in range(3):
        kept = selection.kept[image]
        assert torch.equal(restored[image, kept], patches[image, kept])


def test_on_constant_superpatches_sharing_is_the_identity_and_idempotent() -> None:
    blocks = tokens(count=SUPERPATCHES)
    order = superpatch_members(GRID)
    patches = torch.zeros(3, PATCHES, 5)
    patches[:, order] = blocks[:, :, None]
    selection = select_superpatches(scores(), 3, GRID)
    restored = unshare(share(patches, superpatch_means(patches, GRID), selection), selection.inverse)
    assert torch.equal(restored, patches)
    again = unshare(share(restored, superpatch_means(restored, GRID), selection), selection.inverse)
    assert torch.equal(again, restored)


def test_gradient_of_a_shared_token_is_the_sum_of_its_four_copies() -> None:
    selection = select_superpatches(scores(), 2, GRID)
    compact = tokens(count=PATCHES - 6).requires_grad_()
    weights = tokens()
    (unshare(compact, selection.inverse) * weights).sum().backward()
    expected = torch.zeros_like(compact)
    for image in range(3):
        for patch in range(PATCHES):
            expected[image, selection.inverse[image, patch]] += weights[image, patch]
    torch.testing.assert_close(compact.grad, expected)


def test_equal_scores_share_what_comes_first() -> None:
    selection = select_superpatches(torch.zeros(2, SUPERPATCHES), 2, GRID)
    assert selection.shared.tolist() == [[0, 1], [0, 1]]


def test_probabilities_order_as_margins_but_saturate() -> None:
    logits = 3 * torch.randn(1, 2, 4096, generator=torch.Generator().manual_seed(0))
    margins = logits[:, 1] - logits[:, 0]
    by_margin = margins.argsort(dim=1, descending=True, stable=True)
    by_probability = logits.double().softmax(1)[:, 1].argsort(dim=1, descending=True, stable=True)
    assert torch.equal(by_margin, by_probability)
    assert torch.tensor([0.0, 17.0]).softmax(0)[1] == 1.0  # CTS, official code: all margins above 17 tie


def test_halving_by_means_is_bilinear_resizing() -> None:
    images = torch.randn(2, 3, 64, 96)
    bilinear = F.interpolate(images, scale_factor=0.5, mode="bilinear", align_corners=False)
    assert (F.avg_pool2d(images, 2) - bilinear).abs().max() < 1e-6


def test_means_and_maps_follow_the_raster() -> None:
    patches = tokens()
    maps = tokens_to_map(patches, GRID)
    assert torch.equal(maps[1, :, 2, 3], patches[1, 2 * 6 + 3])
    pooled = F.avg_pool2d(maps, 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(superpatch_means(patches, GRID), pooled)


def test_a_shared_token_stands_at_its_top_left_patch() -> None:
    selection = select_superpatches(scores(), 2, GRID)
    places = representatives(selection, GRID)
    assert torch.equal(places[:, :-2], selection.kept)
    members = superpatch_members(GRID)
    assert torch.equal(places[:, -2:], members[selection.shared].amin(-1))
