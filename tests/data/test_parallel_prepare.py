"""Preparing in parts: the same shards from any number of processes, and from where an attempt was cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from clean_labels import clean_mask, write_clean_camvid
from data_trees import save_grey_mask

from segsweep.data.interface import Sample, Source
from segsweep.data.shard_parts import Part, PartRecord, write_json
from segsweep.data.shards import ShardSet, cached, prepare
from segsweep.data.sources import open_source
from segsweep.errors import DataError

SIZE = (16, 32)
OPTIONS = {"train": 150, "val": 20, "height": 16, "width": 32}  # parts of 64, 64, 22 and 20 samples


def scenes() -> Source:
    return open_source("synthetic", root=None, options=OPTIONS)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """Shards made in one go."""
    return prepare(scenes(), tmp_path_factory.mktemp("whole") / "shards", size=SIZE)


@dataclass
class Counted:
    """A source that notes what is read and may fail or interrupt at one sample."""

    inner: Source
    stop_at: int | None = None
    error: type[BaseException] = KeyboardInterrupt
    read: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def load(self, split: str, key: str) -> Sample:
        if self.stop_at is not None and len(self.read) >= self.stop_at:
            raise self.error(f"{split}/{key}: no")
        self.read.append(f"{split}/{key}")
        return self.inner.load(split, key)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_joined_parts_hold_every_sample_in_order(expected: ShardSet) -> None:
    source = scenes()
    expected.verify()
    assert expected.counts == {"train": 150, "val": 20}
    for row in (0, 63, 64, 127, 128, 149):  # both sides of the seams
        key = source.keys("train")[row]
        sample = source.load("train", key)
        image, labels = expected.dataset("train").arrays(row)
        assert expected.dataset("train").key(row) == key
        np.testing.assert_array_equal(image.transpose(1, 2, 0), sample.image)
        np.testing.assert_array_equal(labels, sample.labels)


def test_two_processes_write_the_same_bytes(tmp_path: Path, expected: ShardSet) -> None:
    calls: list[tuple[int, int]] = []
    shards = prepare(
        scenes(), tmp_path / "shards", size=SIZE, workers=2, progress=lambda *call: calls.append(call)
    )
    for name in ("train.arrow", "val.arrow", "index.json"):
        assert (shards.path / name).read_bytes() == (expected.path / name).read_bytes()
    assert calls[-1] == (170, 170)
    assert leftovers(tmp_path) == ["shards"]


def test_an_interrupted_preparation_goes_on_where_it_was(tmp_path: Path, expected: ShardSet) -> None:
    source = Counted(scenes(), stop_at=140)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "shards", size=SIZE)
    assert not (tmp_path / "shards").exists()
    again = Counted(scenes())
    calls: list[int] = []
    shards = prepare(again, tmp_path / "shards", size=SIZE, progress=lambda done, _: calls.append(done))
    assert shards.digest == expected.digest
    shards.verify()
    assert len(again.read) == 170 - 2 * 64  # two parts were finished
    assert calls == [128, *range(129, 171)]
    assert leftovers(tmp_path) == ["shards"]


def test_a_killed_preparation_goes_on_where_it_was(tmp_path: Path, expected: ShardSet) -> None:
    code = f"""
import time
from pathlib import Path
from segsweep.data.shards import prepare
from segsweep.data.sources import open_source
def slowly(done, total):
    print(done, flush=True)
    if done > 100: time.sleep(60)
prepare(open_source("synthetic", root=None, options={OPTIONS!r}), Path({str(tmp_path / "shards")!r}),
        size={SIZE!r}, progress=slowly)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 101:
            pass
        process.send_signal(signal.SIGKILL)
    again = Counted(scenes())
    assert prepare(again, tmp_path / "shards", size=SIZE).digest == expected.digest
    assert len(again.read) == 170 - 64
    assert leftovers(tmp_path) == ["shards"]


def interrupted(folder: Path, *, at: int = 140, size: tuple[int, int] = SIZE) -> Path:
    """Leave the parts of an interrupted attempt; gives their folder."""
    with pytest.raises(KeyboardInterrupt):
        prepare(Counted(scenes(), stop_at=at), folder / "shards", size=size)
    (parts,) = folder.glob(".shards.*.parts")
    return parts


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_damaged_parts_are_made_anew(tmp_path: Path, expected: ShardSet, place: float) -> None:
    path = interrupted(tmp_path) / "train-00000.arrow"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 0xFF
    path.write_bytes(content)
    shards = prepare(scenes(), tmp_path / "shards", size=SIZE)
    shards.verify()
    assert shards.digest == expected.digest


def test_parts_without_a_record_are_made_anew(tmp_path: Path, expected: ShardSet) -> None:
    (interrupted(tmp_path) / "train-00001.json").unlink()
    again = Counted(scenes())
    assert prepare(again, tmp_path / "shards", size=SIZE).digest == expected.digest
    assert len(again.read) == 170 - 64


def test_parts_of_another_size_or_data_are_not_taken_over(tmp_path: Path, expected: ShardSet) -> None:
    interrupted(tmp_path, size=(8, 8))
    again = Counted(scenes())
    assert prepare(again, tmp_path / "shards", size=SIZE).digest == expected.digest
    assert len(again.read) == 170
    assert leftovers(tmp_path) == ["shards"]


def test_joined_splits_are_taken_over(tmp_path: Path, expected: ShardSet) -> None:
    """The last step is interrupted: nothing has to be decoded again."""
    done: list[int] = []

    def stop(samples: int, total: int) -> None:
        done.append(samples)

    parts = interrupted(tmp_path, at=169)
    prepare(scenes(), tmp_path / "other" / "shards", size=SIZE, progress=stop)
    for name in ("train.arrow",):
        (parts / name).write_bytes((tmp_path / "other" / "shards" / name).read_bytes())
    index = expected.index.splits["train"]
    write_json(parts / "train.json", vars(index))
    again = Counted(scenes())
    assert prepare(again, tmp_path / "shards", size=SIZE).digest == expected.digest
    assert len(again.read) == 20  # val


def test_bad_samples_are_named_from_any_process(tmp_path: Path) -> None:
    with pytest.raises(DataError) as here:
        prepare(Counted(scenes(), stop_at=70, error=DataError), tmp_path / "one", size=SIZE)
    assert str(here.value).splitlines()[:2] == ["train/000070: no", "train/000071: no"]
    root = write_clean_camvid(tmp_path / "camvid")
    ids = np.where(clean_mask(1) == 4, 37, clean_mask(1))
    save_grey_mask(root / "trainannot" / "a1.png", ids)
    with pytest.raises(DataError) as there:
        prepare(open_source("camvid", root=root), tmp_path / "two", workers=2)
    assert str(there.value).startswith(f"{root / 'trainannot' / 'a1.png'}: mask holds ids 37")


def test_a_map_may_finish_in_any_order(tmp_path: Path, expected: ShardSet) -> None:
    def backwards(write: Callable[[Part], PartRecord], parts: Sequence[Part]) -> Iterator[PartRecord]:
        for part in reversed(parts):
            yield write(part)

    assert prepare(scenes(), tmp_path / "shards", size=SIZE, part_map=backwards).digest == expected.digest


def test_parts_written_out_of_sight_are_explained(tmp_path: Path) -> None:
    def elsewhere(write: Callable[[Part], PartRecord], parts: Sequence[Part]) -> Iterator[PartRecord]:
        for part in parts:
            record = write(part)
            next(tmp_path.glob(f".shards.*.parts/{part.stem}.arrow")).unlink()
            yield record

    with pytest.raises(DataError, match="not visible here; all nodes must see this folder"):
        prepare(scenes(), tmp_path / "shards", size=SIZE, part_map=elsewhere)


def test_the_cache_prepares_in_processes_too(tmp_path: Path, expected: ShardSet) -> None:
    shards = cached("synthetic", root=None, size=SIZE, cache=tmp_path, options=OPTIONS, workers=2)
    assert shards.digest == expected.digest


def test_one_of_two_processes_prepares_and_the_other_waits(tmp_path: Path, expected: ShardSet) -> None:
    code = f"""
from pathlib import Path
from segsweep.data.shards import prepare
from segsweep.data.sources import open_source
import time
calls = []
def note(done, total):
    calls.append(done)
    print("busy", flush=True)
    time.sleep(0.01)
print(prepare(open_source("synthetic", root=None, options={OPTIONS!r}), Path({str(tmp_path / "shards")!r}),
      size={SIZE!r}, progress=note).digest, len(calls))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it holds the lock now
        calls: list[int] = []
        start = time.monotonic()
        shards = prepare(
            scenes(), tmp_path / "shards", size=SIZE, progress=lambda done, _: calls.append(done)
        )
        rest = process.stdout.read()
    assert time.monotonic() - start > 0.5
    assert calls == []
    assert rest.splitlines()[-1] == f"{shards.digest} 170"
    assert shards.digest == expected.digest
