"""Recurrent backbone: events flow through GRU layers; a snapshot token takes one step aside.

At a cutoff, each layer continues from its state after the last known event with the snapshot
token as one more input. The events never see that step, so an answer does not depend on which
other cutoffs are asked. Right padding needs no masks: states before it do not see it.
"""

import torch
from torch import Tensor, nn

from seqjourney.models.dropout import Dropout
from seqjourney.models.recurrence import states_of


class GRUBackbone(nn.Module):
    """Stack of one-layer GRUs with dropout between."""

    def __init__(self, width: int, layers: int, dropout: float):
        super().__init__()
        # One module a layer, because a snapshot needs the state of every layer.
        self.layers = nn.ModuleList(nn.GRU(width, width, batch_first=True) for _ in range(layers))
        self.dropout = Dropout(dropout)

    def forward(
        self,
        events: Tensor,
        snapshots: Tensor,
        times: Tensor,
        ends: Tensor,
        cutoffs: Tensor,
    ) -> Tensor:
        """Answer all snapshots in one pass.

        Args:
            events: (B, T, D).
            snapshots: (B, S, D).
            times: (B, T) int64 microseconds.
            ends: (B, S) int64, events known at each snapshot.
            cutoffs: (B, S) int64 microseconds.

        Returns:
            (B, S, D).
        """
        if not torch.jit.is_scripting():  # noqa: SIM102 - alone, or TorchScript compiles the rest
            if self.training and events.device.type == "cpu" and not torch.compiler.is_compiling():
                return self._learning(events, snapshots, ends)
        batch, asked, width = snapshots.shape
        past = ends.unsqueeze(-1).expand(batch, asked, width)
        x, query = events, snapshots.reshape(batch * asked, 1, width)
        for layer in self.layers:
            states, _ = layer(self.dropout(x))  # (B, T, D)
            padded = torch.cat([torch.zeros_like(states[:, :1]), states], dim=1)  # state 0: nothing
            before = padded.gather(1, past).reshape(1, batch * asked, width)
            query, _ = layer(self.dropout(query), before.contiguous())
            x = states
        return query.reshape(batch, asked, width)

    def _learning(self, events: Tensor, snapshots: Tensor, ends: Tensor) -> Tensor:
        """Do the same in fewer kernels, for training on the CPU; steps come first here."""
        batch, asked, width = snapshots.shape
        past = ends.t().unsqueeze(-1).expand(asked, batch, width)
        x, query = events.transpose(0, 1), snapshots.transpose(0, 1).reshape(1, -1, width)
        nothing = events.new_zeros(batch, width)
        for layer in self.layers:
            states = states_of(layer, self.dropout(x), nothing)  # type: ignore[arg-type]
            before = states.gather(0, past).reshape(-1, width)
            query = states_of(layer, self.dropout(query), before)[1:]  # type: ignore[arg-type]
            x = states[1:]
        return query.reshape(asked, batch, width).transpose(0, 1)
