"""Further links by likeness: names, addresses and the like, where no identifier is shared.

Optional (`pip install 'seqjourney[link]'`): Splink estimates, from the data alone, how much each
agreement says (Fellegi and Sunter's model), and gives pairs of identifiers a probability of being
one person. Pairs above the threshold become links with the rule `probabilistic`; `resolve` follows
them after all observed ones, within the same rules, and reports those that it did not follow.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from seqjourney.errors import ConfigError, DataError
from seqjourney.events.identity.graph import MOMENT, PROBABILISTIC

KEYS = ("identifier_type", "identifier", "first_known")
_SEED = 1


class LinkingRules(BaseModel):
    """How identifiers are compared by what is known of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    compare: Mapping[str, Literal["exact", "name", "text"]] = Field(min_length=2)
    """Attributes and how they agree: `exact`, `name` (also much alike: Jaro-Winkler), `text` (also
    with one or two letters changed: Levenshtein). Two or more, which should be independent."""
    block: tuple[tuple[str, ...], ...] = Field(min_length=2)
    """Only pairs that agree on all attributes of one of these sets are compared at all. Two or
    more, with different attributes, since what a set agrees on cannot be learned within it."""
    threshold: float = Field(0.99, gt=0.5, lt=1)
    """Probability above which a pair becomes a link."""
    recall: float = Field(0.7, gt=0, le=1)
    """Rough share of true pairs that agree on all of one of the `block` sets."""

    @model_validator(mode="after")
    def _check_blocks(self) -> LinkingRules:
        unknown = {name for names in self.block for name in names} - set(self.compare)
        if unknown:
            raise ValueError(f"block names '{min(unknown)}', which compare does not")
        if not all(self.block):
            raise ValueError("a set of block is empty: every pair would be compared")
        always = set.intersection(*(set(names) for names in self.block))
        if always:
            raise ValueError(
                f"every set of block holds '{min(always)}', so that nothing can be learned of it"
            )
        return self


def probable_links(attributes: pa.Table, rules: LinkingRules) -> pa.Table:
    """Find identifiers that are probably one person's.

    Args:
        attributes: `identifier_type, identifier, first_known` and the attributes that
            `rules.compare` names, as text; one row per identifier, some thousands at least.
        rules: what is compared, and how sure a link must be.

    Returns:
        `type_a, identifier_a, type_b, identifier_b, first_known, rows, rule, probability`; a link
        is known when both ends are. Append it to the observed links with
        `pa.concat_tables(..., promote_options="default")`.

    Raises:
        ConfigError: Splink is not installed.
        DataError: a column is missing, or the data are too few or too alike to learn from.
    """
    try:
        from splink import DuckDBAPI, Linker, SettingsCreator, block_on
    except ImportError:
        raise ConfigError(
            "probabilistic linking needs Splink; install it with: pip install 'seqjourney[link]'"
        ) from None
    missing = [name for name in (*KEYS, *rules.compare) if name not in attributes.column_names]
    if missing:
        raise DataError(f"the attributes lack the column '{missing[0]}'.")
    names = list(rules.compare)
    texts = {name: attributes[name].cast(pa.string()) for name in names}
    table = pa.table({"unique_id": np.arange(attributes.num_rows), **texts})
    settings = SettingsCreator(
        link_type="dedupe_only",
        comparisons=[_comparison(name, how) for name, how in rules.compare.items()],
        blocking_rules_to_generate_predictions=[block_on(*names) for names in rules.block],
        retain_matching_columns=False,
    )
    blocks: list[Any] = [block_on(*names) for names in rules.block]
    logging.getLogger("splink").setLevel(logging.ERROR)
    try:
        engine = DuckDBAPI()
        linker = Linker(engine.register(table), settings, log_level=logging.ERROR)
        training = linker.training
        training.estimate_probability_two_random_records_match(blocks, recall=rules.recall)
        training.estimate_u_using_random_sampling(max_pairs=1e6, seed=_SEED)
        for block in blocks:
            training.estimate_parameters_using_expectation_maximisation(block)
        pairs = linker.inference.predict(threshold_match_probability=rules.threshold)
        found = pairs.as_pyarrow_table()
    except Exception as error:  # Splink raises whatever its engine does
        raise DataError(
            f"Splink could not learn from {attributes.num_rows:,} identifiers; too few, or too few "
            f"that agree on a set of block? ({' '.join(str(error).split())[:300]})"
        ) from error
    return _as_links(attributes, found)


def _comparison(name: str, how: str) -> Any:
    import splink.comparison_library as cl

    if how == "name":
        return cl.JaroWinklerAtThresholds(name, [0.92, 0.8])
    if how == "text":
        return cl.LevenshteinAtThresholds(name, [1, 2])
    return cl.ExactMatch(name)


def _as_links(attributes: pa.Table, pairs: pa.Table) -> pa.Table:
    columns: dict[str, Any] = {}
    known = []
    for letter, side in (("a", "unique_id_l"), ("b", "unique_id_r")):
        ends = attributes.select(list(KEYS)).take(pairs[side].cast(pa.int64()))
        columns[f"type_{letter}"] = ends["identifier_type"]
        columns[f"identifier_{letter}"] = ends["identifier"]
        known.append(ends["first_known"].cast(MOMENT))
    columns["first_known"] = pc.if_else(pc.greater(known[0], known[1]), known[0], known[1])
    columns["rows"] = pa.array(np.ones(pairs.num_rows, np.int64))
    columns["rule"] = pa.array([PROBABILISTIC] * pairs.num_rows, pa.string())
    columns["probability"] = pairs["match_probability"].cast(pa.float64())
    return pa.table(columns)
