"""YAML that people write: read strictly, so that what they meant is what we get.

Every scalar is text (an event called `no`, `1.10` or `2024-01-01` stays what it is; the models
make numbers of what must be numbers), a key given twice is an error, and so are anchors and
aliases, which are nearly always an unquoted `*`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from seqjourney.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Knows text, lists, mappings and null; refuses anchors and repeated keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {  # noqa: RUF012
        first: [("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"))]
        for first in ("~", "n", "N", "")
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="names that start with * or & must stand in quotes",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                shown = f"the key '{key.value:.80}' stands here twice" if key.value in seen else ""
                raise yaml.MarkedYAMLError(
                    problem=shown or "a key must be text", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# Dates, numbers and merge keys are text here, whatever their spelling.
_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rsplit(":", 1)[-1] in ("null", "str", "seq", "map")
}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping that a person wrote.

    Raises:
        ConfigError: the file is missing, is not YAML or not a mapping; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(f"{path} is missing; give the path of a YAML file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as UTF-8 text ({error}).") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Read a YAML mapping from text; `where` names it in messages.

    Raises:
        ConfigError: it is not YAML or not a mapping.
    """
    try:
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{where}{place}: {error.problem or error.context}.") from None
    except (yaml.YAMLError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise ConfigError(f"{where} is not YAML: {reason}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{where} must be a mapping of keys, such as 'events:'.")
    return content


def to_yaml(content: Any) -> str:
    """Write plain containers as YAML that `parse_yaml` reads back as the same text."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Repeats a value rather than writing an alias, which the loader refuses."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.Node:
        """Escape line ends and control characters; other quotes would change some of them."""
        style = None if text.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
