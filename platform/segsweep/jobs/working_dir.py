"""The working directory as a job takes it to a cluster: which files, how large, in one archive."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from segsweep.errors import InvalidInput, Problem

MAX_BYTES = 500 * 1000**2  # Ray keeps the archive in the memory of the cluster's head, at most 512 MiB of it
IGNORE_FILES = (".gitignore", ".rayignore")
SHOWN = 5

# As lines of a .gitignore above all others: a later `!/data/` in .rayignore takes them along after all.
DEFAULT_EXCLUDES = (
    *(".git/", ".hg/", ".svn/", ".venv/", "venv/", "node_modules/", "*.egg-info/"),
    *("__pycache__/", "*.pyc", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/", ".ipynb_checkpoints/"),
    *("segsweep-runs/", "mlruns/", "mlartifacts/", "/data/", "/datasets/"),
    *(".env", ".env.*", "*.pem", "*.key", "id_rsa*", "id_ed25519*", ".netrc", ".aws/", ".ssh/", "auth_token"),
)


@dataclass(frozen=True, kw_only=True)
class PackedFile:
    """One file that goes along: its path in the working directory, and its size in bytes."""

    path: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Package:
    """What goes along.

    Attributes:
        root: The working directory.
        files: In order of their paths, which use ``/``.
        excluded: Files and folders at the top that stay behind.
    """

    root: Path
    files: tuple[PackedFile, ...]
    excluded: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def holds(self, path: Path) -> bool:
        """Whether a file, or anything in a folder, goes along."""
        path = path.absolute()
        if not path.is_relative_to(self.root):
            return False
        name = path.relative_to(self.root).as_posix()
        return any(file.path == name or file.path.startswith(f"{name}/") for file in self.files)


def collect(root: Path, *, max_bytes: int = MAX_BYTES) -> Package:
    """List what goes along: all files but those that ``DEFAULT_EXCLUDES`` or an ignore file names.

    ``.gitignore`` and ``.rayignore`` of every folder count as git reads them. Links to folders are not
    followed; of a link to a file that goes along itself, the content goes along.

    Raises:
        InvalidInput: If ``root`` is no folder, a link leads to a file that stays here, or there are more than
            ``max_bytes``; names the largest files.
    """
    root = root.absolute()
    if not root.is_dir():
        raise InvalidInput(
            [Problem(where="--working-dir", message=f"{root} is no folder; give the project's")]
        )
    excluded: list[str] = []
    files = tuple(sorted(_walk(root, root, [], excluded), key=lambda file: file.path))
    package = Package(root=root, files=files, excluded=tuple(sorted(excluded)))
    if problems := _link_problems(package):
        raise InvalidInput(problems)
    if package.size > max_bytes:
        largest = sorted(files, key=lambda file: -file.size)[:SHOWN]
        named = ", ".join(f"{file.path} ({size_text(file.size)})" for file in largest)
        message = (
            f"{root} holds {size_text(package.size)}, allowed are {size_text(max_bytes)}; the largest files: "
            f"{named}. Name what the job does not need in a .rayignore (written like a .gitignore); data "
            f"belong on the cluster's storage"
        )
        raise InvalidInput([Problem(where="--working-dir", message=message)])
    return package


def _link_problems(package: Package) -> list[Problem]:
    """Links to files outside the working directory, or that an ignore file names: secrets perhaps."""
    kept = {(package.root / file.path).resolve() for file in package.files if not _is_link(file, package)}
    return [
        Problem(
            where=file.path,
            message=f"leads to {target}, which does not go along; put a copy in its place, or name the link "
            f"in a .rayignore",
        )
        for file in package.files
        if _is_link(file, package) and (target := (package.root / file.path).resolve()) not in kept
    ]


def _is_link(file: PackedFile, package: Package) -> bool:
    return (package.root / file.path).is_symlink()


def write_archive(package: Package, path: Path) -> None:
    """Write the files as a zip; equal files make an equal archive, which a cluster then takes only once."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in package.files:
            source = package.root / file.path
            entry = zipfile.ZipInfo(file.path, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (source.stat().st_mode & 0o777) << 16
            archive.writestr(entry, source.read_bytes())


def size_text(size: int) -> str:
    """Bytes for people: ``1.3 MB``."""
    if size >= 1000**3:
        return f"{size / 1000**3:.1f} GB"
    return f"{size / 1000**2:.1f} MB" if size >= 1000**2 else f"{size / 1000:.1f} kB"


@dataclass(frozen=True)
class _Rules:
    folder: Path
    spec: GitIgnoreSpec

    def verdict(self, path: Path, *, is_folder: bool) -> bool | None:
        name = path.relative_to(self.folder).as_posix()
        return self.spec.check_file(f"{name}/" if is_folder else name).include


def _walk(root: Path, folder: Path, above: Sequence[_Rules], excluded: list[str]) -> Iterator[PackedFile]:
    rules = [*above, *_rules_in(folder, is_root=folder == root)]
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        is_file = entry.is_file()
        if _is_ignored(path, rules, is_folder=is_folder) or not (is_folder or is_file):
            if folder == root:
                excluded.append(f"{entry.name}/" if entry.is_dir() else entry.name)
        elif is_folder:
            yield from _walk(root, path, rules, excluded)
        else:
            yield PackedFile(path=path.relative_to(root).as_posix(), size=entry.stat().st_size)


def _rules_in(folder: Path, *, is_root: bool) -> list[_Rules]:
    lines = list(DEFAULT_EXCLUDES) if is_root else []
    for name in IGNORE_FILES:
        path = folder / name
        if path.is_file():
            lines += path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [_Rules(folder, GitIgnoreSpec.from_lines(lines))] if lines else []


def _is_ignored(path: Path, rules: Sequence[_Rules], *, is_folder: bool) -> bool:
    """The file nearest to the path that says anything decides, as in git."""
    for item in reversed(rules):
        verdict = item.verdict(path, is_folder=is_folder)
        if verdict is not None:
            return verdict
    return False
