"""Preparing over Ray: the same shards as on one machine, and a user's mistake comes back as such."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from clean_labels import write_clean_camvid
from data_trees import save_grey_mask

from segsweep.data.shard_parts import Part, PartRecord
from segsweep.data.shards import prepare
from segsweep.data.sources import open_source
from segsweep.distributed.part_map import cluster_is_there, cluster_part_map, ray_part_map
from segsweep.errors import DataError
from segsweep.jobs.common import prepared
from segsweep.jobs.news import silent
from segsweep.jobs.spec import DataSettings

OPTIONS = {"train": 150, "val": 20, "height": 16, "width": 32}
SIZE = (16, 32)


@pytest.mark.usefixtures("ray_two_cpus")
def test_a_cluster_writes_the_same_shards(tmp_path: Path) -> None:
    source = open_source("synthetic", root=None, options=OPTIONS)
    calls: list[int] = []
    with cluster_part_map() as part_map:
        assert part_map is not None
        made = prepare(
            source,
            tmp_path / "ray",
            size=SIZE,
            part_map=part_map,
            progress=lambda done, _: calls.append(done),
        )
    here = prepare(source, tmp_path / "here", size=SIZE)
    for name in ("train.arrow", "val.arrow", "index.json"):
        assert (made.path / name).read_bytes() == (here.path / name).read_bytes()
    assert sorted(calls) == calls
    assert calls[-1] == 170


@pytest.mark.usefixtures("ray_two_cpus")
def test_a_bad_sample_on_a_node_is_named(tmp_path: Path) -> None:
    root = write_clean_camvid(tmp_path / "camvid")
    ids = open_source("camvid", root=root).load("train", "a0").labels.astype("uint16")
    ids[ids == 255] = 37
    save_grey_mask(root / "trainannot" / "a0.png", ids)
    with pytest.raises(DataError, match=r"a0\.png: mask holds ids 37"):
        prepare(open_source("camvid", root=root), tmp_path / "shards", part_map=ray_part_map)
    assert not list(tmp_path.glob(".shards*"))


def test_no_cluster_is_started_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    if ray.is_initialized():
        assert cluster_is_there()
        return
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with cluster_part_map() as part_map:
        assert part_map is None
    assert not ray.is_initialized()


@pytest.mark.usefixtures("ray_two_cpus")
def test_jobs_prepare_on_the_cluster_and_find_the_shards_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ray_part_map`` is watched, not replaced."""
    written: list[int] = []

    def watched(write: Callable[[Part], PartRecord], parts: Sequence[Part]) -> Iterator[PartRecord]:
        for record in ray_part_map(write, parts):
            written.append(record.rows)
            yield record

    monkeypatch.setattr("segsweep.distributed.part_map.ray_part_map", watched)
    data = DataSettings(source="synthetic", size=SIZE, options=OPTIONS)
    shards = prepared(data, tmp_path, say=silent)
    here = prepare(open_source("synthetic", root=None, options=OPTIONS), tmp_path / "here", size=SIZE)
    assert shards.digest == here.digest and sum(written) == 170
    assert prepared(data, tmp_path, say=silent).path == shards.path
    assert sum(written) == 170
