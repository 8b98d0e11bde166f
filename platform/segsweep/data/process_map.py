"""Preparing parts in several processes of this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from segsweep.data.shard_parts import Part, PartMap, PartRecord
from segsweep.errors import DataError

_write: Callable[[Part], PartRecord] | None = None  # this worker's, set once: a source may name 100,000 files


def process_map(workers: int) -> PartMap:
    """A map over ``workers`` processes; records come as they are finished.

    Call it from a module that can be imported: the processes are started anew, not forked, because a process
    with threads (torch, Arrow) must not be forked.
    """

    def run(write: Callable[[Part], PartRecord], parts: Sequence[Part]) -> Iterator[PartRecord]:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(
            min(workers, len(parts)), mp_context=context, initializer=_take, initargs=(write,)
        )
        try:
            for future in as_completed([pool.submit(_run, part) for part in parts]):
                yield future.result()
        except BrokenProcessPool as error:
            raise DataError(
                f"a process that prepared data died ({error}), likely for want of memory; run again with "
                "fewer workers: finished parts are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    return run


def _take(write: Callable[[Part], PartRecord]) -> None:
    global _write
    _write = write


def _run(part: Part) -> PartRecord:
    if _write is None:
        raise RuntimeError("the process was not told how to write parts; start it through process_map")
    return _write(part)
