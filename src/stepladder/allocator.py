"""Freed memory stays with the process that trains or fits."""

import ctypes
import sys
from functools import cache

# Parameters of mallopt(3), and what they are set to.
TRIM_THRESHOLD, MMAP_THRESHOLD, LARGEST = -1, -3, 1 << 30


@cache
def keep_freed_memory() -> None:
    """Have the C library keep large blocks for the next step instead of returning them.

    glibc gives them back to the system as they are freed, and each step then faults its
    activations in anew, page by page: a tenth of the time of a small step on the CPU. Without
    effect where the library is another one.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST)
        mallopt(TRIM_THRESHOLD, LARGEST)
