"""What the words of event names mean: verbs in every form, and nouns that stand for one thing.

`ACTIONS` groups verbs that tools use for the same act (`click`, `tap`, `press`); two names whose
actions lie in different groups are different events, however alike they are otherwise. `OBJECTS`
does the same for nouns (`cta`, `button`). Both are short on purpose: a wrong synonym costs more
than a missing one, which properties and context of use still find.
"""

from __future__ import annotations

import re
from functools import cache

ACTIONS = (
    "click tap press push select touch",
    "view see show display visit watch browse impression load",
    "add put append insert",
    "remove delete drop discard",
    "complete finish place purchase buy success succeed",
    "start begin initiate",
    "end stop",
    "cancel abort terminate churn",
    "refund reimburse",
    "search query find",
    "filter sort refine",
    "submit",
    "send",
    "deliver",
    "receive get",
    "open launch",
    "close dismiss hide collapse",
    "update change edit modify set",
    "create make new",
    "register signup enroll",
    "login signin authenticate",
    "logout signout",
    "subscribe",
    "unsubscribe optout",
    "renew",
    "upgrade",
    "downgrade",
    "pause suspend",
    "resume continue",
    "expire lapse",
    "install",
    "uninstall",
    "download",
    "upload",
    "share",
    "save bookmark favorite favourite",
    "review rate",
    "resolve solve",
    "reopen",
    "fail crash error",
    "decline deny reject refuse",
    "accept approve grant allow confirm",
    "apply redeem use",
    "enter type fill",
    "bounce",
    "play",
    "scroll",
    "pay",
    "win",
    "lose",
    "book schedule",
    "request ask",
    "reply answer respond",
    "leave exit abandon",
    "join",
    "identify",
    "print",
    "compare",
    "call",
    "log",
    "return",
    "ship dispatch",
    "export",
    "import",
    "invite",
    "progress",
    "reach",
    "unlock",
    "expose",
    "foreground",
    "background",
    "generate",
    "merge",
    "assign",
    "rename",
    "block",
    "archive",
)

OBJECTS = (
    "button btn cta",
    "product item sku article",
    "cart basket bag trolley",
    "order transaction sale",
    "email mail newsletter",
    "page webpage",
    "screen",
    "app application",
    "notification notif",
    "ticket case incident",
    "user account profile member customer",
    "coupon voucher promocode discount",
    "ad advert advertisement",
    "promotion promo banner",
    "wishlist favourites favorites",
    "message msg chat",
    "checkout",
    "form",
    "link url hyperlink",
    "image picture photo img",
    "document doc",
    "subscription plan membership",
)

IRREGULAR = {
    "sent": "send",
    "seen": "see",
    "saw": "see",
    "shown": "show",
    "bought": "buy",
    "began": "begin",
    "begun": "begin",
    "paid": "pay",
    "left": "leave",
    "won": "win",
    "lost": "lose",
    "found": "find",
    "made": "make",
    "given": "give",
    "taken": "take",
    "chosen": "choose",
    "hidden": "hide",
    "held": "hold",
    "met": "meet",
    "built": "build",
    "read": "read",
    "set": "set",
    "put": "put",
    "cut": "cut",
    "got": "get",
    "written": "write",
    "spent": "spend",
    "sold": "sell",
    "told": "tell",
    "kept": "keep",
    "broken": "break",
    "drawn": "draw",
    "run": "run",
    "withdrawn": "withdraw",
    "cancelled": "cancel",
    "canceled": "cancel",
}
_PAST = {base: past for past, base in IRREGULAR.items() if past not in {"saw", "begun", "canceled"}}
PARTICLES = frozenset(("up", "in", "out", "off", "on", "down", "over", "back", "away", "through"))
_FILLERS = frozenset(
    ("the", "a", "an", "of", "to", "from", "event", "action", "on", "my", "did", "has", "was")
)
_PHRASES = {
    ("sign", "up"): "signup",
    ("sign", "in"): "signin",
    ("sign", "out"): "signout",
    ("log", "in"): "login",
    ("log", "out"): "logout",
    ("opt", "out"): "optout",
    ("call", "to", "action"): "cta",
    ("e", "mail"): "email",
    ("pageview",): "page view",
    ("screenview",): "screen view",
}

_ACTION_OF = {verb: group.split()[0] for group in ACTIONS for verb in group.split()}
_OBJECT_OF = {noun: group.split()[0] for group in OBJECTS for noun in group.split()}


@cache
def base_form(word: str) -> str:
    """Return a verb's or noun's base form, as far as its spelling tells: `tapped` → `tap`."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word in _ACTION_OF or word in _OBJECT_OF or len(word) <= 3:
        return word
    known = _ACTION_OF.keys() | _OBJECT_OF.keys()
    stems = [word]
    if word.endswith("ies"):
        stems = [word[:-3] + "y"]
    elif word.endswith("ing"):
        stems = [word[:-3], word[:-3] + "e", word[:-4]]
    elif word.endswith("ied"):
        stems = [word[:-3] + "y"]
    elif word.endswith("ed"):
        stems = [word[:-2], word[:-1], word[:-3]]
    elif word.endswith("s") and not word.endswith("ss"):
        stems = [word[:-1], word[:-2]]
    for stem in stems:
        if stem in known:
            return stem
    doubled = word.endswith("ed") and re.search(r"([bdgmnprt])\1ed$", word)
    return word[:-3] if doubled else stems[0]


def action_of(word: str) -> str | None:
    """Return the group of a verb in any form (`tapped` → `click`), or None for other words."""
    return _ACTION_OF.get(base_form(word))


def is_known(word: str) -> bool:
    """Whether a word stands in `ACTIONS` or `OBJECTS`, in any form."""
    base = base_form(word)
    return base in _ACTION_OF or base in _OBJECT_OF


def concepts(tokens: list[str]) -> tuple[list[str], str | None]:
    """Return what a name's words stand for, without order and filler, and its action if one.

    Args:
        tokens: the words of a folded name.

    Returns:
        Concepts (groups where known, base forms elsewhere), and the group of the action: the
        last known verb in the past tense, else the first known verb.
    """
    words = _join_phrases(tokens)
    past = [word for word in words if is_past(word) and action_of(word)]
    verbs = [word for word in words if action_of(word)]
    verb = past[-1] if past else (verbs[0] if verbs else None)
    found = []
    for word in words:
        base = base_form(word)
        if word == verb:
            found.append("do:" + str(action_of(word)))
        elif word not in _FILLERS:
            found.append(_OBJECT_OF.get(base) or _ACTION_OF.get(base) or base)
    return found, None if verb is None else action_of(verb)


def is_past(word: str) -> bool:
    """Whether a word is a verb in the past tense, by its spelling."""
    return word in IRREGULAR or (word.endswith("ed") and len(word) > 3)


def past_tense(verb: str) -> str:
    """Return the past tense of a verb's base form."""
    if verb in _PAST:
        return _PAST[verb]
    if is_past(verb):
        return verb
    if verb.endswith("e"):
        return verb + "d"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    if re.fullmatch(r"[^aeiou]*[aeiou][bdgmnpt]", verb) or verb == "submit":
        return verb + verb[-1] + "ed"
    return verb + "ed"


def _join_phrases(tokens: list[str]) -> list[str]:
    words: list[str] = []
    i = 0
    while i < len(tokens):
        for length in (3, 2, 1):
            phrase = tuple(base_form(token) for token in tokens[i : i + length])
            if len(phrase) == length and phrase in _PHRASES:
                words += _PHRASES[phrase].split()
                i += length
                break
        else:
            words.append(tokens[i])
            i += 1
    return words
