"""The agent: an MCP client that makes the calls it is told to, the user's and the attacker's, and thinks nothing of it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from .calls import Call

CALL_SECONDS = 120


@dataclass(frozen=True)
class Reply:
    """What came back of one call: whether it was served without an error, the text, and the seconds it took."""

    served: bool
    text: str
    seconds: float


class Agent:
    """A connection to an MCP endpoint: the environment itself, or the door in front of it.

    `prefix` is put before each tool's name, for endpoints that merge the tools of several servers.
    """

    def __init__(self, url: str, prefix: str = "", plan_tool: str | None = None) -> None:
        # No proxy of the environment may stand between, and plain HTTP needs no certificates read.
        self._http = httpx2.AsyncClient(trust_env=False, verify=False, timeout=CALL_SECONDS)
        self._client = Client(streamable_http_client(url, http_client=self._http), read_timeout_seconds=CALL_SECONDS)
        self._prefix = prefix
        self._plan_tool = plan_tool

    async def __aenter__(self) -> Agent:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)
        await self._http.aclose()

    @property
    def can_plan(self) -> bool:
        return self._plan_tool is not None

    async def tools(self) -> list[str]:
        """The names of the tools on offer."""
        return [tool.name for tool in (await self._client.list_tools()).tools]

    async def call(self, call: Call) -> Reply:
        return await self._request(self._prefix + call.tool, call.arguments)

    async def plan(self, calls: list[Call]) -> Reply:
        """Proposes several calls at once, so that a person is asked one question for all of them."""
        if self._plan_tool is None:
            raise RuntimeError("this endpoint takes no plans")
        steps = [{"tool": self._prefix + call.tool, "arguments": call.arguments} for call in calls]
        return await self._request(self._plan_tool, {"calls": steps})

    async def _request(self, name: str, arguments: dict[str, Any]) -> Reply:
        started = time.perf_counter()
        # Through JSON and back, so that nothing of the caller's is shared with the transport.
        result = await self._client.call_tool(name, json.loads(json.dumps(arguments)))
        seconds = time.perf_counter() - started
        text = "\n".join(block.text for block in result.content if block.type == "text")
        return Reply(not result.is_error, text, seconds)
