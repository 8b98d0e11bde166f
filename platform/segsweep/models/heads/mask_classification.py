"""MaskFormer's head (Cheng et al. 2021): each query gives a class and a mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segsweep.losses.mask_matching import MaskPrediction, upcast
from segsweep.models.heads.query_decoder import QueryDecoder
from segsweep.models.interface import Pyramid, SegmentationOutput
from segsweep.models.layers.attention import PlainLinear
from segsweep.models.layers.conv import FanOutConv2d
from segsweep.models.layers.padding import Frame
from segsweep.models.layers.resize import resize_bilinear

GENERAL_THRESHOLD = 0.3  # MaskFormer, supplementary, "general inference"
_NOBODY = -1.0  # below every score of a query that is kept
_VOID = -0.5  # between nobody and somebody


@dataclass(frozen=True)
class FramedOutput(SegmentationOutput):
    """Logits of an image that was padded.

    Attributes:
        frame: Sizes of the image and of what the network saw; ``None`` if nothing was padded.
        layer_logits: ``(B, K, h, w)`` of the decoder layers before the last; training only.
    """

    frame: Frame | None = None
    layer_logits: tuple[Tensor, ...] | None = None

    def semantic_logits(self, size: tuple[int, int]) -> Tensor:
        """Logits at image size, ``(B, K, H, W)``, without the padding."""
        return self.resized(self.logits, size)

    def resized(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Enlarge to what the network saw, cut the padding off, resize to ``size``; bilinear."""
        return resize_bilinear(maps if self.frame is None else self.frame.enlarge(maps), size)


@dataclass(frozen=True, kw_only=True)
class MaskOutput(FramedOutput):
    """Classes and masks of the queries.

    Attributes:
        logits: Logits of the masks, ``(B, Q, h, w)``; ``mask_logits`` is another name. There are no logits of
            classes before masks are merged: use ``semantic_logits``.
        class_logits: ``(B, Q, K + 1)``, the last for "no object".
        auxiliary: What the decoder layers before the last say; ``None`` in evaluation mode.
        threshold: Score that a query must exceed where ``semantic_logits`` merges by general inference;
            ``None`` for semantic inference.
    """

    class_logits: Tensor
    auxiliary: tuple[MaskPrediction, ...] | None = None
    threshold: float | None = None

    @property
    def mask_logits(self) -> Tensor:
        """``(B, Q, h, w)``."""
        return self.logits

    @property
    def prediction(self) -> MaskPrediction:
        """What the last decoder layer says."""
        return MaskPrediction(self.class_logits, self.logits)

    def semantic_logits(self, size: tuple[int, int]) -> Tensor:
        """Scores of the classes at image size, ``(B, K, H, W)``: no probabilities, they do not sum to one.

        Semantic inference: sum over the queries of class probability times mask probability, formed at the
        size of the padded image (MaskFormer, Sec. 3.3 and official code). General inference: the best
        score of a query of the class, and semantic inference for images of which no query is kept.
        """
        maps = [self._semantic_map(image, size) for image in range(len(self.logits))]
        if self.threshold is not None:
            scores = [self._general_scores(image, size, self.threshold) for image in range(len(maps))]
            maps = [
                torch.where(score.max() == _VOID, merged, score[:-1])
                for score, merged in zip(scores, maps, strict=True)
            ]
        return torch.stack(maps)

    def general_prediction(self, size: tuple[int, int], threshold: float = GENERAL_THRESHOLD) -> Tensor:
        """Class of the query that scores best at each pixel (MaskFormer, Sec. 3.3, general inference).

        Args:
            size: Height and width in pixels.
            threshold: Score that a query must exceed to take part; "no object" never does.

        Returns:
            ``(B, H, W)`` int64, K ("void") in images of which no query is kept.
        """
        scores = (self._general_scores(image, size, threshold) for image in range(len(self.logits)))
        return torch.stack([score.argmax(0) for score in scores])

    def masks(self, image: int, size: tuple[int, int]) -> Tensor:
        """Logits of an image's masks at image size, ``(Q, H, W)``, float32 at least."""
        return self.resized(upcast(self.logits[image : image + 1]), size)[0]

    def probabilities(self, image: int) -> Tensor:
        """Probabilities of the classes of an image's queries, ``(Q, K + 1)``."""
        return upcast(self.prediction.class_logits[image]).softmax(-1)

    def _semantic_map(self, image: int, size: tuple[int, int]) -> Tensor:
        """``(K, H, W)``."""
        logits = upcast(self.logits[image : image + 1])
        enlarged = logits if self.frame is None else self.frame.enlarge(logits)
        classes = self.probabilities(image)[:, :-1]
        merged = classes.T @ enlarged[0].flatten(1).sigmoid()
        return resize_bilinear(merged.view(1, -1, *enlarged.shape[-2:]), size)[0]

    def _general_scores(self, image: int, size: tuple[int, int], threshold: float) -> Tensor:
        """Best score of a query of each class, ``(K + 1, H, W)``; the last wins where no query is kept."""
        confidence, classes = self.probabilities(image).max(-1)
        masks = self.masks(image, size)
        void = self.prediction.class_logits.shape[-1] - 1
        kept = (classes != void) & (confidence > threshold)
        scores = torch.where(kept[:, None, None], confidence[:, None, None] * masks.sigmoid(), _NOBODY)
        best = masks.new_full((void + 1, *masks.shape[1:]), _NOBODY)
        best[void] = _VOID
        return best.scatter_reduce(0, classes[:, None, None].expand_as(scores), scores, "amax")


class MaskHead(nn.Module):
    """Queries to masks: a perceptron on each state, and its dot product with every mask feature.

    Args:
        decoder: Gives the states of the queries.
        channels: Width of the states.
        mask_channels: Width of the mask features.
        deep_supervision: Whether all layers predict in training mode.
    """

    def __init__(
        self, decoder: QueryDecoder, *, channels: int, mask_channels: int, deep_supervision: bool = True
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.deep_supervision = deep_supervision
        self.mask_embedding = nn.Sequential(
            PlainLinear(channels, channels),
            nn.ReLU(inplace=True),
            PlainLinear(channels, channels),
            nn.ReLU(inplace=True),
            PlainLinear(channels, mask_channels),
        )

    @property
    def predicts_all(self) -> bool:
        """Whether the layers before the last give masks too."""
        return self.training and self.deep_supervision

    def masks(self, embeddings: Tensor, features: Tensor) -> Tensor:
        """Dot products ``(B, n, C)`` with ``(B, C, h, w) -> (B, n, h, w)``."""
        products = torch.bmm(embeddings, features.flatten(2))
        return products.view(*products.shape[:2], *features.shape[-2:])


class MaskClassificationHead(MaskHead):
    """MaskFormer's head: a class and a mask for each query.

    Args:
        decoder: Gives the states of the queries.
        channels: Width of the states.
        mask_channels: Width of the mask features.
        num_classes: K.
        deep_supervision: Whether all layers predict in training mode.
        threshold: Merge by general inference those queries that score more; ``None`` for semantic.

    Attributes:
        threshold: May be set at any time: both inferences read the same weights.
    """

    def __init__(
        self,
        decoder: QueryDecoder,
        *,
        channels: int,
        mask_channels: int,
        num_classes: int,
        deep_supervision: bool = True,
        threshold: float | None = None,
    ) -> None:
        super().__init__(
            decoder, channels=channels, mask_channels=mask_channels, deep_supervision=deep_supervision
        )
        self.threshold = threshold
        self.classifier = PlainLinear(channels, num_classes + 1)

    def forward(self, pyramid: Pyramid) -> MaskOutput:
        """Mask features (finest level) and memory (coarsest) to classes and masks."""
        layers = self.decoder(pyramid[max(pyramid)], every_layer=True)
        states = torch.cat(layers, dim=1)  # (B, L * Q, C)
        # At inference, too, the published graph classifies and embeds the states of all layers, and its cost
        # is counted so (0.12 of 48.66 G MACs); only the masks of the layers before the last are left out.
        classes = self.classifier(states).chunk(len(layers), dim=1)
        embeddings = self.mask_embedding(states).chunk(len(layers), dim=1)
        if not self.predicts_all:
            classes, embeddings = classes[-1:], embeddings[-1:]
        masks = self.masks(torch.cat(embeddings, dim=1), pyramid[min(pyramid)]).chunk(len(classes), dim=1)
        auxiliary = tuple(MaskPrediction(*layer) for layer in zip(classes[:-1], masks[:-1], strict=True))
        return MaskOutput(
            logits=masks[-1],
            class_logits=classes[-1],
            auxiliary=auxiliary if self.training else None,
            threshold=self.threshold,
        )


class QueryClassHead(MaskHead):
    """PerPixelBaseline+ (MaskFormer, Sec. 4.1): the mask logits of query i are those of class i."""

    def forward(self, pyramid: Pyramid) -> FramedOutput:
        """Mask features (finest level) and memory (coarsest) to logits."""
        states = self.decoder(pyramid[max(pyramid)], every_layer=self.predicts_all)
        embeddings = self.mask_embedding(torch.cat(states, dim=1))
        logits = self.masks(embeddings, pyramid[min(pyramid)]).chunk(len(states), dim=1)
        return FramedOutput(logits=logits[-1], layer_logits=logits[:-1] if self.training else None)


class PerPixelHead(nn.Module):
    """PerPixelBaseline (MaskFormer, Sec. 4.1): a 1x1 convolution on the mask features.

    Args:
        channels: Width of the mask features.
        num_classes: K.
    """

    def __init__(self, channels: int, *, num_classes: int) -> None:
        super().__init__()
        self.classifier = FanOutConv2d(channels, num_classes, 1)

    def forward(self, pyramid: Pyramid) -> FramedOutput:
        """Mask features, the finest level, to logits."""
        return FramedOutput(logits=self.classifier(pyramid[min(pyramid)]))
