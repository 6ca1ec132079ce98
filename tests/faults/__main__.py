"""Run the fault campaigns and print one table: ``python -m tests.faults``.

python -m tests.faults --only kills --only flips       some of them
python -m tests.faults --only kills --seed 7 --case 41 one case again
python -m tests.faults --size push                     as with the other tests
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.campaign import SEED, Campaign, Outcome, quick_folder

MODULES = (
    "kills", "swaps", "resume", "writers", "low_memory", "power", "errors", "flips", "readers",
    "backups", "formats", "steps", "fuzz", "hostile",
)  # fmt: skip


def campaigns() -> dict[str, Campaign]:
    """All of them by name, in the order of the table."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(f"tests.faults.{name}")
        several = getattr(module, "CAMPAIGNS", None) or (module.CAMPAIGN,)
        found.update({campaign.name: campaign for campaign in several})
    return found


def arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=names, help="this campaign; repeatable")
    parser.add_argument("--size", choices=["push", "full"], default="full")
    parser.add_argument("--cases", type=int, help="so many cases of each, whatever the size")
    parser.add_argument("--case", type=int, help="only this one")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="so many at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there, too")
    return parser.parse_args()


def run(campaign: Campaign, asked: argparse.Namespace) -> tuple[Outcome, float]:
    """One campaign, and its seconds."""
    count = asked.cases or getattr(campaign, asked.size)
    cases = range(count) if asked.case is None else range(asked.case, asked.case + 1)
    print(f"== {campaign.name}: {len(cases):,} cases, seed {asked.seed}", flush=True)
    start = time.perf_counter()
    with quick_folder() as folder:
        outcome = campaign.run(asked.seed, cases, folder)
    return outcome, time.perf_counter() - start


def run_apart(campaign: Campaign, asked: argparse.Namespace) -> tuple[Outcome, float]:
    """One campaign in a process of its own, so that several run beside each other."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [
            sys.executable, "-m", "tests.faults", "--only", campaign.name, "--size", asked.size,
            "--seed", str(asked.seed), "--json", file.name,
        ]  # fmt: skip
        if asked.cases:
            command += ["--cases", str(asked.cases)]
        start = time.perf_counter()
        print(f"== {campaign.name}: seed {asked.seed}", flush=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        print(f"== {campaign.name}: done in {seconds:.0f} s", flush=True)
        try:
            row = json.load(file)[campaign.name]
        except ValueError:
            said = (done.stdout + done.stderr).strip().splitlines()[-5:]
            failure = f"ended with {done.returncode}: {' / '.join(said)}"
            return Outcome(0, failures=[failure]), seconds
    return Outcome(row["cases"], row["figures"], row["failures"]), seconds


def run_all(chosen: list[Campaign], asked: argparse.Namespace) -> dict[str, tuple[Outcome, float]]:
    """All that was asked for; those that must be undisturbed come after the others."""
    if len(chosen) == 1 or asked.case is not None:
        return {campaign.name: run(campaign, asked) for campaign in chosen}
    together = [campaign for campaign in chosen if not campaign.alone]
    with ThreadPoolExecutor(asked.jobs) as pool:
        outcomes = list(pool.map(lambda campaign: run_apart(campaign, asked), together))
    done = dict(zip((campaign.name for campaign in together), outcomes, strict=True))
    done |= {c.name: run_apart(c, asked) for c in chosen if c.alone}
    return {campaign.name: done[campaign.name] for campaign in chosen}


def shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"


def print_row(campaign: Campaign, outcome: Outcome, seconds: float) -> None:
    figures = ", ".join(f"{name} {shown(value)}" for name, value in outcome.figures.items())
    result = f"FAILED {len(outcome.failures)}" if outcome.failures else "passed"
    print(f"{campaign.name:<15}{result:<12}{outcome.cases:>8,}{seconds:>8.0f} s  {campaign.must}")
    print(f"{'':<15}{figures}")


def main() -> int:
    """Run what was asked for; 1 if anything failed."""
    known = campaigns()
    asked = arguments(list(known))
    done = run_all([known[name] for name in asked.only or known], asked)
    for outcome, _ in done.values():
        for line in outcome.failures[:20]:
            print(f"   {line}", flush=True)
    print(f"\n{'campaign':<15}{'result':<12}{'cases':>8}{'time':>10}  must be; what was found")
    for name, (outcome, seconds) in done.items():
        print_row(known[name], outcome, seconds)
    failed = [name for name, (outcome, _) in done.items() if outcome.failures]
    for name in failed:
        print(f"\nrepeat a case: python -m tests.faults --only {name} --seed {asked.seed} --case N")
    if asked.json:
        rows = {
            name: {"seconds": round(seconds, 1), "seed": asked.seed, **vars(outcome)}
            for name, (outcome, seconds) in done.items()
        }
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
