"""A plan says what it means or is refused with the place and the mend."""

from __future__ import annotations

import pytest

from seqjourney.errors import ConfigError
from seqjourney.events.taxonomy import TrackingPlan, merge, read_plan
from seqjourney.events.taxonomy.documents import to_yaml
from seqjourney.events.taxonomy.mapping import lookup, rules
from seqjourney.events.taxonomy.names import is_object_action
from seqjourney.events.taxonomy.plan import check, to_mapping


def plan_of(tmp_path, text, name="plan.yaml"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_plan(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("events: {a_done: {from: [X Y]}, b_done: {from: [xY]}}", "'xY' is claimed by 'a_done'"),
        ("events: {a_done: {from: [b_done]}, b_done: }", "'b_done' is an event of its own"),
        (
            "events: {a_done: {from: [b_done]}, b_done: {from: [a_done]}}",
            "an alias cycle, a_done → b_done → a_done",
        ),
        ("events: {a_done: {from: ['pa_*']}, b_done: {from: ['Pa *']}}", "claimed by 'a_done'"),
        ("events: {a_done: {form: [x]}}", "unknown key 'events.a_done.form'"),
        ("events:\n  a_done:\n  a_done:\n", "line 3, column 3: the key 'a_done' stands here twice"),
        ("events: {a_done: {from: [*_x]}}", "must stand in quotes"),
        ("events: {a_done: {from: ['*']}}", "names nothing in particular"),
        ("events: {A Done: }", "write it 'a_done'"),
        ("events: {a_done: {properties: {My Key: }}}", "write it 'my_key'"),
        ("events: {a_done: {properties: {x: {type: text}}}}", "events.a_done.properties.x.type"),
        ("unmapped: drop", "unmapped"),
        ("extends: plan.yaml", "'extends' goes in a circle"),
        ("extends: nowhere.yaml", "nowhere.yaml is missing"),
        ("extends: builtin:ecomerce", "Did you mean 'ecommerce'?"),
        ("- a", "must be a mapping"),
        ("events: [", "line 1"),
        ("x: !!python/object:os.system {}", "constructor"),
        ("[" * 3000, "nested too deep"),
    ],
)
def test_a_wrong_plan_is_refused_with_place_and_mend(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        plan_of(tmp_path, text)
    assert message in str(error.value)
    assert "plan" in str(error.value)


def test_scalars_are_text_whatever_yaml_makes_of_them(tmp_path):
    plan = plan_of(tmp_path, "events: {a_done: {from: [no, 1.10, 2024-01-01, true]}}")
    assert plan.events["a_done"].raw == ("no", "1.10", "2024-01-01", "true")


def test_an_extending_plan_takes_names_over_and_keeps_the_rest(tmp_path):
    plan_of(
        tmp_path,
        """
        events:
          order_completed:
            from: [purchase, bought]
            actor: customer
            properties: {order_id: {required: true}}
          page_viewed: {from: [page]}
          link_clicked:
        """,
        "base.yaml",
    )
    plan = plan_of(
        tmp_path,
        """
        extends: base.yaml
        events:
          sale_made: {from: [order_completed, till]}
          gift_bought: {from: [bought]}
          page_viewed: {from: [seite]}
        """,
    )
    found = rules(plan)
    expected = {
        "purchase": "sale_made",
        "Order Completed": "sale_made",
        "till": "sale_made",
        "bought": "gift_bought",
        "page": "page_viewed",
        "seite": "page_viewed",
        "link_clicked": "link_clicked",
    }
    assert {name: lookup(found, None, name) for name in expected} == expected
    assert plan.events["sale_made"].properties["order_id"].required
    assert plan.events["sale_made"].actor == "customer"
    check(plan, "the merged plan")


def test_a_plan_survives_being_written(tmp_path):
    plan = read_plan("builtin:ecommerce")
    assert plan_of(tmp_path, to_yaml(to_mapping(plan))) == plan


def test_laying_nothing_over_a_plan_changes_nothing():
    plan = read_plan("builtin:ecommerce")
    assert merge(plan, TrackingPlan()) == plan


def test_the_built_in_plan_has_no_collision_and_only_object_action_names():
    plan = read_plan("builtin:ecommerce")
    check(plan, "builtin:ecommerce")
    assert len(plan.events) > 100
    assert [name for name in plan.events if not is_object_action(name)] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Order Completed", "order_completed"),  # Segment, RudderStack
        ("Product Added to Wishlist", "wishlist_product_added"),
        ("Email Marked as Spam", "email_spam_reported"),
        ("Push Notification Tapped", "push_notification_opened"),
        ("page_view", "page_viewed"),  # GA4
        ("view_item", "product_viewed"),
        ("add_to_cart", "product_added"),
        ("purchase", "order_completed"),
        ("refund", "order_refunded"),
        ("first_open", "application_installed"),
        ("page_ping", "page_engaged"),  # Snowplow
        ("com.snowplowanalytics.snowplow/link_click/1-0-1", "link_clicked"),
        ("[Amplitude] Page Viewed", "page_viewed"),
        ("$pageview", "page_viewed"),  # PostHog
        ("$autocapture", "element_clicked"),
        ("commerce_event.purchase", "order_completed"),  # mParticle
        ("click_button", "button_clicked"),
        ("tap_cta", "button_clicked"),
    ],
)
def test_the_built_in_plan_knows_the_vendors_names(name, expected):
    assert lookup(rules(read_plan("builtin:ecommerce")), None, name) == expected
