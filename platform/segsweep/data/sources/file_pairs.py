"""Finding pairs of files in layouts that name them in lists or mix them in one tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from segsweep.data.sources.paired_files import Pair, SplitFiles
from segsweep.errors import DataError, Problem

_SHOWN = 10  # file names listed in one message


def inner_root(root: Path, *inner: str, holds: str) -> Path:
    """The first of ``root`` and its folders ``inner`` that holds a path, else ``root``.

    Archives unpack into a folder of their own name: both that folder and its parent are good roots.
    """
    return next(
        (folder for folder in (root, *(root / name for name in inner)) if (folder / holds).exists()), root
    )


def first_folder(*folders: Path) -> Path:
    """The first folder that is there, else the first."""
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def listed_pairs(list_file: Path, *, image: Callable[[str], Path], mask: Callable[[str], Path]) -> SplitFiles:
    """The pairs that a list file names, one a line, in its order.

    Args:
        list_file: Text file of names without suffix.
        image: Name -> image file; ``mask``: name -> mask file.
    """
    try:
        names = read_names(list_file)
    except DataError as error:
        message = str(error).removeprefix(f"{list_file}: ")
        return SplitFiles(pairs={}, problems=(Problem(where=str(list_file), message=message),))
    pairs = {name: Pair(image=image(name), mask=mask(name)) for name in names}
    missing = {
        "images": [pair.image for pair in pairs.values() if not pair.image.is_file()],
        "masks": [pair.mask for pair in pairs.values() if not pair.mask.is_file()],
    }
    problems = [
        Problem(
            where=str(list_file),
            message=f"{len(paths)} of {len(pairs)} {kind} are missing: {_shown(paths)}; restore them",
        )
        for kind, paths in missing.items()
        if paths
    ]
    gone = {path for paths in missing.values() for path in paths}
    kept = {name: pair for name, pair in pairs.items() if not gone & {pair.image, pair.mask}}
    return SplitFiles(pairs=kept, problems=tuple(problems))


def read_names(list_file: Path) -> tuple[str, ...]:
    """Names in a list file; raises ``DataError`` if it is missing, empty or names something twice."""
    try:
        names = tuple(filter(None, (line.strip() for line in list_file.read_text("utf-8").splitlines())))
    except FileNotFoundError as error:
        raise DataError(f"{list_file}: list of the split is missing; restore it") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{list_file}: cannot be read ({error}); restore it") from error
    if not names:
        raise DataError(f"{list_file}: the list is empty; it must hold one name a line: restore it")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})[:_SHOWN]
        raise DataError(f"{list_file}: names {', '.join(twice)} twice; a sample counts once: restore it")
    return names


def matched_pairs(
    images: Mapping[str, Path], masks: Mapping[str, Path], *, folder: Path, mask_name: str
) -> SplitFiles:
    """The pairs of two sets of files by key, in the order of the keys.

    Args:
        images: Key -> image file; ``masks``: key -> mask file.
        folder: Where they were looked for, for messages.
        mask_name: How a mask is called, such as ``"<name>_seg.png"``.
    """
    problems: list[Problem] = []
    if not images and not masks:
        found = f"the split is empty: no <name>.jpg and {mask_name}; restore the files"
        problems.append(Problem(where=str(folder), message=found))
    problems += _lonely(images, masks, folder=folder, partner=f"mask {mask_name}")
    problems += _lonely(masks, images, folder=folder, partner="image <name>.jpg")
    keys = sorted(images.keys() & masks.keys())
    pairs = {key: Pair(image=images[key], mask=masks[key]) for key in keys}
    return SplitFiles(pairs=pairs, problems=tuple(problems))


def merged(*parts: SplitFiles) -> SplitFiles:
    """Several folders as one split; a key in two of them is a problem."""
    pairs: dict[str, Pair] = {}
    problems = [problem for part in parts for problem in part.problems]
    for part in parts:
        both = sorted(pairs.keys() & part.pairs.keys())
        if both:
            where = str(part.pairs[both[0]].image)
            found = f"{len(both)} samples are in two folders of the split: {', '.join(both[:_SHOWN])}"
            problems.append(Problem(where=where, message=f"{found}; remove one"))
        pairs = {**part.pairs, **pairs}
    return SplitFiles(pairs={key: pairs[key] for key in sorted(pairs)}, problems=tuple(problems))


def _lonely(
    files: Mapping[str, Path], partners: Mapping[str, Path], *, folder: Path, partner: str
) -> Iterator[Problem]:
    lonely = [files[key] for key in sorted(files.keys() - partners.keys())]
    if lonely:
        found = f"{len(lonely)} of {len(files)} files have no {partner}: {_shown(lonely)}"
        yield Problem(where=str(folder), message=f"{found}; add or remove them")


def _shown(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(path.name for path in paths[:_SHOWN]) + more
