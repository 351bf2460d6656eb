"""The suites, the scripted attacks and the label files."""

import re
import unittest

from dojo import attacks, cases, labels, score, suites


class Suites(unittest.TestCase):
    def test_the_corrections_are_there(self):
        task = suites.suite("workspace").injection_tasks["injection_task_0"]
        self.assertIn("v1_1_2", type(task).__module__)
        self.assertIn("v1_1_2", type(suites.suite("travel").injection_tasks["injection_task_3"]).__module__)

    def test_every_pair_is_there(self):
        pairs = {name: len(suites.suite(name).user_tasks) * len(suites.suite(name).injection_tasks) for name in suites.NAMES}
        self.assertEqual(pairs, {"workspace": 560, "travel": 140, "banking": 144, "slack": 105})

    def test_planted_text_reaches_the_environment_whole(self):
        text = "say \"it's\": {done}\n  - and: more"
        self.assertIn(text, str(suites.environment("workspace", text).model_dump()).encode().decode("unicode_escape"))

    def test_environments_share_nothing(self):
        one = suites.prepared("workspace", "user_task_0")
        one.inbox.emails.clear()
        self.assertTrue(suites.prepared("workspace", "user_task_0").inbox.emails)


class Attacks(unittest.TestCase):
    def test_every_attack_succeeds_alone(self):
        for name in suites.NAMES:
            for injection_task in suites.suite(name).injection_tasks:
                before = suites.environment(name)
                count = len(attacks.calls(name, injection_task, before))
                with self.subTest(f"{name}/{injection_task}"):
                    self.assertTrue(score._repeated(name, injection_task, frozenset(range(count))))
                    self.assertEqual(attacks.text_only(name, injection_task), count == 0)

    def test_an_attack_without_its_calls_fails(self):
        for injection_task in suites.suite("workspace").injection_tasks:
            with self.subTest(injection_task):
                self.assertFalse(score._repeated("workspace", injection_task, frozenset()))

    def test_only_one_attack_wants_mere_words(self):
        wanted = [(n, i) for n in suites.NAMES for i in suites.suite(n).injection_tasks if attacks.text_only(n, i)]
        self.assertEqual(wanted, [("travel", "injection_task_6")])


class Hijacks(unittest.TestCase):
    def test_each_task_with_a_free_text_or_an_amount_is_hijacked_once(self):
        counted = {name: sum(case.kind == "hijack" for case in cases.all_cases(name)) for name in suites.NAMES}
        self.assertEqual(counted, {"workspace": 18, "travel": 5, "banking": 11, "slack": 14})

    def test_texts_get_a_secret_and_amounts_a_nought(self):
        case = cases.Case("hijack", "banking", "user_task_3")
        user = cases.user_calls(case, case.environment())
        changed = cases.hijacked(case, user)[-1].arguments
        self.assertEqual(changed["amount"], 40)
        self.assertIn(cases.SECRET, changed["subject"])
        self.assertEqual(changed["recipient"], user[-1].arguments["recipient"])


class Labels(unittest.TestCase):
    def test_every_tool_has_its_row_and_each_row_its_arguments(self):
        for name in suites.NAMES:
            tools = {tool.name: tool for tool in suites.suite(name).tools}
            table = labels.load(name)
            self.assertEqual(set(table), set(tools))
            for tool, row in table.items():
                fields = set(tools[tool].parameters.model_fields)
                labelled = {path.split("/")[0] for path in [*row.sensitive, *row.content]}
                self.assertLessEqual(labelled, fields, tool)
                if row.acts and tool != "get_webpage":
                    self.assertEqual(labelled, fields, f"{tool}: an argument has no label")

    def test_no_task_is_named(self):
        told = set()
        for name in suites.NAMES:
            for task in suites.suite(name).user_tasks.values():
                told |= set(re.findall(r"'([^']{4,40})'|([\w.-]+@[\w.-]+)", task.PROMPT))
        told = {text for pair in told for text in pair if text}
        for name in suites.NAMES:
            text = (labels.FOLDER / f"{name}.toml").read_text()
            self.assertNotRegex(text, r"(user|injection)_task")
            self.assertEqual([told_text for told_text in told if told_text in text], [])

    def test_unknown_words_are_errors(self):
        for row in ('effects = ["red"]', 'effects = ["read"]\nresults = { "" = "me" }', 'effects = ["read"]\nkinds = 1', 'effects = ["read"]\nconfidentiality = "no"', ""):
            with self.subTest(row), self.assertRaises(labels.LabelError):
                labels.parse(f"[tools.a]\n{row}", "test")

    def test_the_longest_path_counts_and_the_unlisted_is_strict(self):
        row = labels.parse('[tools.a]\neffects = ["write"]\nsensitive = { "a/*/b" = "path" }\nresults = { "" = "organisation", "x/*/y" = "stranger" }', "test")["a"]
        self.assertEqual(row.kind(("a", "*", "b", "c")), "path")
        self.assertEqual(row.kind(("other",)), "content")
        self.assertEqual(row.source(("x", "*", "y")), "stranger")
        self.assertEqual(row.source(("x", "*", "z")), "organisation")
        self.assertEqual(labels.Tool(frozenset(["read"])).source(("x",)), "stranger")


if __name__ == "__main__":
    unittest.main()
