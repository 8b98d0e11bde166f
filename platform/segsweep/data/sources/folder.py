"""A user's own data: a folder of images, a folder of masks and a ``dataset.yaml`` that names the classes.

my-data/
  dataset.yaml
  images/train/a.jpg  images/val/b.png     split subfolders are optional
  masks/train/a.png   masks/val/b.png      one class id per pixel
"""

from __future__ import annotations

import colorsys
import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segsweep.data.interface import DatasetInfo
from segsweep.data.sources.label_ids import IdTable
from segsweep.data.sources.paired_files import PairedSource, SplitFiles, find_pairs, require_root
from segsweep.errors import DataError, Problem
from segsweep.labels import IGNORE_INDEX, IGNORE_INDEX_16

DESCRIPTION = "dataset.yaml"
_LAYOUT = f"{DESCRIPTION}, images/ and masks/ (with or without split subfolders such as train/ and val/)"
_GOLDEN_RATIO = 0.618034  # steps of this size spread hues evenly whatever their number

StoredId = Annotated[int, Field(ge=0, le=65535)]
Channel = Annotated[int, Field(ge=0, le=255)]


class FolderDescription(BaseModel):
    """What ``dataset.yaml`` may say.

    Attributes:
        name: Short name of the data set; default: the folder's name.
        classes: Names in the order of the ids 0, 1, 2, ...; or stored id -> name where ids have gaps.
        palette: One RGB colour per class for pictures; default: evenly spread hues.
        void: Stored ids of pixels that do not count, or ``others``: every id that is not a class.
        images: Folder of the images below the root; ``masks`` likewise.
        image_ending: End of every image's stem that its mask does not share, such as ``_leftImg8bit``.
        mask_ending: The same for masks, such as ``_gtFine_labelIds``.
        val_share: Without split subfolders: share of the pairs held out for validation, by hash of the name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    classes: dict[StoredId, str] = Field(min_length=1)
    palette: tuple[tuple[Channel, Channel, Channel], ...] | None = None
    void: tuple[StoredId, ...] | Literal["others"] = ()
    images: str = "images"
    masks: str = "masks"
    image_ending: str = ""
    mask_ending: str = ""
    val_share: float = Field(default=0.2, gt=0, lt=1)

    @field_validator("classes", mode="before")
    @classmethod
    def _number_names(cls, value: Any) -> Any:
        return dict(enumerate(value)) if isinstance(value, list) else value

    @field_validator("void", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        names = list(self.classes.values())
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"classes {repeated} are named twice; give each class its own name")
        both = sorted(set(self.classes) & set(self.void if self.void != "others" else ()))
        if both:
            raise ValueError(f"ids {both} are both classes and void; keep them in one of the two")
        if self.palette is not None and len(self.palette) != len(names):
            found = f"palette has {len(self.palette)} colours for {len(names)} classes"
            raise ValueError(f"{found}; give one colour per class or leave palette out")
        return self

    def info(self, root: Path) -> DatasetInfo:
        """Names and colours by train id: the classes in the order of their stored ids."""
        palette = self.palette or tuple(_hue(index) for index in range(len(self.classes)))
        return DatasetInfo(
            name=self.name or root.resolve().name,
            class_names=tuple(self.classes[stored] for stored in sorted(self.classes)),
            palette=palette,
            ignore_index=IGNORE_INDEX if len(self.classes) <= IGNORE_INDEX else IGNORE_INDEX_16,
        )

    def id_table(self, root: Path) -> IdTable:
        """Stored ids to train ids."""
        others = self.void == "others"
        return IdTable(
            train_ids={stored: train_id for train_id, stored in enumerate(sorted(self.classes))},
            void=() if self.void == "others" else self.void,
            ignore_index=self.info(root).ignore_index,
            others_are_void=others,
            declared_in=str(root / DESCRIPTION),
        )


def open_folder(root: Path | None) -> PairedSource:
    """Open a user's folder; raises ``DataError`` if it or its description is missing or wrong."""
    root = require_root(root, dataset="folder", layout=_LAYOUT)
    description = read_description(root / DESCRIPTION)
    files, problems = _splits(root, description)
    return PairedSource(
        info=description.info(root),
        ids=description.id_table(root),
        files=files,
        extra_problems=tuple(problems),
    )


def read_description(path: Path) -> FolderDescription:
    """Read ``dataset.yaml``; a ``DataError`` lists everything that is wrong with it."""
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing; write it, for example\n{_EXAMPLE}") from error
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise DataError(
            f"{path}: cannot be read as YAML: {error}; mend it, for example\n{_EXAMPLE}"
        ) from error
    try:
        return FolderDescription.model_validate(document)
    except ValidationError as error:
        lines = [
            f"{path} {'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
        allowed = f"allowed keys are {', '.join(FolderDescription.model_fields)}"
        raise DataError("\n".join([*lines, f"{allowed}; for example\n{_EXAMPLE}"])) from error


def _splits(root: Path, description: FolderDescription) -> tuple[dict[str, SplitFiles], list[Problem]]:
    images, masks = root / description.images, root / description.masks
    endings = {"image_ending": description.image_ending, "mask_ending": description.mask_ending}
    folders = {folder: _subfolders(folder) for folder in (images, masks)}
    names = sorted(set().union(*folders.values()), key=lambda name: (_USUAL_ORDER.get(name, 9), name))
    if names:
        files = {name: find_pairs(images / name, masks / name, **endings) for name in names}
        missing = [name for name in ("train", "val") if name not in names]
        problems = [
            Problem(
                where=str(images), message=f"no {name}/ beside {', '.join(names)}/; name the split {name}/"
            )
            for name in missing
        ]
        return files, problems
    found = find_pairs(images, masks, **endings)
    return _hold_out(found, share=description.val_share), []


_USUAL_ORDER = {"train": 0, "val": 1, "test": 2}


def _subfolders(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}


def _hold_out(files: SplitFiles, *, share: float) -> dict[str, SplitFiles]:
    """Split by a hash of the key: neither the order of the files nor a seed changes the choice."""
    by_hash = sorted(files.pairs, key=lambda key: hashlib.sha256(key.encode()).digest())
    held_out = set(by_hash[: max(1, round(share * len(by_hash)))])
    train = {key: pair for key, pair in files.pairs.items() if key not in held_out}
    val = {key: pair for key, pair in files.pairs.items() if key in held_out}
    return {"train": SplitFiles(pairs=train, problems=files.problems), "val": SplitFiles(pairs=val)}


def _hue(index: int) -> tuple[int, int, int]:
    value = 1.0 - 0.25 * (index % 3)
    red, green, blue = colorsys.hsv_to_rgb((index * _GOLDEN_RATIO) % 1.0, 0.65, value)
    return round(255 * red), round(255 * green), round(255 * blue)


_EXAMPLE = """\
classes: [road, building, sky]   # mask ids 0, 1, 2; or {7: road, 11: building}
void: [255]                      # mask ids that do not count; or: others"""
