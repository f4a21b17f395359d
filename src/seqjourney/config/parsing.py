"""A mapping from YAML → a configuration model, or one message that names every wrong key.

What pydantic finds is said in our words: where it stands in the user's YAML (without the tags of
unions), what is needed there, and what was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from seqjourney.config.types import nearest
from seqjourney.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)

_NEEDED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dataclass_type": "keys with values",
    "datetime_parsing": "a date or time, such as 2024-05-31",
    "datetime_type": "a date or time, such as 2024-05-31",
    "dict_type": "keys with values",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "mapping_type": "keys with values",
    "model_attributes_type": "keys with values",
    "model_type": "keys with values",
    "path_type": "a path",
    "string_type": "text",
    "time_delta_parsing": "a duration, such as 30d",
    "time_delta_type": "a duration, such as 30d",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
}
"""What pydantic's kinds of errors say is needed."""


def parse(schema: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Validate a mapping against a config model.

    Args:
        schema: one of the config models of this module.
        values: plain containers, as YAML gives them.
        where: what the mapping is, for messages (`configuration`, a file's path).

    Raises:
        ConfigError: names every wrong key with its value and what is expected.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        # What is missing comes last: a misspelt key above it may be the one that is meant.
        details = sorted(error.errors(), key=lambda detail: detail["type"] == "missing")
        lines = _lines(schema, details, values)
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def _lines(schema: type[BaseModel], details: Sequence[Any], values: Any) -> list[str]:
    """Say in one line for each key what is wrong with it."""
    by_key: dict[str, list[Any]] = {}
    for detail in details:
        by_key.setdefault(_key(detail, values), []).append(detail)
    # Of a union one kind complains of the value as a whole, and another of what is wrong inside.
    outer = {key for key in by_key if any(other.startswith(f"{key}.") for other in by_key)}
    return [
        line
        for key, found in by_key.items()
        if key not in outer
        for line in _explain(schema, key, found)
    ]


def _key(detail: Mapping[str, Any], values: Any) -> str:
    """Return where an error is in what the user gave; tags of unions stand in no YAML."""
    path = []
    for part in detail["loc"]:
        inside = isinstance(values, list | tuple) and isinstance(part, int)
        if inside or (isinstance(values, Mapping) and part in values):
            values = values[part]
            path.append(str(part))
    if detail["type"] == "missing":
        path.append(str(detail["loc"][-1]))
    return ".".join(path)


def _explain(schema: type[BaseModel], key: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what is wrong with one key; several errors are those of a union's kinds."""
    detail = found[0]
    if detail["type"] == "extra_forbidden":
        path = [str(part) for part in detail["loc"]]
        return [f"unknown key '{key}'.{nearest(path[-1], siblings(schema, path))}"]
    if detail["type"] == "missing":
        return [f"'{key}' is required"]
    if detail["type"] == "union_tag_not_found":
        return [f"'{key}.kind' is required"]
    if detail["type"] == "union_tag_invalid":
        told = detail["ctx"]
        return [f"{key}.kind: must be one of {told['expected_tags']} (got {told['tag']!r})"]
    given = detail["input"]
    if detail["type"] in ("tuple_type", "list_type") and isinstance(given, str):
        return [f"{key}: a list is needed; on a command line in quotes: '{key}=[{given}]'"]
    start = f"{key}: " if key else ""
    shown = "" if isinstance(given, Mapping) else f" (got {given!r})"
    # Where one kind of a union takes such a value, what others need is beside the point.
    found = [one for one in found if not _is_of_another_type(one)] or found
    needed = [_needed(one) for one in found if one["type"] in _NEEDED]
    said = [one["msg"].removeprefix("Value error, ") for one in found if one["type"] not in _NEEDED]
    if needed:
        said.insert(0, f"must be {' or '.join(dict.fromkeys(needed))}")
    return [f"{start}{words}{shown}" for words in dict.fromkeys(said)]


def _is_of_another_type(detail: Mapping[str, Any]) -> bool:
    """Whether the value is not even of the type that is needed."""
    return str(detail["type"]).endswith(("_type", "_parsing")) or detail["type"] == "literal_error"


def _needed(detail: Mapping[str, Any]) -> str:
    context = detail.get("ctx", {})
    numbers = {key: f"{value:g}" for key, value in context.items() if isinstance(value, float)}
    return _NEEDED[detail["type"]].format(**{**context, **numbers})


def siblings(schema: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Return the keys that are known where the last part of the path stands."""
    fields = [item for model in _standing(schema, path) for item in model.model_fields.items()]
    return [field.alias or name for name, field in fields]


def kinds_with(schema: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Return which kinds, of those that may stand at a path, know its last part."""
    return [
        kind
        for model in _standing(schema, path)
        if path[-1] in model.model_fields and "kind" in model.model_fields
        for kind in getattr(model.model_fields["kind"].annotation, "__args__", ())
    ]


def _standing(schema: type[BaseModel], path: Sequence[str]) -> list[Any]:
    """Return the models that may stand where the last part of the path does."""
    models: list[Any] = [schema]
    for part in path[:-1]:
        found: list[Any] = []
        for model in models:
            field = model.model_fields.get(part)
            if field is not None:
                found += _models_in(field.annotation)
            elif "kind" in model.model_fields:  # the part is a union's tag
                tags = getattr(model.model_fields["kind"].annotation, "__args__", ())
                found += [model] if part in tags else []
        models = found or models
    return models


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
