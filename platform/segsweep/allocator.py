"""Keep freed memory in a training process instead of giving it back to the system after each tensor.

By default glibc maps every large tensor anew: on a CPU, a training step of a small network then spends a
fifth of its time in page faults.
"""

from __future__ import annotations

import ctypes

# <malloc.h>
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_MAX = -4
_NEVER = 2**31 - 1
_GROWTH_BYTES = 256 * 2**20  # the heap grows by this much at a time


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to take large blocks from the heap and never to shrink it.

    For processes that train and then end: the memory of the largest moment stays theirs until then.

    Returns:
        Whether the allocator took it; ``False`` where the C library is another.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _GROWTH_BYTES))
    taken = [bool(mallopt(name, value)) for name, value in settings]
    return all(taken)
