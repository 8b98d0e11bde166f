"""Methods by name, and the named designs of each."""

from __future__ import annotations

from collections.abc import Mapping

from segsweep.models.interface import MethodConfig
from segsweep.models.methods.cts import PRESETS as CTS_PRESETS
from segsweep.models.methods.cts import CTSConfig
from segsweep.models.methods.deeplab import PRESETS as DEEPLAB_PRESETS
from segsweep.models.methods.deeplab import DeepLabConfig
from segsweep.models.methods.eseg import PRESETS as ESEG_PRESETS
from segsweep.models.methods.eseg import ESegConfig
from segsweep.models.methods.hfgd import PRESETS as HFGD_PRESETS
from segsweep.models.methods.hfgd import HFGDConfig
from segsweep.models.methods.maskformer import PRESETS as MASKFORMER_PRESETS
from segsweep.models.methods.maskformer import MaskFormerConfig
from segsweep.models.methods.policy import PRESETS as POLICY_PRESETS
from segsweep.models.methods.policy import PolicyConfig
from segsweep.models.methods.senformer import PRESETS as SENFORMER_PRESETS
from segsweep.models.methods.senformer import SenFormerConfig

METHODS: dict[str, type[MethodConfig]] = {
    "cts": CTSConfig,
    "deeplab": DeepLabConfig,
    "eseg": ESegConfig,
    "hfgd": HFGDConfig,
    "maskformer": MaskFormerConfig,
    "policy": PolicyConfig,
    "senformer": SenFormerConfig,
}
PRESETS: dict[str, Mapping[str, MethodConfig]] = {
    "cts": CTS_PRESETS,
    "deeplab": DEEPLAB_PRESETS,
    "eseg": ESEG_PRESETS,
    "hfgd": HFGD_PRESETS,
    "maskformer": MASKFORMER_PRESETS,
    "policy": POLICY_PRESETS,
    "senformer": SENFORMER_PRESETS,
}
