"""What a shard folder looks like on disk: the one place that both the writer and the reader follow."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from segsweep.data.interface import DatasetInfo, Image, Labels
from segsweep.errors import DataError

Size = tuple[int, int]  # height and width in pixels

SCHEMA_VERSION = 1
INDEX = "index.json"
MAGIC = b"ARROW1"  # first and last bytes of every complete Arrow IPC file
_VERSION_KEY = b"segsweep.schema_version"
_CONTENT_KEY = b"segsweep.content"
_FIELDS = (
    pa.field("key", pa.string()),
    pa.field("height", pa.int32()),
    pa.field("width", pa.int32()),
    pa.field("image", pa.large_binary()),  # uint8 (3, H, W), C order
    pa.field("labels", pa.large_binary()),  # uint8 or little-endian uint16 (H, W), C order
)
REMAKE = "delete the shard folder and run `segsweep data prepare` again"


@dataclass(frozen=True, kw_only=True)
class SplitIndex:
    """One split's file.

    Attributes:
        rows: Number of samples.
        bytes: Size of the file.
        size: Height and width of every sample; ``None`` if they differ.
        class_histogram: Pixels of each class, K numbers.
        ignored_pixels: Pixels that do not count.
        digest: SHA-256 over the keys and pixels of all rows.
    """

    rows: int
    bytes: int
    size: Size | None
    class_histogram: tuple[int, ...]
    ignored_pixels: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Index:
    """What ``index.json`` holds.

    Attributes:
        info: The data set.
        resized_to: Height and width that every sample was resized to; ``None``: it kept its own.
        fingerprint: Identity of the source's content when it was read.
        splits: By name, in the source's order.
        provenance: Where the labels come from, as JSON values; ``None`` for those of the data set.
    """

    info: DatasetInfo
    resized_to: Size | None
    fingerprint: str
    splits: dict[str, SplitIndex]
    provenance: dict[str, Any] | None = None

    @property
    def size(self) -> Size | None:
        """Height and width of every sample; ``None`` if they differ."""
        sizes = {split.size for split in self.splits.values()}
        return sizes.pop() if len(sizes) == 1 else None

    def to_json(self) -> str:
        """Text of ``index.json``."""
        document = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        return json.dumps(document, indent=1)


class RowDigest:
    """SHA-256 over the keys, shapes and pixels of rows."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, key: str, image: Image, labels: Labels) -> None:
        """Add a row: image ``(3, H, W)``, labels ``(H, W)``, both contiguous."""
        self._hash.update(repr((key, image.shape, labels.dtype.str)).encode())
        self._hash.update(image.data)
        self._hash.update(labels.data)

    def hexdigest(self) -> str:
        """Of the rows so far."""
        return self._hash.hexdigest()


def file_name(split: str) -> str:
    """Name of a split's Arrow file."""
    return f"{split}.arrow"


def arrow_schema(*, content: str) -> pa.Schema:
    """Schema of a split's file; ``content`` ties the file to its index."""
    return pa.schema(_FIELDS, metadata={_VERSION_KEY: str(SCHEMA_VERSION), _CONTENT_KEY: content})


def content_id(fingerprint: str, resized_to: Size | None, split: str) -> str:
    """Names what a file holds, so that a file of other shards is not taken for this one."""
    return f"{fingerprint}/{resized_to}/{split}"


def read_index(folder: Path) -> Index:
    """Read ``index.json``; raises ``DataError`` if it is missing, damaged or of a newer version."""
    path = folder / INDEX
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        check_version(path, document["schema_version"])
        return _index(document)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path}: file is missing, so {folder} holds no complete shards; {REMAKE}") from error
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not an index of shards ({error!r}); {REMAKE}") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check the disk and its permissions"
        ) from error


def check_schema(path: Path, schema: pa.Schema, *, content: str) -> None:
    """Raise ``DataError`` unless ``schema`` is that of the file which ``content`` names."""
    metadata = schema.metadata or {}
    if _VERSION_KEY not in metadata:
        raise DataError(f"{path}: an Arrow file, but not one of segsweep's shards; {REMAKE}")
    check_version(path, int(metadata[_VERSION_KEY]))
    if metadata.get(_CONTENT_KEY) != content.encode() or not schema.equals(arrow_schema(content=content)):
        raise DataError(f"{path}: belongs to other shards than {INDEX} beside it; {REMAKE}")


def check_version(path: Path, found: int) -> None:
    """Raise ``DataError`` unless this program reads version ``found``."""
    if found == SCHEMA_VERSION:
        return
    age = "a newer" if found > SCHEMA_VERSION else "an older"
    raise DataError(
        f"{path}: written by {age} segsweep (schema version {found}; this one reads {SCHEMA_VERSION}); "
        f"{'update segsweep or ' if found > SCHEMA_VERSION else ''}{REMAKE}"
    )


def _index(document: dict[str, Any]) -> Index:
    info = document["info"]
    return Index(
        info=DatasetInfo(
            name=info["name"],
            class_names=tuple(info["class_names"]),
            palette=tuple((red, green, blue) for red, green, blue in info["palette"]),
            ignore_index=info["ignore_index"],
        ),
        resized_to=_size(document["resized_to"]),
        fingerprint=document["fingerprint"],
        splits={name: split_index(split) for name, split in document["splits"].items()},
        provenance=document.get("provenance"),  # none in shards of earlier versions
    )


def split_index(document: dict[str, Any]) -> SplitIndex:
    """A split's part of ``index.json``; raises ``KeyError``, ``TypeError`` or ``ValueError`` for others."""
    size, histogram = _size(document["size"]), tuple(document["class_histogram"])
    return SplitIndex(**{**document, "size": size, "class_histogram": histogram})


def _size(document: list[int] | None) -> Size | None:
    return None if document is None else (document[0], document[1])
