"""What may stand between the agent and the environment: nothing, or a door with policy and people behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from .people import Question


@dataclass(frozen=True)
class Opening:
    """What a defence is told before a run: the suite, what the person typed, and where the environment's MCP server is."""

    suite: str
    prompt: str
    server_url: str


class Session(Protocol):
    """One run behind a defence."""

    endpoint: str
    """The MCP endpoint that the agent is given."""

    prefix: str
    """What stands before the environment's tool names there."""

    plan_tool: str | None
    """The tool that proposes several calls at once, if there is one."""

    def questions(self) -> AsyncIterator[Question]:
        """The questions that a person is asked, each once, as they come; tool names without the prefix."""
        ...

    async def answer(self, question: Question, approve: bool) -> None:
        """The person's answer."""
        ...

    async def close(self) -> None:
        """Ends the run."""
        ...


class Defence(Protocol):
    """Opens a session per run. It is used by one process at a time, and opened anew in each."""

    async def open(self, opening: Opening) -> Session: ...


class NoDefence:
    """The agent speaks to the environment directly, and nobody is asked."""

    async def open(self, opening: Opening) -> Session:
        return _Direct(opening.server_url)


class _Direct:
    prefix = ""
    plan_tool = None

    def __init__(self, url: str) -> None:
        self.endpoint = url

    async def questions(self) -> AsyncIterator[Question]:
        await asyncio.Event().wait()
        yield Question("", ())

    async def answer(self, question: Question, approve: bool) -> None:
        raise RuntimeError(f"nobody asked `{question.id}`")

    async def close(self) -> None:
        return None


DEFENCES: dict[str, type[Defence]] = {"none": NoDefence}
