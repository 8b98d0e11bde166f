"""What a user may say about checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMES = ("s3", "gs")
_SECRETS = ("key", "secret", "token", "password")


class CheckpointSettings(BaseModel):
    """When the state of a training is written, and where to. The end of an epoch is always written.

    Attributes:
        every_minutes: Also within an epoch, when so much time has passed since the last one.
        every_steps: Also within an epoch, after every so many optimiser steps.
        keep: Newest checkpoints that stay.
        store: Folder or address below which each training has a folder of its own: a path, shared by the
            workers' machines, ``s3://bucket/prefix`` (with ``?region=...`` or, for other servers that speak
            S3, ``?endpoint_override=HOST:PORT&scheme=http``) or ``gs://bucket/prefix``. Credentials come from
            the environment. By default ``checkpoints`` in the training's own folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    every_minutes: float | None = Field(default=5.0, gt=0)
    every_steps: int | None = Field(default=None, ge=1)
    keep: int = Field(default=2, ge=1)
    store: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _store_is_an_open_address(self) -> Self:
        """Of the whole model: pydantic quotes a field's value in its error, and that might be a secret."""
        parts = urlsplit(self.store or "")
        if parts.scheme not in ("", "file", *SCHEMES):
            raise ValueError(f"store begins with {parts.scheme}://, allowed: a path, s3://, gs://")
        if parts.scheme in SCHEMES and not parts.hostname:
            raise ValueError(f"store names no bucket; write {parts.scheme}://BUCKET/PREFIX")
        names = [name for name, _ in parse_qsl(parts.query) if any(word in name.lower() for word in _SECRETS)]
        if "@" in parts.netloc or names:
            raise ValueError(
                "store holds credentials, and jobs are recorded; take them out and set them in the "
                "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)"
            )
        return self

    @property
    def path(self) -> Path | None:
        """The store's folder; ``None`` if it is an object store, or the default."""
        if self.store is None or urlsplit(self.store).scheme in SCHEMES:
            return None
        parts = urlsplit(self.store)
        return Path(unquote(parts.path) if parts.scheme == "file" else self.store).expanduser()

    def absolute(self) -> CheckpointSettings:
        """With a relative folder made absolute, for processes that run elsewhere."""
        return self if self.path is None else self.model_copy(update={"store": str(self.path.resolve())})
