"""segsweep: which segmentation design gives the best accuracy for its cost?

Everything that the command line does is a call here: ``segsweep.sweep("jobs/sweep_camvid_eseg.yaml")``.
The functions are imported on first use, because torch takes seconds to import.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segsweep.api import (
        check,
        check_data,
        cluster_job,
        cluster_jobs,
        cost,
        demo,
        doctor,
        evaluate,
        follow_job,
        job_kind,
        job_logs,
        label,
        paper,
        points,
        predict,
        prepare,
        protocol_names,
        report,
        run_chain,
        run_prepare,
        serve_ui,
        show_data,
        stop_job,
        submit,
        sweep,
        sync,
        top,
        train,
        ui_command,
        ui_plan,
    )

__all__ = [
    "check",
    "check_data",
    "cluster_job",
    "cluster_jobs",
    "cost",
    "demo",
    "doctor",
    "evaluate",
    "follow_job",
    "job_kind",
    "job_logs",
    "label",
    "paper",
    "points",
    "predict",
    "prepare",
    "protocol_names",
    "report",
    "run_chain",
    "run_prepare",
    "serve_ui",
    "show_data",
    "stop_job",
    "submit",
    "sweep",
    "sync",
    "top",
    "train",
    "ui_command",
    "ui_plan",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'segsweep' has no attribute {name!r}; it offers {', '.join(__all__)}")
    from segsweep import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """Keeps ``segsweep.cost`` the function: importing the subpackage of that name would replace it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
