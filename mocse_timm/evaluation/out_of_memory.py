"""How to tell that memory ran out from other faults."""

import torch

__all__ = ["is_out_of_memory"]

# in RuntimeErrors: of CUDA, XPU and Apple's GPUs; of torch's CPU allocator; of C++; of cuBLAS and cuDNN
SIGNS = ("out of memory", "DefaultCPUAllocator", "bad_alloc", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` says that memory could not be had, on a device or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
