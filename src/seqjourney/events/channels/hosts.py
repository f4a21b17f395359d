"""What kind of site a host or a source's name is: search, social, video, shopping or an assistant.

The lists in `hosts/` (see ORIGIN.md there) become two small tables to join with:

- `exact`: a host without `www.` or `m.`, or a whole utm_source → kind, name, confidence.
- `suffixes`: the last two or three labels of a host → the same. Only for kinds where a subdomain
  is the same kind of site: l.facebook.com is Facebook, but docs.google.com is no search.

A host on several lists is of the first kind that names it: assistants, video, shopping, social,
search. So gemini.google.com is an assistant though google.com is a search engine.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

import pyarrow as pa
import yaml

AI_HIGH, AI_MEDIUM, AI_LOW = 3, 2, 1

# Country codes, for hosts such as google.{}; with com and co before them (com.br, co.uk).
_COUNTRIES = """
    ac ad ae af ag ai al am ao ar as at au az ba bd be bf bg bh bi bj bn bo br bs bt bw by bz ca
    cat cc cd cf cg ch ci ck cl cm cn co cr cu cv cx cy cz de dj dk dm do dz ec ee eg es et eu fi
    fj fm fr ga ge gf gg gh gi gl gm gp gr gt gy hk hn hr ht hu id ie il im in io iq ir is it je
    jm jo jp ke kg kh ki km kp kr kw kz la lb lc li lk ls lt lu lv ly ma mc md me mg mk ml mm mn
    mr ms mt mu mv mw mx my mz na ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pn pr ps
    pt py qa re ro rs ru rw sa sb sc sd se sg sh si sk sl sm sn so sr st su sv sy sz tc td tg th
    tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye za zm zw
""".split()  # noqa: SIM905


@dataclass(frozen=True)
class Site:
    """One entry: its kind, canonical name, and for assistants how sure a match makes us."""

    kind: str
    name: str
    confidence: int = 0


@dataclass(frozen=True)
class SiteTables:
    """Small tables (key, kind, name, confidence), and the assistants that need a path."""

    exact: pa.Table
    suffixes: pa.Table
    paths: tuple[tuple[str, str, Site], ...]  # host, start of the path, site


@cache
def site_tables() -> SiteTables:
    """Read the packaged lists, once per process."""
    added = _read("additions.yml")
    assistants = _assistants(added)
    listed = [(host, site) for host, path, site in assistants if not path]
    for kind in ("video", "shopping", "social"):
        listed += [(host, Site(kind, bare(host).split(".")[0])) for host in added[kind]["hosts"]]
    for name, hosts in _read("matomo_Socials.yml").items():
        listed += [(host, Site("social", snake(name))) for host in hosts]
    suffixes: dict[str, Site] = {}
    for host, site in listed:
        for key in _expand(host):
            suffixes.setdefault(key, site)

    exact = _names(added)
    for host, site in suffixes.items():
        exact.setdefault(bare(host), site)
    for host, site in _search_engines({bare(host) for host in added["not_search"]}):
        exact.setdefault(host, site)
    paths = tuple((host, path, site) for host, path, site in assistants if path)
    # Only two or three labels are tried; the few longer hosts are found whole.
    short = {host: site for host, site in suffixes.items() if host.count(".") <= 2}
    return SiteTables(_table(exact), _table(short), paths)


def snake(name: str) -> str:
    """Return a list's name as one lower-case word: `Le Chat` is `le_chat`, `Chat+` `chatplus`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("+", "plus")).strip("_") or name.lower()


def bare(host: str) -> str:
    """Leave out a leading `www.` or `m.`; `evidence` does the same to what it looks up."""
    return re.sub(r"^(?:www|m)[.]", "", host)


def _read(name: str) -> dict[str, Any]:
    text = resources.files(__package__).joinpath("hosts", name).read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def _assistants(added: dict[str, Any]) -> list[tuple[str, str, Site]]:
    """Return (host, path, site); Matomo's entries first, since they are the surer ones."""
    found: list[tuple[str, str, Site]] = []
    for name, places in _read("matomo_AIAssistants.yml").items():
        engine = snake(name)
        confidence = AI_LOW if engine in added["weak_ai"] else AI_HIGH
        found += [(*_split(place), Site("ai", engine, confidence)) for place in places]
    for engine, entry in added["ai"].items():
        for place in (*entry.get("hosts", ()), *entry.get("paths", ())):
            found.append((*_split(place), Site("ai", engine, AI_MEDIUM)))
    return found


def _names(added: dict[str, Any]) -> dict[str, Site]:
    """Values of utm_source that name a site without being its host."""
    names: dict[str, Site] = {}
    for engine, entry in added["ai"].items():
        for key, confidence in (("names", AI_HIGH), ("shared_names", AI_MEDIUM)):
            names |= {name: Site("ai", engine, confidence) for name in entry.get(key, ())}
    for kind in ("search", "social", "video", "shopping", "email", "sms", "push"):
        names |= {name: Site(kind, name) for name in added[kind]["names"]}
    return names


def _search_engines(not_search: set[str]) -> list[tuple[str, Site]]:
    """Return hosts without paths: which part of google.com it was does not change the channel."""
    found: list[tuple[str, Site]] = []
    for engine, entries in _read("matomo_SearchEngines.yml").items():
        for place in (place for entry in entries for place in entry["urls"]):
            host = bare(place.removeprefix("android-app//").split("/")[0])
            if host not in not_search:
                # Matomo files dozens of toolbars that resell Google's results under Google.
                google = re.search(r"(?:^|[.])google[.]", host) is not None
                site = Site("search", "google" if google else snake(engine) + "_search")
                found += [(key, site) for key in _expand(host)]
    return found


def _split(place: str) -> tuple[str, str]:
    host, slash, path = place.partition("/")
    return host, slash + path


def _expand(host: str) -> list[str]:
    """Write a country wildcard out, so that looking up needs equality only."""
    if host.endswith(".{}"):
        endings = [f"{before}{code}" for code in _COUNTRIES for before in ("", "com.", "co.")]
        return [host.removesuffix("{}") + ending for ending in endings]
    if "{}" in host:
        return [host.replace("{}", code) for code in _COUNTRIES]
    return [host]


def _table(sites: dict[str, Site]) -> pa.Table:
    rows = [{"key": key, **asdict(site)} for key, site in sites.items()]
    return pa.Table.from_pylist(rows)
