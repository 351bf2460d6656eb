"""The reviewed tables in `labels/`: per tool its effects, its sensitive arguments and free texts, and whose text its results carry."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EFFECTS = {"read", "write", "irreversible", "communicate", "execute", "delegate"}
# And `item:TYPE`, the id of something that exists, such as `item:event`.
KINDS = {"recipient", "account", "url", "path", "amount", "branch", "time", "choice", "credential"}
DESTINATIONS = {"recipient", "account", "url", "path", "item", "branch"}
SOURCES = {"person", "organisation", "stranger"}
CONFIDENTIALITY = {"public", "internal", "confidential", "secret"}
FOLDER = Path(__file__).parent.parent / "labels"


@dataclass(frozen=True)
class Tool:
    """One tool's row. Paths are names joined by `/`, with `*` for each element of a list; they cover all that lies below."""

    effects: frozenset[str]
    sensitive: dict[str, str] = field(default_factory=dict)
    content: tuple[str, ...] = ()
    results: dict[str, str] = field(default_factory=dict)
    named_by: dict[str, tuple[str, ...]] = field(default_factory=dict)
    gives: dict[str, str] = field(default_factory=dict)
    confidentiality: str = "confidential"

    @property
    def acts(self) -> bool:
        """Whether the tool does more than read."""
        return self.effects != {"read"}

    def kind(self, path: tuple[str, ...]) -> str:
        """The kind of an argument's value; `content` if it is free text, or if nobody said what it is."""
        kinds = {**dict.fromkeys(self.content, "content"), **self.sensitive}
        return _closest(kinds, path) or "content"

    def reaches(self, path: tuple[str, ...]) -> bool:
        """Whether the argument's value decides where the call reaches."""
        return self.kind(path).split(":")[0] in DESTINATIONS

    def source(self, path: tuple[str, ...]) -> str:
        """Whose text stands at this place of a result; a stranger's, if nobody said whose."""
        return _closest(self.results, path) or "stranger"


def _closest(table: dict[str, str], path: tuple[str, ...]) -> str | None:
    """The entry of the longest path that covers this one."""
    for length in range(len(path), -1, -1):
        entry = table.get("/".join(path[:length]))
        if entry is not None:
            return entry
    return None


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every text, number and truth value in a JSON value, with its path; nulls are absent."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, (*path, "*"))
    elif value is not None:
        yield path, value


class LabelError(ValueError):
    """A label file says something that it can't mean."""


def parse(text: str, name: str) -> dict[str, Tool]:
    """Reads a table; a word that isn't known is an error, for it would silently guard nothing."""
    document = tomllib.loads(text)
    if set(document) != {"tools"}:
        raise LabelError(f"{name}: expected only `[tools.NAME]` tables")
    return {tool: _row(f"{name}: `{tool}`", row) for tool, row in document["tools"].items()}


def _row(where: str, row: dict[str, Any]) -> Tool:
    unknown = set(row) - {"effects", "sensitive", "content", "results", "named_by", "gives", "confidentiality"}
    if unknown:
        raise LabelError(f"{where}: unknown key `{sorted(unknown)[0]}`")
    _known(where, "effect", row.get("effects", []), EFFECTS)
    for kind in [*row.get("sensitive", {}).values(), *row.get("gives", {}).values()]:
        if not re.fullmatch(r"item:[a-z]+", kind):
            _known(where, "kind", [kind], KINDS)
    _known(where, "source", row.get("results", {}).values(), SOURCES)
    confidentiality = row.get("confidentiality", "confidential")
    _known(where, "confidentiality", [confidentiality], CONFIDENTIALITY)
    if not row.get("effects"):
        raise LabelError(f"{where}: needs `effects`")
    return Tool(
        effects=frozenset(row["effects"]),
        sensitive=row.get("sensitive", {}),
        content=tuple(row.get("content", [])),
        results=row.get("results", {}),
        named_by={path: tuple(fields) for path, fields in row.get("named_by", {}).items()},
        gives=row.get("gives", {}),
        confidentiality=confidentiality,
    )


def _known(where: str, what: str, words: Any, allowed: set[str]) -> None:
    for word in words:
        if word not in allowed:
            raise LabelError(f"{where}: `{word}` is no {what}; there are {', '.join(sorted(allowed))}")


@functools.cache
def load(suite: str) -> dict[str, Tool]:
    """The table of a suite's tools."""
    file = FOLDER / f"{suite}.toml"
    return parse(file.read_text(), file.name)
