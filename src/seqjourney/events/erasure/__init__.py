"""One customer out of files: `files` knows the kinds of files, `outputs` walks through the runs.

What becomes of the prepared folder, its store and its tasks is decided in `commands.forget`.
"""

from seqjourney.events.erasure.files import can_erase, erase_from, names_customer
from seqjourney.events.erasure.outputs import erase_outputs, refuse_while_written

__all__ = ["can_erase", "erase_from", "erase_outputs", "names_customer", "refuse_while_written"]
