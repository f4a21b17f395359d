"""Events' attention may be taken by a flash kernel, of which CUDA's knows no dense mask.

Snapshots see what was known at their cutoffs, which is a mask: which kernel takes theirs is left
to PyTorch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from seqjourney.models.transformer import DAY_US, TransformerBackbone

LAYERS, EVENTS, SNAPSHOTS, WIDTH = 3, 50, 7, 32


@contextmanager
def event_attention(how: Callable[..., Tensor]) -> Iterator[None]:
    """Let `how(attend, *inputs, **more)` stand for every call with a query for each key."""
    attend = F.scaled_dot_product_attention

    def seen(query: Tensor, key: Tensor, value: Tensor, **more: object) -> Tensor:
        if query.size(-2) != key.size(-2):  # snapshots
            return attend(query, key, value, **more)
        return how(attend, query, key, value, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", seen)
        yield


def answers_and_gradients() -> dict[str, Tensor]:
    """Run the same backbone on the same two padded windows, forward and backward."""
    torch.manual_seed(0)
    backbone = TransformerBackbone(WIDTH, LAYERS, heads=2, dropout=0.0, history_us=90 * DAY_US)
    events = torch.randn(2, EVENTS, WIDTH, requires_grad=True)
    snapshots = torch.randn(2, SNAPSHOTS, WIDTH, requires_grad=True)
    times = torch.arange(EVENTS).expand(2, EVENTS) * DAY_US
    ends = torch.tensor([[0, 1, 5, 20, 30, 40, EVENTS], [0, 0, 1, 2, 3, 9, 17]])
    answers = backbone(events, snapshots, times, ends, ends * DAY_US)
    (answers * torch.randn_like(answers)).sum().backward()
    grown = {name: weight.grad for name, weight in backbone.named_parameters()}
    return {"answers": answers, "events": events.grad, "snapshots": snapshots.grad, **grown}


def test_flash_and_plain_attention_of_events_give_the_same_answers_and_gradients():
    taken = []

    def only(kernel: SDPBackend) -> Callable[..., Tensor]:
        def how(attend: Callable[..., Tensor], *inputs: Tensor, **more: object) -> Tensor:
            with sdpa_kernel(kernel):  # an error where this one cannot
                taken.append(kernel)
                return attend(*inputs, **more)

        return how

    with event_attention(only(SDPBackend.MATH)):
        plain = answers_and_gradients()
    with event_attention(only(SDPBackend.FLASH_ATTENTION)):
        flash = answers_and_gradients()
    # In the last layer nobody looks at events.
    assert taken == [SDPBackend.MATH] * (LAYERS - 1) + [SDPBackend.FLASH_ATTENTION] * (LAYERS - 1)
    for name, expected in plain.items():
        assert expected is not None and expected.abs().max() > 1e-3, name
        torch.testing.assert_close(flash[name], expected, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("half", [False, True])
def test_event_attention_asks_for_nothing_that_cudas_flash_kernel_lacks(half: bool):
    asked = []

    def look(
        attend: Callable[..., Tensor],
        *inputs: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
    ) -> Tensor:
        asked.append((attn_mask, dropout_p, is_causal, *(part.dtype for part in inputs)))
        return attend(*inputs, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal)

    kind = torch.bfloat16 if half else torch.float32
    with torch.autocast("cpu", kind) if half else nullcontext(), event_attention(look):
        answers_and_gradients()
    assert asked == [(None, 0.0, True, kind, kind, kind)] * (LAYERS - 1)
