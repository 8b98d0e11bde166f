"""Passwords in addresses: found, and left out of whatever is printed or recorded."""

from __future__ import annotations

import re

HIDDEN = "***"

# The last @ before a slash ends the password: people forget to write an @ of theirs as %40.
_USER_INFO = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/:@'\"]*):(?P<password>[^\s/'\"]+)@"
)
_QUERY = re.compile(
    r"(?P<name>[?&](?:password|passwd|pwd|token|secret|secret_key|access_key|api_key)=)(?P<value>[^&\s'\"]+)",
    re.IGNORECASE,
)


def has_password(text: str) -> bool:
    """Whether an address in the text carries a password or another secret."""
    return bool(_USER_INFO.search(text) or _QUERY.search(text))


def without_passwords(text: str) -> str:
    """The text with every password in an address replaced: ``http://me:***@host``."""
    hidden = _USER_INFO.sub(rf"\g<scheme>\g<user>:{HIDDEN}@", text)
    return _QUERY.sub(rf"\g<name>{HIDDEN}", hidden)
