"""Where a visit came from: channel, AI engine with its evidence, and automated agents.

`evidence` reads hosts, tags and click ids out of each row's text, `hosts` says what kind of site a
host or a source's name is, `rules` turns that into a channel in the order of GA4's default channel
group with AI search as a channel of its own, and `agents` knows the user agents of machines.
Start reading at `classify.classify`; all of it is one lazy Ibis expression.
"""

from seqjourney.events.channels.classify import CHANNELS, classify

__all__ = ["CHANNELS", "classify"]
