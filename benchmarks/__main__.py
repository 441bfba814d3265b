"""Measure dbcore beside its peers, on a Postgres and a SQLite of its own.

A whole run on asyncio's loop writes docs/benchmarks.md and the plots; anything less, and what is held against another
run, is only printed.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import fnmatch
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.measure import Measured, measure
from benchmarks.metrics import METRICS, Metric
from benchmarks.metrics.memory import IMPORTS, import_time
from benchmarks.plot import plots
from benchmarks.report import SECTIONS, compared, filled
from benchmarks.run import Run, described
from benchmarks.server import Databases, databases, own_postgres

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
FOLDER = ROOT / "docs" / "benchmarks"
RESULTS = FOLDER / "results.json"

LETTERS = {metric.letter[0] for metric in METRICS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the page if all of it was measured. Returns 1 if something of ours was left out."""
    options = _parser().parse_args(arguments)
    if options.page:
        publish(Run.load_from(RESULTS))
        return 0
    effort = QUICK if options.quick else FULL
    if options.rounds:
        effort = dataclasses.replace(effort, rounds=options.rounds)
    only = [word.strip() for word in options.only.split(",") if word.strip()]
    started = time.monotonic()
    with own_postgres() as postgres, databases(effort.slow, postgres) as where:
        run = measured_run(where, effort, only, options.loop)
    print(f"{time.monotonic() - started:.0f} s\n")
    for name in ("machine", "bars", "figures", "worse"):
        print(f"{name}\n\n{SECTIONS[name](run)}\n")
    if options.beside:
        print(f"beside {options.beside}\n\n{compared(run, Run.load_from(Path(options.beside)))}\n")
    for name, reason in run.measured.left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    if options.json:
        run.save(Path(options.json))
    failed = any(run.contenders[name].role == "ours" for name in run.measured.left_out)
    if not (failed or options.quick or only or options.beside or options.loop != "asyncio"):
        publish(run)
    return int(failed)


def measured_run(where: Databases, effort: Effort, only: Sequence[str] = (), loop: str = "asyncio") -> Run:
    """Measure what `only` names: letters of metrics, and patterns of contenders; all of it where it names none."""
    letters = {word for word in only if word in LETTERS} or LETTERS
    patterns = [word for word in only if word not in LETTERS] or ["*"]
    chosen = [each for each in CONTENDERS if any(fnmatch.fnmatch(each.name, pattern) for pattern in patterns)]
    missing = {each.name: reason for each in chosen if (reason := _missing(each, where))}
    present = [each for each in chosen if each.name not in missing]
    metrics: list[Metric] = [metric for metric in METRICS if metric.letter[0] in letters]
    run = described(chosen, where, loop, effort.rounds)
    run.measured.left_out.update(missing)
    with asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
        runner.run(measure(present, metrics, where, effort, run.measured))
    if "h" in letters:
        _measure_imports(run.measured, effort.rounds)
    return run


def publish(run: Run) -> None:
    """Write the page, the plots, and the run itself, from which both can be made again."""
    run.save(RESULTS)
    for name, svg in plots(run).items():
        (FOLDER / name).write_text(svg, encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), run), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)} and {FOLDER.relative_to(ROOT)}")


def _missing(contender: Contender, where: Databases) -> str | None:
    """Say why a contender cannot take part."""
    absent = [name for name in contender.needs if importlib.util.find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} is not installed"
    if contender.on == "postgres" and contender.on not in where.urls:
        return "there is no Postgres on this machine"
    return None


def _measure_imports(measured: Measured, rounds: int) -> None:
    print("  h. Import", flush=True)
    for statements in IMPORTS.values():
        import_time(statements)  # once for the bytecode
    for _ in range(rounds):
        for name, statements in IMPORTS.items():
            found = import_time(statements)
            if found is not None:
                measured.add(name, found)


def _loop_factory(name: str) -> type[asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    uvloop = importlib.import_module("uvloop")
    factory: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return factory


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, one round, nothing is written")
    parser.add_argument(
        "--only",
        default="",
        metavar="A,B",
        help=f"letters of metrics ({', '.join(sorted(LETTERS))}) and patterns of contenders: a,b,'dbcore*'",
    )
    parser.add_argument("--rounds", type=int, help="rounds of each metric")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="the event loop")
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page anew from the last run")
    parser.add_argument(
        "--beside", metavar="FILE", help="a run to compare the ratios with, by another --json; nothing is written"
    )
    parser.add_argument("--json", metavar="FILE", help="write the run there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
