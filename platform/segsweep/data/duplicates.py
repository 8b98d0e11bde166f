"""The same picture in two splits: a score on it is not a test of what was learned."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segsweep.data.findings import SHOWN, Finding, FindingKind
from segsweep.data.interface import Source
from segsweep.data.mask_survey import MaskFacts
from segsweep.errors import DataError

_THUMBNAIL = (16, 16)
_ALIKE = 6.0  # mean difference of two thumbnails, in grey levels: what re-encoding leaves
_COMPARED = 200  # pairs of equal masks whose images are decoded


@dataclass(frozen=True, kw_only=True)
class _Place:
    split: str
    key: str
    image: Path | None

    @property
    def name(self) -> str:
        return str(self.image) if self.image is not None else f"{self.split}/{self.key}"


_Couple = tuple[_Place, _Place]


@dataclass
class DuplicateSearch:
    """Finds equal image files, and equal masks whose images look alike, across splits."""

    source: Source
    _by_size: dict[int, list[_Place]] = field(default_factory=lambda: defaultdict(list))
    _by_mask: dict[bytes, list[_Place]] = field(default_factory=lambda: defaultdict(list))

    def add(self, split: str, facts: MaskFacts) -> None:
        """Take note of a pair."""
        place = _Place(split=split, key=facts.key, image=facts.image)
        if facts.image is not None and facts.image_size is not None:
            self._by_size[facts.image.stat().st_size].append(place)
        if len(facts.counts) > 1:  # masks of one class are often equal by chance
            self._by_mask[facts.digest].append(place)

    def findings(self) -> Iterator[Finding]:
        """One finding for every two splits that share pictures."""
        couples: dict[tuple[str, str], dict[tuple[str, str], _Couple]] = defaultdict(dict)
        for couple in itertools.chain(self._equal_files(), self._alike()):
            splits = couple[0].split, couple[1].split
            couples[splits].setdefault((couple[0].key, couple[1].key), couple)
        for splits, found in couples.items():
            yield _finding("+".join(splits), list(found.values()))

    def _equal_files(self) -> Iterator[_Couple]:
        for places in self._by_size.values():
            if len({place.split for place in places}) < 2:
                continue
            by_content: dict[bytes, list[_Place]] = defaultdict(list)
            for place in places:
                if place.image is not None:
                    by_content[hashlib.blake2b(place.image.read_bytes()).digest()].append(place)
            for equal in by_content.values():
                yield from _across_splits(equal)

    def _alike(self) -> Iterator[_Couple]:
        suspects = (couple for places in self._by_mask.values() for couple in _across_splits(places))
        for couple in itertools.islice(suspects, _COMPARED):
            first, second = (self._thumbnail(place) for place in couple)
            if first is not None and second is not None and np.abs(first - second).mean() <= _ALIKE:
                yield couple

    def _thumbnail(self, place: _Place) -> NDArray[np.float32] | None:
        try:
            if place.image is None:
                picture = Image.fromarray(self.source.load(place.split, place.key).image)
            else:
                picture = Image.open(place.image)
            small = picture.convert("L").resize(_THUMBNAIL, Image.Resampling.BOX)
        except (DataError, OSError, SyntaxError, ValueError):
            return None  # reported as unreadable where the samples are read
        return np.asarray(small, dtype=np.float32)


def _across_splits(places: Sequence[_Place]) -> Iterator[_Couple]:
    """Every place of a later split with the first place of each earlier one."""
    first_of: dict[str, _Place] = {}
    for place in places:
        for split, first in first_of.items():
            if split != place.split:
                yield first, place
        first_of.setdefault(place.split, place)


def _finding(splits: str, couples: Sequence[_Couple]) -> Finding:
    return Finding(
        kind=FindingKind.DUPLICATE,
        severity="warning",
        split=splits,
        files=tuple(f"{first.name} = {second.name}" for first, second in couples[:SHOWN]),
        count=len(couples),
        found=f"{len(couples)} pictures are in both splits",
        cause="the data were split after copies had been made, or files were copied between splits",
        fix="remove them from one of the splits; otherwise the score counts what was learned by heart",
    )
