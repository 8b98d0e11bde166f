"""What a data set's options in a job file have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from segsweep.errors import InvalidInput, Problem


class SourceOptions(BaseModel):
    """Options of a source; a data set without any uses this class as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def checked(cls, options: Mapping[str, Any] | None) -> Self:
        """Options from a job file; raises ``InvalidInput`` with everything that is wrong."""
        try:
            return cls.model_validate(dict(options or {}))
        except ValidationError as error:
            allowed = ", ".join(cls.model_fields)
            remedy = f"allowed are {allowed}" if allowed else "this data set takes no options; remove it"
            raise InvalidInput(
                Problem(
                    where=f"options.{'.'.join(str(part) for part in item['loc'])}",
                    message=f"found {item['input']!r}: {item['msg']}; {remedy}",
                )
                for item in error.errors()
            ) from error
