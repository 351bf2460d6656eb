"""Tool calls: what they are, when two of them are the same, and how they run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from agentdojo.functions_runtime import FunctionCall, FunctionsRuntime

from . import suites


@dataclass(frozen=True)
class Call:
    """One tool call with the arguments as they go over the wire (JSON values only)."""

    tool: str
    arguments: dict[str, Any] = field(hash=False)


def from_dojo(call: FunctionCall) -> Call:
    return Call(call.function, to_json(dict(call.args)))


def to_dojo(call: Call) -> FunctionCall:
    return FunctionCall(function=call.tool, args=dict(call.arguments))


def to_json(value: Any) -> Any:
    """The value as JSON has it: enumerations become their text, tuples become lists."""
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, str):
        return str.__str__(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise TypeError(f"`{value!r}` is no JSON value")


def normal(value: Any) -> Any:
    """The value in the one form that comparisons use: 10 and 10.0 are equal, and an absent argument is a null one."""
    if isinstance(value, dict):
        return {key: normal(item) for key, item in sorted(value.items()) if item is not None}
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value


def same(one: Call, other: Call) -> bool:
    # Compared as JSON, where `true` is not 1.
    return one.tool == other.tool and json.dumps(normal(one.arguments)) == json.dumps(normal(other.arguments))


def run(suite: str, env: suites.Environment, call: Call) -> tuple[Any, str | None]:
    """Runs the call on the environment: what the function returned, and what went wrong if something did."""
    runtime = FunctionsRuntime(suites.suite(suite).tools)
    return runtime.run_function(env, call.tool, call.arguments)
