"""SenFormer's head (Bousselham et al. 2021): an ensemble of learners, one or more on each level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from segsweep.models.heads.merging import LevelLogits, PlainMerge, on_grid
from segsweep.models.interface import Pyramid, SegmentationOutput
from segsweep.models.layers.resize import resize_bilinear

SMALLEST_PROBABILITY = 1e-15  # so that the logarithm of a merged map is finite


@dataclass(frozen=True)
class EnsembleOutput(SegmentationOutput):
    """Merged prediction of an ensemble.

    Attributes:
        logits: Logarithm of the merged probabilities, ``(B, K, h, w)`` on the grid of the finest level.
        auxiliary_logits: As in ``SegmentationOutput``.
        learner_logits: ``(B, K, h, w)`` of each learner on the same grid; ``None`` in evaluation mode.
    """

    learner_logits: tuple[Tensor, ...] | None = None

    def semantic_logits(self, size: tuple[int, int]) -> Tensor:
        """Log-probabilities at image size: the probabilities, not their logarithms, are enlarged."""
        enlarged = resize_bilinear(self.logits.exp(), size)
        return enlarged.clamp_min(SMALLEST_PROBABILITY).log_()


class LearnerEnsemble(nn.Module):
    """Learners on the levels of a pyramid, and the merging of what they say.

    Args:
        levels: Level that each learner reads, from fine to coarse; a level may have several learners.
        learners: ``(B, C, h, w) -> (B, K, h, w)`` each, in the order of ``levels``.
        merging: Merges in training mode, and in evaluation mode unless ``inference_merging`` is given.
        inference_merging: Merges in evaluation mode.
        merged_levels: Levels whose learners are run and merged in evaluation mode; all if ``None``.

    Attributes:
        merged_levels: May be set to other levels at any time (SenFormer, Table 1).

    Raises:
        ValueError: If there is not one learner for each entry of ``levels``.
    """

    def __init__(
        self,
        levels: Sequence[int],
        learners: Sequence[nn.Module],
        *,
        merging: nn.Module | None = None,
        inference_merging: PlainMerge | None = None,
        merged_levels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if len(levels) != len(learners):
            raise ValueError(f"{len(learners)} learners for {len(levels)} levels; give one learner a level")
        self.levels = tuple(levels)
        self.learners = nn.ModuleList(learners)
        self.merging = merging if merging is not None else PlainMerge("average")
        self.inference_merging = inference_merging
        self.merged_levels = tuple(sorted(merged_levels if merged_levels is not None else set(levels)))

    def forward(self, pyramid: Pyramid) -> EnsembleOutput:
        """``{l: (B, C, h_l, w_l)} -> EnsembleOutput`` on the grid of the finest level."""
        finest = pyramid[min(self.levels)]
        size = (finest.shape[-2], finest.shape[-1])
        wanted = self.levels if self.training else self.merged_levels
        predictions = [
            LevelLogits(level, learner(pyramid[level]))
            for level, learner in zip(self.levels, self.learners, strict=True)
            if level in wanted
        ]
        merge = self.merging
        if self.inference_merging is not None and not self.training:
            merge = self.inference_merging
        logits = merge(predictions, size).clamp_min(SMALLEST_PROBABILITY).log()
        if not self.training:
            return EnsembleOutput(logits=logits)
        learner_logits = tuple(on_grid(prediction.logits, size) for prediction in predictions)
        return EnsembleOutput(logits=logits, learner_logits=learner_logits)
