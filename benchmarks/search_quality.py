"""Does the search find better networks than chance? Over five seeds, on the real digits.

    python -m benchmarks.search_quality [--seeds 5] [--rivals 20] [--out runs/search_quality]

For each seed the main job runs on its defaults, but with 20 random architectures of the same
budget, frozen with the same shared weights and fine-tuned alike. Reported is the winner's accuracy
on the test split against the median of theirs. Interrupted, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from nas_space.runs import Findings, Plan, StagedRun, plan_of

HERE = Path(__file__).parent / "data"


def run(out: Path, seed: int, plan: Plan) -> dict[str, Any]:
    """One search, and what came of it."""
    last = [0.0]

    def show(stage: str, done: int, total: int, word: str) -> None:
        if time.monotonic() - last[0] > 30:
            last[0] = time.monotonic()
            print(f"seed {seed}: {stage} {done}/{total}, {word}", flush=True)

    job = StagedRun(out, seed=seed, device="cpu", plan=plan, resume=True)
    started = time.process_time(), time.monotonic()
    findings = job.run(show)
    print(f"seed {seed}: done in {time.monotonic() - started[1]:.0f} s", flush=True)
    return {
        "seed": seed,
        "max_macs": job.workspace.budgets["macs"],
        "fingerprint": job.settings["fingerprint"],
        **summary(findings),
        "cpu_seconds": round(time.process_time() - started[0]),
    }


def summary(findings: Findings) -> dict[str, Any]:
    winner, tests = findings.winner, [rival.test for rival in findings.rivals]
    return {
        "winner": {k: v for k, v in winner.to_dict().items() if k not in ("arch", "role", "costs")},
        "random": sorted(round(test, 4) for test in tests),
        "random_inherited": sorted(round(rival.inherited or 0.0, 4) for rival in findings.rivals),
        "median": median(tests),
        "beaten": sum(winner.test > test for test in tests),
        "tied": sum(winner.test == test for test in tests),
        "nearest_neighbour": findings.neighbour,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| seed | winner | median of random | difference | beaten | tied | nearest neighbour |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        test, middle = row["winner"]["test"], row["median"]
        lines.append(
            f"| {row['seed']} | {test:.2%} | {middle:.2%} | {100 * (test - middle):+.2f} "
            f"| {row['beaten']} of {len(row['random'])} | {row['tied']} "
            f"| {row['nearest_neighbour']:.2%} |"
        )
    better = sum(row["winner"]["test"] > row["median"] for row in rows)
    return "\n".join([*lines, "", f"better than the median in {better} of {len(rows)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rivals", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("runs/search_quality"))
    parser.add_argument("--json", type=Path, default=HERE / "search_quality.json")
    options = parser.parse_args()
    plan = plan_of("spos", rivals=options.rivals)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        done = options.out / f"seed{seed}.json"
        if not done.exists():
            row = run(options.out / f"seed{seed}", seed, plan)
            done.write_text(json.dumps(row), encoding="utf-8")
        rows.append(json.loads(done.read_text(encoding="utf-8")))
    print(table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    told = {"plan": asdict(plan), "seeds": rows}
    options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
