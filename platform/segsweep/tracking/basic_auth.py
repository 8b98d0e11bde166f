"""Name and password for a server that a network can reach: MLflow's own basic-auth app."""

from __future__ import annotations

import importlib.util
import os
import secrets
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

from segsweep.errors import EnvironmentProblem
from segsweep.files import PRIVATE, write_whole

PASSWORD_VARIABLE = "SEGSWEEP_UI_PASSWORD"
ADMIN = "admin"
MIN_PASSWORD = 12  # MLflow's rule
USERS = "users.db"

_SETTINGS = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{users}
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@dataclass(frozen=True, kw_only=True)
class BasicAuth:
    """What a server with a password needs.

    Attributes:
        folder: Users (as hashes), settings and keys; readable by its owner only.
        environment: Variables of the server's process; they hold secrets.
        password: Of the user ``admin``.
        password_file: Where a generated password stands; ``None`` if the environment gave one.
    """

    folder: Path
    environment: dict[str, str] = field(repr=False)
    password: str = field(repr=False)
    password_file: Path | None


def prepare_basic_auth(folder: Path) -> BasicAuth:
    """Settings, key and password of a server's folder: made once, then used again.

    The password of ``admin`` comes from ``SEGSWEEP_UI_PASSWORD``, or is generated once into a file that only
    its owner can read. Other users may read everything and change nothing until ``admin`` grants more.

    Raises:
        EnvironmentProblem: If a package is missing, the password is too short, or the folder cannot be
            written.
    """
    if importlib.util.find_spec("flask_wtf") is None:
        raise EnvironmentProblem("--auth needs the package Flask-WTF; run: pip install 'mlflow[auth]'")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        password, password_file = _password(folder)
        settings = folder / "basic_auth.ini"
        users = str((folder / USERS).resolve()).replace("%", "%%")  # configparser's own character
        write_whole(settings, _SETTINGS.format(users=users, admin=ADMIN), mode=PRIVATE)
        key = _kept(folder / "secret_key", secrets.token_hex(32))
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {folder} for --auth: {error.strerror or error}") from error
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings.resolve()),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key,
    }
    return BasicAuth(folder=folder, environment=environment, password=password, password_file=password_file)


def password_works(base: str, password: str, *, timeout_s: float = 20.0) -> bool:
    """Whether a server lets ``admin`` in with this password."""
    request = urllib.request.Request(f"{base}/api/2.0/mlflow/users/current")
    token = b64encode(f"{ADMIN}:{password}".encode()).decode()
    request.add_header("Authorization", f"Basic {token}")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):
            return True
    except urllib.error.HTTPError as error:
        if error.code == 401:
            return False
        raise EnvironmentProblem(f"{base} answered {error.code} {error.reason} to a login") from error
    except OSError as error:
        raise EnvironmentProblem(f"{base} does not answer: {error}") from error


def _password(folder: Path) -> tuple[str, Path | None]:
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is None:
        path = folder / "password"
        return _kept(path, secrets.token_urlsafe(18)), path
    if len(given) < MIN_PASSWORD:
        raise EnvironmentProblem(
            f"{PASSWORD_VARIABLE} has {len(given)} characters, at least {MIN_PASSWORD} are needed; "
            "choose a longer one, or unset it and let one be generated"
        )
    return given, None


def _kept(path: Path, text: str) -> str:
    """The content of a private file that is written once."""
    if not path.is_file():
        write_whole(path, text, mode=PRIVATE)
    return path.read_text(encoding="utf-8").strip()
