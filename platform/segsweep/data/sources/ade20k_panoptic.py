"""ADE20K panoptic: the scene parsing labels for stuff, the instance labels of 2017 for things.

ADEChallengeData2016/
  images/{training,validation}/ADE_{train,val}_00000001.jpg
  annotations/{training,validation}/ADE_{train,val}_00000001.png            0 void, 1..150 classes
  annotations_instance/{training,validation}/ADE_{train,val}_00000001.png   R class 1..100, G instance

Stuff is pasted first, instances over it; pixels of a thing's class without an instance are void (Cheng et al.
2021, "MaskFormer", supplement on ADE20K panoptic). No PNG or JSON file has to be made first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segsweep.data.interface import DatasetInfo, Sample
from segsweep.data.panoptic import PanopticSample, SegmentRecord, number_segments
from segsweep.data.sources.ade20k_classes import ADE20K_150, ADE20K_THINGS
from segsweep.data.sources.image_files import read_image
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.paired_files import PairedSource, find_pairs, require_root
from segsweep.errors import DataError, Problem

_FOLDERS = {"train": "training", "val": "validation"}
_LAYOUT = "images/, annotations/ and annotations_instance/, each with training/ and validation/"
_INSTANCE = 1000  # stored id of instance g; that of stuff is its raw class, 1..150
_SHOWN = 10  # names listed in one message


@dataclass(frozen=True, kw_only=True)
class Ade20kPanopticSource:
    """A ``PanopticSource`` over ADE20K's files.

    ``load`` gives the scene parsing labels as they are: all pixels of a thing's class count there, whether
    or not an instance covers them.

    Attributes:
        scenes: Images with their scene parsing labels.
        instances: Split -> folder of the instance labels.
    """

    scenes: PairedSource
    instances: Mapping[str, Path]

    @property
    def info(self) -> DatasetInfo:
        """What the labels mean."""
        return self.scenes.info

    @property
    def things(self) -> tuple[int, ...]:
        """Train ids of countable objects."""
        return ADE20K_THINGS

    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return self.scenes.splits()

    def keys(self, split: str) -> Sequence[str]:
        """Keys of a split in order."""
        return self.scenes.keys(split)

    def load(self, split: str, key: str) -> Sample:
        """Read one sample: the class of every pixel."""
        return self.scenes.load(split, key)

    def load_segments(self, split: str, key: str) -> PanopticSample:
        """Read one sample with its segments: stuff in the order of the classes, then the instances."""
        scene = self.scenes.load(split, key)
        path = self.instances[split] / f"{key}.png"
        colours = read_image(path)
        if colours.shape[:2] != scene.labels.shape:
            raise DataError(
                f"{path}: instance labels are {colours.shape[1]}x{colours.shape[0]} but the image is "
                f"{scene.labels.shape[1]}x{scene.labels.shape[0]} (width x height); restore the file"
            )
        instances = _instance_classes(colours, path=path)
        stored_ids, records = _paste(scene.labels, colours[..., 1], instances)
        numbers, segments, _ = number_segments(stored_ids, records)
        return PanopticSample(key=key, image=scene.image, segment_ids=numbers, segments=segments)

    def check(self) -> list[Problem]:
        """Problems that show without decoding pixels."""
        problems = self.scenes.check()
        for split, folder in self.instances.items():
            missing = [key for key in self.keys(split) if not (folder / f"{key}.png").is_file()]
            if missing:
                more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
                found = f"{len(missing)} images have no instance labels: {', '.join(missing[:_SHOWN])}{more}"
                problems.append(Problem(where=str(folder), message=f"{found}; add or remove them"))
        return problems

    def fingerprint(self) -> str:
        """Identity of the content: names, sizes and times of the files, and what is wrong with them."""
        digest = hashlib.sha256(self.scenes.fingerprint().encode())
        for split, folder in self.instances.items():
            for key in self.keys(split):
                path = folder / f"{key}.png"
                stat = path.stat() if path.is_file() else None
                digest.update(repr((split, key, stat and (stat.st_size, stat.st_mtime_ns))).encode())
        return digest.hexdigest()


def open_ade20k_panoptic(root: Path | None) -> Ade20kPanopticSource:
    """Open ADE20K panoptic; raises ``DataError`` if ``root`` is not a folder."""
    root = require_root(root, dataset="ade20k_panoptic", layout=_LAYOUT)
    ids = IdTable(
        train_ids={train_id + 1: train_id for train_id in range(ADE20K_150.num_classes)},
        void=(0,),
        ignore_index=ADE20K_150.ignore_index,
        declared_in="ADE20K's scene parsing labels",
    )
    files = {
        split: find_pairs(root / "images" / folder, root / "annotations" / folder)
        for split, folder in _FOLDERS.items()
    }
    return Ade20kPanopticSource(
        scenes=PairedSource(info=ADE20K_150, ids=ids, files=files),
        instances={split: root / "annotations_instance" / folder for split, folder in _FOLDERS.items()},
    )


def _instance_classes(colours: NDArray[np.uint8], *, path: Path) -> dict[int, int]:
    """Instance number -> train id; raises ``DataError`` if an instance has two classes or an unknown one."""
    numbers = colours[..., 1]
    covered = numbers > 0
    codes = np.unique(numbers[covered].astype(np.int32) * 256 + colours[..., 0][covered])
    classes: dict[int, int] = {}
    for number, raw in (divmod(int(code), 256) for code in codes):
        if not 1 <= raw <= len(ADE20K_THINGS):
            raise DataError(
                f"{path}: instance {number} has class {raw}; allowed are 1..{len(ADE20K_THINGS)}: "
                "restore the file"
            )
        if number in classes:
            raise DataError(
                f"{path}: instance {number} has more than one class; an instance has one: restore the file"
            )
        classes[number] = ADE20K_THINGS[raw - 1]
    return classes


def _paste(
    labels: NDArray[np.uint8] | NDArray[np.uint16],
    numbers: NDArray[np.uint8],
    instances: Mapping[int, int],
) -> tuple[NDArray[np.int32], dict[int, SegmentRecord]]:
    """Stored ids ``(H, W)``, instances over stuff, and what they are."""
    stuff = sorted(set(range(ADE20K_150.num_classes)) - set(ADE20K_THINGS))
    table = np.zeros(ADE20K_150.ignore_index + 1, dtype=np.int32)
    table[stuff] = np.array(stuff) + 1
    stored_ids = np.where(numbers > 0, _INSTANCE + numbers.astype(np.int32), table[labels])
    records = {train_id + 1: SegmentRecord(train_id=train_id, thing=False) for train_id in stuff}
    for number, train_id in instances.items():
        records[_INSTANCE + number] = SegmentRecord(train_id=train_id, thing=True)
    return stored_ids, records
