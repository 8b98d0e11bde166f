"""ResNet-101c of DeepLab (Chen et al. 2017, Sec. 3.2.1) as MaskFormer uses it, at stride 32."""

from __future__ import annotations

from segsweep.models.backbones.timm_features import TimmFeatures

MULTI_GRID_RESNETS: dict[str, str] = {
    # name -> timm network of the same widths: three 3x3 stem convolutions of 64, 64 and 128. Its cost fits
    # MaskFormer's printed 80 G; timm's resnet101c, with 32, 32 and 64, comes to 74 G.
    "resnet101c_multigrid": "resnet101s",
}
MULTI_GRID = (1, 2, 4)  # dilations of the 3x3 convolutions of the last stage


class MultiGridResNet(TimmFeatures):
    """A ResNet with a deep stem whose last stage looks further with each block.

    Args:
        name: A key of ``MULTI_GRID_RESNETS``.
        levels: Levels to give, among 2 to 5.

    Attributes:
        channels: Width of each level of the output.
        strides: Stride of each level: ``2**level``.

    Raises:
        ValueError: If the name is unknown or a level does not exist.
    """

    def __init__(self, name: str, *, levels: tuple[int, ...]) -> None:
        if name not in MULTI_GRID_RESNETS:
            raise ValueError(f"backbone.name={name!r} is none of {tuple(MULTI_GRID_RESNETS)}")
        super().__init__(MULTI_GRID_RESNETS[name], levels=levels)
        if "layer4" not in self.features:  # levels below 5 do not build it
            return
        for block, dilation in zip(self.features["layer4"], MULTI_GRID, strict=True):
            block.conv2.dilation = block.conv2.padding = (dilation, dilation)
