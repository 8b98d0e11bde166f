"""The command that shows a store in MLflow's UI: on this machine, or to a network with a password."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Sequence

from segsweep.errors import EnvironmentProblem
from segsweep.tracking.store import artifact_root, quiet_mlflow, resolve_uri

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANY_ADDRESS = ("0.0.0.0", "::")
DEFAULT_PORT = 5000
PORTS_TO_TRY = 50
_ELSEWHERE = ("192.0.2.1", 9)  # an address that documentation may use and nobody has
# the jobs of the server evaluate language models; without them it is one process less and starts sooner
_SERVER = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def server_command(
    tracking_uri: str,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    workers: int = 1,
    auth: bool = False,
    allowed_hosts: Sequence[str] = (),
) -> list[str]:
    """The command line of ``mlflow server`` for a SQLite store.

    Also sets MLflow's quiet switches in this process's environment, which the server inherits. Artifacts
    that a sweep wrote beside the database are shown, and those that clients of the server send go there.

    Args:
        tracking_uri: A ``sqlite:///`` address.
        host: Address to listen on.
        port: Port to listen on.
        workers: Processes of the server.
        auth: Whether every request needs a name and a password; see ``basic_auth``.
        allowed_hosts: Names under which browsers may ask for the server, beside this machine's own.

    Raises:
        EnvironmentProblem: If the host is not this machine and there is no ``auth``, the port is taken (the
            message names a free one), or the address is a server already.
    """
    uri = resolve_uri(tracking_uri)
    root = artifact_root(uri)
    if root is None:
        raise EnvironmentProblem(f"{uri} is a server already: open it in a browser")
    check_address(host, port, auth=auth)
    quiet_mlflow()
    for name, value in _SERVER.items():
        os.environ.setdefault(name, value)
    options = {
        "--backend-store-uri": uri,
        "--artifacts-destination": root.as_uri(),
        "--host": host,
        "--port": str(port),
        "--workers": str(workers),
        "--uvicorn-opts": "--log-level warning",
        **({"--app-name": "basic-auth"} if auth else {}),
        **(_names_options(host, port, allowed_hosts) if host not in LOOPBACK or allowed_hosts else {}),
    }
    # -P: a folder named like a standard module (our own source root is one) must not shadow it
    start = [sys.executable, "-P", "-m", "mlflow", "server"]
    return [*start, *(word for option in options.items() for word in option)]


def check_address(host: str, port: int, *, auth: bool) -> None:
    """Refuse a network without a password, and a port on which something listens.

    Raises:
        EnvironmentProblem: As said; also if the host is no address of this machine.
    """
    if host not in LOOPBACK and not auth:
        raise EnvironmentProblem(
            f"host {host!r} would show the store to the network without a password; add --auth, stay on one "
            f"of {', '.join(LOOPBACK)}, or use an SSH tunnel to see it from elsewhere"
        )
    try:
        free = port_is_free(host, port)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot listen on {host!r}: {error.strerror or error}; name an address of this machine, or "
            f"0.0.0.0 for all of them"
        ) from error
    if not free:
        raise EnvironmentProblem(f"port {port} of {host} is in use; port {free_port(host)} is free")


def next_free_port(host: str, first: int = DEFAULT_PORT) -> int:
    """The first port from ``first`` on that is free.

    Raises:
        EnvironmentProblem: If none of the next ones is.
    """
    for port in range(first, first + PORTS_TO_TRY):
        try:
            if port_is_free(host, port):
                return port
        except OSError:
            return first  # no address of this machine: ``check_address`` says so
    raise EnvironmentProblem(f"ports {first} to {first + PORTS_TO_TRY - 1} of {host} are all in use")


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now.

    Raises:
        OSError: If the host is no address of this machine.
    """
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((host, port))
        except OSError:
            probe.bind((host, 0))
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nothing listens now."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def base_url(host: str, port: int) -> str:
    """Where a browser on this machine finds the server."""
    name = "127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host
    return f"http://{_bracketed(name)}:{port}"


def _names_options(host: str, port: int, allowed_hosts: Sequence[str]) -> dict[str, str]:
    """What MLflow must know of names other than loopback.

    It refuses other ``Host`` headers (a defence against DNS rebinding), and it refuses every POST of its own
    pages whose ``Origin`` is not listed: then charts and tables stay empty.
    """
    own = _own_names() if host in ANY_ADDRESS else [host]
    names = [_bracketed(name) for name in dict.fromkeys([*LOOPBACK, *own, *allowed_hosts])]
    hosts = [pattern for name in names for pattern in (name, f"{name.replace('[', '[[]')}:*")]
    origins = [
        origin for name in names for origin in (f"http://{name}:{port}", f"http://{name}", f"https://{name}")
    ]
    return {"--allowed-hosts": ",".join(hosts), "--cors-allowed-origins": ",".join(origins)}


def _own_names() -> list[str]:
    """Names and addresses under which other machines may know this one."""
    name = socket.gethostname()
    found = [name, socket.getfqdn()]
    with contextlib.suppress(OSError):  # a name that nobody resolves
        found += [str(item[4][0]) for item in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_ELSEWHERE)  # sends nothing: it only chooses the address of the way there
        found.append(str(probe.getsockname()[0]))
    return found


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
