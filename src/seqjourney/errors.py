"""The errors that a user can mend. Each message names the file, row or key, and says how.

Commands print these as one plain message and exit with status 2; any other exception is a bug
and keeps its traceback.
"""


class SeqjourneyError(Exception):
    """Base of every error that is about the user's input and not about our code."""


class ConfigError(SeqjourneyError):
    """A configuration key or value is unknown, missing or contradictory."""


class DataError(SeqjourneyError):
    """Input data, or a file that we wrote earlier, cannot be used as it is."""


class LeakageError(SeqjourneyError):
    """Something known only after a cutoff would reach a model or a metric."""
