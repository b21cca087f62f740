"""Memory of a training step on a CPU, which the next step wants again."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""

LARGEST = 2**30
"""Bytes of a tensor whose memory is kept; glibc before 2.35 takes no more than SMALL for it."""

SMALL = 2**25


def keep_memory() -> bool:
    """Let the C library keep the memory of freed tensors; return whether it does, which only glibc can.

    By default it gives large pieces back to the system, which clears each page anew when it is touched next.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    large = mallopt(MMAP_THRESHOLD, LARGEST) or mallopt(MMAP_THRESHOLD, SMALL)
    return bool(large and mallopt(TRIM_THRESHOLD, 2**31 - 1))
