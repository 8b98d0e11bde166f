"""Methods by name, and the named designs of each."""

from __future__ import annotations

from collections.abc import Mapping

from segsweep.models.interface import MethodConfig
from segsweep.models.methods.eseg import PRESETS as ESEG_PRESETS
from segsweep.models.methods.eseg import ESegConfig

METHODS: dict[str, type[MethodConfig]] = {"eseg": ESegConfig}
PRESETS: dict[str, Mapping[str, MethodConfig]] = {"eseg": ESEG_PRESETS}
