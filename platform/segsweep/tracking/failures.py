"""Which errors pass when one waits, and which come back however often a write is tried."""

from __future__ import annotations

import re
from collections.abc import Callable

from segsweep.errors import SegsweepError
from segsweep.redaction import without_passwords

_PASS = (OSError, SegsweepError)  # the network, the disk, the environment: someone can mend them
_FINAL = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
# What MLflow answers to a write that it will never take; 401 and 403 are not among them: logging in helps
_FINAL_CODES = frozenset(
    {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}
)
# MLflow's words for an answer that is not its own, for example of a proxy in front of a server that starts
_NOT_MLFLOW = "API request to"
_UNREACHED = re.compile(r"API request to (?P<server>https?://[^/\s]+)\S* failed with (timeout )?exception")
_REASON = re.compile(
    r"Connection refused|Name or service not known|No route to host|Connection reset|timed out"
)


class EntriesRefused(Exception):
    """The store refuses some entries for good; they are dropped and all others of the call are written.

    Attributes:
        count: How many entries.
        reason: What the store said of the first one.
    """

    def __init__(self, count: int, reason: str) -> None:
        super().__init__(reason)
        self.count = count
        self.reason = reason


class RecordRefused(Exception):
    """A record of a spool that can never be written."""


def is_refusal(error: Exception) -> bool:
    """Whether a write that failed so would fail again and again.

    A store that is away, slow, full or locked is no refusal: what is to be written waits for it.
    """
    if isinstance(error, RecordRefused | EntriesRefused):
        return True
    code = getattr(error, "error_code", None)  # of an MlflowException
    if code is not None:
        return code in _FINAL_CODES and not str(error).startswith(_NOT_MLFLOW)
    return isinstance(error, _FINAL) and not isinstance(error, _PASS)


class Refusals:
    """Does several writes of which none needs another; those that a store refuses for good are left out."""

    def __init__(self) -> None:
        self._reasons: list[str] = []

    def attempt(self, act: Callable[[], object]) -> None:
        """Do one of them; errors that pass when one waits are raised."""
        try:
            act()
        except Exception as error:
            if not is_refusal(error):
                raise
            self._reasons.append(first_line(error))

    def tell(self) -> None:
        """Say what was left out.

        Raises:
            RecordRefused: If anything was.
        """
        if self._reasons:
            raise RecordRefused("; ".join(self._reasons))


def first_line(error: Exception) -> str:
    """An error in one line: of a server that cannot be reached only which one and why."""
    text = str(error).strip()
    unreached = _UNREACHED.match(without_passwords(text))
    if unreached:
        reason = _REASON.search(text)
        return f"{unreached['server']} does not answer ({reason[0] if reason else 'no reason given'})"
    return f"{type(error).__name__}: {without_passwords(text.splitlines()[0])[:300] if text else ''}"
