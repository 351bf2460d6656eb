"""What may stand between the agent and the environment: nothing, or a door with policy and people behind it."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from .calls import Call
from .labels import FOLDER
from .people import Question

YEAR = 2024
"""The year in which AgentDojo's environments play."""
LINE_BYTES = 16 << 20
CLOSE_SECONDS = 30


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


class Lazaret:
    """Lazaret's door, gate, policy and store, in a process per run; only the machine around the agent is left out."""

    async def open(self, opening: Opening) -> Session:
        table = FOLDER / f"{opening.suite}.toml"
        given = {"server": opening.server_url, "table": str(table), "prompt": opening.prompt, "year": YEAR}
        process = await asyncio.create_subprocess_exec(
            os.environ["TOOLS_DOOR"], stdin=PIPE, stdout=PIPE, limit=LINE_BYTES
        )
        session = _Behind(process)
        try:
            await session.say(given)
            session.reached(await session.hear())
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return session


class _Behind:
    """One process of the door."""

    endpoint: str
    prefix: str
    plan_tool: str | None

    def __init__(self, process: Process) -> None:
        self._process = process

    async def say(self, value: dict[str, Any]) -> None:
        self._process.stdin.write(json.dumps(value).encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self) -> dict[str, Any]:
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the door ended; what it said stands above")
        return json.loads(line)

    def reached(self, where: dict[str, Any]) -> None:
        self.endpoint, self.prefix, self.plan_tool = where["endpoint"], where["prefix"], where["plan_tool"]

    async def questions(self) -> AsyncIterator[Question]:
        while True:
            asked = await self.hear()
            calls = tuple(Call(call["tool"], call["arguments"]) for call in asked["calls"])
            yield Question(asked["question"], calls)

    async def answer(self, question: Question, approve: bool) -> None:
        await self.say({"answer": question.id, "yes": approve})

    async def close(self) -> None:
        """Ends the run. The door ends with 0 only if its ledger verifies."""
        self._process.stdin.close()
        try:
            code = await asyncio.wait_for(self._process.wait(), CLOSE_SECONDS)
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        if code != 0:
            raise RuntimeError(f"the door ended with {code}")


DEFENCES: dict[str, type[Defence]] = {"lazaret": Lazaret, "none": NoDefence}
