"""Made-up street scenes: labelled data without a download, the same for everyone who uses the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segsweep.data.interface import DatasetInfo, Sample
from segsweep.data.sources.street_scene import CLASSES, RENDERER_VERSION, render_street
from segsweep.errors import DataError, InvalidInput, Problem
from segsweep.labels import IGNORE_INDEX

SYNTHETIC = DatasetInfo(
    name="synthetic",
    class_names=tuple(CLASSES),
    palette=tuple(CLASSES.values()),
    ignore_index=IGNORE_INDEX,
)
_SPLITS = ("train", "val")


class SyntheticOptions(BaseModel):
    """Size and number of the scenes.

    Attributes:
        height: Pixels; ``width`` likewise.
        train: Number of training scenes; ``val`` likewise.
        seed: Other seeds give other scenes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int = Field(default=128, ge=16, le=4096)
    width: int = Field(default=256, ge=16, le=8192)
    train: int = Field(default=512, ge=1)
    val: int = Field(default=128, ge=1)
    seed: int = Field(default=0, ge=0)

    @classmethod
    def checked(cls, options: Mapping[str, Any]) -> Self:
        """Options from a job file; raises ``InvalidInput`` with everything that is wrong."""
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            allowed = f"allowed are {', '.join(cls.model_fields)}"
            raise InvalidInput(
                Problem(
                    where=f"options.{'.'.join(str(part) for part in item['loc'])}",
                    message=f"found {item['input']!r}: {item['msg']}; {allowed}",
                )
                for item in error.errors()
            ) from error


@dataclass(frozen=True)
class SyntheticSource:
    """A ``Source`` whose samples are rendered on demand from ``(seed, split, index)``."""

    options: SyntheticOptions = field(default_factory=SyntheticOptions)
    info: DatasetInfo = SYNTHETIC

    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return _SPLITS

    def keys(self, split: str) -> Sequence[str]:
        """Keys of a split in order."""
        count = {"train": self.options.train, "val": self.options.val}.get(split)
        if count is None:
            raise DataError(f"synthetic has no split {split!r}; it has {', '.join(_SPLITS)}")
        return tuple(f"{index:06d}" for index in range(count))

    def load(self, split: str, key: str) -> Sample:
        """Read one sample."""
        generator = np.random.default_rng(
            (self.options.seed, _SPLITS.index(split), int(key), RENDERER_VERSION)
        )
        image, labels = render_street(generator, height=self.options.height, width=self.options.width)
        return Sample(key=key, image=image, labels=labels)

    def check(self) -> list[Problem]:
        """Problems that show without decoding pixels."""
        return []

    def fingerprint(self) -> str:
        """Identity of the content."""
        return hashlib.sha256(f"{RENDERER_VERSION} {self.options!r}".encode()).hexdigest()
