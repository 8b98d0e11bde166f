"""Linear layers, two-layer perceptrons and stochastic depth of transformer blocks."""

from __future__ import annotations

from torch import Tensor, nn

_INIT_STD = 0.02  # ViT, Swin, SenFormer


class TruncatedNormalLinear(nn.Linear):
    """Linear layer whose weights are drawn with standard deviation 0.02, biases zero."""

    def reset_parameters(self) -> None:
        """Draw new weights; nothing on the meta device, where drawing would import torch._dynamo (1.3 s)."""
        if self.weight.is_meta:
            return
        # The papers truncate at 2, a hundred standard deviations away: the plain normal is the same.
        nn.init.normal_(self.weight, std=_INIT_STD)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class MLP(nn.Module):
    """Linear, GELU, linear: ``(..., C) -> (..., C)``.

    Args:
        dim: Width of input and output.
        hidden: Width between the layers.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = TruncatedNormalLinear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = TruncatedNormalLinear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(..., C) -> (..., C)``."""
        return self.fc2(self.act(self.fc1(tokens)))  # type: ignore[no-any-return]


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): leave a residual branch out for some images of the batch.

    The branches that stay are divided by the probability to stay, so that the mean does not change. In
    evaluation mode the branch passes as it is.

    Args:
        rate: Probability that an image's branch is left out, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop path rate {rate} is outside [0, 1)")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """``(B, ...) -> (B, ...)``."""
        if not self.training or self.rate == 0:
            return branch
        keep = 1 - self.rate
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        return branch * branch.new_empty(shape).bernoulli_(keep).div(keep)

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate:.3f}"
