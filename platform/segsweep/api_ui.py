"""The calls behind ``segsweep ui``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segsweep.jobs.folders import OUT

if TYPE_CHECKING:
    from segsweep.jobs.ui import UiPlan

Say = Callable[[str], None]


def ui_command(
    *, out: Path = OUT, uri: str | None = None, host: str = "127.0.0.1", port: int = 5000
) -> list[str]:
    """Command line of the MLflow server for a store; by default the one of an ``out`` folder.

    Raises:
        EnvironmentProblem: If the port is in use, or the host is not this machine.
    """
    from segsweep.jobs.credentials import take_credentials
    from segsweep.jobs.recorded_store import newest_store
    from segsweep.tracking.server import server_command

    return server_command(take_credentials(uri) if uri else newest_store(out), host=host, port=port)


def ui_plan(
    *,
    out: Path = OUT,
    uri: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    auth: bool = False,
    allowed_hosts: Sequence[str] = (),
) -> UiPlan:
    """Server, store and link of ``segsweep ui``; see ``jobs.ui.plan_ui``."""
    from segsweep.jobs.ui import plan_ui

    return plan_ui(out=out, uri=uri, host=host, port=port, auth=auth, allowed_hosts=allowed_hosts)


def serve_ui(plan: UiPlan, *, say: Say, show: Say) -> None:
    """Run the server of a plan until it is interrupted; see ``jobs.ui.serve``."""
    from segsweep.jobs.ui import serve

    serve(plan, say=say, show=show)
