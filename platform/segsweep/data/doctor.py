"""The doctor of labelled data: reads every mask once and explains what is wrong with the set.

Images are not decoded, so a thousand masks take a second or two; see ``benchmarks/data_speed.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segsweep.data.duplicates import DuplicateSearch
from segsweep.data.findings import SHOWN, Finding, FindingKind
from segsweep.data.interface import Source
from segsweep.data.label_shift import label_shift
from segsweep.data.mask_diagnosis import Symptom, diagnose, is_all_void
from segsweep.data.mask_survey import MaskFacts, id_table, paired_source, survey
from segsweep.data.sources.label_ids import IdTable
from segsweep.errors import DataError, Problem

__all__ = ["Finding", "FindingKind", "check_source"]

_IDS = 2**16
_LEARNED = "train"
_SCORED = "val"
_WITHHELD = "test"  # benchmarks keep these labels to themselves and ship void masks
_EIGHT_BIT_MODES = {"L", "P", "1"}
_NAMES_SHOWN = 20


def check_source(
    source: Source,
    *,
    splits: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Look for faults in the labels of a data set.

    Args:
        source: The data set.
        splits: Which to read; default all of them. Pairs and folders are checked in all.
        progress: Called with the number of masks read and of all masks.

    Returns:
        Findings, errors first; empty for a clean data set.

    Raises:
        DataError: If a split is unknown.
    """
    chosen = tuple(source.splits() if splits is None else splits)
    unknown = [split for split in chosen if split not in source.splits()]
    if unknown:
        allowed = ", ".join(source.splits())
        raise DataError(f"{source.info.name} has no split {unknown[0]!r}; allowed are {allowed}")
    checkup = _Checkup(source=source)
    total = sum(len(source.keys(split)) for split in chosen)
    done = 0
    for split in chosen:
        for facts in survey(source, split, source.keys(split)):
            checkup.add(split, facts)
            done += 1
            if progress is not None:
                progress(done, total)
    findings = [*_structure(source), *checkup.findings()]
    return sorted(findings, key=lambda finding: finding.severity == "warning")


@dataclass
class _Group:
    """Files of one split with the same symptom."""

    symptom: Symptom
    files: list[str] = field(default_factory=list)
    count: int = 0
    ids: set[int] = field(default_factory=set)

    def add(self, facts: MaskFacts, symptom: Symptom) -> None:
        self.count += 1
        self.ids |= symptom.ids
        if len(self.files) < SHOWN:
            self.files.append(str(facts.image) if facts.image_trouble and facts.image else facts.mask)


@dataclass
class _Tally:
    """What all masks of a split hold together."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_IDS, dtype=np.int64))
    modes: Counter[str] = field(default_factory=Counter)
    void: list[str] = field(default_factory=list)
    masks: int = 0

    def add(self, facts: MaskFacts, ids: IdTable) -> None:
        self.masks += 1
        self.modes[facts.mode] += 1
        for stored, number in facts.counts.items():
            self.pixels[stored] += number
        if is_all_void(facts, ids):
            self.void.append(facts.mask)


@dataclass
class _Checkup:
    """Collects facts mask by mask and draws the conclusions that need all of them."""

    source: Source
    ids: IdTable = field(init=False)
    tallies: dict[str, _Tally] = field(default_factory=dict)
    groups: dict[tuple[str, FindingKind, str], _Group] = field(default_factory=dict)
    duplicates: DuplicateSearch = field(init=False)

    def __post_init__(self) -> None:
        self.ids = id_table(self.source)
        self.duplicates = DuplicateSearch(source=self.source)

    def add(self, split: str, facts: MaskFacts) -> None:
        self.tallies.setdefault(split, _Tally()).add(facts, self.ids)
        self.duplicates.add(split, facts)
        for symptom in diagnose(facts, self.ids, self.source.info):
            key = (split, symptom.kind, symptom.cause)
            self.groups.setdefault(key, _Group(symptom=symptom)).add(facts, symptom)

    def findings(self) -> Iterator[Finding]:
        seen = np.flatnonzero(sum(tally.pixels for tally in self.tallies.values())).tolist()
        shift = label_shift(frozenset(seen), self.ids)
        if shift is not None:
            yield shift.finding
        for (split, kind, _), group in self.groups.items():
            explained = shift is not None and group.ids and group.ids <= shift.explains
            if not explained or kind is not FindingKind.IDS_OUTSIDE:
                yield _of_group(split, group)
        yield from self._narrow_masks()
        yield from self._void()
        yield from self._absent(frozenset() if shift is None else shift.absent)
        yield from self.duplicates.findings()

    def _narrow_masks(self) -> Iterator[Finding]:
        """Masks of 8 bits cannot hold classes above 255."""
        highest = max(self.ids.train_ids)
        modes = {mode for tally in self.tallies.values() for mode in tally.modes if mode}
        if highest < 2**8 or not modes or not modes <= _EIGHT_BIT_MODES:
            return
        yield Finding(
            kind=FindingKind.SIXTEEN_BIT,
            severity="error",
            split="",
            found=f"all masks hold 8 bits but the classes' ids go up to {highest}",
            cause="16-bit masks were saved as 8-bit pictures: ids above 255 were cut off",
            fix="export the masks again as 16-bit grey PNG",
        )

    def _void(self) -> Iterator[Finding]:
        for split, tally in self.tallies.items():
            withheld = split == _WITHHELD and len(tally.void) == tally.masks
            if tally.void and not withheld:
                yield Finding(
                    kind=FindingKind.ALL_VOID,
                    severity="warning",
                    split=split,
                    files=tuple(tally.void[:SHOWN]),
                    count=len(tally.void),
                    found=f"{len(tally.void)} of {tally.masks} masks hold no class at all",
                    cause="images that were never annotated, or ids that are declared void by mistake",
                    fix="remove the pairs, or correct the ids of the classes",
                )

    def _absent(self, explained: frozenset[int]) -> Iterator[Finding]:
        present = {
            split: {stored for stored in self.ids.train_ids if self.tallies[split].pixels[stored]}
            for split in (_LEARNED, _SCORED)
            if split in self.tallies
        }
        for split, stored_ids in present.items():
            absent = sorted(set(self.ids.train_ids) - stored_ids - explained)
            if absent:
                yield self._absent_finding(split, absent)

    def _absent_finding(self, split: str, absent: Sequence[int]) -> Finding:
        names = [self.source.info.class_names[self.ids.train_ids[stored]] for stored in absent]
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        consequence = "a model cannot learn them" if split == _LEARNED else "their IoU says nothing there"
        return Finding(
            kind=FindingKind.ABSENT_CLASS,
            severity="warning",
            split=split,
            found=f"no pixel of {', '.join(names[:_NAMES_SHOWN])}{more}: {consequence}",
            cause="rare classes in a small split, or a declared id that the masks do not use",
            fix="split the data again so that every class is in train and val, or remove the classes",
        )


def _of_group(split: str, group: _Group) -> Finding:
    symptom = group.symptom
    ids = f": {_listed(sorted(group.ids))}" if group.ids else ""
    detail = f" (first file: {symptom.detail})" if symptom.detail else ""
    return Finding(
        kind=symptom.kind,
        severity="error",
        split=split,
        files=tuple(group.files),
        count=group.count,
        found=f"{group.count} {symptom.found}{ids}{detail}",
        cause=symptom.cause,
        fix=symptom.fix,
    )


def _listed(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(str(stored) for stored in ids[:SHOWN]) + more


def _structure(source: Source) -> Iterator[Finding]:
    """Missing folders, files without a partner, and what else a source finds without decoding pixels."""
    paired = paired_source(source)
    if paired is None:
        problems = [("", problem) for problem in source.check()]
    else:
        problems = [("", problem) for problem in paired.extra_problems]
        problems += [(split, problem) for split, files in paired.files.items() for problem in files.problems]
    for split, problem in problems:
        yield _of_problem(split, problem)
    for split in source.splits():
        if not source.keys(split) and not problems:
            yield _of_problem(split, Problem(where=split, message="the split is empty; add samples"))


def _of_problem(split: str, problem: Problem) -> Finding:
    found, _, remedy = problem.message.rpartition("; ")
    jpeg = problem.where.lower().endswith((".jpg", ".jpeg")) and "mask" in problem.message
    return Finding(
        kind=FindingKind.JPEG_MASK if jpeg else FindingKind.PAIRS,
        severity="error",
        split=split,
        files=(problem.where,),
        count=1,
        found=found or problem.message,
        cause=(
            "JPEG is lossy: it invents ids along every border"
            if jpeg
            else "an incomplete download or export, or a name that differs between image and mask"
        ),
        fix=remedy,
    )
