"""A company with all sources at once: from the raw folder to a model, and the truth against it.

The real command lines run once, on a small company. Then the same exports, their lines shuffled and
their sources reversed, are prepared again in this process, with a look at the rows on their way.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from composed_configs import ROOT, composed

from seqjourney.commands.prepare import prepare
from seqjourney.config import DataConfig, parse
from seqjourney.events import unified
from seqjourney.events.customers import stored_forms
from seqjourney.events.gathering import Gathered
from seqjourney.events.identity import observed
from seqjourney.events.identity.evaluation import cluster_quality
from seqjourney.events.identity.resolve import Resolution, resolve
from seqjourney.events.identity.rules import IdentityRules

KEY = "a key that these tests alone use"
ROW = ["source", "event_id"]
IDENTIFIER = ["identifier_type", "identifier"]


@dataclass(frozen=True)
class Company:
    """What a company exported, what is true, and what `prepare` made of it."""

    folder: Path
    said: dict[str, str] = field(default_factory=dict)
    """What each script printed."""

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def prepared(self) -> Path:
        return self.folder / "processed/company"

    def truth(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.raw / f"truth/{name}.parquet")

    @property
    def counts(self) -> dict[str, Any]:
        return json.loads((self.raw / "company.json").read_text())["sources"]

    @property
    def accounts(self) -> dict[str, Any]:
        return json.loads((self.prepared / "manifest.json").read_text())["sources"]


@dataclass(frozen=True)
class Again:
    """The shuffled exports prepared again, and the rows as they stood before consent."""

    prepared: Path
    rows: pd.DataFrame
    """Every row that belongs to a customer, with what its source says of consent."""
    identified: pa.Table
    """Identifiers and `known_at` of every row that can be used, copies too."""
    config: DataConfig


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """All scripts, one after the other, as a user runs them."""
    found = Company(tmp_path_factory.mktemp("company"))
    places = {"SEQJOURNEY_COMPANY": str(found.raw), "SEQJOURNEY_HASH_KEY": KEY}
    here = [f"processed={found.folder / 'processed'}"]
    out = f"output={found.folder / 'outputs'}"
    chosen = ["experiment=company_churn", out, *here]
    fast = ["trainer=fast", "trainer.accelerator=cpu", "trainer.threads=1"]
    for name, words in {
        "simulate": ["company=true", "customers=300", "months=8", f"output={found.raw}"],
        "prepare": ["data=company", *here],
        "train": ["-m", "model=recency,gru", *chosen, *fast],
        "evaluate": ["replicates=20", *chosen],
    }.items():
        done = subprocess.run(
            [sys.executable, f"scripts/{name}.py", *words],
            cwd=ROOT, capture_output=True, text=True,
            env={**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1", **places},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        found.said[name] = done.stdout
    return found


@pytest.fixture(scope="session")
def log(company: Company) -> pd.DataFrame:
    """The event log, in the order of its files."""
    return read_log(company.prepared)


def read_log(prepared: Path) -> pd.DataFrame:
    return pd.concat(map(pd.read_parquet, sorted((prepared / "events").rglob("*.parquet"))))


@pytest.fixture(scope="session")
def true_events(company: Company) -> pd.DataFrame:
    return company.truth("events").rename(columns={"source_event_id": "event_id"})


@pytest.fixture(scope="session")
def both(log: pd.DataFrame, true_events: pd.DataFrame) -> pd.DataFrame:
    """Every event of the log beside the truth about it (`..._true`)."""
    return log.merge(true_events, on=ROW, suffixes=("", "_true"), validate="1:1")


@pytest.fixture(scope="session")
def again(company: Company, tmp_path_factory: pytest.TempPathFactory) -> Again:
    folder = tmp_path_factory.mktemp("again")
    shuffle_exports(company.raw, folder / "raw")
    seen: dict[str, Any] = {}

    def spy(backend: Any, config: DataConfig, *others: Any) -> Gathered:
        gathered = gather(backend, config, *others)
        columns = [c for c in gathered.rows.columns if c.startswith("id_")]
        columns += [*ROW, "customer_id", "timestamp", "consent"]
        seen["rows"] = backend.execute(gathered.rows.select(columns))
        usable = gathered.every.filter(gathered.every.problem.isnull())
        names = [c for c in usable.columns if c.startswith("id_")]
        usable = usable.select(*names, "previous_id", "known_at")
        seen["identified"] = backend.to_pyarrow(usable)
        return gathered

    gather = unified.gather
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unified, "gather", spy)
        patch.setenv("SEQJOURNEY_COMPANY", str(folder / "raw"))
        patch.setenv("SEQJOURNEY_HASH_KEY", KEY)
        data = composed("prepare", "data=company")["data"]
        data["sources"].reverse()
        config = parse(DataConfig, data, "data")
        prepared = prepare(config, folder / "processed", progress=False)
    return Again(prepared, seen["rows"], seen["identified"], config)


def shuffle_exports(raw: Path, target: Path) -> None:
    """Copy the exports with the rows of each file in another order."""
    random = np.random.default_rng(5)
    for path in sorted(raw.rglob("*")):
        copy = target / path.relative_to(raw)
        if path.is_dir() or "truth" in path.parts:
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            pq.write_table(table.take(random.permutation(table.num_rows)), copy)
        elif path.parent == raw:
            copy.write_bytes(path.read_bytes())
        else:
            text = path.read_bytes()
            lines = (gzip.decompress(text) if path.suffix == ".gz" else text).splitlines(True)
            header = lines[: path.suffix == ".csv"]
            lines = lines[len(header) :]
            text = b"".join([*header, *(lines[i] for i in random.permutation(len(lines)))])
            copy.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


# From raw files to a model


def test_the_scripts_lead_from_the_raw_folder_to_models_and_a_report(company: Company):
    assert "python scripts/prepare.py data=company" in company.said["simulate"]
    assert "experiment=company_churn" in company.said["prepare"]
    assert company.said["train"].count("validation average precision") == 2
    runs = company.folder / "outputs/company_churn"
    for model in ("recency", "gru"):
        scores = pd.read_parquet(runs / model / "predictions.parquet")
        assert set(scores["split"]) == {"validation", "test"}
        assert scores["probability"].between(0, 1).all()
    assert (runs / "gru/model.pt").exists()
    assert "gru" in (runs / "report/report.html").read_text()
    log = read_log(company.prepared)
    assert set(scores["customer_id"]) <= set(log["customer_id"])


# Nothing lost


def test_every_raw_row_is_accounted_for_by_source(company: Company, log: pd.DataFrame):
    written = log.groupby("source").size()
    assert set(company.accounts) == set(company.counts)
    for source, account in company.accounts.items():
        withheld = sum(account["withheld_for_consent"].values())
        quarantined = sum(account["quarantined"].values())
        assert account["in"] == company.counts[source]["rows"]
        assert account["events"] == written[source]
        out = account["events"] + account["duplicates"] + quarantined + withheld
        assert account["in"] == out, source
        for part in ("in", "events"):
            assert f"{account[part]:,}" in company.said["prepare"]


def test_bots_and_copies_are_found_exactly(company: Company, true_events: pd.DataFrame):
    rows = true_events.assign(rows=true_events["copies"] + 1)
    human = rows[~rows["bot"]]
    named = human["has_identifier"]
    for source, account in company.accounts.items():
        bots = account["quarantined"].get("automated agent", 0)
        nobody = account["quarantined"].get("no identifier", 0)
        mine = human["source"] == source
        assert bots == company.counts[source]["bots"], source
        assert nobody == human.loc[mine & ~named, "rows"].sum(), source
        # What is in quarantine is not compared: a bot's copy is a bot's row.
        assert account["duplicates"] == human.loc[mine & named, "copies"].sum(), source
        assert sum(account["quarantined"].values()) == bots + nobody
    assert sum(a["duplicates"] for a in company.accounts.values()) > 100


def test_an_event_is_in_the_log_or_withheld_and_nothing_else_is(
    company: Company, log: pd.DataFrame, true_events: pd.DataFrame
):
    expected = true_events[~true_events["bot"] & true_events["has_identifier"]]
    joined = expected[ROW].merge(log[ROW], how="outer", on=ROW, indicator="where")
    assert not (joined["where"] == "right_only").any()
    withheld = (joined["where"] == "left_only").groupby(joined["source"]).sum()
    for source, account in company.accounts.items():
        assert withheld[source] == sum(account["withheld_for_consent"].values())


# True against recovered


def test_every_event_has_its_true_name(both: pd.DataFrame):
    assert both["event"].tolist() == both["event_true"].tolist()
    assert both["original_event"].tolist() == both["original_event_true"].tolist()
    renamed = both.groupby("event")["original_event"].nunique()
    assert renamed["cart_added"] >= 4  # one event under many names is what the plan is for


def test_times_are_true_to_the_second_also_of_devices_whose_clock_is_wrong(both: pd.DataFrame):
    apart = (both["timestamp"] - both["timestamp_true"]).abs()
    # What the network took between sending and receiving no export can tell from the clock.
    assert apart.max() < pd.Timedelta("1s")
    skewed = both["clock_skew_seconds"].abs() > 60
    assert skewed.sum() > 50
    early = both["known_at_true"] - both["known_at"]
    assert early.max() < pd.Timedelta("1ms"), "nothing is known before it could be"
    late = both[both["late"]]
    assert len(late) > 50
    assert (late["known_at"] - late["timestamp"] > pd.Timedelta("59min")).all()


def test_money_is_true_to_the_cent_in_euros(both: pd.DataFrame):
    paid = both[both["value_eur"].notna() | both["value"].notna()]
    assert (paid["value"] - paid["value_eur"]).abs().max() < 0.005
    assert paid["value"].notna().all() and paid["value_eur"].notna().all()
    assert {"EUR", "USD"} <= set(paid["currency"].dropna())
    assert (paid["value"] < 0).any()
    assert ((paid["value"] < 0) == (paid["event"] == "order_refunded")).all()


def test_a_found_channel_is_the_true_one(both: pd.DataFrame):
    # `direct` says that there was no evidence, and null that the row begins no visit.
    claimed = both[both["channel"].notna() & (both["channel"] != "direct")]
    assert len(claimed) > 1000
    assert claimed["channel"].tolist() == claimed["channel_true"].tolist()
    assert claimed["channel"].nunique() >= 10


def test_every_landing_that_shows_where_it_comes_from_has_its_channel(
    company: Company, both: pd.DataFrame
):
    showing = set()
    for path in (company.raw / "web").iterdir():
        for line in gzip.decompress(path.read_bytes()).splitlines():
            call = json.loads(line)
            page = call["context"].get("page", {})
            referrer = urlsplit(page.get("referrer", "")).hostname
            tagged = "campaign" in call["context"] or "clid=" in page.get("url", "")
            if tagged or referrer not in (None, "www.shop.example"):
                showing.add(call["messageId"])
    web = both[(both["source"] == "web") & ~both["bot"]]
    arrives = web["event_id"].isin(showing)
    assert arrives.sum() > 500
    assert (web["channel"] == web["channel_true"])[arrives].all()
    assert web.loc[~arrives, "channel"].dropna().eq("direct").all()


def test_assistants_are_named_where_they_show_and_never_guessed(both: pd.DataFrame):
    claimed = both[both["ai_engine"].notna()]
    overview = claimed["ai_engine"] == "google_ai_overview_possible"
    true = claimed["ai_engine_true"].replace("google_ai_overview", "google_ai_overview_possible")
    assert claimed["ai_engine"].tolist() == true.tolist()
    assert overview.any() and (claimed.loc[overview, "ai_confidence"] == "low").all()
    assert (claimed.loc[overview, "channel"] == "organic_search").all()
    hidden = both[both["ai_engine"].isna() & both["ai_engine_true"].notna()]
    assert len(hidden), "the company has visits that an assistant sent without a trace"
    assert (hidden["channel"].fillna("direct") == "direct").all()


def test_machine_opens_are_told_from_peoples(both: pd.DataFrame):
    opens = both[both["event"] == "email_opened"]
    assert opens["machine_open"].astype(bool).tolist() == opens["machine_open_true"].tolist()
    assert 100 < opens["machine_open_true"].sum() < len(opens) - 100
    assert both.loc[both["event"] != "email_opened", "machine_open"].isna().all()


def test_hours_to_open_are_those_since_the_delivery(company: Company, both: pd.DataFrame):
    calls = {}
    for path in (company.raw / "email").iterdir():
        for line in gzip.decompress(path.read_bytes()).splitlines():
            call = json.loads(line)
            mail = (call["context"]["traits"]["email"], call["properties"]["email_id"])
            calls[call["messageId"]] = (*mail, call["event"], call["timestamp"])
    table = pd.DataFrame.from_dict(calls, orient="index", columns=["to", "mail", "call", "at"])
    table["at"] = pd.to_datetime(table["at"], utc=True)
    # What was delivered while consent was denied is not in the log.
    table = table.join(both.set_index("event_id")["known_at"], how="inner")
    delivered = table[table["call"] == "Email Delivered"].groupby(["to", "mail"])
    opens = both[both["event"] == "email_opened"].set_index("event_id")
    sent = delivered[["at", "known_at"]].min().add_suffix("_sent")
    table = table.join(sent, on=["to", "mail"])
    table = table.loc[opens.index]
    # An open that is known before its delivery is: nobody could have told the hours then.
    table["at_sent"] = table["at_sent"].where(table["known_at_sent"] <= table["known_at"])
    hours = (table["at"] - table["at_sent"]).dt.total_seconds() / 3600
    np.testing.assert_allclose(opens["hours_to_open"], hours, atol=1e-6)
    assert hours.notna().sum() > 500


# Identity


@pytest.fixture(scope="session")
def identities(company: Company) -> pd.DataFrame:
    """Every identifier with its customer and its true person; no bots, no junk."""
    true = company.truth("identifiers")
    true = true[~true["junk"] & ~true["bot"]].drop_duplicates(IDENTIFIER)
    forms = zip(true["identifier_type"], true["identifier"], strict=True)
    true["identifier"] = [
        stored_forms(kind, value, KEY)[-1] if kind in ("email", "phone") else value
        for kind, value in forms
    ]
    found = pd.read_parquet(company.prepared / "identity/identifiers.parquet")
    merged = found.merge(true, on=IDENTIFIER, how="outer", indicator="where", validate="1:1")
    assert (merged["where"] == "both").all(), "no identifier is lost, none invented"
    return merged


def test_customers_are_the_true_persons(identities: pd.DataFrame):
    # What several persons use is nobody's: each counts as one more person.
    nobody = identities["identifier_type"] + identities["identifier"]
    person = identities["person"].where(~identities["shared"], nobody)
    linked = identities["component"].astype(str).where(~identities["shared"], nobody)
    by_person = cluster_quality(person, identities["customer_id"])
    by_links = cluster_quality(linked, identities["customer_id"])
    assert by_person["pairwise_f1"] >= 0.98, by_person
    assert by_links["pairwise_f1"] >= 0.998, by_links
    assert by_links["pairwise_recall"] == 1.0, "all that the exports link is found"


def test_nobody_is_merged_with_somebody_else(identities: pd.DataFrame):
    own = identities[~identities["shared"]]
    quality = cluster_quality(own["person"], own["customer_id"])
    assert quality["overmerged_customers_share"] < 0.001
    assert quality["pairwise_precision"] == 1.0


def test_a_shared_identifier_is_a_persons_only_where_no_other_ever_signs_in_with_it(
    company: Company, identities: pd.DataFrame
):
    links = company.truth("links")
    personal = links["type_a"].isin(["user", "email"]) | links["type_b"].isin(["user", "email"])
    links = links[personal]
    signs = {*zip(links["identifier_a"], links["person"], strict=True)}
    signs |= {*zip(links["identifier_b"], links["person"], strict=True)}
    sizes = identities.groupby("customer_id")["identifier"].transform("size")
    kept = identities[identities["shared"] & (sizes > 1)]
    for identifier in kept["identifier"]:
        assert len({person for name, person in signs if name == identifier}) <= 1
    apart = identities[identities["shared"] & (sizes == 1)]
    assert len(apart), "there are shared devices to be kept apart"


def test_an_event_is_known_of_its_customer_only_since_the_link_was_seen(
    company: Company, both: pd.DataFrame
):
    ids = pd.read_parquet(company.prepared / "identity/identifiers.parquet")
    moved = both["known_at"] - both["known_at_true"] > pd.Timedelta("1s")
    assert moved.sum() > 100, "events before the first log-in"
    links = set(ids["linked_at"].dropna())
    assert set(both.loc[moved, "known_at"]) <= links


def test_fewer_links_leave_customers_in_more_pieces(again: Again, true_events: pd.DataFrame):
    person = again.rows[ROW].merge(true_events[[*ROW, "person"]], on=ROW, how="left")["person"]
    pieces, wrong = {}, {}
    for strategy in ("none", "user_id", "full"):
        rules = again.config.identity.model_copy(update={"strategy": strategy})
        customer = customers_of(again.rows, rules)
        quality = cluster_quality(person, customer)
        pieces[strategy] = quality["fragmentation"]
        wrong[strategy] = quality["overmerged_customers_share"]
    assert pieces["none"] > pieces["user_id"] > 3 * pieces["full"], pieces
    assert pieces["full"] < 1.4, pieces
    # A customer who holds two people's events is a shared device on which nobody signed in.
    assert wrong["full"] < 0.05, wrong


def customers_of(rows: pd.DataFrame, rules: IdentityRules) -> pd.Series:
    """Return the customer of each row under other rules of identity."""
    backend = ibis.duckdb.connect(threads=1)
    names = [c for c in rows.columns if c.startswith("id_")]
    table = rows[[*names, "timestamp"]].rename(columns={"timestamp": "known_at"})
    table = backend.create_table(
        "rows", ibis.memtable(pa.Table.from_pandas(table, preserve_index=False))
    )
    table = table.mutate(place=ibis.row_number())
    found = resolve_rows(backend, table, rules)
    named = observed.row_identifier(table, rules, found.shared)
    owners = ibis.memtable(found.assignment.select([*IDENTIFIER, "customer_id"]))
    owned = named.inner_join(owners, IDENTIFIER).order_by("place")
    return backend.execute(owned.select("place", "customer_id"))["customer_id"]


def resolve_rows(backend: Any, rows: Any, rules: IdentityRules) -> Resolution:
    names, links = observe(backend, rows, rules)
    return resolve(names, links, rules)


def observe(backend: Any, rows: Any, rules: IdentityRules) -> tuple[pa.Table, pa.Table]:
    seen = observed.combinations(rows, rules)
    names, links = observed.identifiers(seen, rules), observed.links(seen, rules)
    return backend.to_pyarrow(names), backend.to_pyarrow(links)


def test_two_halves_in_time_observed_one_after_the_other_are_the_batch(again: Again):
    rules = again.config.identity
    backend = ibis.duckdb.connect(threads=1)
    rows = backend.create_table("rows", ibis.memtable(again.identified))
    cut = sorted(again.identified["known_at"].to_pylist())[again.identified.num_rows // 2]
    first = observe(backend, rows.filter(rows.known_at < cut), rules)
    second = observe(backend, rows.filter(rows.known_at >= cut), rules)
    assert all(table.num_rows > 500 for table in (*first, *second))
    names, links = (observed.merge_observed(a, b) for a, b in zip(first, second, strict=True))
    merged = by_identifier(resolve(names, links, rules).assignment)
    batch = resolve_rows(backend, rows, rules).assignment
    pd.testing.assert_frame_equal(merged, by_identifier(batch))
    stored = pq.read_table(again.prepared / "identity/identifiers.parquet")
    pd.testing.assert_frame_equal(merged, by_identifier(stored))


def by_identifier(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas().sort_values(IDENTIFIER, ignore_index=True)


# Consent


def test_consent_is_read_as_the_customer_gave_it(again: Again, true_events: pd.DataFrame):
    rows = again.rows[again.rows["consent"].notna()].merge(true_events, on=ROW)
    names = again.config.consent.purposes
    assert len(rows) > 3000
    for purpose in ("analytics", "advertising"):
        stated = [state_of(text, purpose, names) for text in rows["consent"]]
        assert stated == rows[purpose].tolist()


def state_of(text: str, purpose: str, names: dict[str, str]) -> str:
    """What one row's consent says of a purpose, read by hand."""
    states = {names.get(name, name): state for name, state in json.loads(text).items()}
    return states.get(purpose, states.get("*", "unknown"))


def test_events_are_withheld_that_the_exports_say_were_denied_and_no_others(
    again: Again, log: pd.DataFrame, true_events: pd.DataFrame
):
    columns = [*ROW, "person", "analytics"]
    rows = again.rows.merge(true_events[columns], on=ROW, validate="1:1")
    kept = log[ROW].assign(kept=True)
    rows = rows.merge(kept, on=ROW, how="left")
    rows["withheld"] = rows["kept"].isna()
    said_no = rows[rows["consent"].notna() & (rows["analytics"] == "denied")]
    first_no = said_no.groupby("customer_id")["timestamp"].min()
    told = rows["timestamp"] >= rows["customer_id"].map(first_no)
    denied = rows["analytics"] == "denied"
    assert denied.sum() > 1000
    assert rows.loc[denied, "withheld"].mean() > 0.98
    # Kept in spite of a refusal: no export says so under any identifier of that customer by then.
    assert not told[denied & ~rows["withheld"]].any()
    # Withheld without one of one's own: somebody else refused on the same shared browser, or a
    # device refused which the person's later choice elsewhere does not speak for.
    others = rows[~denied & rows["withheld"]]
    assert told[others.index].all()
    persons = rows.groupby("customer_id")["person"].nunique()
    shared = others["customer_id"].map(persons) > 1
    granted_later = others["analytics"] == "granted"
    assert (shared | granted_later).all()
    assert len(others) < 0.01 * len(rows)


# The same again


def test_no_order_of_lines_files_or_sources_changes_a_byte_of_the_log(
    company: Company, again: Again
):
    for name in ("events", "identity"):
        files = sorted((company.prepared / name).rglob("*.parquet"))
        assert files
        for file in files:
            other = again.prepared / file.relative_to(company.prepared)
            if name == "events":
                assert other.read_bytes() == file.read_bytes(), file.name
            else:
                mine, theirs = (pd.read_parquet(f) for f in (file, other))
                order = list(mine.columns)
                mine, theirs = (f.sort_values(order, ignore_index=True) for f in (mine, theirs))
                pd.testing.assert_frame_equal(mine, theirs)
    consent = [pd.read_parquet(c / "consent.parquet") for c in (company.prepared, again.prepared)]
    order = list(consent[0].columns)
    pd.testing.assert_frame_equal(*(c.sort_values(order, ignore_index=True) for c in consent))
