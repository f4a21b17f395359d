"""Live scores over HTTP: what `scripts/serve.py` runs (extra: serve).

A request is read and checked (`requests`), waits in a bounded queue (`queue`) and is answered
together with others by one thread, which keeps customers in memory or in Redis (`states`). Read
`app` first; `settings` says what can be chosen.
"""
