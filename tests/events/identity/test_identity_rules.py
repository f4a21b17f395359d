"""The rules say what they allow, and refuse what cannot be meant."""

import pytest
from pydantic import ValidationError

from seqjourney.config import parse
from seqjourney.errors import ConfigError
from seqjourney.events.identity import IdentityRules


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limits": {"emial": 3}}, "limits names the identifier type 'emial'"),
        ({"unique": ["member"]}, "unique names the identifier type 'member'"),
        ({"separate": [["user:1", "emial:x"]]}, "separate names the identifier type 'emial'"),
        ({"separate": [["user:1", "42"]]}, "'42' must be written type:value"),
        ({"together": [["user:1", "user:1"]]}, "'user:1' is paired with itself"),
        ({"priority": ["user", "user"]}, "'user' stands twice"),
        ({"priority": ["User Id"]}, "'User Id' is no identifier type"),
        ({"priority": []}, "at least one identifier type"),
        ({"priority": ["device", "user"]}, "must come first in priority"),
        ({"limits": {"email": 0}}, "limits.email must be 1 or more"),
        ({"limits": {"user": 2}}, "'user' is unique, yet limits.user allows 2"),
        ({"blocked": ["(not set"]}, r"as a plain value it is written '\\(not\\ set'"),
        ({"also_blocked": ["(?=x)y"]}, "not every engine knows"),
        ({"strategy": "ful"}, "strategy"),
        ({"limts": {}}, "unknown key 'limts'. Did you mean 'limits'?"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_with_its_key(given, message):
    with pytest.raises(ConfigError) as error:
        parse(IdentityRules, given, "data.identity")
    assert message.replace("\\\\", "\\") in str(error.value)


def test_decisions_that_contradict_each_other_are_refused_through_any_chain():
    with pytest.raises(ValidationError, match="kept separate and merged together"):
        IdentityRules(
            together=(("user:1", "user:2"), ("email:x", "user:2")),
            separate=(("email:x", "user:1"),),
        )


def test_types_that_are_not_named_keep_their_limits():
    rules = IdentityRules(
        priority=("user", "email", "card", "device", "anonymous"), limits={"email": 2}
    )
    most = {name: rules.most(name) for name in rules.priority}
    assert most == {"user": 1, "email": 2, "card": 100, "device": 20, "anonymous": 100}


def test_defaults_suit_a_shorter_list_of_types():
    assert IdentityRules(priority=("user", "anonymous")).most("user") == 1


def test_rules_can_be_written_down_and_read_again():
    rules = IdentityRules(separate=(("user:1", "device:a:b"),), limits={"device": 7})
    assert IdentityRules.model_validate(rules.model_dump(mode="json")) == rules
