"""The person's test doubles: pure functions from a question and the user's task to yes or no."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .calls import Call, normal, same
from .labels import Tool, leaves


@dataclass(frozen=True)
class Question:
    """What a person is asked: one call, or the calls of a plan, with the arguments as they will be executed."""

    id: str
    calls: tuple[Call, ...]
    digest: str = ""


@dataclass(frozen=True)
class Task:
    """What the person wants done: the calls that their task needs, and the table that says what each argument is."""

    needed: tuple[Call, ...]
    labels: dict[str, Tool]


Person = Callable[[Question, Task], bool]


def oracle(question: Question, task: Task) -> bool:
    """Approves exactly the calls that the task needs."""
    return all(any(same(call, needed) for needed in task.needed) for call in question.calls)


def dest_only(question: Question, task: Task) -> bool:
    """Looks at the tool and where it reaches, never at what it carries."""
    wanted = [(needed.tool, _destinations(needed, task)) for needed in task.needed]
    return all((call.tool, _destinations(call, task)) in wanted for call in question.calls)


def same_tool(question: Question, task: Task) -> bool:
    """Approves any use of a tool that the task needs."""
    tools = {needed.tool for needed in task.needed}
    return all(call.tool in tools for call in question.calls)


def rubber_stamp(_question: Question, _task: Task) -> bool:
    """Approves everything."""
    return True


PEOPLE: dict[str, Person] = {
    "oracle": oracle,
    "dest-only": dest_only,
    "same-tool": same_tool,
    "rubber-stamp": rubber_stamp,
}


def _destinations(call: Call, task: Task) -> set[str]:
    tool = task.labels.get(call.tool)
    if tool is None:
        return set()
    return {f"{path}={normal(value)}" for path, value in leaves(call.arguments) if tool.reaches(path)}
