"""A GRU layer for training on the CPU: PyTorch's equations and parameters, in fewer kernels.

PyTorch's own CPU layer runs some fifteen small kernels for each step and as many backward, and a
product of matrices for the gradient of the weights at every step. Here a step is a product of
matrices and five kernels, backward one and two; all that does not depend on the step before is
done for all steps at once. Equal to `nn.GRU` but for rounding. On CUDA `nn.GRU` is cuDNN's.

    r, z = sigmoid(W_r x + U_r h), sigmoid(W_z x + U_z h)
    n = tanh(W_n x + r * (U_n h))
    h' = (1 - z) * n + z * h

Shapes: T steps, B rows, D width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward


def states_of(layer: nn.GRU, x: Tensor, start: Tensor) -> Tensor:
    """Run a one-layer GRU: (T, B, D), (B, D) -> (T + 1, B, D), the start in front.

    Args:
        layer: `nn.GRU` on the CPU whose parameters are used.
        x: inputs.
        start: states before the first step.
    """
    weights = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0
    states: Tensor = _Recurrence.apply(x, start, *weights)
    return states


class _Recurrence(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: Any,
        x: Tensor,
        start: Tensor,
        w_in: Tensor,
        w_rec: Tensor,
        b_in: Tensor,
        b_rec: Tensor,
    ) -> Tensor:
        steps, rows, width = x.shape[0], x.shape[1], start.shape[1]
        flat, two = x.reshape(steps * rows, -1), 2 * width
        # What each step adds U h to: the inputs' share of r and z, and the bias of U_n h.
        gates = flat.new_empty(steps, rows, 3 * width)
        wide = gates.view(steps * rows, 3 * width)
        torch.addmm((b_in + b_rec)[:two], flat, w_in[:two].t(), out=wide[:, :two])
        wide[:, two:] = b_rec[two:]
        # tanh(a) = 2 sigmoid(2 a) - 1, and PyTorch's sigmoid is five times as fast: 2 a from here.
        doubled = torch.addmm(b_in[two:], flat, w_in[two:].t(), beta=2, alpha=2)
        new, minus = doubled.view(steps, rows, width), doubled.new_tensor(-1.0)
        states = flat.new_empty(steps + 1, rows, width)
        states[0] = start
        before, kept = states[0], w_rec.t()
        for step, open_, r, z, recalled, n, after in zip(
            gates.unbind(),
            gates[..., :two].unbind(),
            *(gate.unbind() for gate in gates.split(width, -1)),
            new.unbind(),
            states[1:].unbind(),
            strict=True,
        ):
            step.addmm_(before, kept)
            open_.sigmoid_()
            torch.add(minus, n.addcmul_(r, recalled, value=2).sigmoid_(), alpha=2, out=n)
            torch.lerp(n, before, z, out=after)
            before = after
        ctx.save_for_backward(flat, w_in, w_rec, gates, new, states)
        return states

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        flat, w_in, w_rec, gates, new, states = ctx.saved_tensors
        steps, rows, width = new.shape
        r, z, recalled = gates.split(width, -1)
        # Every gate's gradient is that of the state after it times a share known beforehand.
        shares = torch.empty_like(gates)
        of_r, of_z, of_recalled = shares.split(width, -1)
        of_new = _tanh_backward(1 - z, new)
        torch.mul(of_new, r, out=of_recalled)
        _sigmoid_backward(of_new * recalled, r, grad_input=of_r)
        _sigmoid_backward(states[:-1] - new, z, grad_input=of_z)
        total = torch.empty_like(states)
        total[-1] = grad[-1]
        after = total[-1]
        for given, by_gate, share, update, before in zip(
            *(
                reversed(part.unbind())
                for part in (
                    grad[:-1],
                    shares.view(steps, rows, 3, width),
                    shares,
                    z,
                    total[:-1],
                )
            ),
            strict=True,
        ):
            by_gate.mul_(after.unsqueeze(1))
            torch.addcmul(given, after, update, out=before).addmm_(share, w_rec)
            after = before
        wide = shares.view(steps * rows, 3 * width)
        w_rec_grad, b_rec_grad = wide.t() @ states[:-1].view(steps * rows, width), wide.sum(0)
        torch.mul(total[1:], of_new, out=of_recalled)  # from U_n h to W_n x, which r does not scale
        w_in_grad, b_in_grad = wide.t() @ flat, wide.sum(0)
        x_grad = (wide @ w_in).view(steps, rows, -1)
        return x_grad, after, w_in_grad, w_rec_grad, b_in_grad, b_rec_grad
