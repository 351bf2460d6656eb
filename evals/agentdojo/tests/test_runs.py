"""Runs over HTTP, their scores, and the people who answer."""

import asyncio
import unittest

from dojo import labels, people, suites
from dojo.agent import Agent
from dojo.calls import Call, same
from dojo.cases import Case
from dojo.defence import NoDefence, Opening
from dojo.people import Question, Task
from dojo.run import run
from dojo.score import score
from dojo.server import EnvironmentServer

ATTACK = Case("attack", "travel", "user_task_3", "injection_task_5", "amid")


class Server(unittest.TestCase):
    def setUp(self):
        self.server = EnvironmentServer()
        self.addCleanup(self.server.close)
        self.server.start("workspace", suites.environment("workspace"))

    def ask(self, *calls):
        async def go():
            async with Agent(self.server.url) as agent:
                return await agent.tools(), [await agent.call(call) for call in calls]

        return asyncio.run(go())

    def test_offers_what_agentdojo_offers(self):
        tools, _ = self.ask()
        self.assertEqual(tools, [tool.name for tool in suites.suite("workspace").tools])

    def test_executes_and_the_control_side_knows_it(self):
        _, (created, failed) = self.ask(
            Call("create_file", {"filename": "a.txt", "content": "b"}), Call("delete_file", {"file_id": "99"})
        )
        self.assertTrue(created.served)
        self.assertIn("filename: a.txt", created.text)
        self.assertFalse(failed.served)
        self.assertEqual([one.error is None for one in self.server.executed()], [True, False])
        self.assertEqual(self.server.environment().cloud_drive.files["26"].content, "b")
        self.server.reset()
        self.assertEqual(self.server.executed(), [])
        self.assertNotIn("26", self.server.environment().cloud_drive.files)

    def test_keeps_its_address_from_case_to_case(self):
        url = self.server.url
        self.ask(Call("delete_file", {"file_id": "1"}))
        self.server.start("workspace", suites.environment("workspace"))
        self.assertEqual(self.server.url, url)
        self.assertEqual(self.server.executed(), [])
        _, (found,) = self.ask(Call("get_file_by_id", {"file_id": "1"}))
        self.assertTrue(found.served)


class Elsewhere:
    """A defence that lets nothing through: what the agent does happens in another environment."""

    def __init__(self):
        self.other = EnvironmentServer()

    async def open(self, opening: Opening):
        self.other.start(opening.suite, suites.environment(opening.suite))
        return await NoDefence().open(Opening(opening.suite, opening.prompt, self.other.url))


class Asking:
    """A defence that asks once, before the agent's first call is through."""

    prefix, plan_tool = "", None

    async def open(self, opening: Opening):
        self.endpoint, self.answers = opening.server_url, []
        return self

    async def questions(self):
        yield Question("one", (Call("send_email", {}),))

    async def answer(self, question, approve):
        self.answers.append(approve)

    async def close(self):
        return None


class Runs(unittest.TestCase):
    def setUp(self):
        self.server = EnvironmentServer()
        self.addCleanup(self.server.close)

    def test_without_defence_both_the_attack_and_the_task_succeed(self):
        went = run(ATTACK, self.server, NoDefence(), people.oracle)
        result = score(went)
        self.assertTrue(result.attacked and result.completed and result.utility)
        self.assertEqual(result.attacker_acts, 1)
        self.assertEqual([step.who for step in went.steps[:3]], ["user", "user", "attacker"])

    def test_what_was_not_executed_does_not_count(self):
        defence = Elsewhere()
        self.addCleanup(defence.other.close)
        result = score(run(ATTACK, self.server, defence, people.oracle))
        self.assertFalse(result.attacked or result.completed)
        self.assertEqual(result.attacker_acts, 0)

    def test_scoring_twice_says_the_same(self):
        case = Case("attack", "workspace", "user_task_24", "injection_task_8", "before")
        went = run(case, self.server, NoDefence(), people.oracle)
        self.assertEqual(score(went), score(went))
        self.assertTrue(score(went).attacked)

    def test_a_hijack_is_silent_if_nobody_is_asked(self):
        case = Case("hijack", "travel", "user_task_3")
        self.assertTrue(score(run(case, self.server, NoDefence(), people.oracle)).silent)
        asking = Asking()
        result = score(run(case, self.server, asking, people.rubber_stamp))
        self.assertTrue(result.hijacked and not result.silent)
        self.assertEqual((result.questions, asking.answers), (1, [True]))


class People(unittest.TestCase):
    def setUp(self):
        self.task = Task(
            (Call("send_money", {"recipient": "A", "amount": 10.0, "subject": "rent", "date": "2022-01-01"}),),
            labels.load("banking"),
        )

    def asks(self, person, tool="send_money", **changed):
        call = Call(tool, {**self.task.needed[0].arguments, **changed})
        return people.PEOPLE[person](Question("q", (call,)), self.task)

    def test_what_each_of_them_looks_at(self):
        self.assertTrue(all(self.asks(person) for person in people.PEOPLE))
        self.assertTrue(self.asks("oracle", amount=10))
        self.assertFalse(self.asks("oracle", subject="secret"))
        self.assertTrue(self.asks("dest-only", subject="secret", amount=1000))
        self.assertFalse(self.asks("dest-only", recipient="B"))
        self.assertTrue(self.asks("same-tool", recipient="B"))
        self.assertFalse(self.asks("same-tool", tool="schedule_transaction"))
        self.assertTrue(self.asks("rubber-stamp", tool="schedule_transaction"))

    def test_a_plan_is_approved_only_if_each_call_is(self):
        good, bad = self.task.needed[0], Call("update_password", {"password": "x"})
        self.assertTrue(people.oracle(Question("q", (good, good)), self.task))
        self.assertFalse(people.oracle(Question("q", (good, bad)), self.task))

    def test_absent_is_null_and_ten_is_ten(self):
        self.assertTrue(same(Call("a", {"x": 10, "y": None}), Call("a", {"x": 10.0})))
        self.assertFalse(same(Call("a", {"x": True}), Call("a", {"x": 1})))


if __name__ == "__main__":
    unittest.main()
