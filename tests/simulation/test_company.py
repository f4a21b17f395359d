import csv
import dataclasses
import gzip
import hashlib
import json
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from seqjourney.config import DataConfig
from seqjourney.errors import ConfigError
from seqjourney.events.files import find_files
from seqjourney.events.taxonomy import read_plan
from seqjourney.simulation import simulate_shop
from seqjourney.simulation.company import CompanyConfig, write_company
from seqjourney.simulation.company import config as company_config
from seqjourney.simulation.company.happenings import latest_before
from seqjourney.simulation.company.sources import KINDS, NAMES
from seqjourney.simulation.event_log import EVENTS

SMALL = CompanyConfig(customers=300, months=6, seed=3)
JSON_SOURCES = ("web", "email", "blog", "app", "app_shop", "support")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_company(SMALL, tmp_path_factory.mktemp("company") / "raw").parent


@pytest.fixture(scope="module")
def truth(folder):
    names = ("events", "identifiers", "links", "consent")
    return {name: pd.read_parquet(folder / "truth" / f"{name}.parquet") for name in names}


@pytest.fixture(scope="module")
def raw(folder):
    """All raw rows of every source, as plain dictionaries."""
    return {source: read_source(folder / source) for source in KINDS}


def read_source(folder):
    rows = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
        elif path.suffix == ".csv":
            with path.open(newline="") as lines:
                rows += list(csv.DictReader(lines))
        else:
            opener = gzip.open if path.suffix == ".gz" else open
            with opener(path, "rt") as lines:
                rows += [json.loads(line) for line in lines]
    return rows


def ga4_key(row):
    place = ("event_bundle_sequence_id", "batch_page_id", "batch_ordering_id", "batch_event_index")
    parts = [row["stream_id"], row["user_pseudo_id"] or "", row["event_timestamp"]]
    parts += [row["event_name"], *(row[name] for name in place), ""]
    return hashlib.md5("\x1f".join(map(str, parts)).encode()).hexdigest()


def ids_of(source, rows):
    """The ids under which a source's events are found, one per raw event."""
    if source == "app_shop":
        return [event["data"]["source_message_id"] for row in rows for event in row["events"]]
    if source == "us":
        return [ga4_key(row) for row in rows]
    if source == "support":
        return [f"{row['source']} {row['id']}" for row in rows]
    key = {"app": "$insert_id", "outlet": "event_id", "account": "uuid", "store": "receipt_id"}
    key |= {"crm": "history_id", "ads": "ad_event_id"}
    return [row[key.get(source, "messageId")] for row in rows]


def by_id(truth, source):
    events = truth["events"]
    return events[events["source"] == source].set_index("source_event_id")


def utc(texts):
    return pd.to_datetime(pd.Series(texts), utc=True, format="ISO8601")


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_every_kind_of_source_is_written_and_parses(raw):
    assert set(KINDS.values()) == {
        "segment",
        "rudderstack",
        "mparticle",
        "snowplow",
        "ga4",
        "posthog",
        "cloudevents",
        "amplitude",
        "table",
    }
    assert all(rows for rows in raw.values())
    assert {row["type"] for row in raw["web"]} == {"identify", "page", "track", "alias"}
    assert all(row.get("userId") or row.get("anonymousId") for row in raw["web"])
    assert all(row["specversion"] == "1.0" and row["source"] for row in raw["support"])
    assert all(isinstance(json.loads(row["properties"]), dict) for row in raw["account"])
    kinds = {event["event_type"] for row in raw["app_shop"] for event in row["events"]}
    assert kinds == {"screen_view", "commerce_event"}


def test_json_holds_no_nulls(raw):
    def values(part):
        parts = part.values() if isinstance(part, dict) else part
        for value in parts:
            yield value
            if isinstance(value, dict | list):
                yield from values(value)

    for source in JSON_SOURCES:
        assert all(value is not None for value in values(raw[source]))


def test_ga4_has_nested_parameters_of_one_type_each(raw):
    for row in raw["us"]:
        for pair in row["event_params"]:
            assert sum(value is not None for value in pair["value"].values()) == 1
        assert isinstance(row["event_timestamp"], int)
    assert {pair["key"] for row in raw["us"] for pair in row["event_params"]} >= {
        "ga_session_id",
        "page_location",
        "transaction_id",
    }


def test_snowplow_columns_include_those_of_the_atomic_table(raw):
    row = raw["outlet"][0]
    for name in ("collector_tstamp", "derived_tstamp", "domain_userid", "mkt_source", "tr_total"):
        assert name in row


def test_every_raw_row_is_an_event_of_the_truth_or_a_counted_copy_of_one(raw, truth, folder):
    about = json.loads((folder / "company.json").read_text())
    for source, rows in raw.items():
        seen = Counter(ids_of(source, rows))
        expected = by_id(truth, source)["copies"] + 1
        assert expected.index.is_unique
        assert seen == Counter(expected.to_dict())
        assert about["sources"][source]["rows"] == sum(seen.values())
        assert about["sources"][source]["duplicates"] == sum(seen.values()) - len(seen)
    assert about["total"]["rows"] == sum(len(ids_of(*item)) for item in raw.items())
    assert about["total"]["duplicates"] > 20


def test_copies_say_the_same_and_arrive_later(raw):
    first, copies = {}, 0
    for row in sorted(raw["web"], key=lambda row: row["receivedAt"]):
        known = first.setdefault(row["messageId"], row)
        if known is not row:
            assert row["receivedAt"] > known["receivedAt"]
            assert row["originalTimestamp"] == known["originalTimestamp"]
            assert row.get("properties") == known.get("properties")
            assert row["context"] == known["context"]
            copies += 1
    assert copies > 10


def test_the_events_are_those_of_the_shop_and_no_other(truth):
    shop, _ = simulate_shop(SMALL.shop(0))
    expected = Counter(shop["event"].to_pylist())
    events = truth["events"]
    own = events[events["event"].isin(EVENTS) & ~events["bot"] & ~events["machine_open"]]
    logins = ("signed_up", "logged_in", "identified", "aliased", "consent_updated", "stage_changed")
    assert Counter(own["event"]) == expected
    assert set(events["event"]) == set(expected) | set(logins)


def test_values_add_up_to_those_of_the_shop(truth):
    shop, _ = simulate_shop(SMALL.shop(0))
    expected = shop.group_by("event").aggregate([("value", "sum"), ("value", "count")]).to_pylist()
    found = truth["events"].groupby("event")["value_eur"].agg(["sum", "count"])
    for row in expected:
        if row["value_count"]:
            got = found.loc[row["event"]]
            assert got["count"] == row["value_count"]
            # Dollars are rounded to cents.
            assert got["sum"] == pytest.approx(row["value_sum"], abs=0.01 * row["value_count"])


def test_the_parts_of_money_in_the_exports_give_the_true_value_in_euros(raw, truth, folder):
    table = pd.read_csv(folder / "rates.csv")
    assert set(table["currency"]) == {"USD"}
    rates = {since[:7]: rate for since, rate in zip(table["since"], table["rate"], strict=True)}
    currencies = set()

    def check(source, key, net, total, extra, currency, sign=1):
        row = by_id(truth, source).loc[key]
        rate = 1.0 if currency == "EUR" else rates[row["timestamp"].strftime("%Y-%m")]
        assert sign * net * rate == pytest.approx(row["value_eur"], abs=1e-9)
        assert total == pytest.approx(net + extra, abs=0.011)
        currencies.add(currency)

    for row in raw["web"]:
        p = row.get("properties", {})
        if row["type"] == "track" and row["event"].lower() == "order completed":
            extra = p["tax"] + p["shipping"]
            check("web", row["messageId"], p["subtotal"], p["total"], extra, p["currency"])
        elif row["type"] == "track" and row["event"] == "Order Refunded":
            net = p["total"] - p["tax"]
            check("web", row["messageId"], net, p["total"], p["tax"], p["currency"], -1)
    for row in raw["us"]:
        money, key = row["ecommerce"], ga4_key(row)
        if money and money["purchase_revenue"] is not None:
            currency = next(p for p in row["event_params"] if p["key"] == "currency")
            net, extra = money["purchase_revenue"], money["tax_value"] + money["shipping_value"]
            check("us", key, net, net + extra, extra, currency["value"]["string_value"])
    for row in raw["app_shop"]:
        for event in row["events"]:
            action = event["data"].get("product_action")
            if action:
                extra = action["tax_amount"] + action["shipping_amount"]
                total, sign = action["total_amount"], -1 if action["action"] == "refund" else 1
                key, currency = event["data"]["source_message_id"], event["data"]["currency_code"]
                check("app_shop", key, total - extra, total, extra, currency, sign)
    assert currencies == {"EUR", "USD"}


def test_segment_times_correct_the_devices_clocks(raw, truth):
    rows = raw["web"]
    true = by_id(truth, "web").loc[[row["messageId"] for row in rows]]
    times = {
        name: utc([row[name] for row in rows]).reset_index(drop=True)
        for name in ("originalTimestamp", "sentAt", "receivedAt", "timestamp")
    }
    corrected = times["receivedAt"] - (times["sentAt"] - times["originalTimestamp"])
    assert (corrected - times["timestamp"]).abs().max() <= pd.Timedelta("2ms")
    true_times = true["timestamp"].reset_index(drop=True)
    assert (times["timestamp"] - true_times).abs().max() < pd.Timedelta("1s")
    skew = (times["originalTimestamp"] - true_times).dt.total_seconds()
    assert np.abs(skew - true["clock_skew_seconds"].to_numpy()).max() < 0.002
    assert (true["clock_skew_seconds"] != 0).any()


def test_amplitude_and_snowplow_times_correct_the_devices_clocks(raw, truth):
    rows = raw["app"]
    names = ("client_event_time", "client_upload_time", "server_received_time", "event_time")
    event, upload, received, corrected = (utc([r[name] for r in rows]) for name in names)
    assert (received - upload + event - corrected).abs().max() <= pd.Timedelta("1ms")
    true = by_id(truth, "app").loc[[row["$insert_id"] for row in rows], "timestamp"]
    assert (corrected - true.reset_index(drop=True)).abs().max() < pd.Timedelta("1s")
    for row in raw["outlet"]:
        delay = row["dvce_sent_tstamp"] - row["dvce_created_tstamp"]
        assert abs(row["collector_tstamp"] - delay - row["derived_tstamp"]) < pd.Timedelta("1ms")


def test_known_times_are_those_of_the_exports_and_never_before_the_event(raw, truth):
    events = truth["events"]
    assert (events["known_at"] >= events["timestamp"]).all()
    received = {row["messageId"]: row["receivedAt"] for row in reversed(raw["web"])}
    for key, row in by_id(truth, "web").iterrows():
        shown = pd.Timestamp(received[key])
        assert abs(shown - row["known_at"]) < pd.Timedelta("1ms")
    late = events[events["late"]]
    assert (late["known_at"] - late["timestamp"] >= pd.Timedelta("1h")).all()
    assert len(late) > 20


def test_a_user_id_and_an_address_belong_to_one_person(truth):
    ids = truth["identifiers"]
    own = ids[~ids["junk"] & ids["identifier_type"].isin(["user", "email"])]
    assert (own.groupby(["identifier_type", "identifier"])["person"].nunique() == 1).all()
    users = own[own["identifier_type"] == "user"]
    assert users.groupby("person")["identifier"].nunique().max() == 1
    mails = own[own["identifier_type"] == "email"]
    assert set(mails.groupby("person")["identifier"].nunique()) == {1, 2}


def identifiers_in(raw):
    """All identifiers that stand in the exports, by hand."""
    for row in raw["web"] + raw["blog"]:
        yield "user", row.get("userId")
        yield "anonymous", row.get("anonymousId") or row.get("previousId")
    for row in raw["web"] + raw["blog"] + raw["email"]:
        for traits in (row.get("traits", {}), row["context"].get("traits", {})):
            yield "email", traits.get("email")
            yield "phone", traits.get("phone")
    for row in raw["app"]:
        yield "user", row.get("user_id")
        yield "device", row.get("device_id")
        yield "external", str(row["amplitude_id"])
    for row in raw["app_shop"]:
        yield "user", row["user_identities"].get("customer_id")
        yield "email", row["user_identities"].get("email")
        yield "device", row["device_info"]["ios_idfv"]
        yield "external", str(row["mpid"])
    for row in raw["outlet"]:
        yield "user", row["user_id"]
        yield "anonymous", row["domain_userid"]
    for row in raw["us"]:
        yield "user", row["user_id"]
        yield "anonymous", row["user_pseudo_id"]
    for row in raw["account"]:
        properties = json.loads(row["properties"])
        yield "user", row["distinct_id"]
        yield "anonymous", row["distinct_id"]
        yield "anonymous", properties.get("$anon_distinct_id")
        yield "device", properties.get("$device_id")
        yield "external", row["person_id"]
    for row in raw["support"]:
        yield "user", row.get("subject")
        yield "email", row["data"]["requester"]["email"]
    for row in raw["store"] + raw["crm"]:
        yield "user", row.get("loyalty_id") or row.get("contact_id")
        yield "email", row["email"]
        yield "phone", row["phone"]
    for row in raw["ads"]:
        yield "anonymous", row["cookie_id"]
        yield "device", row["device_id"]


def test_the_true_identifiers_are_exactly_those_in_the_exports(raw, truth):
    tidy = {"email": str.lower, "phone": lambda text: text.replace(" ", "").replace("-", "")}
    shown = {(kind, tidy.get(kind, str)(value)) for kind, value in identifiers_in(raw) if value}
    ids = truth["identifiers"]
    assert shown == set(zip(ids["identifier_type"], ids["identifier"], strict=True))


def test_households_share_desktops_and_phones(raw, truth):
    ids = truth["identifiers"]
    shared = set(ids[ids["shared"]]["identifier"])
    by_web = {row["context"]["device"]["type"] for row in on_cookies(raw["web"], shared)}
    assert "desktop" in by_web
    assert any(row["device_id"] in shared for row in raw["app"])


def on_cookies(rows, cookies):
    return [row for row in rows if row.get("anonymousId") in cookies and "device" in row["context"]]


def test_no_event_carries_the_user_id_of_somebody_else(raw, truth):
    ids = truth["identifiers"]
    users = ids[(ids["identifier_type"] == "user") & ~ids["junk"]]
    person_of = users.set_index("identifier")["person"]
    for source, key in (("web", "userId"), ("blog", "userId"), ("app", "user_id")):
        true = by_id(truth, source)["person"]
        for row, event_id in zip(raw[source], ids_of(source, raw[source]), strict=True):
            if row.get(key) in person_of.index:
                assert true[event_id] == person_of[row[key]]


def test_stores_know_customers_by_card_phone_or_address(raw):
    sales = [row for row in raw["store"] if row["kind"] == "sale"]
    shown = Counter(
        tuple(key for key in ("loyalty_id", "email", "phone") if row[key]) for row in sales
    )
    assert {("loyalty_id",), ("email",), ("phone",)} <= set(shown)


def test_shared_identifiers_are_those_of_two_people_and_hold_log_ins_of_both(truth):
    ids = truth["identifiers"]
    persons = ids[~ids["junk"]].groupby(["identifier_type", "identifier"])["person"].nunique()
    shared = ids[ids["shared"]].groupby(["identifier_type", "identifier"]).size()
    assert set(shared.index) == set(persons[persons > 1].index)
    assert set(persons) <= {0, 1, 2}
    kinds = {kind for kind, _ in shared.index}
    assert {"anonymous", "device", "phone"} <= kinds
    links = truth["links"]
    links = links[(links["type_a"] == "anonymous") & (links["type_b"] == "user")]
    users = links.groupby("identifier_a")["identifier_b"].nunique()
    two = [value for kind, value in shared.index if kind == "anonymous" and value in users.index]
    assert sum(users[value] == 2 for value in two) > 0.6 * len(two)


def test_links_and_components_never_join_two_people(truth):
    links, ids = truth["links"], truth["identifiers"]
    owners = defaultdict(set)
    for row in ids.itertuples():
        owners[row.identifier_type, row.identifier].add(row.person)
    for row in links.itertuples():
        assert row.person in owners[row.type_a, row.identifier_a]
        assert row.person in owners[row.type_b, row.identifier_b]
    people = ids[ids["person"].notna() & ~ids["junk"]]
    assert (people.groupby("component")["person"].nunique() == 1).all()


def test_links_are_known_no_earlier_than_they_are_made(truth):
    links = truth["links"]
    assert (links["known_at"] >= links["linked_at"]).all()
    ids = truth["identifiers"].set_index(["identifier_type", "identifier", "person"])
    for side in ("a", "b"):
        names = [f"type_{side}", f"identifier_{side}", "person"]
        keys = list(links[names].itertuples(index=False, name=None))
        assert (links["linked_at"].to_numpy() >= ids.loc[keys, "first_at"].to_numpy()).all()


def test_a_browser_is_anonymous_before_the_first_log_in_on_it(raw, truth):
    links = truth["links"]
    links = links[(links["type_a"] == "anonymous") & (links["type_b"] == "user")]
    first = links.groupby("identifier_a")["linked_at"].min()
    true = by_id(truth, "web")["timestamp"]
    anonymous_before = 0
    for row in raw["web"]:
        user, cookie = row.get("userId"), row.get("anonymousId")
        if cookie in first.index and user in (None, "null", "anonymous", "-1"):
            anonymous_before += true[row["messageId"]] < first[cookie]
        elif user not in (None, "null", "anonymous", "-1") and cookie in first.index:
            assert true[row["messageId"]] >= first[cookie]
    assert anonymous_before > 100


def test_nearly_everything_about_an_account_holder_can_be_linked(folder):
    counts = json.loads((folder / "company.json").read_text())["truth"]
    assert 0.95 < counts["identifier_pairs_linked"] / counts["identifier_pairs"] < 1


def test_addresses_are_typed_in_different_cases(raw):
    typed = {row["traits"]["email"] for row in raw["web"] if "email" in row.get("traits", {})}
    assert len({mail.lower() for mail in typed}) < len(typed)


def test_junk_ids_appear_and_belong_to_nobody_in_particular(raw, truth):
    ids = truth["identifiers"]
    junk = set(ids[ids["junk"]]["identifier"])
    assert junk & {"null", "anonymous", "-1"}
    shown = {row["userId"] for row in raw["web"] if "userId" in row}
    assert junk & shown
    assert truth["events"].loc[truth["events"]["source"] == "web", "has_identifier"].all()


def test_the_taxonomy_names_every_raw_name(raw, truth, folder):
    taxonomy = yaml.safe_load((folder / "truth" / "taxonomy.yaml").read_text())
    for (source, name), events in truth["events"].groupby(["source", "original_event"]):
        found = taxonomy[source]["names"].get(name)
        if found is None:
            found = next(
                event
                for pattern, event in taxonomy[source]["patterns"].items()
                if name.startswith(pattern.removesuffix("*"))
            )
        assert set(events["event"]) == {found}
    shown = {row["name"] if row["type"] == "page" else row.get("event") for row in raw["web"]}
    assert {"Home", "Category", "Product Viewed", "product viewed"} <= shown


def test_one_name_is_replaced_at_one_date_and_one_family_carries_ids(truth):
    events = truth["events"]
    carts = events[(events["source"] == "app") & (events["event"] == "cart_added")]
    times = carts.groupby("original_event")["timestamp"].agg(["min", "max"])
    assert set(times.index) == {"tap_cta", "add_to_cart_tapped"}
    assert times.loc["tap_cta", "max"] < times.loc["add_to_cart_tapped", "min"]
    articles = events[events["original_event"].str.startswith("Viewed Article ")]
    assert articles["original_event"].nunique() > 5


def test_defects_are_where_the_truth_says(raw, truth):
    true = by_id(truth, "web")["defect"]
    seen = Counter()
    for row in raw["web"]:
        if row.get("event", "").lower() == "product viewed":
            defect, p = true[row["messageId"]], row["properties"]
            assert ("product_id" not in p) == (defect == "missing_property")
            assert isinstance(p["price"], str) == (defect == "wrong_type")
            seen[defect] += 1
    assert seen["missing_property"]
    assert seen["wrong_type"]


def test_each_source_states_consent_in_its_own_words_and_truly(raw, truth):
    words = {True: "granted", False: "denied"}
    web = by_id(truth, "web")
    forms = Counter()
    for row in raw["web"]:
        true = web.loc[row["messageId"]]
        consent = row["context"].get("consent")
        forms["none" if consent is None else len(consent["categoryPreferences"])] += 1
        if consent is None:
            assert true["analytics"] == "unknown"
        elif not consent["categoryPreferences"]:
            assert (true["analytics"], true["advertising"]) == ("denied", "denied")
        else:
            assert words[consent["categoryPreferences"]["Analytics"]] == true["analytics"]
            assert words[consent["categoryPreferences"]["Advertising"]] == true["advertising"]
    assert set(forms) == {"none", 0, 2}
    us = by_id(truth, "us")
    for row in raw["us"]:
        said = {"Yes": "granted", "No": "denied", None: "unknown"}
        state = said[row["privacy_info"]["analytics_storage"]]
        assert state == us.loc[ga4_key(row), "analytics"]
    blog = by_id(truth, "blog")
    for row in raw["blog"]:
        lists = row["context"].get("consentManagement")
        true = blog.loc[row["messageId"], "analytics"]
        assert (lists is None) == (true == "unknown")
        if lists:
            assert ("C0002" in lists["allowedConsentIds"]) == (true == "granted")
            assert ("C0002" in lists["deniedConsentIds"]) == (true == "denied")


def test_consent_changes_over_time_and_some_never_answer(truth):
    consent = truth["consent"]
    answers = consent[consent["purpose"] == "analytics"].groupby("person")["state"].agg(list)
    assert answers.map(len).max() == 2
    assert {"denied", "granted"} == set(consent["state"])
    assert consent["person"].nunique() < truth["events"]["person"].nunique()
    events = truth["events"].dropna(subset="person")
    joined = events.merge(consent[consent["purpose"] == "analytics"], on="person")
    told = joined[joined["since"] <= joined["timestamp"]].sort_values("since")
    latest = told.groupby(["source", "source_event_id"])["state"].last()
    shown = events.set_index(["source", "source_event_id"])["analytics"]
    assert (shown.loc[latest.index] == latest).all()
    assert (shown.drop(latest.index) == "unknown").all()


def test_landings_show_the_evidence_of_their_true_channel(raw, truth):
    true = by_id(truth, "web")
    seen = Counter()
    for row in raw["web"]:
        page, event = row["context"].get("page", {}), true.loc[row["messageId"]]
        referrer, campaign = page.get("referrer", ""), row["context"].get("campaign", {})
        outside = referrer and "shop.example" not in referrer
        if event["bot"] or not (outside or campaign):
            continue
        seen[event["channel"]] += 1
        if "chatgpt.com" in referrer or campaign.get("source") == "chatgpt.com":
            assert (event["channel"], event["ai_engine"]) == ("ai_search", "chatgpt")
        if ":~:text=" in page["url"]:
            assert event["channel"] == "organic_search"
            assert event["ai_engine"] == "google_ai_overview"
        if "gclid=" in page["url"]:
            assert event["channel"] in ("paid_search", "paid_shopping")
        if campaign.get("medium") == "email":
            assert event["channel"] == "email"
        for name, key in (("utm_source", "source"), ("utm_medium", "medium")):
            assert (f"{name}={campaign.get(key)}" in page["url"]) == (key in campaign)
    assert set(seen) >= {"organic_search", "paid_search", "paid_social", "email", "ai_search"}
    dark = truth["events"]
    assert (dark["channel"] == "direct").any()


def test_bots_have_telling_user_agents_and_no_person(raw, truth):
    true = by_id(truth, "web")
    words = ("GPTBot", "ClaudeBot", "PerplexityBot", "ChatGPT-User", "Headless", "UptimeRobot")
    for row in raw["web"]:
        telling = any(word in row["context"].get("userAgent", "") for word in words)
        assert telling == true.loc[row["messageId"], "bot"]
    assert truth["events"].loc[truth["events"]["bot"], "person"].isna().all()
    assert truth["events"].loc[~truth["events"]["bot"], "person"].notna().all()


def test_proxies_open_after_delivery_with_their_own_user_agent(raw, truth):
    true = by_id(truth, "email")
    sent = {}
    for row in raw["email"]:
        mail = row["properties"]["email_id"]
        if row["event"] == "Email Delivered":
            sent[mail] = min(sent.get(mail, row["timestamp"]), row["timestamp"])
    opens = [row for row in raw["email"] if row["event"] == "Email Opened"]
    machine = [row for row in opens if true.loc[row["messageId"], "machine_open"]]
    assert 0.2 * len(opens) < len(machine) < len(opens)
    for row in opens:
        is_proxy = row["context"]["userAgent"] == "Mozilla/5.0"
        assert is_proxy == true.loc[row["messageId"], "machine_open"]
        assert sent[row["properties"]["email_id"]] < row["timestamp"]


def test_ad_costs_count_the_impressions_and_clicks(folder, truth):
    costs = pd.read_csv(folder / "ad_costs.csv")
    events = Counter(truth["events"]["event"])
    assert costs["impressions"].sum() == events["ad_impression"]
    assert costs["clicks"].sum() == events["ad_clicked"]
    assert (costs["cost_eur"] > 0).all()


def test_the_guide_is_a_data_config_and_names_files_that_exist(folder):
    guide = yaml.safe_load((folder / "sources.yaml").read_text())
    data = DataConfig(**guide)
    assert {source.name: source.kind for source in data.sources} == KINDS
    for source in data.sources:
        assert find_files(source.path)
        if source.kind == "table" and source.path.endswith("parquet"):
            columns = pq.read_schema(find_files(source.path)[0]).names
            named = (source.timestamp, source.known_at, source.event, source.event_id)
            assert {*named, *source.identifiers.values()} <= set(columns)
    assert (folder / "rates.csv").samefile(data.rates)
    plan = read_plan(data.taxonomy)
    assert set(yaml.safe_load((folder / "tracking_plan.yaml").read_text())["events"]) == {
        event for names in NAMES.values() for event in names
    }
    assert plan


def test_the_same_seed_writes_the_same_bytes_and_another_other_ones(tmp_path):
    tiny = CompanyConfig(customers=60, months=3, seed=5)
    first = write_company(tiny, tmp_path / "a").parent
    again = write_company(tiny, tmp_path / "b").parent
    # The guide names the folder itself.
    text = (again / "sources.yaml").read_text().replace(str(tmp_path / "b"), str(tmp_path / "a"))
    (again / "sources.yaml").write_text(text)
    assert digests(first) == digests(again)
    other = write_company(dataclasses.replace(tiny, seed=6), tmp_path / "c").parent
    assert digests(first)["web/part-000-0.jsonl.gz"] != digests(other)["web/part-000-0.jsonl.gz"]


def test_parts_share_no_people_and_no_ids(tmp_path, monkeypatch):
    monkeypatch.setattr(company_config, "CUSTOMERS_PER_PART", 40)
    config = CompanyConfig(customers=90, months=2, seed=1)
    folder = write_company(config, tmp_path / "raw").parent
    assert config.parts == 3
    assert len({config.shop(part).seed for part in range(3)}) == 3
    assert len(list((folder / "store").iterdir())) == 3
    events = pd.read_parquet(folder / "truth" / "events.parquet")
    assert not events.duplicated(["source", "source_event_id"]).any()
    assert events["person"].nunique() == 90
    ids = pd.read_parquet(folder / "truth" / "identifiers.parquet")
    persons = ids[~ids["junk"]].groupby(["identifier_type", "identifier"])["person"].nunique()
    assert persons.max() <= 2


def test_broken_adds_files_and_leaves_all_others_as_they_are(tmp_path):
    tiny = CompanyConfig(customers=60, months=3, seed=5)
    good = write_company(tiny, tmp_path / "good").parent
    bad = write_company(dataclasses.replace(tiny, broken=True), tmp_path / "bad").parent
    before, after = digests(good), digests(bad)
    added = set(after) - set(before)
    assert len(added) == 4
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"company.json", "sources.yaml"}  # these name the setting and the folder
    about = json.loads((bad / "company.json").read_text())["broken"]
    text = gzip.decompress((bad / "web" / "part-broken.jsonl.gz").read_bytes()).decode()
    lines = text.splitlines()
    unreadable = sum(not isinstance(load(line), dict) for line in lines)
    assert unreadable == about["web"]["broken_lines"]
    assert len(lines) - unreadable == about["web"]["absurd_times"]


def load(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("key", "value"), [("customers", 0), ("accounts", 1.5), ("bots", -0.1), ("start", "soon")]
)
def test_settings_out_of_range_are_named(key, value):
    with pytest.raises(ConfigError, match=key):
        CompanyConfig(**{key: value})


def test_latest_before_agrees_with_a_plain_search():
    rng = np.random.default_rng(0)
    owner, when = rng.integers(0, 5, 40), rng.integers(0, 50, 40) * 1000
    asked, at = rng.integers(0, 7, 200), rng.integers(-3, 60, 200) * 1000
    found = latest_before(owner, when, asked, np.maximum(at, 0))
    for place, person, time in zip(found, asked, np.maximum(at, 0), strict=True):
        candidates = [t for o, t in zip(owner, when, strict=True) if o == person and t <= time]
        assert (place < 0) == (not candidates)
        if candidates:
            assert owner[place] == person
            assert when[place] == max(candidates)
