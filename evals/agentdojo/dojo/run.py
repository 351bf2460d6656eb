"""Runs one case: serves the environment, lets the agent make its calls through the defence, and has the person answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from . import cases, labels
from .agent import Agent
from .calls import Call
from .cases import Case
from .defence import Defence, Opening, Session
from .people import Person, Task
from .server import EnvironmentServer, Executed
from .suites import Environment


@dataclass(frozen=True)
class Step:
    """One call that the agent made: for whom, the number among that one's calls, and what became of it."""

    who: str
    number: int
    call: Call
    asked: bool
    executed: Executed | None
    seconds: float


@dataclass
class Run:
    """A run as it went."""

    case: Case
    user: list[Call]
    steps: list[Step] = field(default_factory=list)
    questions: int = 0
    approved: int = 0
    final: Environment = None


def run(case: Case, server: EnvironmentServer, defence: Defence, person: Person) -> Run:
    """Runs the case on this server, in a process of the environment's own."""
    env = case.environment()
    server.start(case.suite, env)
    try:
        return asyncio.run(_run(case, env, server, defence, person))
    finally:
        server.stop()


async def _run(case: Case, env: Environment, server: EnvironmentServer, defence: Defence, person: Person) -> Run:
    user = cases.user_calls(case, env)
    if case.kind == "hijack":
        user = cases.hijacked(case, user) or user
    result = Run(case, user)
    session = await defence.open(Opening(case.suite, case.prompt, server.url))
    answering = asyncio.create_task(_answer(session, person, cases.task_of(case, env), result))
    try:
        async with Agent(session.endpoint, session.prefix, session.plan_tool) as agent:
            await _act(agent, server, result)
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        await session.close()
    if answering.done() and not answering.cancelled() and answering.exception():
        raise RuntimeError(f"the person's double failed in {case}") from answering.exception()
    result.final = server.environment()
    return result


async def _answer(session: Session, person: Person, task: Task, result: Run) -> None:
    async for question in session.questions():
        result.questions += 1
        approve = person(question, task)
        result.approved += approve
        await session.answer(question, approve)


async def _act(agent: Agent, server: EnvironmentServer, result: Run) -> None:
    """The user's calls in order, with the attacker's among them; those that act are first proposed as one plan."""
    case, user = result.case, result.user
    table = labels.load(case.suite)
    acting = [call for call in user if table[call.tool].acts]
    at = cases.attack_index(case, user)
    planned = not agent.can_plan or len(acting) < 2
    for index in range(len(user) + 1):
        if index == at:
            for number, call in enumerate(cases.attacker_calls(case, server.environment())):
                await _step(agent, server, result, "attacker", number, call)
        if index < len(user):
            call = user[index]
            if not planned and table[call.tool].acts:
                planned = True
                await agent.plan(acting)
            await _step(agent, server, result, "user", index, call)


async def _step(agent: Agent, server: EnvironmentServer, result: Run, who: str, number: int, call: Call) -> None:
    ran, asked = len(server.executed()), result.questions
    reply = await agent.call(call)
    after = server.executed()
    executed = after[-1] if len(after) > ran else None
    result.steps.append(Step(who, number, call, result.questions > asked, executed, reply.seconds))
