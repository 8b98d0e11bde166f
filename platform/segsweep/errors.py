"""Errors that a user can cause or mend: each says what was found, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class SegsweepError(Exception):
    """Base class: the CLI prints the message of these without a traceback."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One mistake in something that a user wrote.

    Attributes:
        where: File and place, for example ``"eseg.yaml:12 axes.neck.top_level"``.
        message: What was found, what is allowed, what to do.
    """

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class InvalidInput(SegsweepError):
    """A user's file or value is wrong; carries every problem, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InvalidSpace(InvalidInput):
    """A search space YAML is wrong."""


class InvalidJob(InvalidInput):
    """A job YAML is wrong."""


class InvalidPoint(InvalidInput):
    """A point lies outside its space or its values do not make a config."""


class DataError(SegsweepError):
    """A data set on disk is missing, damaged or inconsistent."""


class ImageSizeError(SegsweepError, ValueError):
    """An image's height or width does not fit the model."""


class TrainingDiverged(SegsweepError):
    """The training loss became NaN or infinite."""


class EnvironmentProblem(SegsweepError):
    """The machine lacks something: a free port, write permission, a matching package."""
