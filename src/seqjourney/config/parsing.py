"""A mapping from YAML → a configuration model, or one message that names every wrong key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from seqjourney.config.types import nearest
from seqjourney.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


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
        lines = [_explain(schema, detail) for detail in details]
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def _explain(schema: type[BaseModel], detail: Mapping[str, Any]) -> str:
    """Say in one line what is wrong with one key."""
    path = [str(part) for part in detail["loc"]]
    # The tag of a union (model kind) stands in pydantic's location but not in the user's YAML.
    key = ".".join(p for i, p in enumerate(path) if not (i == 1 and path[0] == "model"))
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{key}'.{nearest(path[-1], siblings(schema, path))}"
    if detail["type"] == "missing":
        return f"'{key}' is required"
    if detail["type"] in ("tuple_type", "list_type") and isinstance(detail["input"], str):
        return f"{key}: a list is needed; on a command line in quotes: '{key}=[{detail['input']}]'"
    message = detail["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(detail["input"], Mapping) else f" (got {detail['input']!r})"
    return f"{key + ': ' if key else ''}{message}{shown}"


def siblings(schema: type[BaseModel], path: list[str]) -> list[str]:
    """Return the keys that are known where the last part of the path stands."""
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
    fields = [item for model in models for item in model.model_fields.items()]
    return [field.alias or name for name, field in fields]


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
