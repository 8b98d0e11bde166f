"""Reaching an MLflow store quietly: its address, its client, its experiment and where artifacts lie."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from segsweep.errors import EnvironmentProblem
from segsweep.redaction import without_passwords

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LOCAL_UI = "http://127.0.0.1:5000"
_SQLITE = "sqlite:///"

# Measured with MLflow 3.17: without these it prints a run URL with an emoji per run on stdout, sends
# telemetry, logs each migration, and blocks about 4 minutes per call when a server is down (7 retries).
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # BackgroundTracker tries again itself
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}


def quiet_mlflow() -> None:
    """Set MLflow's environment switches, each only where the user has not set it."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # a line for every try of a server that is down; what did not get there is told at the end
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def resolve_uri(tracking_uri: str) -> str:
    """The address with an absolute path, so that it means the same from every working directory.

    Raises:
        EnvironmentProblem: If the address is neither a SQLite file nor an HTTP server.
    """
    if tracking_uri.startswith(_SQLITE):
        return f"{_SQLITE}{database_path(tracking_uri)}"
    if urlsplit(tracking_uri).scheme in ("http", "https"):
        return tracking_uri.rstrip("/")
    raise EnvironmentProblem(
        f"tracking address {without_passwords(tracking_uri)!r} is not supported: allowed are "
        "sqlite:///path/to/mlflow.db and http(s)://host:port; MLflow keeps plain ./mlruns folders in "
        "maintenance mode only"
    )


def database_path(tracking_uri: str) -> Path:
    """The absolute path of the database file of a ``sqlite:///`` address."""
    return Path(tracking_uri.removeprefix(_SQLITE)).expanduser().resolve()


def is_there(tracking_uri: str) -> bool:
    """Whether a store can be looked for: the file of a SQLite store exists; servers are not asked."""
    return not tracking_uri.startswith(_SQLITE) or database_path(tracking_uri).is_file()


def artifact_root(tracking_uri: str) -> Path | None:
    """The folder of a SQLite store's artifacts, beside the database; a server has its own: ``None``."""
    if not tracking_uri.startswith(_SQLITE):
        return None
    database = database_path(tracking_uri)
    return database.with_name(f"{database.stem}-artifacts")


def ui_base(tracking_uri: str) -> str:
    """Where a browser finds the store: the server itself, or the default place of ``segsweep ui``."""
    return tracking_uri if tracking_uri.startswith("http") else LOCAL_UI


def open_client(tracking_uri: str) -> MlflowClient:
    """A client with no hidden state. Importing MLflow takes 1-2 s, creating a SQLite store 2-5 s.

    Raises:
        EnvironmentProblem: If the folder of a SQLite store cannot be created.
    """
    quiet_mlflow()
    if tracking_uri.startswith(_SQLITE):
        folder = database_path(tracking_uri).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot create {folder} for the MLflow database: {error}; choose another tracking address"
            ) from error
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri)


def store_errors() -> tuple[type[Exception], ...]:
    """What a store raises that is away, locked, damaged or refuses; MLflow lets those of SQLite through."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, OSError)


def ensure_experiment(client: Any, tracking_uri: str, name: str) -> str:
    """The id of the experiment of that name, created if there is none and restored if it was deleted."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        root = artifact_root(tracking_uri)
        # without an explicit place a SQLite client writes to ./mlruns of whatever directory it runs in
        location = (root / _file_name(name)).as_uri() if root else None
        return str(client.create_experiment(name, artifact_location=location))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".") or "experiment"
