"""What is spent before anything is done: the memory of a waiter, and the time of an import."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Mapping

from benchmarks.contenders import holding
from benchmarks.metrics.metric import Metric, Subject
from benchmarks.metrics.waiting import line

__all__ = ["IMPORTS", "LEAST_IMPORT", "METRICS", "import_time"]

LEAST_IMPORT = "asyncio and one pydantic model"

IMPORTS: Mapping[str, str] = {
    LEAST_IMPORT: "import asyncio, pydantic\nclass Item(pydantic.BaseModel):\n    id: int\n    name: str",
    "import dbcore": "import dbcore",
    "import dbcore, dbcore_postgres": "import dbcore, dbcore_postgres",
    "import dbcore, dbcore_sqlite": "import dbcore, dbcore_sqlite",
    "import psycopg_pool": "import psycopg_pool",
    "import asyncpg": "import asyncpg",
    "import aiosqlitepool, aiosqlite": "import aiosqlitepool, aiosqlite",
}
"""By name: the statements that are timed, each in a fresh process."""

TIMED = "import time\nstarted = time.perf_counter()\n{}\nprint(time.perf_counter() - started)"


async def memory(subject: Subject) -> Mapping[str, float]:
    """What Python allocates for a task that waits: the task is in it, with everybody."""
    opened, count = subject.opened, subject.effort.measured_waiters
    assert opened.checkout is not None
    async with holding(opened.checkout, subject.effort.size) as let_go:
        gc.collect()
        tracemalloc.start(1)
        before, _ = tracemalloc.get_traced_memory()
        tasks = await line(opened, count)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        let_go()
        await asyncio.gather(*tasks)
    return {"waiter": (after - before) / count}


def import_time(statements: str) -> Mapping[str, float] | None:
    """Time some imports in a fresh process, without the start of Python; `None` where one is not installed."""
    # Where bytecode is not kept, it is our own that is compiled each time: what an installer has put there is.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", TIMED.format(statements)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if "ModuleNotFoundError" in run.stderr:
        return None
    run.check_returncode()
    return {"import": float(run.stdout) * 1e3}


METRICS = (Metric(letter="h", title="h. Memory of a waiter", applies=lambda it: it.pool_alone, run=memory, rounds=1),)
