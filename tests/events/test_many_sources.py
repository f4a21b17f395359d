"""Two small sources by hand become one log: whose every row is, since when, and what became of it.

`web` (Segment) sees cookies, log-ins and consent; `till` (a table) sees user ids and money. Each
fact has people of its own, so that one `prepare` serves them all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from seqjourney.commands.prepare import prepare
from seqjourney.config import DataConfig, parse
from seqjourney.events.engine import connect
from seqjourney.events.hashing import read_key
from seqjourney.events.suppression import HashKey, Suppression, write_suppression
from seqjourney.sequences.cutting import load_task_data
from seqjourney.sequences.pretraining import pretraining_questions
from small_logs import small_task

PLAN = """\
events:
  product_viewed:
    from: [Product Viewed]
    properties:
      price: {type: number, from: [unit_cost]}
      colour: {type: string}
  order_completed: {from: [till/sale]}
  user_identified: {from: [identify], actor: system}
"""
KEY = "a key that these tests alone use"
DECIDED = ("user:anna", "anonymous:a-anna")


def at(day: float) -> str:
    """Days since 2024 began, as a source writes a time."""
    return (pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(days=day)).isoformat()


def seen(
    cookie: str, day: float, user: str | None = None, known: float | None = None, **more: Any
) -> dict[str, Any]:
    """One call from a browser; `known` says when it was received, if that was later."""
    call = {
        "type": "track", "event": "Product Viewed", "anonymousId": f"a-{cookie}", "userId": user,
        "timestamp": at(day), "receivedAt": at(day if known is None else known),
        "messageId": f"{cookie}-{day:g}", "properties": {"unit_cost": day, "colour": cookie},
    }  # fmt: skip
    return {key: value for key, value in (call | more).items() if value is not None}


def log_in(cookie: str, day: float, user: str) -> dict[str, Any]:
    return seen(cookie, day, user, type="identify", event=None, properties=None)


def says(granted: bool) -> dict[str, Any]:
    return {"context": {"consent": {"categoryPreferences": {"analytics": granted}}}}


WEB = [
    # Anna looks around on day 5 and logs in on day 20; the till knows her from day 8.
    seen("anna", 5), log_in("anna", 20, "anna"), seen("anna", 21, "anna"),
    # Bob is known to the till from day 2, his browser is his only from day 20 on.
    seen("bob", 6), log_in("bob", 20, "bob"), seen("bob", 22, "bob"),
    # Carl allows, then refuses on day 15, then allows again on day 25.
    seen("carl", 3, "carl", **says(True)), seen("carl", 10, "carl"),
    seen("carl", 15, "carl", **says(False)), seen("carl", 18, "carl"),
    seen("carl", 25, "carl", **says(True)), seen("carl", 26, "carl"),
    # Kim and Lou look at much in the same days; later Kim refuses.
    *(seen(who, day, who) for who in ("kim", "lou") for day in range(1, 10)),
    seen("kim", 70, "kim", **says(False)),
    # Dora will be erased; her browser is at times used by Emil.
    seen("dora", 4, "dora"), seen("dora", 9), seen("dora", 12, "emil"), seen("emil", 13, "emil"),
    # Fay's call arrives three times, the first to happen is not the first to be known.
    seen("fay", 7, "fay", known=11, messageId="again"),
    seen("fay", 7, "fay", known=9, messageId="again", properties={"unit_cost": 1}),
    seen("fay", 7, "fay", known=14, messageId="again"),
    # What cannot be used, and what has a name that the plan does not know.
    seen("gus", 8, "gus", timestamp="1970-01-01T00:00:00Z"),
    seen("gus", 9, "gus", context={"userAgent": "GPTBot/1.2"}, type="page", name="Home"),
    seen("null", 9.5, anonymousId="null"), seen("gus", 10, "gus", event="Thing Frobnicated"),
]  # fmt: skip
SALES = [
    ("s1", "anna", 8, 10.0), ("s2", "bob", 2, 20.0), ("s3", "carl", 12, 30.0),
    ("s4", "carl", 16, 40.0), ("s5", "dora", 11, 50.0), ("s5", "dora", 11, 50.0),
    ("s6", "hal", 13, "a lot"), ("s7", "", 13, 5.0),
]  # fmt: skip
# Others who buy now and then, so that every split has both answers.
OTHERS = [(f"o{i}-{d}", f"o{i}", d, 1.0) for i in range(12) for d in range(i, 120, 7 + i * 3)]


def write_sources(place: Path) -> None:
    lines = [json.dumps(call) for call in WEB]
    (place / "web.jsonl").write_text("\n".join([*lines[:4], "no record", *lines[4:]]))
    rows = [f"{key},{user},{at(day)},sale,{net},EUR" for key, user, day, net in [*SALES, *OTHERS]]
    (place / "till.csv").write_text("\n".join(["id,user,at,what,net,currency", *rows]) + "\n")
    (place / "plan.yaml").write_text(PLAN)


def config(place: Path, **changes: Any) -> DataConfig:
    till = {
        "kind": "table", "name": "till", "path": str(place / "till.csv"), "timestamp": "at",
        "event": "what", "event_id": "id", "identifiers": {"user": "user"},
        "money": {"net": "net", "currency": "currency"},
    }  # fmt: skip
    values = {
        "name": "shop", "threads": 1, "on_malformed": "quarantine", "currency": "EUR",
        "sources": [{"kind": "segment", "name": "web", "path": str(place / "web.jsonl")}, till],
        "taxonomy": str(place / "plan.yaml"), "numeric": ["price"], "categorical": ["colour"],
        "consent": {"purpose": "analytics", "unknown": "allow"},
    }  # fmt: skip
    return parse(DataConfig, values | changes, "data")


class Shop:
    def __init__(self, prepared: Path) -> None:
        self.prepared = prepared
        self.files = sorted((prepared / "events").rglob("*.parquet"))
        self.log = pd.concat(pd.read_parquet(file, partitioning=None) for file in self.files)
        self.log = self.log.set_index("event_id", drop=False)
        self.accounts = json.loads((prepared / "manifest.json").read_text())["sources"]
        ids = pd.read_parquet(prepared / "identity/identifiers.parquet")
        self.customers = ids.set_index(["identifier_type", "identifier"])["customer_id"]

    def customer(self, user: str) -> str:
        return self.customers["user", user]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_sources(folder)
    return folder


@pytest.fixture(scope="module")
def shop(place: Path) -> Shop:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQJOURNEY_HASH_KEY", KEY)
        return Shop(prepare(config(place), place / "processed", progress=False))


@pytest.fixture(scope="module")
def decided(place: Path, shop: Shop) -> Shop:
    """The same sources after a review, an un-merge and an erasure."""
    review = yaml.safe_load((shop.prepared / "taxonomy_review.yaml").read_text())
    [entry] = [e for e in review["unmapped"] if "frobnicated" in e["name"]]
    entry |= {"canonical": "product_viewed", "accept": True}
    (place / "review.yaml").write_text(yaml.safe_dump(review))
    again = place / "decided"
    earlier = again / "shop"
    earlier.mkdir(parents=True)
    key = HashKey.of(KEY)
    names = [("user", "dora"), ("anonymous", "a-dora")]
    write_suppression(Suppression().adding("request 1", names, key), earlier)
    changes = {
        "taxonomy_review": str(place / "review.yaml"),
        "identity": {"separate": [DECIDED]},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQJOURNEY_HASH_KEY", KEY)
        assert read_key(again) == KEY
        return Shop(prepare(config(place, **changes), again, progress=False))


# What became of every row


def test_every_row_is_accounted_for_by_source_and_reason(shop: Shop):
    web, till = shop.accounts["web"], shop.accounts["till"]
    assert web == {
        "in": len(WEB) + 1,
        "quarantined": {
            "malformed JSON": 1, "timestamp before 1990-01-01": 1, "automated agent": 1,
            "no identifier": 1,
        },
        "duplicates": 2, "erased": 0, "withheld_for_consent": {"consent denied": 3},
        "events": len(WEB) + 1 - 4 - 2 - 3,
    }  # fmt: skip
    assert till == {
        "in": len(SALES) + len(OTHERS),
        "quarantined": {"bad 'money_net'": 1, "no identifier": 1},
        "duplicates": 1, "erased": 0, "withheld_for_consent": {"consent denied": 1},
        "events": len(SALES) + len(OTHERS) - 2 - 1 - 1,
    }  # fmt: skip
    assert shop.log.groupby("source").size().to_dict() == {
        "web": web["events"], "till": till["events"],
    }  # fmt: skip
    kept = pd.read_parquet(shop.prepared / "quarantine.parquet")
    assert kept.groupby("source").size().to_dict() == {"web": 4, "till": 2}
    assert kept["text"].dropna().tolist() == ["no record"]
    assert kept["line"].dropna().tolist() == [5]


def test_the_same_sources_give_the_same_bytes(shop: Shop, place: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SEQJOURNEY_HASH_KEY", KEY)
    again = Shop(prepare(config(place), tmp_path, progress=False))
    for name in ("events", "store", "identity"):
        files = [f for f in sorted((shop.prepared / name).rglob("*")) if f.is_file()]
        assert files
        for file in files:
            other = again.prepared / file.relative_to(shop.prepared)
            if name != "identity":
                assert other.read_bytes() == file.read_bytes(), file
            elif file.suffix == ".parquet":
                frames = [pd.read_parquet(f) for f in (file, other)]
                order = list(frames[0].columns)
                frames = [f.sort_values(order, ignore_index=True) for f in frames]
                pd.testing.assert_frame_equal(*frames)
    assert again.accounts == shop.accounts


def test_of_copies_the_earliest_known_stays(shop: Shop):
    copy = shop.log.loc["again"]
    assert copy["known_at"] == pd.Timestamp(at(9))
    assert copy["timestamp"] == pd.Timestamp(at(7))
    assert copy["price"] == 1


# Whose it is, and since when


def test_an_event_before_a_log_in_is_known_of_the_customer_from_the_log_in_on(shop: Shop):
    log = shop.log
    for user in ("anna", "bob"):
        rows = log[log["customer_id"] == shop.customer(user)]
        assert set(rows["source"]) == {"web", "till"}, "one customer"
    # Bob's oldest trace is his user id: what his browser did is news on day 20.
    assert log.loc["bob-6", "known_at"] == pd.Timestamp(at(20))
    assert log.loc["s2", "known_at"] == log.loc["s2", "timestamp"]
    # Anna's oldest trace is her cookie: that the sale is hers too is news on day 20.
    assert log.loc["anna-5", "known_at"] == log.loc["anna-5", "timestamp"]
    assert log.loc["s1", "known_at"] == pd.Timestamp(at(20))
    for event in ("anna-21", "bob-22"):
        assert log.loc[event, "known_at"] == log.loc[event, "timestamp"]


def test_a_snapshot_between_sees_only_what_could_be_known_then(shop: Shop, tmp_path: Path):
    days = {"train": [10, 19.5, 20.5, 23], "validation": [60], "test": [90]}
    cutoffs = {split: [at(day) for day in found] for split, found in days.items()}
    horizon = {"horizon": "20d", "target": ["order_completed"]}
    task = small_task(name="between", cutoffs=cutoffs, **horizon)
    with connect(tmp_path, threads=1) as backend:
        data = load_task_data(backend, shop.prepared, task)
    found = data.snapshots[data.snapshots["split"] == "train"].copy()
    found["day"] = (found["cutoff"] - pd.Timestamp(at(0))) / pd.Timedelta(days=1)
    ends = found.set_index(["customer_id", "day"])["end"]
    anna, bob = shop.customer("anna"), shop.customer("bob")
    assert [ends[anna, day] for day in days["train"]] == [1, 1, 3, 4]
    assert [ends[bob, day] for day in days["train"]] == [1, 1, 3, 4]
    store, first = data.store, int(found.loc[found["customer_id"] == bob, "customer_index"].iloc[0])
    start = int(store.offsets[first])
    place = store.categorical_fields.index("event")
    words = store.dictionaries["event"]
    named = [words[code] for code in store.categorical[start : start + 4, place]]
    assert named[0] == "order_completed", "on day 10 the till's sale alone was known to be Bob's"
    assert sorted(named[1:3]) == ["product_viewed", "user_identified"]


def test_links_that_a_person_forbids_are_not_followed(shop: Shop, decided: Shop):
    assert shop.customers["user", "anna"] == shop.customers["anonymous", "a-anna"]
    assert decided.customers["user", "anna"] != decided.customers["anonymous", "a-anna"]
    assert decided.log.loc["anna-5", "customer_id"] != decided.log.loc["s1", "customer_id"]
    assert decided.log.loc["s1", "known_at"] == decided.log.loc["s1", "timestamp"]
    refused = pd.read_parquet(decided.prepared / "identity/refused.parquet")
    assert {"a-anna", "anna"} <= {*refused["identifier_a"], *refused["identifier_b"]}
    others = ["bob", "carl", "fay"]
    assert all(shop.customer(user) == decided.customer(user) for user in others)


# Consent and erasure


def test_consent_withdrawn_at_a_moment_takes_away_what_comes_from_then_on(shop: Shop):
    mine = shop.log[shop.log["customer_id"] == shop.customer("carl")]
    expected = {"carl-3", "carl-10", "s3", "carl-25", "carl-26"}
    assert set(mine.index) == expected
    withheld = {"carl-15", "carl-18", "s4"}  # in every source, at the moment itself too
    assert not withheld & set(shop.log.index)
    said = pd.read_parquet(shop.prepared / "consent.parquet")
    said = said[said["customer_id"] == shop.customer("carl")].sort_values("since")
    assert said["state"].tolist() == ["granted", "denied", "granted"]
    assert said["since"].tolist() == [pd.Timestamp(at(day)) for day in (3, 15, 25)]


def test_a_task_learns_nothing_from_those_who_have_withdrawn_since(shop: Shop, tmp_path: Path):
    cutoffs = {split: [at(day)] for split, day in (("train", 30), ("validation", 60), ("test", 90))}
    task = small_task(
        name="since", cutoffs=cutoffs, horizon="20d", target=["order_completed"],
        eligible={"events": ["product_viewed", "order_completed"]},
    )  # fmt: skip
    with connect(tmp_path, threads=1) as backend:
        data = load_task_data(backend, shop.prepared, task)
    before = shop.log[shop.log["timestamp"] < at(30)]
    assert (before["colour"].value_counts()[["kim", "lou"]] == 9).all(), "the log keeps both"
    asked = set(data.snapshots["customer_id"])
    assert shop.customer("lou") in asked and shop.customer("kim") not in asked
    assert "lou" in data.tokenizer.vocabulary["colour"]
    assert "kim" not in data.tokenizer.vocabulary["colour"]
    taught = set(pretraining_questions(data, 0).snapshots["customer_id"])
    assert shop.customer("lou") in taught and shop.customer("kim") not in taught
    excluded = json.loads((shop.prepared / "tasks/since/task.json").read_text())["excluded"]
    assert excluded["train"]["consent withdrawn since"] == 1


def test_the_erased_do_not_come_back_and_take_nobody_along(shop: Shop, decided: Shop):
    gone = {"dora-4", "dora-9", "s5"}
    assert gone <= set(shop.log.index)
    assert not gone & set(decided.log.index)
    assert {"dora-12", "emil-13"} <= set(decided.log.index), "Emil used her browser, and stays"
    assert decided.accounts["web"]["erased"] == 2
    assert decided.accounts["till"]["erased"] == 2
    assert decided.accounts["till"]["duplicates"] == 0
    for value in ("dora", "a-dora"):
        assert value not in set(decided.customers.index.get_level_values("identifier"))
    assert (decided.prepared / "erased.json").exists(), "and the next prepare knows it too"


# Names and fields


def test_a_review_that_is_fed_back_maps_the_name(shop: Shop, decided: Shop):
    assert shop.log.loc["gus-10", "event"] == "thing_frobnicated"
    assert decided.log.loc["gus-10", "event"] == "product_viewed"
    assert decided.log.loc["gus-10", "original_event"] == "Thing Frobnicated"
    review = yaml.safe_load((decided.prepared / "taxonomy_review.yaml").read_text())
    assert not [e for e in review["unmapped"] if "frobnicated" in e["name"] and not e["accept"]]


def test_declared_fields_come_from_properties_as_the_plan_says(shop: Shop, decided: Shop):
    viewed = shop.log[shop.log["event"] == "product_viewed"]
    own = viewed.drop("again")
    days = (own["timestamp"] - pd.Timestamp(at(0))) / pd.Timedelta(days=1)
    assert own["price"].tolist() == days.tolist()
    assert own["colour"].tolist() == [name.split("-")[0] for name in own.index]
    assert shop.log.loc["s1", ["price", "colour"]].isna().all(), "the till says nothing of these"
    # What another name says under the plan's key counts once the name is mapped.
    assert pd.isna(shop.log.loc["gus-10", "price"])
    assert decided.log.loc["gus-10", "price"] == 10


def test_money_and_actors_are_those_of_the_sources(shop: Shop):
    sales = shop.log[shop.log["source"] == "till"]
    assert set(sales["event"]) == {"order_completed"}
    assert sales.loc["s1", "value"] == 10 and sales.loc["s2", "currency"] == "EUR"
    assert shop.log.loc["anna-20", "actor"] == "system"
    assert shop.log.loc["anna-21", "actor"] == "customer"
