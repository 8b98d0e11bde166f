"""Labels that are one too high or one too low: it shows in the ids of the whole data set."""

from __future__ import annotations

from dataclasses import dataclass

from segsweep.data.findings import Finding, FindingKind
from segsweep.data.sources.label_ids import IdTable

_VOID_AFTER_REDUCING = frozenset({255, 65535})  # 0 less one, in 8 and in 16 bits
_FEWEST = 3  # classes: with fewer, a shift looks like a class that is absent


@dataclass(frozen=True, kw_only=True)
class LabelShift:
    """A shift of all labels by one.

    Attributes:
        finding: What to report.
        explains: Undeclared ids that are there because of it.
        absent: Stored ids of classes that never occur because of it.
    """

    finding: Finding
    explains: frozenset[int]
    absent: frozenset[int]


def label_shift(seen: frozenset[int], ids: IdTable) -> LabelShift | None:
    """The shift that explains the stored ids seen anywhere in a data set, if there is one."""
    classes, void = frozenset(ids.train_ids), frozenset(ids.void)
    if len(classes) < _FEWEST:
        return None
    return _too_high(seen, classes, void) or _too_low(seen, classes, void)


def _too_high(seen: frozenset[int], classes: frozenset[int], void: frozenset[int]) -> LabelShift | None:
    """Every id less one is declared and the one after the last class occurs; the lowest never does."""
    first, last = min(classes), max(classes)
    lowest = first - 1 if first - 1 in void else first
    beyond = last + 1
    if lowest in seen or beyond not in seen:
        return None
    shifted = (seen - void) | {beyond}
    if not {stored - 1 for stored in shifted} <= classes | void:
        return None
    if beyond in void and not classes - {first} <= seen:
        return None  # the id after the last class may be void indeed, and the first class rare
    return LabelShift(
        finding=_finding(
            found=f"ids up to {max(shifted)} occur and {lowest} never does; classes are {first}..{last}",
            cause="the masks count from one higher than the data set declares",
            fix="take 1 off every id in the masks, or declare the classes one higher",
        ),
        explains=(seen - classes - void) | {beyond},
        absent=frozenset({lowest}) & classes,
    )


def _too_low(seen: frozenset[int], classes: frozenset[int], void: frozenset[int]) -> LabelShift | None:
    """Every id plus one is a class; the last class never occurs and 255 may stand for the lost void."""
    first, last = min(classes), max(classes)
    strange = seen - classes - void
    if first == 0 or last in seen or first - 1 not in seen:
        return None
    if not strange or not strange <= _VOID_AFTER_REDUCING | {first - 1}:
        return None
    if not {stored + 1 for stored in seen & classes} <= classes:
        return None
    highest = max(seen & classes, default=first - 1)
    return LabelShift(
        finding=_finding(
            found=f"ids {first - 1}..{highest} occur and {last} never does; classes are {first}..{last}",
            cause="1 was taken off all ids before (`reduce_zero_label`), so that void became 255 or vanished",
            fix="take the masks as they were downloaded, or declare the classes one lower",
        ),
        explains=strange,
        absent=frozenset({last}),
    )


def _finding(*, found: str, cause: str, fix: str) -> Finding:
    return Finding(kind=FindingKind.OFF_BY_ONE, severity="error", split="", found=found, cause=cause, fix=fix)
