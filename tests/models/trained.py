"""What the tests of training and of pretraining ask of a network: are its weights the same?"""

from __future__ import annotations

import torch

from seqjourney.models.network import NetworkPredictor

State = dict[str, torch.Tensor]


class Killed(BaseException):
    """Nobody catches this: to files on disk it is what SIGKILL is."""


def weights(network: NetworkPredictor) -> State:
    assert network.model is not None
    return network.model.state_dict()


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
