"""Attaching files to a run under the name that a reader should see."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any


def attach(client: Any, run_id: str, name: str, path: Path) -> str:
    """Log a file under another name (``pareto/front`` takes the suffix of the file) and return that name."""
    target = Path(name if Path(name).suffix else f"{name}{path.suffix}")
    folder = None if str(target.parent) == "." else str(target.parent)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / target.name
        shutil.copyfile(path, copy)
        client.log_artifact(run_id, str(copy), artifact_path=folder)
    return target.as_posix()
