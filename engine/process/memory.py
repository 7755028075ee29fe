"""What the C library does with memory that is given back."""

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = 32 * 2**20  # bytes: glibc's own bound on what may come from its heap
_KEPT = 256 * 2**20
_HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # torch's, which looks for it when it allocates first; what it has from 2 MB on


def keep_freed() -> None:
    """Let the process keep memory that it has freed, for the next time, where its C library is glibc.

    Each training step asks for the same tensors again. By default those above some hundred kilobytes come from the
    kernel each time, and are cleared page by page: a third of the time of a small network's step. To be called by a
    program, and not by a library: it holds for the whole process. What is larger still, a batch of photographs, comes
    in pages of 2 MB where Linux has them, since to clear 500 times as many small ones takes longer than to normalise.
    """
    os.environ.setdefault(_HUGE_PAGES, "1")
    try:
        tune = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    tune(_M_MMAP_THRESHOLD, _LARGEST)
    tune(_M_TRIM_THRESHOLD, _KEPT)
