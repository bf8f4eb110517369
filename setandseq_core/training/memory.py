"""Recognise errors that mean memory ran out, and say how much was missing."""

import re

SIGNS = ("out of memory", "can't allocate memory", "not enough memory")
"""Phrases in PyTorch's errors; PyTorch has a separate error class for this only on GPUs."""
BYTES = re.compile(r"allocate (\d+) bytes")
GB = 2**30


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory has run out, on any device."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in SIGNS)


def shortage(error: Exception) -> str:
    """A sentence on how much memory was missing, if the error says so."""
    text = " ".join(str(error).split())
    asked = BYTES.search(text)
    if asked:
        return f"{int(asked[1]) / GB:.2f} GB more were needed at once."
    return "There is no more main memory." if isinstance(error, MemoryError) else text[:300]
