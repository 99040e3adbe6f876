"""Memory of computations on a CPU."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Parameters of glibc's mallopt."""
_LARGEST = 32 << 20
"""glibc raises its threshold of maps up to this by itself, until somebody sets a parameter."""


@contextmanager
def keep_freed() -> Iterator[None]:
    """Let this process keep freed memory for the next tensors in the block, where libc is glibc.

    Otherwise glibc returns every tensor above 32 MiB to the system, which then fills new pages with
    zeros for the next one, which takes a quarter of some training steps. Results do not change.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if _has_glibc() else None
    if mallopt is None:
        yield
        return
    mallopt(TRIM_THRESHOLD, -1)
    mallopt(MMAP_MAX, 0)
    try:
        yield
    finally:
        mallopt(MMAP_MAX, 65536)  # the default
        mallopt(MMAP_THRESHOLD, _LARGEST)
        mallopt(TRIM_THRESHOLD, 2 * _LARGEST)
        ctypes.CDLL(None).malloc_trim(0)


def _has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
