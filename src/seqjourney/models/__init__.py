"""Batches in, scores out: the networks of this project and how they learn.

`embedding` turns raw token tensors into vectors, `gru` and `transformer` are the two backbones,
`model` joins them with the `head` of a task (others: `value_head`, `hazard_head`), `training` is
the Lightning module with exact resume, `learning` runs it, and `network` wraps all of it as a
`Predictor`. Start reading at `model.JourneyModel`. `pretraining` may teach a network what comes
next before its task.
`next_head`, `next_training` and `next_network` are the same for `next` tasks.
"""
