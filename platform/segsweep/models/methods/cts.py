"""CTS (Lu et al. 2023, "Content-aware Token Sharing for Efficient Semantic Segmentation with Vision
Transformers") with its hosts: Segmenter (Strudel et al. 2021) with linear or mask decoder, and UPerNet on ViT
and BEiT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import field_validator, model_validator
from torch import Tensor, nn

from segsweep.losses.per_pixel import CrossEntropy, LossTerm, PerPixelLoss
from segsweep.models.backbones.beit import BEITS, Beit
from segsweep.models.backbones.token_backbone import TokenBackbone
from segsweep.models.backbones.vit import VITS, ViT
from segsweep.models.heads.fcn import FCNHead
from segsweep.models.heads.mask_transformer import LinearTokenHead, MaskTransformer
from segsweep.models.heads.uper import UperHead
from segsweep.models.interface import Criterion, MethodConfig, SegmentationOutput
from segsweep.models.layers.superpatches import Grid
from segsweep.models.layers.vit_block import PATCH
from segsweep.models.methods.cts_parts import (
    CTSAuxiliary,
    CTSBackbone,
    CTSDecoder,
    CTSMerging,
    CTSSharing,
)
from segsweep.models.methods.unused_fields import refuse_set
from segsweep.models.necks.feature_pyramid import FeaturePyramid
from segsweep.models.necks.multi_level import LEVELS, MultiLevelNeck
from segsweep.models.policy_network import PolicyNetwork, read_policy_weights
from segsweep.models.token_merging import MergingEncoder
from segsweep.models.token_segmenter import UNIT, TokenOutput, TokenSegmenter, TokenUPerNet
from segsweep.models.token_sharing import SharedEncoder

_BEIT_TAPS = {12: (3, 5, 7, 11), 24: (7, 11, 15, 23)}  # mmsegmentation; ViT's are spread evenly


_UNUSED: dict[str, dict[str, tuple[str, ...]]] = {
    "segmenter_mask": {"decoder": ("channels",), "auxiliary": ("channels", "weight")},
    "segmenter_linear": {"decoder": ("depth", "dropout", "channels"), "auxiliary": ("channels", "weight")},
    "upernet": {"decoder": ("depth", "dropout")},
}


class CTSConfig(MethodConfig):
    """One host, with or without token sharing.

    Attributes:
        backbone: Encoder.
        host: What follows it; Segmenters decode the shared tokens, UPerNet un-shares them before its neck.
        sharing: How tokens are shared.
        merging: How tokens are merged instead: ToMe, or ALGM, whose shapes depend on the image (see there).
        decoder: Decoder.
        auxiliary: Head of UPerNet that only teaches.
        crop: Height and width in pixels (one number for a square), multiples of 32, for which positions are
            stored: the size of training crops and of windows at inference. Other sizes resize positions.
    """

    method: ClassVar[str] = "cts"
    backbone: CTSBackbone = CTSBackbone()
    host: Literal["segmenter_mask", "segmenter_linear", "upernet"] = "segmenter_mask"
    sharing: CTSSharing = CTSSharing()
    merging: CTSMerging = CTSMerging()
    decoder: CTSDecoder = CTSDecoder()
    auxiliary: CTSAuxiliary = CTSAuxiliary()
    crop: tuple[int, int] = (512, 512)

    @field_validator("crop", mode="before")
    @classmethod
    def _square(cls, crop: Any) -> Any:
        return (crop, crop) if isinstance(crop, int) else crop

    @field_validator("crop")
    @classmethod
    def _whole_superpatches(cls, crop: tuple[int, int]) -> tuple[int, int]:
        if any(side < UNIT or side % UNIT for side in crop):
            fitting = tuple(-(-max(side, 1) // UNIT) * UNIT for side in crop)
            raise ValueError(f"{crop} are no multiples of {UNIT} pixels; use {fitting}")
        return crop

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for part, names in _UNUSED[self.host].items():
            refuse_set(getattr(self, part), part, names, f"host={self.host!r}")
        if not self.backbone.is_beit:
            reason = f"backbone.name={self.backbone.name!r}, whose positions are absolute"
            refuse_set(self.sharing, "sharing", ("representative",), reason)
        if self.merging.merges:
            self._check_merging()
        available = _grid(self.crop)[0] * _grid(self.crop)[1] // 4
        if (self.sharing.shared_superpatches or 0) > available:
            raise ValueError(
                f"sharing.shared_superpatches={self.sharing.shared_superpatches} are more than the "
                f"{available} of crop={self.crop}; choose fewer or a larger crop"
            )
        return self

    def _check_merging(self) -> None:
        kind = self.merging.kind
        if self.sharing.shares:
            raise ValueError(
                f"merging.kind={kind!r} and sharing exclude each other; set sharing.reduction=0, or "
                "merging.kind='none'"
            )
        if self.backbone.is_beit:
            raise ValueError(
                f"merging.kind={kind!r}: backbone.name={self.backbone.name!r} has relative positions, which "
                f"merged tokens do not have; choose one of {', '.join(VITS)}"
            )
        self.merging.check_depth(VITS[self.backbone.name].depth)

    def check_size(self, size: tuple[int, int]) -> None:
        """There must be as many superpatches as are to be shared."""
        self.sharing.amount.count(_grid(size))

    def build(self, num_classes: int) -> TokenSegmenter | TokenUPerNet:
        """Make the network: policy and transformer, then Segmenter's decoder, or neck and UPerNet's.

        Raises:
            ValueError: If ``sharing.weights`` is no checkpoint of such a policy network.
        """
        make: Callable[[SharedEncoder, int], TokenSegmenter | TokenUPerNet]
        make = self._upernet if self.host == "upernet" else self._segmenter
        encoder = self._encoder(self._backbone())
        model = make(encoder, num_classes)
        if self.sharing.shares:  # last, so that a seed gives the host the same weights with and without
            encoder.set_policy(self._policy())
        return model

    def _encoder(self, backbone: TokenBackbone) -> SharedEncoder:
        if self.merging.merges:
            return MergingEncoder(backbone, reducer=self.merging.reducer())
        return SharedEncoder(
            backbone,
            amount=self.sharing.amount,
            proportional_attention=self.sharing.proportional_attention,
        )

    def _backbone(self) -> TokenBackbone:
        name, uper = self.backbone.name, self.host == "upernet"
        grid, eps = _grid(self.crop), self.backbone.ln_eps
        norm = self.backbone.final_norm
        if self.backbone.is_beit:
            beit = BEITS[name]
            beit = replace(beit, drop_path=_given(self.backbone.drop_path, beit.drop_path))
            return Beit(
                beit,
                grid=grid,
                taps=_BEIT_TAPS.get(beit.depth, _even_taps(beit.depth)) if uper else None,
                final_norm=not uper if norm is None else norm,
                eps=eps,
                representative=self.sharing.representative,
            )
        vit = VITS[name]
        vit = replace(vit, drop_path=_given(self.backbone.drop_path, vit.drop_path))
        taps = _even_taps(vit.depth) if uper else None
        return ViT(vit, grid=grid, taps=taps, final_norm=norm is not False, eps=eps)

    def _policy(self) -> PolicyNetwork:
        if self.sharing.policy == "none":
            raise ValueError("sharing.policy='none' builds no policy network; choose a size")
        policy = PolicyNetwork(self.sharing.policy)
        if self.sharing.weights and not policy.head.weight.is_meta:
            weights = read_policy_weights(Path(self.sharing.weights))
            try:
                policy.load_state_dict(weights)
            except RuntimeError as error:
                raise ValueError(
                    f"sharing.weights={self.sharing.weights!r} are not of policy "
                    f"{self.sharing.policy!r}; set sharing.policy to the size that was trained: {error}"
                ) from error
        return policy

    def _segmenter(self, encoder: SharedEncoder, num_classes: int) -> TokenSegmenter:
        dim = encoder.backbone.dim
        if self.host == "segmenter_linear":
            return TokenSegmenter(encoder, LinearTokenHead(dim, num_classes), num_classes=num_classes)
        head = MaskTransformer(
            dim,
            self.backbone.num_heads,
            num_classes=num_classes,
            depth=self.decoder.depth,
            dropout=self.decoder.dropout,
            eps=self.backbone.ln_eps,
        )
        return TokenSegmenter(encoder, head, num_classes=num_classes)

    def _upernet(self, encoder: SharedEncoder, num_classes: int) -> TokenUPerNet:
        dim = encoder.backbone.dim
        neck = FeaturePyramid(dim) if self.backbone.is_beit else MultiLevelNeck(dim)
        auxiliary: nn.Module | None = None
        if self.auxiliary.weight > 0:
            auxiliary = FCNHead(dim, channels=self.auxiliary.channels, num_classes=num_classes)
        return TokenUPerNet(
            encoder,
            neck,
            UperHead(neck.channels, channels=self.decoder.channels, num_classes=num_classes),
            levels=LEVELS,
            num_classes=num_classes,
            auxiliary=auxiliary,
            auxiliary_level=LEVELS[-2] if self.backbone.is_beit else LEVELS[-1],
        )

    def criterion(self, pixel_loss: PerPixelLoss) -> Criterion:
        """Loss of the prediction; UPerNet's is divided by all pixels, and its auxiliary head has one, too.

        Args:
            pixel_loss: The recipe's loss per pixel.
        """
        if self.host == "upernet" and isinstance(pixel_loss, CrossEntropy):
            pixel_loss = replace(pixel_loss, count_ignored=True)
        auxiliary_loss = CrossEntropy(ignore_index=pixel_loss.ignore_index, count_ignored=True)

        def criterion(output: SegmentationOutput, labels: Tensor) -> dict[str, LossTerm]:
            size = (labels.shape[-2], labels.shape[-1])
            terms = {"segmentation": LossTerm(pixel_loss(output.semantic_logits(size), labels))}
            if output.auxiliary_logits is not None and isinstance(output, TokenOutput):
                enlarged = output.enlarge(output.auxiliary_logits, size)
                terms["auxiliary"] = LossTerm(auxiliary_loss(enlarged, labels), self.auxiliary.weight)
            return terms

        return criterion


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _grid(size: tuple[int, int]) -> Grid:
    """Patches down and across of an image padded to whole superpatches."""
    height, width = (-(-side // UNIT) * UNIT // PATCH for side in size)
    return height, width


def _even_taps(depth: int) -> tuple[int, ...]:
    return tuple(depth * (level + 1) // len(LEVELS) - 1 for level in range(len(LEVELS)))


def _segmenter(
    backbone: str,
    *,
    crop: int = 512,
    shared: int = 0,
    merging: CTSMerging | None = None,
    host: Literal["segmenter_mask", "segmenter_linear"] = "segmenter_mask",
) -> CTSConfig:
    return CTSConfig(
        backbone=CTSBackbone(name=backbone),
        host=host,
        sharing=CTSSharing(shared_superpatches=shared),
        merging=merging or CTSMerging(),
        crop=(crop, crop),
    )


def _upernet(backbone: str, channels: int, *, crop: int, shared: int = 0) -> CTSConfig:
    return CTSConfig(
        backbone=CTSBackbone(name=backbone, ln_eps=1e-6),
        host="upernet",
        sharing=CTSSharing(shared_superpatches=shared),
        decoder=CTSDecoder(channels=channels),
        crop=(crop, crop),
    )


PRESETS: dict[str, CTSConfig] = {
    # Segmenter and CTS on ADE20K; S of the official code
    "segmenter-ti": _segmenter("vit_tiny"),
    "segmenter-s": _segmenter("vit_small"),
    "segmenter-b": _segmenter("vit_base"),
    "segmenter-l": _segmenter("vit_large", crop=640),
    "segmenter-deit-b-linear": _segmenter("deit_base_distilled", host="segmenter_linear"),
    "cts-ti": _segmenter("vit_tiny", shared=103),
    "cts-s": _segmenter("vit_small", shared=103),
    "cts-b": _segmenter("vit_base", shared=103),
    "cts-l": _segmenter("vit_large", crop=640, shared=160),
    # Pascal Context (480) and Cityscapes (768)
    "segmenter-s-480": _segmenter("vit_small", crop=480),
    "segmenter-s-768": _segmenter("vit_small", crop=768),
    "cts-s-480": _segmenter("vit_small", crop=480, shared=90),
    "cts-s-768": _segmenter("vit_small", crop=768, shared=336),
    # Supplement, Table 1: 12, 23, 38 and 46 %; S is not published, these round to the labels
    "cts-s-41": _segmenter("vit_small", shared=41),
    "cts-s-78": _segmenter("vit_small", shared=78),
    "cts-s-130": _segmenter("vit_small", shared=130),
    "cts-s-157": _segmenter("vit_small", shared=157),
    # Without a policy: ToMe (in the mean over the layers, 30 % of the tokens are lost), and ALGM with its
    # authors' threshold and layers for ADE20K
    "tome-s": _segmenter("vit_small", merging=CTSMerging(kind="tome", count=48)),
    "algm-s": _segmenter("vit_small", merging=CTSMerging(kind="algm")),
    # UPerNet
    "upernet-vit-b": _upernet("vit_base", 512, crop=512),
    "upernet-beit-b": _upernet("beit_base", 768, crop=640),
    "upernet-beit-l": _upernet("beit_large", 1024, crop=640),
    "cts-upernet-vit-b": _upernet("vit_base", 512, crop=512, shared=103),
    "cts-upernet-beit-b": _upernet("beit_base", 768, crop=640, shared=160),
    "cts-upernet-beit-l": _upernet("beit_large", 1024, crop=640, shared=160),
    # not from a paper: small enough to train on a CPU within minutes
    "cts-nano": CTSConfig(
        backbone=CTSBackbone(name="vit_nano"), sharing=CTSSharing(policy="nano"), crop=(256, 256)
    ),
}
