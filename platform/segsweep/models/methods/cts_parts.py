"""The parts of a CTS config: encoder, sharing, merging, decoder, auxiliary head."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from segsweep.models.backbones.beit import BEITS, Representative
from segsweep.models.backbones.vit import VITS
from segsweep.models.heads.mask_transformer import DROPOUT
from segsweep.models.layers.vit_block import LAYER_NORM_EPS
from segsweep.models.methods.unused_fields import refuse_set
from segsweep.models.policy_network import PolicyName
from segsweep.models.token_merging import ALGM, TokenReducer, ToMe
from segsweep.models.token_sharing import SharingAmount

_MAX_REDUCTION = 0.75  # all superpatches shared


class CTSBackbone(BaseModel):
    """Encoder.

    Attributes:
        name: A key of ``VITS`` or ``BEITS``.
        ln_eps: Epsilon of every layer norm, decoder included. Segmenter has 1e-5, though the weights were
            made with 1e-6, which UPerNet keeps.
        drop_path: Stochastic depth rate of the last block; ``None`` for that of the family.
        final_norm: Normalise the last block's output; ``None``: always, but for UPerNet on BEiT.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = "vit_small"
    ln_eps: float = Field(default=LAYER_NORM_EPS, gt=0, le=1e-2)
    drop_path: float | None = Field(default=None, ge=0, lt=1)
    final_norm: bool | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in VITS and name not in BEITS:
            raise ValueError(f"{name!r} is none of {', '.join([*VITS, *BEITS])}; choose one of them")
        return name

    @property
    def is_beit(self) -> bool:
        """Whether positions are relative."""
        return self.name in BEITS

    @property
    def num_heads(self) -> int:
        """Attention heads of its blocks."""
        return BEITS[self.name].heads if self.is_beit else VITS[self.name].heads


class CTSSharing(BaseModel):
    """How tokens are shared.

    Attributes:
        reduction: Share of the tokens to save, 0 to 0.75 (every superpatch shared); rounded up to whole
            superpatches.
        shared_superpatches: Their number S, for images of the crop's size; takes the place of ``reduction``.
        policy: Size of the network that says which; not built where nothing is shared.
        weights: Checkpoint of a training job with method ``policy``; empty for random weights.
        representative: Where a shared token is for relative positions (BEiT).
        proportional_attention: Let shared tokens weigh as much as their patches; not in CTS.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    reduction: float = Field(default=0.3, ge=0, le=_MAX_REDUCTION)
    shared_superpatches: int | None = Field(default=None, ge=0)
    policy: PolicyName | Literal["none"] = "lite0"
    weights: str = ""
    representative: Representative = "top_left"
    proportional_attention: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.shared_superpatches is not None:
            refuse_set(self, "sharing", ("reduction",), "a number of shared_superpatches")
        if not self.shares:
            names = ("weights", "representative", "proportional_attention")
            refuse_set(self, "sharing", names if self.policy == "none" else ("policy", *names), "no sharing")
        elif self.policy == "none":
            raise ValueError(
                "sharing.policy='none' cannot say which superpatches share a token; choose a size, or "
                "sharing.reduction=0"
            )
        return self

    @property
    def shares(self) -> bool:
        """Whether any superpatch shares a token."""
        return bool(self.reduction if self.shared_superpatches is None else self.shared_superpatches)

    @property
    def amount(self) -> SharingAmount:
        """How many superpatches share a token."""
        return SharingAmount(reduction=self.reduction, shared_superpatches=self.shared_superpatches)


class CTSMerging(BaseModel):
    """Tokens merged within the encoder, without a policy: what CTS is compared with.

    ToMe loses a fixed number of tokens in every layer. ALGM merges as many as are alike, so its shapes depend
    on the image: it adapts to each image at batch 1 alone (in a larger batch the image with the fewest
    similar tokens sets the number for all), and it does not compile into one graph. Its cost cannot be
    counted without data: it is that of ``counted_windows`` and ``counted_pairs``, by default an upper bound,
    that of the host and of the comparisons. Measured speed is that of noise, in which little is alike.

    Attributes:
        kind: ``tome`` (Bolya et al. 2022), ``algm`` (Norouzi et al. 2024) or none.
        count: Tokens that ToMe loses in each layer, r of its paper; half of them at most.
        threshold: Smallest mean cosine of a window that ALGM merges.
        local_layer: Layer, from 1, in which ALGM merges windows of 2x2 tokens.
        global_layer: Layer in which it merges tokens anywhere.
        global_threshold: Smallest cosine of those; ``None``: by image, from the mean and the standard
            deviation of all pairs.
        counted_windows: Share of the windows, 0 to 1, that ALGM merges where its cost is counted.
        counted_pairs: Share of the pairs, likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["none", "tome", "algm"] = "none"
    count: int = Field(default=16, ge=1, le=1024)
    threshold: float = Field(default=0.88, ge=-1, le=1)
    local_layer: int = Field(default=1, ge=1)
    global_layer: int = Field(default=5, ge=2)
    global_threshold: float | None = Field(default=None, ge=-1, le=1)
    counted_windows: float = Field(default=0.0, ge=0, le=1)
    counted_pairs: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        meaningful = {"none": set(), "tome": {"count"}, "algm": set(type(self).model_fields) - {"count"}}
        unused = [name for name in type(self).model_fields if name not in {"kind", *meaningful[self.kind]}]
        refuse_set(self, "merging", tuple(unused), f"merging.kind={self.kind!r}")
        if self.local_layer >= self.global_layer:
            raise ValueError(
                f"merging.local_layer={self.local_layer} is not before global_layer={self.global_layer}; "
                "windows exist only while nothing is merged: choose an earlier one"
            )
        return self

    @property
    def merges(self) -> bool:
        """Whether any tokens are merged."""
        return self.kind != "none"

    def check_depth(self, depth: int) -> None:
        """Refuse layers that an encoder does not have.

        Raises:
            ValueError: Names the deepest layer that there is.
        """
        if self.kind == "algm" and self.global_layer > depth:
            raise ValueError(
                f"merging.global_layer={self.global_layer} is behind the last of the encoder's {depth} "
                f"layers; choose {self.local_layer + 1}..{depth}"
            )

    def reducer(self) -> TokenReducer:
        """What says which tokens are merged, where any are."""
        if self.kind == "tome":
            return ToMe(count=self.count)
        return ALGM(
            threshold=self.threshold,
            local_layer=self.local_layer,
            global_layer=self.global_layer,
            global_threshold=self.global_threshold,
            counted_windows=self.counted_windows,
            counted_pairs=self.counted_pairs,
        )


class CTSDecoder(BaseModel):
    """Decoder.

    Attributes:
        depth: Blocks of the mask transformer.
        dropout: In those blocks.
        channels: Width of UPerNet's pyramid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    depth: int = Field(default=2, ge=1, le=4)
    dropout: float = Field(default=DROPOUT, ge=0, lt=1)
    channels: int = Field(default=512, ge=8, le=2048)


class CTSAuxiliary(BaseModel):
    """Head on UPerNet's pyramid that only teaches: on level 5 of a ViT, on level 4 of a BEiT.

    Attributes:
        channels: Width between its convolution and its classifier.
        weight: Factor of its loss; 0 builds none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    channels: int = Field(default=256, ge=8, le=2048)
    weight: float = Field(default=0.4, ge=0)
