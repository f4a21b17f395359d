"""Dropout that draws its masks cheaply on the CPU: 16 random bits a number in place of 64.

PyTorch draws a double for every number, which was the largest single cost of a training step of
both networks. Elsewhere (CUDA, compiled or scripted code) PyTorch's own is fused, and stays.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16


class Dropout(nn.Module):
    """As `nn.Dropout`; on the CPU its rate is a multiple of 1 / 65536, and the scale is exact."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(...) -> (...)."""
        if not self.training or self.rate == 0.0:
            return x
        if not torch.jit.is_scripting():  # noqa: SIM102 - alone, or TorchScript compiles the rest
            if x.device.type == "cpu" and not torch.compiler.is_compiling():
                return x * kept(x, self.rate)
        return F.dropout(x, self.rate, True)


@torch.no_grad()
def kept(x: Tensor, rate: float) -> Tensor:
    """Return a mask in the shape of x: 0 with probability `rate`, else the inverse of its rest."""
    dropped = min(round(rate * _LEVELS), _LEVELS - 1)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    levels = words.view(torch.int16)[: x.numel()].view(x.shape)  # uniform, from -32768 on
    keep = levels.ge_(dropped - _LEVELS // 2).to(x.dtype)
    return keep.mul_(_LEVELS / (_LEVELS - dropped))
