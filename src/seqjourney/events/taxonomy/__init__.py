"""One name for one event: tracking plans, mapping, and what a person should look at.

`plan` reads the YAML, `mapping` gives rows their canonical names, `violations` and `synonyms` find
what the plan does not say, and `review` writes it down and reads decisions back. Start at `plan`.
"""

from seqjourney.events.taxonomy.findings import Findings, examine
from seqjourney.events.taxonomy.mapping import canonical, read_names, with_properties
from seqjourney.events.taxonomy.plan import TrackingPlan, merge, read_plan
from seqjourney.events.taxonomy.review import accepted, write_review

__all__ = [
    "Findings",
    "TrackingPlan",
    "accepted",
    "canonical",
    "examine",
    "merge",
    "read_names",
    "read_plan",
    "with_properties",
    "write_review",
]
