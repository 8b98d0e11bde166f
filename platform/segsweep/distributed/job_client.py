"""Jobs on a Ray cluster over its job API: submit, look, stop. The cluster's token goes with each request."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from segsweep.errors import EnvironmentProblem, InvalidInput, Problem

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
CONNECT_S, ANSWER_S, TAKE_IN_S = 10.0, 30.0, 300.0  # an upload is answered when it has been taken in
ENDED = ("succeeded", "failed", "stopped")
_ADDRESS, _TOKEN, _TOKEN_PATH, _MODE = (
    *("RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"),
)


class ClusterUnreachable(EnvironmentProblem):
    """The cluster did not answer; it may again later."""


@dataclass(frozen=True, kw_only=True)
class ClusterJob:
    """A job as the cluster knows it.

    Attributes:
        job_id: Name of the job.
        status: ``pending``, ``running``, ``succeeded``, ``failed`` or ``stopped``.
        entrypoint: The command that it runs.
        message: What Ray says about the status.
        started: Unix time in seconds; ``ended`` likewise.
        exit_code: Of the command, once it has ended by itself.
        metadata: What was noted when it was submitted.
    """

    job_id: str
    status: str
    entrypoint: str
    message: str = ""
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    metadata: Mapping[str, str]

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ENDED

    def to_json(self) -> dict[str, Any]:
        """JSON values by field."""
        return {**self.__dict__, "metadata": dict(self.metadata)}


class _NoAnswer(Exception):
    """The server says that it cannot answer."""


_BROKEN = (  # what came back is no whole answer
    *(_NoAnswer, requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError),
    requests.exceptions.JSONDecodeError,
)


class _Api(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client, but a silent connection ends after a while, and an answer of 5xx is no refusal."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        timeout = (CONNECT_S, ANSWER_S if method == "GET" else TAKE_IN_S)
        answer = super()._do_request(method, endpoint, **{"timeout": timeout, **options})
        if answer.status_code >= 500:  # of a head or a proxy that restarts, say
            raise _NoAnswer(f"{answer.status_code} {answer.reason}: {answer.text}")
        return answer


class JobClient:
    """A cluster's job API.

    Args:
        address: The dashboard's address, for example ``http://127.0.0.1:8265`` or ``host:8265``; ``None``
            takes ``RAY_API_SERVER_ADDRESS``, ``RAY_ADDRESS`` or that of this machine.

    Raises:
        ClusterUnreachable: If nothing answers there.
        EnvironmentProblem: If the cluster refuses the token.
    """

    def __init__(self, address: str | None = None) -> None:
        for name in ("ray", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk"):
            logging.getLogger(name).setLevel(logging.ERROR)
        token = cluster_token()
        wanted = _address(address)
        with self._translated(wanted), _only_address(wanted):
            self._api = _Api(wanted, headers={"Authorization": f"Bearer {token}"} if token else None)
        self.address: str = self._api.get_address()

    def submit(
        self,
        entrypoint: str,
        *,
        archive: Path,
        env_vars: Mapping[str, str],
        metadata: Mapping[str, str],
        job_id: str,
    ) -> str:
        """Upload a zip of the working directory and start a command in it.

        Args:
            entrypoint: Shell command, run on the head.
            archive: The zip; one that the cluster has already is not sent again.
            env_vars: Environment of the command and of all its workers; recorded, so never a secret.
            metadata: Noted with the job.
            job_id: Name of the job, new on this cluster.

        Raises:
            EnvironmentProblem: If the cluster refuses it.
        """
        with self._translated():
            return str(
                self._api.submit_job(
                    entrypoint=entrypoint,
                    submission_id=job_id,
                    runtime_env={"working_dir": str(archive), "env_vars": dict(env_vars)},
                    metadata=dict(metadata),
                )
            )

    def job(self, job_id: str) -> ClusterJob:
        """What is known of a job.

        Raises:
            InvalidInput: If there is no such job; says which there are.
        """
        with self._translated(job_id=job_id):
            return _record(self._api.get_job_info(job_id))

    def jobs(self) -> list[ClusterJob]:
        """All submitted jobs since the cluster started, the newest first."""
        with self._translated():
            found = [_record(item) for item in self._api.list_jobs() if item.submission_id]
        return sorted(found, key=lambda job: -(job.started or 0))

    def logs(self, job_id: str) -> str:
        """All that a job has printed."""
        with self._translated(job_id=job_id):
            return str(self._api.get_job_logs(job_id))

    def stop(self, job_id: str) -> bool:
        """Ask a job to end; returns whether it was running."""
        with self._translated(job_id=job_id):
            return bool(self._api.stop_job(job_id))

    def cluster_status(self) -> dict[str, Any]:
        """What the autoscaler reports of nodes and resources; empty before its first report."""
        with self._translated():
            answer = self._api._do_request("GET", "/api/cluster_status")
            answer.raise_for_status()
            return dict(answer.json()["data"].get("clusterStatus") or {})

    def stream_options(self) -> dict[str, Any]:
        """Headers and TLS settings for a stream from the same address."""
        return {"headers": self._api._headers, "ssl": self._api._ssl_context}

    @contextmanager
    def _translated(self, address: str = "", *, job_id: str = "") -> Iterator[None]:
        """Ray's errors as ours."""
        where = address or getattr(self, "address", "")
        try:
            yield
        except AuthenticationError as error:
            raise EnvironmentProblem(_refused(where, str(error))) from None
        except (ConnectionError, requests.exceptions.ConnectionError, requests.exceptions.Timeout):
            raise ClusterUnreachable(
                f"nothing answers at {where}; start a cluster (`ray start --head`, `ray up cluster.yaml`), "
                f"forward its dashboard (`ray dashboard cluster.yaml`), or give --address http://HOST:PORT"
            ) from None
        except _BROKEN as error:
            raise ClusterUnreachable(
                f"the cluster at {where} gives no proper answer: {_first_lines(error)}; try again when its "
                f"head, or the proxy before it, is up again"
            ) from error
        except (RuntimeError, requests.exceptions.RequestException) as error:
            if job_id and "does not exist" in str(error):
                raise InvalidInput([Problem(where=f"job {job_id}", message=self._no_such_job())]) from None
            raise EnvironmentProblem(f"the cluster at {where} refused: {_first_lines(error)}") from error

    def _no_such_job(self) -> str:
        names = [job.job_id for job in self.jobs()]
        there = (
            f"it knows {', '.join(names)}"
            if names
            else "it knows none; a head that restarts forgets its jobs"
        )
        return f"the cluster at {self.address} has no such job; {there}"


def cluster_token() -> str | None:
    """The token that this user's clusters ask for; ``None`` if there is none, or authentication is disabled.

    Ray's own client sends it only if ``RAY_AUTH_MODE=token`` is set; here it goes wherever there is one.

    Raises:
        EnvironmentProblem: If ``RAY_AUTH_TOKEN_PATH`` names no readable file.
    """
    if os.environ.get(_MODE, "token").lower() != "token":
        return None
    if token := os.environ.get(_TOKEN, "").strip():
        return token
    given = os.environ.get(_TOKEN_PATH)
    path = Path(given).expanduser() if given else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        if given:
            message = f"{_TOKEN_PATH}={given}: {error.strerror}; name the file of the cluster's token"
            raise EnvironmentProblem(message) from None
        return None


def _address(given: str | None) -> str:
    """An address with a scheme if it is a dashboard's; Ray itself looks up that of ``auto``."""
    if given:
        return given if "://" in given or given == "auto" else f"http://{given}"
    return os.environ.get(_ADDRESS) or os.environ.get("RAY_ADDRESS") or DEFAULT_ADDRESS


@contextmanager
def _only_address(address: str) -> Iterator[None]:
    """Ray prefers the environment's address to the one it is given: make them the same for a moment."""
    before = os.environ.get(_ADDRESS)
    os.environ[_ADDRESS] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ADDRESS]
        else:
            os.environ[_ADDRESS] = before


def _record(details: Any) -> ClusterJob:
    return ClusterJob(
        job_id=details.submission_id or details.job_id,
        status=str(details.status.value).lower(),
        entrypoint=details.entrypoint,
        message=details.message or "",
        started=details.start_time / 1000 if details.start_time else None,
        ended=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
        metadata=details.metadata or {},
    )


def _refused(address: str, error: str) -> str:
    if "Missing" in error or "required" in error.splitlines()[0]:
        found = "asks for a token and found none"
    else:
        found = "refuses the token of this machine"
    return (
        f"the cluster at {address} {found}; copy ~/.ray/auth_token of its head to ~/.ray/auth_token here, or "
        f"set {_TOKEN_PATH} to a file that holds it ({_MODE} must not be `disabled`)"
    )


def _first_lines(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:500] or type(error).__name__
