"""CTS before it is built: its operations in closed form, how much is shared, refusals."""

from __future__ import annotations

from typing import Any

import pytest
from cts_hosts import HOSTS

from segsweep.cost.measure import count_config
from segsweep.errors import ImageSizeError
from segsweep.models.methods import METHODS
from segsweep.models.methods.cts import PRESETS, CTSConfig
from segsweep.models.token_sharing import SharingAmount


def closed_form(
    host: str, *, shared: int, dim: int, depth: int, classes: int, patches: int, extra: int = 1
) -> int:
    """MACs without the policy."""
    tokens = patches - 3 * shared
    embedded = patches + (patches // 4 if shared else 0)
    attended, decoded = tokens + extra, tokens + classes
    macs = embedded * 768 * dim + depth * (12 * attended * dim**2 + 2 * attended**2 * dim)
    if host == "mask":
        macs += tokens * dim**2 + 2 * (12 * decoded * dim**2 + 2 * decoded**2 * dim) + decoded * dim**2
    return macs + tokens * classes * dim


@pytest.mark.parametrize(
    ("host", "name", "shared", "size"),
    [
        ("mask", "vit_small", 0, (512, 512)),
        ("mask", "vit_small", 103, (512, 512)),
        ("mask", "vit_tiny", 157, (512, 512)),
        ("linear", "deit_base_distilled", 90, (480, 480)),
        ("mask", "vit_nano", 5, (64, 160)),
    ],
)
def test_macs_are_the_closed_form(host: str, name: str, shared: int, size: tuple[int, int]) -> None:
    dims = {
        "vit_nano": (96, 4),
        "vit_tiny": (192, 12),
        "vit_small": (384, 12),
        "deit_base_distilled": (768, 12),
    }
    values = {"backbone": {"name": name}, "crop": size, "sharing": {"shared_superpatches": shared}}
    if shared:
        values["sharing"]["policy"] = "small"
    design = CTSConfig.model_validate(HOSTS[host] | values)
    macs = count_config(design, num_classes=60, size=size)[1].macs
    policy = 0
    if shared:
        policy = count_config(METHODS["policy"](network="small"), num_classes=60, size=size)[1].macs
    dim, depth = dims[name]
    patches, extra = size[0] * size[1] // 256, 2 if "distilled" in name else 1
    assert macs - policy == closed_form(
        host, shared=shared, dim=dim, depth=depth, classes=60, patches=patches, extra=extra
    )


@pytest.mark.parametrize(
    ("reduction", "side", "shared"),
    [
        (0.3, 512, 103),
        (0.3, 480, 90),
        (0.3, 640, 160),
        (0.4375, 768, 336),
        (0.44, 768, 338),
        (0.0, 512, 0),
        (0.75, 512, 256),
    ],
)
def test_reductions_round_up_to_whole_superpatches(reduction: float, side: int, shared: int) -> None:
    assert SharingAmount(reduction=reduction).count((side // 16, side // 16)) == shared


def test_the_real_reduction_is_what_the_tokens_say() -> None:
    assert SharingAmount(shared_superpatches=103).real_reduction((32, 32)) == pytest.approx(0.30176, abs=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": 500}, r"no multiples of 32 pixels; use \(512, 512\)"),
        ({"backbone": {"name": "vit_huge"}}, "vit_nano"),
        ({"sharing": {"policy": "none"}}, "cannot say which superpatches"),
        ({"sharing": {"reduction": 0, "policy": "small"}}, "policy='small' has no meaning for no sharing"),
        ({"sharing": {"reduction": 0.2, "shared_superpatches": 3}}, r"reduction=0\.2 has no meaning"),
        ({"sharing": {"reduction": 0.8}}, "0.75"),
        ({"sharing": {"shared_superpatches": 5}, "crop": 64}, "more than the 4 of crop"),
        ({"sharing": {"representative": "mean"}}, "whose positions are absolute"),
        ({"host": "segmenter_linear", "decoder": {"depth": 3}}, r"decoder\.depth=3 has no meaning"),
        ({"host": "upernet", "decoder": {"depth": 3}}, r"decoder\.depth=3 has no meaning"),
        ({"decoder": {"channels": 64}}, r"decoder\.channels=64 has no meaning"),
        ({"auxiliary": {"weight": 0}}, r"auxiliary\.weight=0\.0 has no meaning"),
    ],
)  # fmt: skip
def test_meaningless_designs_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CTSConfig.model_validate(values)


def test_images_with_fewer_superpatches_than_are_shared_are_refused() -> None:
    with pytest.raises(ImageSizeError, match="more than the 4 of an image"):
        PRESETS["cts-s"].check_size((64, 64))


def test_method_and_presets_are_registered() -> None:
    assert METHODS["cts"] is CTSConfig
    assert len(PRESETS) == len({preset.model_dump_json() for preset in PRESETS.values()})
