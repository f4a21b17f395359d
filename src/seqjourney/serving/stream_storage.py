"""Where a stream keeps its customers: in memory, or as bytes in a mapping of yours."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, MutableMapping

from seqjourney.errors import DataError
from seqjourney.serving.stream_state import State, StateFormat


class InMemory(MutableMapping[str, State]):
    """States as they are; beyond `most` customers, the one unused for longest goes.

    A customer who went starts again from nothing, as a new one would: choose `most` so that only
    customers go who are not asked for again, or keep states in a mapping of your own.
    """

    def __init__(self, most: int | None = None):
        self._states: OrderedDict[str, State] = OrderedDict()
        self._most = most
        self.forgotten = 0
        """How many went because of `most`."""

    def __getitem__(self, customer_id: str) -> State:
        state = self._states[customer_id]
        self._states.move_to_end(customer_id)
        return state

    def __setitem__(self, customer_id: str, state: State) -> None:
        self._states[customer_id] = state
        self._states.move_to_end(customer_id)
        if self._most is not None and len(self._states) > self._most:
            self._states.popitem(last=False)
            self.forgotten += 1

    def __delitem__(self, customer_id: str) -> None:
        del self._states[customer_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)


class AsBytes(MutableMapping[str, State]):
    """States that live as bytes in another mapping, which may be shared or on disk."""

    def __init__(self, place: MutableMapping[str, bytes], form: StateFormat):
        self._place, self._form = place, form

    def __getitem__(self, customer_id: str) -> State:
        blob = self._place[customer_id]
        try:
            return self._form.unpack(blob)
        except DataError as error:
            raise DataError(f"customer '{customer_id}': {error}") from None

    def __setitem__(self, customer_id: str, state: State) -> None:
        self._place[customer_id] = self._form.pack(state)

    def __delitem__(self, customer_id: str) -> None:
        del self._place[customer_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)
