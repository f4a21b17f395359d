"""Trained models out into the world.

`export` writes a network as one TorchScript file, `loading` opens a run or such a file as a
`scorer.Scorer`, which scores a pandas frame of events (of a `next` task a `NextScorer`, which says
what comes next), and `tokens` brings a frame to the same tokens that training saw. Start reading at
`loading.load`.
"""
