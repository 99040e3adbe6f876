"""Memory of computations on a CPU."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt; their defaults are 128 KiB and 65,536."""


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
        mallopt(MMAP_MAX, 65536)
        mallopt(TRIM_THRESHOLD, 128 * 1024)
        ctypes.CDLL(None).malloc_trim(0)


def _has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
