"""Where a job's relative ``out`` folder lies: in the working directory, or where a cluster keeps results."""

from __future__ import annotations

import os
from pathlib import Path

STORAGE = "SEGSWEEP_STORAGE"  # folder that all machines of a cluster see; the cluster files set it
_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it for the driver of a submitted job


def lasting_folder(out: Path) -> Path:
    """An absolute folder as it is; a relative one in the cluster's storage, if this is a cluster.

    The working directory of a submitted job is a copy below Ray's temporary folder, on one machine, and Ray
    deletes it: without ``SEGSWEEP_STORAGE`` such a job writes to the home folder instead.
    """
    if out.is_absolute():
        return out
    storage = os.environ.get(STORAGE)
    if storage:
        return Path(storage).expanduser() / out
    return Path.home() / out if _SUBMITTED in os.environ else out
