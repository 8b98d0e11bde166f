"""From what a mask holds to what is wrong with it, its likely cause and the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from segsweep.data.findings import FindingKind
from segsweep.data.interface import DatasetInfo
from segsweep.data.mask_survey import MaskFacts, Size
from segsweep.data.sources.label_ids import IdTable

_BYTE = 256
_INSTANCES = 1000  # Cityscapes' instanceIds: class * 1000 + number
_MANY_COLOURS = 4096
_MANY_IDS = 8  # stray ids that no annotator makes, where every other id is void
_USUAL_VOID = {0, 255, 65535}
_NEAREST = "export the masks again as PNG, and resize them with nearest neighbour only"


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """What is wrong with one mask; masks with equal symptoms make one finding.

    Attributes:
        kind: Which fault; ``cause`` and ``fix`` as in ``Finding``.
        found: What all masks with this symptom have in common.
        detail: What this mask has beyond that, for the first of them.
        ids: Stored ids that are wrong.
    """

    kind: FindingKind
    found: str
    cause: str
    fix: str
    detail: str = ""
    ids: frozenset[int] = frozenset()


def diagnose(facts: MaskFacts, ids: IdTable, info: DatasetInfo) -> Iterator[Symptom]:
    """Everything that is wrong with one mask."""
    if facts.image_trouble:
        yield _unreadable("images that cannot be used as they are", facts.image_trouble)
    if facts.unreadable:
        yield _unreadable("masks that cannot be read", facts.unreadable)
        return
    if facts.image_size is not None and facts.size is not None and facts.image_size != facts.size:
        yield _size_mismatch(facts.image_size, facts.size)
    if facts.format == "JPEG":
        yield Symptom(
            kind=FindingKind.JPEG_MASK,
            found="masks are stored as JPEG",
            cause="JPEG is lossy: it invents ids along every border, whatever the file is called",
            fix=_NEAREST,
        )
    elif not facts.counts:
        yield _colour_mask(facts, info)
    else:
        yield from _undeclared(facts, ids, info)


def is_all_void(facts: MaskFacts, ids: IdTable) -> bool:
    """Whether a mask holds ids, and none of them is a class."""
    strange = set(facts.counts) - set(ids.train_ids)
    declared_void = ids.others_are_void or strange <= set(ids.void)
    return bool(facts.counts) and declared_void and len(strange) == len(facts.counts)


def _unreadable(found: str, reason: str) -> Symptom:
    return Symptom(
        kind=FindingKind.UNREADABLE,
        found=found,
        cause="an interrupted download or copy, or a file of another format",
        fix="restore the files from the archive, or remove the pairs",
        detail=reason,
    )


def _size_mismatch(image: Size, mask: Size) -> Symptom:
    if image == mask[::-1]:
        cause = "the picture was turned by 90 degrees, as its EXIF tag asked for, and the mask was not"
    elif abs(image[0] * mask[1] - image[1] * mask[0]) <= max(*image, *mask):
        cause = "one of the two was resized and the other was not"
    else:
        cause = "the mask belongs to another image, or one of the two was cropped"
    return Symptom(
        kind=FindingKind.SIZE_MISMATCH,
        found="masks differ in size from their images",
        cause=cause,
        fix="export the masks at the size of their images; a mask may only be resized with nearest neighbour",
        detail=f"mask {mask[0]}x{mask[1]}, image {image[0]}x{image[1]} (width x height)",
    )


def _colour_mask(facts: MaskFacts, info: DatasetInfo) -> Symptom:
    colours = _colours(Path(facts.mask))
    known = {colour: train_id for train_id, colour in enumerate(info.palette)}
    matched = [colour for colour in colours if colour in known]
    if matched:
        cause = (
            f"class colours instead of ids: {len(matched)} of its {len(colours)} colours are the palette's"
        )
        fix = "replace every colour by the id of its class and save an 8-bit grey PNG"
    elif colours and all(red == green == blue for red, green, blue in colours):
        cause = "ids that were saved three times, as red, green and blue"
        fix = "keep one channel and save it as an 8-bit grey PNG"
    else:
        cause = "colours of another palette, or photographs in place of masks"
        fix = "export one class id per pixel, as an 8-bit grey or palette PNG"
    return Symptom(
        kind=FindingKind.COLOUR_MASK,
        found=f"masks have pixel mode {facts.mode!r} where ids are expected",
        cause=cause,
        fix=fix,
    )


def _colours(path: Path) -> list[tuple[int, int, int]]:
    with Image.open(path) as mask:
        found = mask.convert("RGB").getcolors(_MANY_COLOURS) or []
    return [colour for _, colour in found if isinstance(colour, tuple) and len(colour) == 3]


def _undeclared(facts: MaskFacts, ids: IdTable, info: DatasetInfo) -> Iterator[Symptom]:
    known = {*ids.train_ids, *ids.void}
    strange = frozenset(facts.counts) - known
    if not strange or (ids.others_are_void and not (facts.scattered and len(strange) >= _MANY_IDS)):
        return
    kind, cause, fix = (
        _wide(facts, strange, ids)
        or _grey_colours(facts, strange, info)
        or _stretched(facts, ids)
        or _noise(facts)
        or _missing_declaration(strange, ids)
    )
    share = sum(facts.counts[stored] for stored in strange) / sum(facts.counts.values())
    yield Symptom(
        kind=kind,
        found="masks hold ids that no class declares",
        cause=cause,
        fix=fix,
        detail=f"{share:.2%} of its pixels",
        ids=strange,
    )


_Verdict = tuple[FindingKind, str, str]


def _wide(facts: MaskFacts, strange: frozenset[int], ids: IdTable) -> _Verdict | None:
    if max(strange) < _BYTE:
        return None
    factor = math.gcd(*facts.counts)
    if factor % (_BYTE + 1) == 0:
        cause, fix = "8-bit ids were stretched to 16 bits (times 257)", "divide the ids by 257"
    elif factor % _BYTE == 0:
        cause, fix = "the two bytes of each id were swapped (ids times 256)", "divide the ids by 256"
    elif {stored // _INSTANCES for stored in strange} <= {*ids.train_ids, *ids.void}:
        cause = "instance ids: class times 1000 plus a number"
        fix = "take the files with class ids (in Cityscapes *_labelIds.png), or divide the ids by 1000"
    elif max({*ids.train_ids, *ids.void}) < _BYTE:
        cause, fix = (
            "16-bit masks of another data set or version",
            "take the masks that belong to these classes",
        )
    else:
        return None
    return FindingKind.SIXTEEN_BIT, cause, f"{fix} and save again" if "divide" in fix else fix


def _grey_colours(facts: MaskFacts, strange: frozenset[int], info: DatasetInfo) -> _Verdict | None:
    if len(strange) < 2 or not set(facts.counts) <= {_luma(colour) for colour in info.palette} | _USUAL_VOID:
        return None
    cause = "a mask of class colours was converted to grey: the values are the colours' brightness"
    return FindingKind.COLOUR_MASK, cause, "start from the colour masks and replace every colour by its id"


def _stretched(facts: MaskFacts, ids: IdTable) -> _Verdict | None:
    plain = set(facts.counts) - set(ids.void)
    factor = math.gcd(*plain) if plain else 1
    if (
        factor < 2
        or len(plain) < 4
        or not {stored // factor for stored in plain} <= {*ids.train_ids, *ids.void}
    ):
        return None
    return FindingKind.IDS_OUTSIDE, "ids were spread out for viewing", f"divide the ids by {factor}"


def _noise(facts: MaskFacts) -> _Verdict | None:
    if not facts.scattered:
        return None
    cause = "JPEG compression or resizing with interpolation: ids between those of neighbouring classes"
    return FindingKind.JPEG_MASK, cause, _NEAREST


def _missing_declaration(strange: frozenset[int], ids: IdTable) -> _Verdict:
    if len(strange) == 1 and strange <= _USUAL_VOID:
        stored = next(iter(strange))
        cause = f"{stored} marks pixels without a class"
        fix = f"declare it as void, as in `void: [{stored}]` of dataset.yaml"
    elif strange == {max(ids.train_ids) + 1}:
        stored = next(iter(strange))
        cause = "a class or void value is not declared, or ids count from 1 and 0 means no class"
        fix = f"declare {stored} in `void` or `classes`; or declare the classes from 1 and `void: [0]`"
    else:
        cause = "classes or a void value are not declared, or the masks belong to another version"
        fix = f"declare the ids in {ids.declared_in}, or take the masks of the right version"
    return FindingKind.IDS_OUTSIDE, cause, fix


def _luma(colour: tuple[int, int, int]) -> int:
    """Pillow's conversion to grey: ITU-R 601-2 in fixed point."""
    red, green, blue = colour
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
