"""An AgentDojo environment as a real MCP server on loopback: one process per case, and a control side that no client sees."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import mcp_types as types
import uvicorn
from agentdojo.agent_pipeline.tool_execution import tool_result_to_str
from agentdojo.functions_runtime import FunctionsRuntime
from mcp.server.lowlevel import Server
from pydantic import BaseModel

from . import suites
from .calls import Call, to_json

PATH = "/mcp"
START_SECONDS = 30


@dataclass(frozen=True)
class Executed:
    """A call that ran: its arguments as the server got them, how long it took in seconds, and its error if it failed."""

    call: Call
    seconds: float
    error: str | None


class EnvironmentServer:
    """The seat of one environment at a time: the address stays, each `start` forks a process with a fresh state.

    The environment is given before the fork, so nothing has to be imported or parsed in the new process.
    """

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.create_server(("127.0.0.1", port), backlog=64)
        self._child: int | None = None
        self._control: Connection | None = None

    @property
    def url(self) -> str:
        """Where MCP clients connect: streamable HTTP."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}{PATH}"

    def start(self, suite: str, env: suites.Environment) -> None:
        """Serves the environment in a process of its own; what was served before is gone."""
        self.stop()
        ours, theirs = multiprocessing.Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            try:
                ours.close()
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                _serve(suite, env, self._socket, theirs)
            finally:
                os._exit(0)
        theirs.close()
        self._child, self._control = child, ours
        if not ours.poll(START_SECONDS):
            self.stop()
            raise TimeoutError(f"the environment `{suite}` did not start within {START_SECONDS} s")
        ours.recv()

    def executed(self) -> list[Executed]:
        """The calls that ran, in order. A call that was refused on its way is not among them."""
        return self._ask("executed")

    def environment(self) -> suites.Environment:
        """The environment as it stands now."""
        return self._ask("environment")

    def reset(self) -> None:
        """Puts the environment back to how it started and forgets the calls."""
        self._ask("reset")

    def stop(self) -> None:
        """Ends the process."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._child = None

    def close(self) -> None:
        """Ends the process and gives the address back."""
        self.stop()
        self._socket.close()

    def _ask(self, what: str) -> Any:
        if self._control is None:
            raise RuntimeError("no environment is being served")
        self._control.send(what)
        return self._control.recv()


class _Seat:
    """The environment inside its process, and what has been done to it."""

    def __init__(self, suite: str, env: suites.Environment) -> None:
        self.name = suite
        self.runtime = FunctionsRuntime(suites.suite(suite).tools)
        self.first = suites.copy(env)
        self.env = env
        self.executed: list[Executed] = []
        self.lock = threading.Lock()

    def tools(self) -> list[types.Tool]:
        return [
            types.Tool(name=f.name, description=f.description, input_schema=f.parameters.model_json_schema())
            for f in self.runtime.functions.values()
        ]

    def call(self, tool: str, arguments: dict[str, Any]) -> types.CallToolResult:
        with self.lock:
            started = time.perf_counter()
            call = Call(tool, to_json(arguments))
            result, error = self.runtime.run_function(self.env, tool, dict(arguments))
            if error is None:
                answer = types.CallToolResult(content=[_text(tool_result_to_str(result))], structured_content=_structured(result))
            else:
                answer = types.CallToolResult(content=[_text(error)], is_error=True)
            self.executed.append(Executed(call, time.perf_counter() - started, error))
            return answer

    def answer(self, question: str) -> Any:
        with self.lock:
            if question == "executed":
                return list(self.executed)
            if question == "environment":
                return suites.copy(self.env)
            if question == "reset":
                self.env, self.executed = suites.copy(self.first), []
                return None
        raise ValueError(f"no control question `{question}`")


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)


def _structured(result: Any) -> dict[str, Any]:
    """The result as an object: as it is if it is one, and else under `result`."""
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    if isinstance(result, list):
        return {"result": [item.model_dump(mode="json") if isinstance(item, BaseModel) else to_json(item) for item in result]}
    return to_json(result) if isinstance(result, dict) else {"result": to_json(result)}


def _serve(suite: str, env: suites.Environment, listener: socket.socket, control: Connection) -> None:
    seat = _Seat(suite, env)

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=seat.tools())

    async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        return seat.call(params.name, params.arguments or {})

    server = Server(f"agentdojo-{suite}", version="1.2.2", on_list_tools=list_tools, on_call_tool=call_tool)
    app = server.streamable_http_app(streamable_http_path=PATH, json_response=True)
    threading.Thread(target=_obey, args=(seat, control), daemon=True).start()
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    control.send("ready")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


def _obey(seat: _Seat, control: Connection) -> None:
    """Answers the control side; ends the process when it hangs up."""
    try:
        while True:
            control.send(seat.answer(control.recv()))
    except (EOFError, OSError):
        os._exit(0)
