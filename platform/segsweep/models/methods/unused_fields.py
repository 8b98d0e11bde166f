"""Refusing values of a config that the rest of it leaves without effect."""

from __future__ import annotations

from pydantic import BaseModel


def refuse_set(part: BaseModel, path: str, names: tuple[str, ...], reason: str) -> None:
    """Refuse fields that have no effect, unless they are left out or have their default.

    Args:
        part: Part of a config.
        path: Its name in the config, for the message.
        names: Fields without effect.
        reason: What leaves them without effect.

    Raises:
        ValueError: For the first of them that is set.
    """
    for name in names:
        value = getattr(part, name)
        if value != type(part).model_fields[name].default:
            raise ValueError(
                f"{path}.{name}={value!r} has no meaning for {reason}; leave it out "
                f"(in a search space: {path}.{name}: {{..., when: ...}})"
            )
