"""What the C library does with memory that is given back."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST = 32 * 2**20  # bytes: glibc's own bound on what may come from its heap
_KEPT = 256 * 2**20


def keep_freed() -> None:
    """Let the process keep memory that it has freed, for the next time, where its C library is glibc.

    Each training step asks for the same tensors again. By default those above some hundred kilobytes come from the
    kernel each time, and are cleared page by page: a third of the time of a small network's step. To be called by a
    program, and not by a library: it holds for the whole process.
    """
    try:
        tune = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    tune(_M_MMAP_THRESHOLD, _LARGEST)
    tune(_M_TRIM_THRESHOLD, _KEPT)
