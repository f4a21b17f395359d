"""Trained models out into the world.

`export` writes a network as one TorchScript file, `scorer` loads a run or such a file and scores
a pandas frame of events, and `tokens` brings a frame to the same tokens that training saw.
Start reading at `scorer.load`.
"""
