"""The command that shows a store in MLflow's UI, on this machine only."""

from __future__ import annotations

import socket
import sys

from segsweep.errors import EnvironmentProblem
from segsweep.tracking.store import artifact_root, quiet_mlflow, resolve_uri

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_PORT = 5000


def server_command(
    tracking_uri: str, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT, workers: int = 1
) -> list[str]:
    """The command line of ``mlflow server`` for a SQLite store.

    Also sets MLflow's quiet switches in this process's environment, which the server inherits. Artifacts
    that a sweep wrote beside the database are shown, and those that clients of the server send go there.

    Raises:
        EnvironmentProblem: If the host is not this machine, the port is taken (the message names a free
            one), or the address is a server already.
    """
    uri = resolve_uri(tracking_uri)
    root = artifact_root(uri)
    if root is None:
        raise EnvironmentProblem(f"{uri} is a server already: open it in a browser")
    if host not in LOOPBACK:
        raise EnvironmentProblem(
            f"host {host!r} would show the store to the network without a password; allowed are "
            f"{', '.join(LOOPBACK)}; use an SSH tunnel to see it from elsewhere"
        )
    if not port_is_free(host, port):
        raise EnvironmentProblem(f"port {port} of {host} is in use; port {free_port(host)} is free")
    quiet_mlflow()
    options = {
        "--backend-store-uri": uri,
        "--artifacts-destination": root.as_uri(),
        "--host": host,
        "--port": str(port),
        "--workers": str(workers),
    }
    # -P: a folder named like a standard module (our own source root is one) must not shadow it
    start = [sys.executable, "-P", "-m", "mlflow", "server"]
    return [*start, *(word for option in options.items() for word in option)]


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nothing listens now."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
