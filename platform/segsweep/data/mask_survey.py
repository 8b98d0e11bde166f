"""One pass over the masks of a split: what each of them holds, without decoding its image."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segsweep.data.interface import Labels, Source
from segsweep.data.sources.ade20k_panoptic import Ade20kPanopticSource
from segsweep.data.sources.converted_source import ConvertedSource
from segsweep.data.sources.image_files import image_problem, mask_mode_problem, read_mask
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.paired_files import Pair, PairedSource
from segsweep.errors import DataError

Size = tuple[int, int]  # width and height in pixels, as Pillow gives them

_IDS = 2**16
_THREADS = min(4, os.cpu_count() or 1)  # decoding and hashing leave the interpreter lock
_FILES_A_TASK = 16
_TASKS_AHEAD = 2 * _THREADS
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True, kw_only=True)
class MaskFacts:
    """What one mask holds.

    Attributes:
        key: Of the sample.
        mask: File, or the key where the source has no file of its own for a mask.
        image: File of the image; ``None`` where the source does not tell.
        mode: Pillow's pixel mode, empty if the file cannot be read.
        format: Pillow's file format, such as ``"PNG"``; empty for other formats.
        size: Of the mask; ``image_size`` that of the image, ``None`` if unknown.
        counts: Stored id -> pixels; empty where the mode cannot hold ids.
        scattered: Whether the pixels of undeclared ids mostly stand alone, as compression leaves them.
        digest: Of the pixels; equal for equal masks.
        unreadable: Why the mask cannot be read, or an empty string.
        image_trouble: Why the image cannot be used, or an empty string.
    """

    key: str
    mask: str
    image: Path | None = None
    mode: str = ""
    format: str = ""
    size: Size | None = None
    image_size: Size | None = None
    counts: Mapping[int, int] = field(default_factory=dict)
    scattered: bool = False
    digest: bytes = b""
    unreadable: str = ""
    image_trouble: str = ""


def paired_source(source: Source) -> PairedSource | None:
    """The pairs of files behind a source; ``None`` if it has none, so that samples must be loaded."""
    if isinstance(source, Ade20kPanopticSource):
        return source.scenes
    return source if isinstance(source, PairedSource) else None


def id_table(source: Source) -> IdTable:
    """How stored ids become train ids; for a source without pairs its samples' labels are stored ids."""
    paired = paired_source(source)
    if paired is not None:
        return paired.ids
    return IdTable(
        train_ids={train_id: train_id for train_id in range(source.info.num_classes)},
        void=(source.info.ignore_index,),
        ignore_index=source.info.ignore_index,
        declared_in=f"the classes of {source.info.name}",
    )


def survey(source: Source, split: str, keys: Sequence[str]) -> Iterator[MaskFacts]:
    """What the masks of these keys hold, in their order; threads work a little ahead."""
    examine = _examiner(source, split)
    tasks = deque(keys[first : first + _FILES_A_TASK] for first in range(0, len(keys), _FILES_A_TASK))
    waiting: deque[Future[list[MaskFacts]]] = deque()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="segsweep-masks") as pool:
        try:
            while tasks or waiting:
                while tasks and len(waiting) < _TASKS_AHEAD:
                    waiting.append(pool.submit(_each, examine, tasks.popleft()))
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _each(examine: Callable[[str], MaskFacts], keys: Sequence[str]) -> list[MaskFacts]:
    return [examine(key) for key in keys]


def _examiner(source: Source, split: str) -> Callable[[str], MaskFacts]:
    paired, ids = paired_source(source), id_table(source)
    declared = np.zeros(_IDS, dtype=np.bool_)
    declared[[*ids.train_ids, *ids.void]] = True
    if paired is None:
        return lambda key: _examine_sample(source, split, key, declared)
    pairs = paired.files[split].pairs
    if isinstance(paired, ConvertedSource):
        read = paired.masks.read
        return lambda key: _examine_converted(key, pairs[key], read, declared)
    return lambda key: _examine_pair(key, pairs[key], declared)


def _examine_sample(source: Source, split: str, key: str, declared: NDArray[np.bool_]) -> MaskFacts:
    facts = MaskFacts(key=key, mask=key)
    try:
        sample = source.load(split, key)
    except DataError as error:
        return replace(facts, unreadable=str(error))
    size = sample.image.shape[1], sample.image.shape[0]
    return _with_labels(replace(facts, image_size=size), sample.labels, declared)


def _examine_converted(
    key: str, pair: Pair, read: Callable[[Pair], Labels], declared: NDArray[np.bool_]
) -> MaskFacts:
    facts = _image_facts(key, pair)
    try:
        labels = read(pair)
    except DataError as error:
        return replace(facts, unreadable=str(error).removeprefix(f"{pair.mask}: "))
    return _with_labels(facts, labels, declared)


def _examine_pair(key: str, pair: Pair, declared: NDArray[np.bool_]) -> MaskFacts:
    facts = _image_facts(key, pair)
    try:
        with Image.open(pair.mask) as mask:
            facts = replace(facts, mode=mask.mode, format=mask.format or "", size=mask.size)
            if mask_mode_problem(mask):
                mask.load()
                return facts
            if mask.mode in {"L", "P"}:
                counts = {stored: count for stored, count in enumerate(mask.histogram()) if count}
                return _with_labels(facts, np.asarray(mask), declared, counts=counts)
        return _with_labels(facts, read_mask(pair.mask), declared)
    except (*_UNREADABLE, DataError) as error:
        return replace(facts, unreadable=str(error).removeprefix(f"{pair.mask}: "))


def _image_facts(key: str, pair: Pair) -> MaskFacts:
    """What the header of the image tells; its pixels are not decoded."""
    facts = MaskFacts(key=key, mask=str(pair.mask), image=pair.image)
    try:
        with Image.open(pair.image) as image:
            return replace(facts, image_size=image.size, image_trouble=image_problem(image))
    except _UNREADABLE as error:
        trouble = f"cannot be read as a picture ({error}); the file is damaged, restore it"
        return replace(facts, image_trouble=trouble)


def _with_labels(
    facts: MaskFacts,
    labels: Labels,
    declared: NDArray[np.bool_],
    *,
    counts: Mapping[int, int] | None = None,
) -> MaskFacts:
    """Facts with those of the stored ids ``(H, W)``."""
    counts = _counts(labels) if counts is None else counts
    return replace(
        facts,
        mode=facts.mode or ("L" if labels.dtype == np.uint8 else "I;16"),
        size=(labels.shape[1], labels.shape[0]),
        counts=counts,
        scattered=not all(declared[stored] for stored in counts) and _scattered(labels, declared),
        digest=_digest(labels),
    )


def _counts(labels: Labels) -> dict[int, int]:
    counts = np.bincount(labels.ravel())
    return {int(stored): int(counts[stored]) for stored in np.flatnonzero(counts)}


def _digest(labels: Labels) -> bytes:
    shape = repr(labels.shape).encode()[:16]  # the longest that BLAKE2b takes
    return hashlib.blake2b(np.ascontiguousarray(labels).data, digest_size=8, person=shape).digest()


def _scattered(labels: Labels, declared: NDArray[np.bool_]) -> bool:
    """Whether fewer than half of the undeclared pixels have an equal neighbour to the right or below."""
    strange = ~declared[labels]
    joined = np.zeros(labels.shape, dtype=np.bool_)
    joined[:, :-1] |= labels[:, :-1] == labels[:, 1:]
    joined[:-1] |= labels[:-1] == labels[1:]
    return bool(strange.any() and 2 * np.count_nonzero(joined & strange) < np.count_nonzero(strange))
