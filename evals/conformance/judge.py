"""Holds what the suite found against the file `scenarios`. Usage: judge.py RESULTS

In RESULTS, `server/` is what the suite wrote of its checks, and `client` has a line per scenario with what it came to.
A server scenario passes if it made checks, and none of them failed or warned: one that checks nothing shows nothing.
"""

import json
import re
import sys
from pathlib import Path

Outcomes = dict[str, str]


def servers(folder: Path) -> Outcomes:
    outcomes = {}
    for checks in folder.glob("*/checks.json"):
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", checks.parent.name.removeprefix("server-"))
        statuses = {check["status"] for check in json.loads(checks.read_text())}
        passes = "SUCCESS" in statuses and not statuses & {"FAILURE", "WARNING"}
        outcomes[f"server {scenario}"] = "passes" if passes else "fails"
    return outcomes


def listed(file: Path) -> Outcomes:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.rsplit(" ", 1) for line in lines)


def main() -> None:
    results = Path(sys.argv[1])
    outcomes = servers(results / "server") | listed(results / "client")
    wanted = listed(Path(__file__).parent / "scenarios")
    for side in ("server", "client"):
        of_side = [outcome for scenario, outcome in outcomes.items() if scenario.startswith(side)]
        print(f"{side}: {of_side.count('passes')} of {len(of_side)} scenarios pass")
    wrong = [
        f"{scenario}: {outcomes.get(scenario, 'did not run')}, but the list says {wanted.get(scenario, 'nothing of it')}"
        for scenario in sorted(wanted.keys() | outcomes.keys())
        if outcomes.get(scenario) != wanted.get(scenario)
    ]
    if wrong:
        raise SystemExit("\n".join(wrong))
    print("all as listed in evals/conformance/scenarios")


if __name__ == "__main__":
    main()
