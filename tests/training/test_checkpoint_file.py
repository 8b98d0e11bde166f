"""One checkpoint file: whole or not at all, with a digest that anybody can recompute, never unpickled."""

from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import pickle
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segsweep.errors import DataError, EnvironmentProblem
from segsweep.training.checkpoint import (
    checkpoint_step,
    load_checkpoint,
    read_checkpoint,
    remove_leftovers,
    save_checkpoint,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


STATE = {"step": 7, "weights": {"a": torch.arange(3000.0), "b": torch.ones(2, 2, dtype=torch.int64)}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "whole.pt"
    save_checkpoint(path, STATE)
    return path.read_bytes()


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "checkpoint.pt"
    save_checkpoint(path, STATE)
    loaded = load_checkpoint(path)
    assert loaded["step"] == checkpoint_step(path) == 7
    for name, weights in STATE["weights"].items():  # type: ignore[attr-defined]
        assert torch.equal(loaded["weights"][name], weights)
    assert names(path.parent) == ["checkpoint.pt"]


def test_the_digest_is_the_comment_of_an_archive_that_any_torch_reads(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(whole)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        comment = archive.comment.decode()
    assert comment == f"sha256:{hashlib.sha256(whole[:-64]).hexdigest()}"
    assert torch.load(path, weights_only=True)["step"] == 7


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_flipped_bit_is_noticed(whole: bytes, tmp_path: Path, place: int, bit: int) -> None:
    damaged = bytearray(whole)
    damaged[place % len(whole)] ^= 1 << bit
    (tmp_path / "checkpoint.pt").write_bytes(damaged)
    with pytest.raises(DataError, match=r"checkpoint\.pt"):
        load_checkpoint(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_file_cut_short_is_noticed(whole: bytes, tmp_path: Path, share: float) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match="delete it to start again, or resume from an older one"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_files_without_digest_are_read_only_if_they_are_of_the_time_before_it(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"format": 1, "epoch": 3}, path)
    assert load_checkpoint(path) == {"format": 1, "epoch": 3}
    torch.save({"format": 2, "epoch": 3}, path)
    with pytest.raises(DataError, match="the digest is missing"):
        load_checkpoint(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoint.pt", {"format": 99})
    with pytest.raises(DataError, match="checkpoint format 99, this version reads 2"):
        load_checkpoint(tmp_path / "checkpoint.pt")


class _Planted:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("planted"),))


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "model": _Planted()}, "zip.pt")
    Path("pickle.pt").write_bytes(pickle.dumps(_Planted()))
    for name in ("zip.pt", "pickle.pt"):
        with pytest.raises(DataError, match="not a readable checkpoint"):
            load_checkpoint(Path(name))
        with pytest.raises(DataError):
            checkpoint_step(Path(name))
    assert not Path("planted").exists()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to let a file grow beyond this, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_refused_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    with (
        largest_file(200_000),
        pytest.raises(EnvironmentProblem, match=r"checkpoint\.pt: .*File too large; .* MiB are free there"),
    ):
        save_checkpoint(path, {"step": 8, "weights": torch.zeros(100_000)})
    assert load_checkpoint(path)["step"] == 7
    assert names(tmp_path) == ["checkpoint.pt"]


def test_a_folder_that_cannot_be_made_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        EnvironmentProblem, match="free some space or mend the folder, then go on with --resume"
    ):
        save_checkpoint(tmp_path / "file" / "checkpoint.pt", STATE)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE, errno.EMFILE])
def test_a_file_that_cannot_be_read_now_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, *_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, STATE)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        EnvironmentProblem, match=rf"{os.strerror(number)}\); mend the folder or its file system"
    ):
        load_checkpoint(path)


class _Faulty(io.BytesIO):
    """A stream that fails once a number of bytes has been read."""

    def __init__(self, data: bytes, after: int) -> None:
        super().__init__(data)
        self._left = after

    def _fail_if_due(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise OSError(errno.EIO, "Input/output error")

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._fail_if_due(len(data))
        return data

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self._fail_if_due(count)
        return count


@pytest.mark.parametrize("share", [0.0, 0.5, 1.01, 1.5])
def test_a_disk_that_fails_while_a_file_is_read_says_nothing_about_its_content(
    whole: bytes, share: float
) -> None:
    """Above 1 the digest has been compared, and torch reads."""
    with pytest.raises(OSError, match="Input/output error"):
        read_checkpoint(_Faulty(whole, int(share * len(whole))), name="checkpoint.pt")


def _load_with_little_memory(path: Path, free: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + free, resource.RLIM_INFINITY))
    with pytest.raises(MemoryError, match=r"checkpoint\.pt"):
        load_checkpoint(path)


def test_too_little_memory_for_a_whole_file_is_not_damage(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 3, "weights": torch.zeros(100_000_000, dtype=torch.uint8)})
    limited = multiprocessing.get_context("spawn").Process(  # a fork would reuse what its parent freed
        target=_load_with_little_memory, args=(path, 60_000_000)
    )
    limited.start()
    limited.join(60)
    assert limited.exitcode == 0


def test_a_folder_that_cannot_be_synchronised_does_not_lose_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems answer EINVAL; the file is in its place by then."""
    synchronise = os.fsync

    def no_folders(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        synchronise(descriptor)

    monkeypatch.setattr(os, "fsync", no_folders)
    save_checkpoint(tmp_path / "checkpoint.pt", STATE)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 7


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    for name in ("checkpoint.pt", ".checkpoint.pt.123", ".other.pt.123"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "checkpoint.pt")
    assert names(tmp_path) == [".other.pt.123", "checkpoint.pt"]
