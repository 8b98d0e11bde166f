"""The search spaces and jobs that ship with the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def builtin_folder(kind: str) -> Path:
    """Folder ``search_spaces`` or ``jobs``: inside an installed wheel, or at the root of a checkout."""
    packaged = _PACKAGE / "builtin" / kind
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / kind


def find_file(name: str, *, kind: str, beside: Path) -> Path | None:
    """A YAML file by path (relative to ``beside``) or by the bare name of a built-in one."""
    folder = builtin_folder(kind)
    for candidate in (beside / name, beside / f"{name}.yaml", folder / name, folder / f"{name}.yaml"):
        if candidate.is_file():
            return candidate.resolve()
    return None


def builtin_names(kind: str) -> list[str]:
    """Names of the built-in YAML files of a kind."""
    return sorted(path.stem for path in builtin_folder(kind).glob("*.yaml"))
