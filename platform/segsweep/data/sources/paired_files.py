"""Data sets made of an image file and a mask file of the same name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from segsweep.data.interface import DatasetInfo, Sample
from segsweep.data.sources.image_files import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    image_problem,
    mask_mode_problem,
    read_image,
    read_mask,
)
from segsweep.data.sources.label_ids import IdTable
from segsweep.errors import DataError, Problem

_SHOWN = 10  # file names listed in one message


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image file and its mask file."""

    image: Path
    mask: Path


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The pairs of one split by key, and what was wrong with its folders."""

    pairs: Mapping[str, Pair]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PairedSource:
    """A ``Source`` over pairs of files; the layouts only differ in how they find the pairs."""

    info: DatasetInfo
    ids: IdTable
    files: Mapping[str, SplitFiles]
    extra_problems: tuple[Problem, ...] = ()

    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.files)

    def keys(self, split: str) -> Sequence[str]:
        """Keys of a split in order."""
        return tuple(self._split(split).pairs)

    def load(self, split: str, key: str) -> Sample:
        """Read one sample."""
        pair = self._split(split).pairs[key]
        image, ids = read_image(pair.image), read_mask(pair.mask)
        if image.shape[:2] != ids.shape:
            raise DataError(_size_message(pair, image.shape[1::-1], ids.shape[::-1]))
        labels = self.ids.apply(ids, path=pair.mask, dtype=self.info.label_dtype)
        return Sample(key=key, image=image, labels=labels)

    def check(self) -> list[Problem]:
        """Problems that show without decoding pixels."""
        problems = list(self.extra_problems)
        for files in self.files.values():
            problems += files.problems
            for pair in files.pairs.values():
                problems += _header_problems(pair)
        return problems

    def fingerprint(self) -> str:
        """Identity of the content: names, sizes and times of the files, and what is wrong with them."""
        digest = hashlib.sha256(f"{self.info}{self.ids}{self.extra_problems}".encode())
        for split, files in self.files.items():
            digest.update(repr((split, files.problems)).encode())
            for key, pair in files.pairs.items():
                stats = [path.stat() for path in (pair.image, pair.mask)]
                digest.update(repr((split, key, [(s.st_size, s.st_mtime_ns) for s in stats])).encode())
        return digest.hexdigest()

    def _split(self, split: str) -> SplitFiles:
        if split not in self.files:
            raise DataError(f"{self.info.name} has no split {split!r}; it has {', '.join(self.files)}")
        return self.files[split]


def find_pairs(images: Path, masks: Path, *, image_ending: str = "", mask_ending: str = "") -> SplitFiles:
    """Pair the pictures below two folders by relative path and stem, in the order of their keys.

    Args:
        images: Folder of PNG or JPEG images, searched with its subfolders.
        masks: Folder of PNG masks.
        image_ending: End of every image's stem that its mask does not share, such as ``"_leftImg8bit"``.
        mask_ending: The same for masks, such as ``"_gtFine_labelIds"``.
    """
    missing = [folder for folder in (images, masks) if not folder.is_dir()]
    if missing:
        problems = [Problem(where=str(folder), message="folder is missing; restore it") for folder in missing]
        return SplitFiles(pairs={}, problems=tuple(problems))
    image_files, image_problems = _by_key(images, suffixes=IMAGE_SUFFIXES, ending=image_ending)
    mask_files, mask_problems = _by_key(masks, suffixes=MASK_SUFFIXES, ending=mask_ending)
    keys = sorted(image_files.keys() & mask_files.keys())
    problems = [
        *image_problems,
        *mask_problems,
        *_lonely(image_files, keys, partner=f"mask {masks}/<name>{mask_ending}.png"),
        *_lonely(mask_files, keys, partner=f"image {images}/<name>{image_ending}.png or .jpg"),
    ]
    if not image_files and not mask_files:
        found = "the split is empty: no PNG or JPEG files; add images or remove the folder"
        problems.append(Problem(where=str(images), message=found))
    pairs = {key: Pair(image=image_files[key], mask=mask_files[key]) for key in keys}
    return SplitFiles(pairs=pairs, problems=tuple(problems))


def require_root(root: Path | None, *, dataset: str, layout: str) -> Path:
    """The data root, or a ``DataError`` that shows the layout it must have."""
    if root is None:
        raise DataError(f"data set {dataset!r} lies on disk: give its folder as root; it must hold {layout}")
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"{root}: data root of {dataset!r} {found}; point root at a folder that holds {layout}"
        )
    return root


def _by_key(folder: Path, *, suffixes: Sequence[str], ending: str) -> tuple[dict[str, Path], list[Problem]]:
    files: dict[str, Path] = {}
    problems: list[Problem] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.name.startswith(".") or not path.is_file() or not name.endswith(ending):
            continue
        if path.suffix.lower() not in suffixes:
            if path.suffix.lower() in IMAGE_SUFFIXES:
                found = f"masks must be {' or '.join(suffixes)}: JPEG is lossy and would invent class ids"
                problems.append(Problem(where=str(path), message=f"{found}; export the mask as PNG"))
            continue
        key = name.removesuffix(ending)
        if key in files:
            found = f"two files share the name {key!r}: {files[key].name} and {path.name}; remove one"
            problems.append(Problem(where=str(folder), message=found))
        files.setdefault(key, path)
    return files, problems


def _lonely(files: Mapping[str, Path], paired: Sequence[str], *, partner: str) -> Iterator[Problem]:
    lonely = sorted(files.keys() - set(paired))
    if lonely:
        shown = ", ".join(files[key].name for key in lonely[:_SHOWN])
        more = f" and {len(lonely) - _SHOWN} more" if len(lonely) > _SHOWN else ""
        found = f"{len(lonely)} of {len(files)} files have no {partner}: {shown}{more}; add or remove them"
        yield Problem(where=str(files[lonely[0]].parent), message=found)


def _header_problems(pair: Pair) -> Iterator[Problem]:
    """Problems that show in the first bytes of the files; pixels are not decoded."""
    sizes = []
    for path, examine in ((pair.image, image_problem), (pair.mask, mask_mode_problem)):
        try:
            with Image.open(path) as picture:
                sizes.append(picture.size)
                problem = examine(picture)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            problem = f"cannot be read as a picture ({error}); the file is damaged, restore it"
        if problem:
            yield Problem(where=str(path), message=problem)
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        yield Problem(where=str(pair.mask), message=_size_message(pair, *sizes))


def _size_message(pair: Pair, image: Sequence[int], mask: Sequence[int]) -> str:
    return (
        f"mask is {mask[0]}x{mask[1]} but its image {pair.image} is {image[0]}x{image[1]} (width x height); "
        "both must agree: export the mask at the size of the image"
    )
