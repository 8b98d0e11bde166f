"""Methods by name, and the named designs of each."""

from __future__ import annotations

from collections.abc import Mapping

from segsweep.models.interface import MethodConfig
from segsweep.models.methods.deeplab import PRESETS as DEEPLAB_PRESETS
from segsweep.models.methods.deeplab import DeepLabConfig
from segsweep.models.methods.eseg import PRESETS as ESEG_PRESETS
from segsweep.models.methods.eseg import ESegConfig
from segsweep.models.methods.hfgd import PRESETS as HFGD_PRESETS
from segsweep.models.methods.hfgd import HFGDConfig
from segsweep.models.methods.senformer import PRESETS as SENFORMER_PRESETS
from segsweep.models.methods.senformer import SenFormerConfig

METHODS: dict[str, type[MethodConfig]] = {
    "deeplab": DeepLabConfig,
    "eseg": ESegConfig,
    "hfgd": HFGDConfig,
    "senformer": SenFormerConfig,
}
PRESETS: dict[str, Mapping[str, MethodConfig]] = {
    "deeplab": DEEPLAB_PRESETS,
    "eseg": ESEG_PRESETS,
    "hfgd": HFGD_PRESETS,
    "senformer": SENFORMER_PRESETS,
}
