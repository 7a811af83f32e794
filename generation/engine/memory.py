"""Memory of the device: giving it back, and telling when it ran out."""

import gc

import torch


def release_memory() -> None:
    """Give freed tensors back to the device, which other processes share."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # PyTorch has no exception of its own for the CPU ("can't allocate memory") and MPS ("out of memory").
    return isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "out of memory" in str(error))
