"""What the doctor of data sets reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

SHOWN = 10  # file names in one finding


class FindingKind(StrEnum):
    """Kinds of faults in a labelled data set."""

    IDS_OUTSIDE = "ids-outside-classes"
    COLOUR_MASK = "colour-mask"
    OFF_BY_ONE = "off-by-one"
    ALL_VOID = "all-void"
    PAIRS = "pairs"
    SIZE_MISMATCH = "size-mismatch"
    ABSENT_CLASS = "absent-class"
    DUPLICATE = "duplicate"
    SIXTEEN_BIT = "sixteen-bit"
    JPEG_MASK = "jpeg-mask"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault, with every file that has it.

    Attributes:
        kind: Which fault.
        severity: ``error``: preparing fails or training learns wrong labels; ``warning``: worth a look.
        split: Where it was found; several are joined by ``+``; empty for the whole data set.
        files: The first file names, at most ``SHOWN``.
        count: How many files have it; 0 where it is not a matter of files.
        found: What was found.
        cause: What likely led to it.
        fix: What to do.
    """

    kind: FindingKind
    severity: Literal["error", "warning"]
    split: str
    files: tuple[str, ...] = ()
    count: int = 0
    found: str
    cause: str
    fix: str

    def __str__(self) -> str:
        place = f" in {self.split}" if self.split else ""
        lines = [
            f"{self.severity}: {self.kind}{place}: {self.found}",
            f"  likely cause: {self.cause}",
            f"  fix: {self.fix}",
        ]
        if self.files:
            more = f" and {self.count - len(self.files)} more" if self.count > len(self.files) else ""
            lines.append(f"  files: {', '.join(self.files)}{more}")
        return "\n".join(lines)
