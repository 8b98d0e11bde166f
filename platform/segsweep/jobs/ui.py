"""``segsweep ui``: the MLflow server of the recorded runs, and the link that opens the newest sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from segsweep.errors import EnvironmentProblem
from segsweep.jobs.credentials import take_credentials
from segsweep.jobs.folders import OUT
from segsweep.jobs.news import Say
from segsweep.jobs.recorded_store import newest_store
from segsweep.tracking.basic_auth import ADMIN, USERS, BasicAuth, password_works, prepare_basic_auth
from segsweep.tracking.landing import landing_page
from segsweep.tracking.server import (
    DEFAULT_PORT,
    LOOPBACK,
    base_url,
    check_address,
    next_free_port,
    server_command,
)
from segsweep.tracking.store import database_path, resolve_uri

AUTH_FOLDER = "mlflow-auth"
READY_S = 120.0  # importing MLflow takes 5 s on a quiet core, and trainings may run beside it
STOP_S = 10.0
_STDERR = 2


@dataclass(frozen=True, kw_only=True)
class UiPlan:
    """A server that is to be started, or one that runs elsewhere.

    Attributes:
        store: Address of the records.
        command: Command line of the server; empty where ``store`` is a server already.
        base: Where a browser on this machine finds it.
        page: View of the newest sweep, relative to ``base``; empty if there is no sweep.
        auth: Name and password that it asks for; ``None`` without.
        notes: What the user should know, one line each.
    """

    store: str
    command: tuple[str, ...]
    base: str
    page: str
    auth: BasicAuth | None
    notes: tuple[str, ...]

    @property
    def link(self) -> str:
        """What to open in a browser."""
        return f"{self.base}/{self.page}"


def plan_ui(
    *,
    out: Path = OUT,
    uri: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: bool = False,
    allowed_hosts: Sequence[str] = (),
) -> UiPlan:
    """Everything that can go wrong before the server starts.

    Args:
        out: Folder of the runs; shown is the store of its newest job.
        uri: Another store; user and password in it go into the environment and are never shown.
        host: Address to listen on; any but this machine's own loopback needs ``auth``.
        port: Port to listen on; ``None`` takes 5000 or the next one that is free.
        auth: Whether to ask for a password.
        allowed_hosts: Names under which browsers may ask for the server, for example that of a TLS proxy.

    Raises:
        EnvironmentProblem: If the address cannot be used, or there is no such store.
    """
    chosen = next_free_port(host) if port is None else port
    check_address(host, chosen, auth=auth)
    store = resolve_uri(take_credentials(uri) if uri else newest_store(out))
    if not store.startswith("sqlite:"):
        return UiPlan(store=store, command=(), base=store, page=landing_page(store), auth=None, notes=())
    database = database_path(store)
    if not database.is_file():
        raise EnvironmentProblem(
            f"{database} does not exist: nothing was recorded there yet; run `segsweep demo` or a sweep "
            f"first, or name another place with --out or --uri"
        )
    page = landing_page(store)
    secret = prepare_basic_auth(database.with_name(AUTH_FOLDER)) if auth else None
    command = server_command(store, host=host, port=chosen, auth=auth, allowed_hosts=allowed_hosts)
    notes = _notes(store, page=page, host=host, port=chosen, wanted=port, auth=secret)
    return UiPlan(
        store=store,
        command=tuple(command),
        base=base_url(host, chosen),
        page=page,
        auth=secret,
        notes=notes,
    )


def _notes(
    store: str, *, page: str, host: str, port: int, wanted: int | None, auth: BasicAuth | None
) -> tuple[str, ...]:
    notes = [f"store       {store}"]
    if not page:
        notes.append("            no sweep is recorded there yet")
    if wanted is None and port != DEFAULT_PORT:
        notes.append(f"port        {DEFAULT_PORT} is in use: {port} instead")
    if auth is not None:
        place = f"the password is in {auth.password_file}" if auth.password_file else "your password"
        notes.append(f"login       {ADMIN}, {place}")
        if host not in LOOPBACK:
            notes.append(
                "            it travels unencrypted: put a TLS proxy before it outside a safe network"
            )
    return tuple(notes)


def serve(plan: UiPlan, *, say: Say, show: Say) -> None:
    """Run the server until it ends or is interrupted.

    Args:
        plan: What ``plan_ui`` made.
        say: Takes one line of news at a time.
        show: Takes the link, once it works.

    Raises:
        EnvironmentProblem: If the server does not start, or refuses the password.
    """
    for note in plan.notes:
        say(note)
    if not plan.command:
        show(plan.link)
        return
    quiet = {"PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore")}  # of the server's own libraries
    environment = {**os.environ, **quiet, **(plan.auth.environment if plan.auth else {})}
    process = subprocess.Popen(plan.command, env=environment, stdout=_STDERR)  # the link alone goes to stdout
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        _wait_until_up(plan, process)
        _check_password(plan)
        show(plan.link)
        say("Ctrl-C ends it")
        process.wait()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop(process)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _wait_until_up(plan: UiPlan, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_S
    while not _answers(f"{plan.base}/health"):
        if process.poll() is not None:
            raise EnvironmentProblem(
                f"MLflow's server ended with code {process.returncode}; what it said stands above"
            )
        if time.monotonic() > deadline:
            raise EnvironmentProblem(f"MLflow's server did not answer on {plan.base} within {READY_S:.0f} s")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def _check_password(plan: UiPlan) -> None:
    """The first start of a folder sets the password; a later one cannot change it."""
    if plan.auth is None or password_works(plan.base, plan.auth.password):
        return
    users = plan.auth.folder / USERS
    raise EnvironmentProblem(
        f"{ADMIN} has another password since the first start with --auth; give that one, or remove {users} "
        f"(and all users with it) to begin anew"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
