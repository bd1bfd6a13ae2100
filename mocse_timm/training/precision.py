"""What a device can do in 16 bits."""

import torch

__all__ = ["bfloat16_is_emulated"]


def bfloat16_is_emulated(device: torch.device) -> bool:
    """Return whether ``device`` has no bfloat16 instructions and computes it by other means, which is slow.

    So do x86 processors without AVX-512 and NVIDIA GPUs before Ampere. Other kinds of device are taken to be able to.
    """
    if device.type == "cpu":
        return not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
