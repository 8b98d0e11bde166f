"""Where a running job tells its news; light, for the command line imports it."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]  # takes one line of news


def silent(line: str) -> None:
    """Say nothing."""
