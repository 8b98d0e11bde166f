"""``platform/`` is our source root and must not shadow the standard library's module of that name."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]
STDLIB = Path(sysconfig.get_paths()["stdlib"])


def test_the_source_root_is_no_package() -> None:
    assert (ROOT / "platform" / "segsweep" / "__init__.py").is_file()
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_import_platform_is_the_standard_librarys_even_in_the_checkout() -> None:
    code = "import platform, segsweep; print(platform.__file__); print(platform.python_version())"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    file, version = ran.stdout.splitlines()
    assert Path(file).resolve() == (STDLIB / "platform.py").resolve()
    assert version == sys.version.split()[0]


def test_the_command_line_loads_no_heavy_package() -> None:
    heavy = ["torch", "ray", "mlflow", "optuna", "pandas", "timm", "torchvision", "matplotlib", "pyarrow"]
    code = f"import json, sys, segsweep.cli; print(json.dumps([n for n in {heavy} if n in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(ran.stdout) == []
