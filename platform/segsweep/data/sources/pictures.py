"""Pictures without labels: any folder of PNG and JPEG files, with its subfolders."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segsweep.data.interface import DatasetInfo, Sample
from segsweep.data.sources.image_files import IMAGE_SUFFIXES, read_upright
from segsweep.data.sources.paired_files import require_root
from segsweep.errors import DataError, Problem
from segsweep.labels import IGNORE_INDEX

SPLIT = "train"


@dataclass(frozen=True, kw_only=True)
class PictureSource:
    """A ``Source`` whose every pixel is void.

    Attributes:
        root: The folder.
        files: By key: the path below the root.
    """

    root: Path
    files: Mapping[str, Path]

    @property
    def info(self) -> DatasetInfo:
        """One class that no pixel has."""
        return DatasetInfo(
            name=self.root.resolve().name,
            class_names=("unlabelled",),
            palette=((0, 0, 0),),
            ignore_index=IGNORE_INDEX,
        )

    def splits(self) -> tuple[str, ...]:
        """The one split, ``train``."""
        return (SPLIT,)

    def keys(self, split: str) -> Sequence[str]:
        """Keys of the pictures in order."""
        if split != SPLIT:
            raise DataError(f"{self.root}: pictures without labels have the split {SPLIT!r}, found {split!r}")
        return tuple(self.files)

    def load(self, split: str, key: str) -> Sample:
        """Read one picture, turned as its EXIF tag says."""
        image = read_upright(self.files[key])
        return Sample(key=key, image=image, labels=np.full(image.shape[:2], IGNORE_INDEX, np.uint8))

    def check(self) -> list[Problem]:
        """Pictures whose first bytes cannot be read, or that there are none."""
        if not self.files:
            message = "holds no PNG or JPEG files; name another folder"
            return [Problem(where=str(self.root), message=message)]
        problems = []
        for path in self.files.values():
            try:
                Image.open(path).close()
            except (OSError, SyntaxError, ValueError) as error:
                message = f"cannot be read as a picture ({error}); restore or remove it"
                problems.append(Problem(where=str(path), message=message))
        return problems

    def fingerprint(self) -> str:
        """Identity of the content: names, sizes and times of the files."""
        digest = hashlib.sha256(b"pictures")
        for key, path in self.files.items():
            status = path.stat()
            digest.update(repr((key, status.st_size, status.st_mtime_ns)).encode())
        return digest.hexdigest()


def open_pictures(root: Path | None) -> PictureSource:
    """Open a folder of pictures; raises ``DataError`` if it is none."""
    root = require_root(root, dataset="images", layout="PNG or JPEG files, with or without subfolders")
    found = (path for path in sorted(root.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES)
    files = {path.relative_to(root).as_posix(): path for path in found if path.is_file()}
    return PictureSource(root=root, files=files)
