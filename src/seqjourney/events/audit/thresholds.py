"""What the audit asks for, and who says so: every limit with its source, in one place.

A limit that a vendor publishes for its own predictions names the page. One that nobody publishes is
our own judgement and says so, so that a reader knows how much weight it bears.
"""

from __future__ import annotations

from dataclasses import dataclass

PASS, WARN, FAIL, NOT_APPLICABLE = "pass", "warn", "fail", "not applicable"


@dataclass(frozen=True)
class Source:
    """Where a limit comes from; `url` is None for our own."""

    name: str
    url: str | None = None


@dataclass(frozen=True)
class Threshold:
    """A limit: `passes` is reached or the check warns; beyond `fails` (None: never) it fails."""

    asked: str
    source: Source
    passes: float
    fails: float | None = None
    more_is_better: bool = False

    def judge(self, value: float) -> str:
        """Return pass, warn or fail; a value on a limit is on its better side."""
        sign = 1 if self.more_is_better else -1
        if sign * value >= sign * self.passes:
            return PASS
        return FAIL if self.fails is not None and sign * value < sign * self.fails else WARN


_DOCS = "https://www.twilio.com/docs/segment/unify/traits/predictions"
SEGMENT = Source("Segment Predictions: requirements", _DOCS)
SEGMENT_USE = Source("Segment: Using Predictions", _DOCS + "/using-predictions")
ADOBE = Source(
    "Adobe Customer AI: data requirements",
    "https://experienceleague.adobe.com/en/docs/experience-platform/intelligent-services/"
    "customer-ai/data-requirements",
)
KLAVIYO = Source(
    "Klaviyo: predictive analytics", "https://help.klaviyo.com/hc/en-us/articles/360020919731"
)
GOOGLE = Source(
    "Google Analytics: Measurement Protocol",
    "https://developers.google.com/analytics/devguides/collection/protocol/ga4/sending-events",
)
PSI = Source(
    "Yurdakul & Naranjo (2020), Journal of Risk Model Validation 14(4)",
    "https://econpapers.repec.org/article/rskjourn5/7725371.htm",
)
RECENCY = Source("Wübben & von Wangenheim (2008), Journal of Marketing 72(3); limits: our own")
POWER = Source("Two-proportion test, Fleiss, Levin & Paik (2003), ch. 4; limit: our own")
OURS = Source("Our own judgement")

THRESHOLDS = {
    "history": Threshold(
        "12 months or more; a small business may start with 6", OURS, 12, 6, more_is_better=True
    ),
    # Below Klaviyo's 500 customers nobody starts; 10,000 is what a holdout begins to need.
    "active_customers": Threshold(
        "10,000 a month or more; under 500 is too few",
        Source("Our own judgement (10,000); Klaviyo: predictive analytics (500)", KLAVIYO.url),
        10_000,
        500,
        more_is_better=True,
    ),
    "event_types": Threshold("5 to 2,000 different events", SEGMENT, 0, 1),
    "gaps": Threshold("events on every day, and never 7 days of silence", SEGMENT_USE, 7, 30),
    "duplicates": Threshold("at most 1 % of the rows; over 10 % fails", OURS, 0.01, 0.10),
    "quarantined": Threshold("at most 1 % of the rows; over 25 % fails", OURS, 0.01, 0.25),
    "late": Threshold(
        "at most 1 % later than 72 hours; over 10 % fails",
        Source("Google Analytics: events up to 72 hours late; shares: our own", GOOGLE.url),
        0.01,
        0.10,
    ),
    "identity": Threshold(
        "70 % of events or more; under 30 % fails",
        Source("Segment predicts for identified users only; shares: our own", SEGMENT_USE.url),
        0.70,
        0.30,
        more_is_better=True,
    ),
    "fragmentation": Threshold("at most half of the customers", OURS, 0.5),
    "mapped": Threshold(
        "95 % of events or more; under 80 % fails", OURS, 0.95, 0.80, more_is_better=True
    ),
    "consent": Threshold(
        "95 % of customers or more; under 50 % fails", OURS, 0.95, 0.50, more_is_better=True
    ),
    "drift": Threshold(
        "PSI (how far two months' shares lie apart; 0 is not at all) under 0.1; 0.25 or more in "
        "the last three months fails",
        PSI,
        0.1,
        0.25,
    ),
    "holdout": Threshold("20 % of the base rate or less", POWER, 0.20),
    "outcomes": Threshold(
        "500 with and 500 without in each split; under 100 fails",
        Source("Adobe Customer AI (500 + 500); Segment Predictions (100 + 100)", ADOBE.url),
        500,
        100,
        more_is_better=True,
    ),
    "window": Threshold("3 times the horizon or more", SEGMENT, 3, 3, more_is_better=True),
    "recency": Threshold("AUC of 0.80 or less; over 0.95 fails", RECENCY, 0.80, 0.95),
    "base_rate": Threshold("highest at most 1.5 times the lowest", OURS, 1.5),
}
EVENT_TYPES = (5, 2000)
SILENCE_DAYS = 7
