"""A made-up population whose persons are known: what its devices would send, identifier by
identifier.

Every text stands for a number, `TYPE_STEP * type + number`, scrambled into 32 hex digits, so that
the person behind an identifier can be looked up again. Everything that goes wrong in practice is
there; the shares below are assumptions, not measured at any company. Those of cookies that never
sign in and of tablets decide how good any method can be: see "best possible" in the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

USER, EMAIL, PHONE, DEVICE, ANONYMOUS = range(5)
TYPES = ("user", "email", "phone", "device", "anonymous")
TYPE_STEP = 1 << 40
GUESTS = 0.05
"""Persons without a user id."""
SECOND_ACCOUNTS = 0.01
"""Persons with two user ids, which nothing tells apart from two persons."""
TABLETS = 0.02
"""Shared tablets per person, each used by two to four persons."""
ONE_COOKIE = 0.2
"""Share of tablets whose cookie stays when the user changes."""
FRIENDS = 0.005
"""Persons who once sign in on a stranger's device."""
MISTYPED = 0.001
"""Persons who once give a stranger's e-mail."""
BLANKS = 0.03
"""Share of rows with a placeholder in place of the cookie, and of the device."""
KIOSK_USERS = 200
"""Each kiosk has so many; there is one for every 20,000 persons."""
DEVICE_IDS, SIGN_INS = 0.95, 0.95
"""Share of own devices that send an id, and of cookies that sign in (neither: nobody's)."""
BLANK_TEXTS = ("null", "undefined", "anonymous", "-1", "00000000-0000-0000-0000-000000000000")
DAY = 86_400_000_000
SPAN = 730 * DAY
START = 1_640_995_200_000_000  # 2022-01-01
Array = np.ndarray[Any, Any]
NONE = -1


@dataclass(frozen=True)
class Population:
    """Whose every identifier is."""

    numbers: Array
    person: Array

    def persons_of(self, identifiers: pa.ChunkedArray) -> Array:
        """Return the true person of each identifier; one that several use is a person itself."""
        place = pc.index_in(identifiers, texts(self.numbers)).to_numpy()
        found: Array = self.person[place]
        return found


def populate(persons: int, folder: Path, seed: int = 0) -> Population:
    """Write the rows that a population leaves into `folder`, and return whose identifiers are."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    everyone = np.arange(persons)
    has_user = rng.random(persons) > GUESTS
    second = np.flatnonzero(has_user & (rng.random(persons) < SECOND_ACCOUNTS))
    whose: dict[int, list[Array]] = {
        USER: [everyone, second],
        EMAIL: [everyone, rng.choice(everyone, persons // 3, replace=False)],
        PHONE: [everyone],
    }
    # Devices: own ones, then tablets, then kiosks; a cookie lives on one device.
    device_person = np.repeat(everyone, 1 + rng.poisson(0.8, persons))
    tablets = int(persons * TABLETS)
    tablet_users = 2 + rng.integers(0, 3, tablets)
    own = len(device_person)
    use_device = [np.arange(own), own + np.repeat(np.arange(tablets), tablet_users)]
    # A family lives at one address: its members have numbers in a row.
    family = np.repeat(rng.integers(0, persons - 4, tablets), tablet_users)
    within = np.arange(len(family)) - np.repeat(
        np.cumsum(tablet_users) - tablet_users, tablet_users
    )
    use_person = [device_person, family + within]
    kiosks = max(1, persons // 20_000)
    kiosk = np.repeat(own + tablets + np.arange(kiosks), KIOSK_USERS)
    use_device.append(kiosk)
    use_person.append(rng.integers(0, persons, len(kiosk)))
    device, person = np.concatenate(use_device), np.concatenate(use_person)
    cookies = 1 + rng.poisson(2.0, len(device))
    cookies[len(device_person) + len(family) :] = 1  # of a kiosk
    cookie_use = np.repeat(np.arange(len(device)), cookies)
    cookie = np.arange(len(cookie_use))
    one_cookie = own + np.flatnonzero(rng.random(tablets) < ONE_COOKIE)
    keeps = np.isin(device[cookie_use], one_cookie)
    first_of_device = np.full(device.max() + 1, len(cookie))
    np.minimum.at(first_of_device, device[cookie_use], cookie)
    cookie[keeps] = first_of_device[device[cookie_use][keeps]]
    d, p = device[cookie_use], person[cookie_use]
    sends_device = (rng.random(device.max() + 1) < DEVICE_IDS) | (
        np.arange(device.max() + 1) >= own
    )
    d_sent = np.where(sends_device[d], d, NONE)

    born = START + rng.integers(0, SPAN - 60 * DAY, len(cookie))
    signs_in = has_user[p] & (rng.random(len(cookie)) < SIGN_INS)
    signs_in |= has_user[p] & (d >= own + tablets)
    types_mail = rng.random(len(cookie)) < np.where(has_user[p], 0.15, 0.5)
    alias = signs_in & (rng.random(len(cookie)) < 0.05)
    user = p.copy()
    with_two = np.full(persons, NONE)
    with_two[second] = persons + np.arange(len(second))
    other = (with_two[p] != NONE) & (rng.random(len(cookie)) < 0.5)
    user[other] = with_two[p[other]]
    signed = born + rng.integers(60_000_000, 30 * DAY, len(cookie))
    typed = born + rng.integers(30_000_000, 30 * DAY, len(cookie))
    writer = _Rows(folder, rng)
    writer.add(born, device=d_sent, anonymous=cookie)
    writer.add(signed[signs_in], user=user[signs_in], device=d_sent[signs_in],
               anonymous=cookie[signs_in])  # fmt: skip
    writer.add(typed[types_mail], email=p[types_mail], device=d_sent[types_mail],
               anonymous=cookie[types_mail])  # fmt: skip
    writer.add(signed[alias], user=user[alias], previous=cookie[alias])
    members = np.flatnonzero(has_user)
    joined = START + rng.integers(0, SPAN, persons)
    writer.add(joined[members], user=members, email=members)
    mail = np.concatenate(whose[EMAIL])
    extra = np.arange(persons, len(mail))
    extra = extra[has_user[mail[extra]]]
    writer.add(joined[mail[extra]] + DAY, user=mail[extra], email=extra)
    phones = members[rng.random(len(members)) < 0.3]
    writer.add(joined[phones] + DAY, user=phones, phone=phones)
    strays = members[rng.random(len(members)) < FRIENDS]
    host = rng.integers(0, own, len(strays))
    writer.add(START + rng.integers(0, SPAN, len(strays)), user=strays,
               device=np.where(sends_device[host], host, NONE),
               anonymous=np.searchsorted(cookie_use, host))  # fmt: skip
    typos = members[rng.random(len(members)) < MISTYPED]
    writer.add(START + rng.integers(0, SPAN, len(typos)), user=typos,
               email=rng.integers(0, persons, len(typos)))  # fmt: skip

    # What several persons use is nobody's: it counts as a person of its own.
    nobody = persons + np.arange(device.max() + 1)
    device_owner = np.where(np.arange(len(nobody)) < own, 0, nobody)
    device_owner[:own] = device_person
    cookie_owner = p.copy()
    cookie_owner[keeps] = len(nobody) + persons + cookie[keeps]
    whose |= {DEVICE: [device_owner], ANONYMOUS: [cookie_owner]}
    numbers = [
        kind * TYPE_STEP + np.arange(sum(len(part) for part in parts))
        for kind, parts in whose.items()
    ]
    owners = [part for parts in whose.values() for part in parts]
    return Population(np.concatenate(numbers), np.concatenate(owners))


class _Rows:
    """Collects rows into Parquet files, a million rows each."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.folder, self.rng, self.files = folder, rng, 0

    def add(self, known_at: Array, previous: Array | None = None, **numbers: Array) -> None:
        """Write rows of the given identifiers; -1 is none."""
        for start in range(0, len(known_at), 1_000_000):
            part = slice(start, start + 1_000_000)
            moments = pa.array(known_at[part]).cast(pa.timestamp("us", "UTC"))
            columns: dict[str, Any] = {"known_at": moments}
            for kind, name in enumerate(TYPES):
                given = numbers.get(name)
                columns[f"id_{name}"] = (
                    pa.nulls(len(moments), pa.string())
                    if given is None
                    else self._blanked(kind, given[part])
                )
            columns["previous_id"] = (
                pa.nulls(len(moments), pa.string())
                if previous is None
                else _given(ANONYMOUS, previous[part])
            )
            pq.write_table(pa.table(columns), self.folder / f"part-{self.files}.parquet")
            self.files += 1

    def _blanked(self, kind: int, numbers: Array) -> pa.Array:
        written = _given(kind, numbers)
        if kind not in (DEVICE, ANONYMOUS):
            return written
        blank = self.rng.random(len(numbers)) < BLANKS
        instead = pa.array(BLANK_TEXTS).take(
            pa.array(self.rng.integers(0, len(BLANK_TEXTS), len(numbers)))
        )
        return pc.if_else(pa.array(blank), instead, written)


def texts(numbers: Array) -> pa.Array:
    """Return 32 hex digits for each number, the same for the same number."""
    halves = np.stack([_scrambled(numbers), _scrambled(numbers ^ 0x5DEECE66D)], axis=1)
    raw = np.ascontiguousarray(halves.astype(">u8")).view(np.uint8).reshape(-1)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    written = np.stack([digits[raw >> 4], digits[raw & 15]], axis=1).reshape(-1)
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(
        len(numbers), pa.py_buffer(offsets.tobytes()), pa.py_buffer(written.tobytes())
    )


def _given(kind: int, numbers: Array) -> pa.Array:
    written = texts(kind * TYPE_STEP + numbers.astype(np.int64))
    return pc.if_else(pa.array(numbers == NONE), pa.scalar(None, pa.string()), written)


def _scrambled(numbers: Array) -> Array:
    """Return 64 well mixed bits for each number (the finaliser of SplitMix64)."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed
