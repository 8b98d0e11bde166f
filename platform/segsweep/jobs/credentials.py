"""Credentials in job files: those of MLflow go where MLflow looks for them, all others are refused.

A job is recorded on disk, in MLflow and in Ray's list of jobs. So its passwords must never be part of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from segsweep.errors import Problem
from segsweep.redaction import has_password

USERNAME, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
TRACKING = ("tracking", "uri")
_REMEDY = (
    "a job is recorded, its passwords must not be; take it out and give it in the environment of the process"
)


def take_credentials(uri: str) -> str:
    """The address of an MLflow server without its user and password.

    They go into ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD`` of this process's environment,
    where MLflow's client looks for them. Any other address is returned as it is.
    """
    parts = urlsplit(uri)
    info, separator, host = parts.netloc.rpartition("@")
    if parts.scheme not in ("http", "https") or not separator:
        return uri
    user, _, password = info.partition(":")
    os.environ[USERNAME] = unquote(user)
    if password:
        os.environ[PASSWORD] = unquote(password)
    return urlunsplit(parts._replace(netloc=host))


def password_locations(values: Mapping[str, Any]) -> Iterator[tuple[str | int, ...]]:
    """Where in a job's values an address carries a password, an MLflow server's ``tracking.uri`` excepted."""
    for location, text in _texts(values, ()):
        is_server = location[-2:] == TRACKING and urlsplit(text).scheme in ("http", "https")
        if has_password(text) and not is_server:
            yield location


def password_problem(where: str) -> Problem:
    """What to tell of a password that may not stand there."""
    return Problem(where=where, message=f"found a password in an address; {_REMEDY}")


def _texts(value: Any, location: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield location, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, (*location, key))
    elif isinstance(value, Sequence):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*location, index))
