from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from data_trees import write_camvid_tree
from PIL import Image

from segsweep.data.shards import ShardSet, cached
from segsweep.errors import DataError


def camvid_shards(root: Path, cache: Path, size: tuple[int, int] | None = None) -> ShardSet:
    return cached("camvid", root=root, size=size, cache=cache)


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def test_second_use_reads_no_images(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path / "camvid")
    calls: list[int] = []
    for _ in range(2):
        cached(
            "camvid",
            root=tmp_path / "camvid",
            size=None,
            cache=tmp_path / "cache",
            progress=lambda done, total: calls.append(done),
        )
    assert calls == [1, 2, 3, 4, 5]


def test_entry_follows_size_content_and_options(tmp_path: Path) -> None:
    root, cache = tmp_path / "camvid", tmp_path / "cache"
    write_camvid_tree(root)
    first = camvid_shards(root, cache)
    smaller = camvid_shards(root, cache, size=(8, 8))
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(root / "valannot" / "0001TP_000000.png")
    changed = camvid_shards(root, cache)
    made_up = [
        cached("synthetic", root=None, size=None, cache=cache, options={"train": 1, "val": 1, "seed": seed})
        for seed in (0, 1)
    ]
    assert len({shards.path for shards in (first, smaller, changed, *made_up)}) == 5
    assert changed.ignored_pixels["val"] < first.ignored_pixels["val"]


def test_new_problem_in_the_data_is_not_hidden_by_the_cache(tmp_path: Path) -> None:
    root, cache = tmp_path / "camvid", tmp_path / "cache"
    write_camvid_tree(root)
    camvid_shards(root, cache)
    Image.new("RGB", (32, 24)).save(root / "train" / "extra.png")
    with pytest.raises(DataError, match=r"extra\.png"):
        camvid_shards(root, cache)


def test_damaged_entry_is_made_anew(tmp_path: Path) -> None:
    root, cache = tmp_path / "camvid", tmp_path / "cache"
    write_camvid_tree(root)
    first = camvid_shards(root, cache)
    (first.path / "train.arrow").write_bytes(b"ARROW1")
    second = camvid_shards(root, cache)
    assert (second.path, second.digest) == (first.path, first.digest)
    second.verify()


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    root, cache = tmp_path / "camvid", tmp_path / "cache"
    write_camvid_tree(root)
    first = camvid_shards(root, cache)
    (first.path / "index.json").unlink()
    (cache / f".{first.path.name}.x1y2.partial").mkdir()
    camvid_shards(root, cache)
    assert entries(cache) == [first.path.name]


def test_unwritable_cache_is_explained(tmp_path: Path) -> None:
    write_camvid_tree(tmp_path / "camvid")
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match=r"cache: cannot be written \("):
        camvid_shards(tmp_path / "camvid", tmp_path / "cache")


def _race(cache: Path, start: float, answers: multiprocessing.Queue[tuple[str, int]]) -> None:
    made = 0

    def count(done: int, total: int) -> None:
        nonlocal made
        made += 1

    time.sleep(max(0.0, start - time.time()))
    options = {"train": 30, "val": 2, "height": 64, "width": 64}
    shards = cached("synthetic", root=None, size=None, cache=cache, options=options, progress=count)
    shards.verify()
    answers.put((shards.digest, made))


def test_racing_processes_agree_and_only_one_works(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[tuple[str, int]] = context.Queue()
    start = time.time() + 0.3
    racers = [context.Process(target=_race, args=(tmp_path / "cache", start, answers)) for _ in range(4)]
    for racer in racers:
        racer.start()
    results = [answers.get(timeout=30) for _ in racers]
    for racer in racers:
        racer.join(timeout=30)
    assert len({digest for digest, _ in results}) == 1
    assert sorted(made for _, made in results) == [0, 0, 0, 32]
    assert len(entries(tmp_path / "cache")) == 1
