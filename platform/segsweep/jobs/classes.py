"""Names and colours of the classes in a run's folder: what it predicts is known without its data set."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from segsweep.data.interface import DatasetInfo
from segsweep.errors import DataError
from segsweep.files import write_whole

CLASSES = "classes.json"


def write_classes(folder: Path, info: DatasetInfo) -> None:
    """Keep the classes of the data in a run's folder."""
    write_whole(folder / CLASSES, json.dumps(dataclasses.asdict(info), indent=1))


def read_classes(folder: Path) -> DatasetInfo | None:
    """The classes that a run's folder holds; ``None`` for folders of earlier versions.

    Raises:
        DataError: If the file is damaged.
    """
    path = folder / CLASSES
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return DatasetInfo(
            name=document["name"],
            class_names=tuple(document["class_names"]),
            palette=tuple((red, green, blue) for red, green, blue in document["palette"]),
            ignore_index=document["ignore_index"],
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise DataError(
            f"{path}: not a list of classes ({error!r}); delete it, then the data are asked"
        ) from error
