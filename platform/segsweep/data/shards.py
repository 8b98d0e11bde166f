"""Decoded data sets on disk: write once, memory-map in every trial.

A shard folder holds one Arrow IPC file per split and ``index.json``. Rows hold decoded uint8 pixels,
so a training step reads them from the page cache, which all trials of a machine share.
"""

from __future__ import annotations

from segsweep.data.shard_cache import cached
from segsweep.data.shard_reader import ShardDataset, ShardSet, open_shards
from segsweep.data.shard_writer import prepare

__all__ = ["ShardDataset", "ShardSet", "cached", "open_shards", "prepare"]
