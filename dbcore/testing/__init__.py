"""Tools to test a pool, a driver, or a program on top: virtual time, shuffled schedules, scripted drivers."""

from dbcore.testing.clock import DeadlockError, RunawayError, VirtualLoop, run, settled, virtual
from dbcore.testing.fake import Answer, Answers, NativeError, ScriptedSettings, scripted_driver
from dbcore.testing.fake_database import FakeDatabase
from dbcore.testing.fake_driver import RecordedCall, RecordedTransaction
from dbcore.testing.fake_lines import UnexpectedStatement
from dbcore.testing.plans import Gate, Plan, Step, fails, hangs, passes, says_no, says_yes, slow, waits
from dbcore.testing.pools import ScriptedPool, scripted_pool
from dbcore.testing.proxy import FaultProxy
from dbcore.testing.sandbox import sandbox
from dbcore.testing.schedules import Explored, ShuffledLoop, explore, run_schedule
from dbcore.testing.script import Call, FakeConnection, HookName, Outcome, Script

__all__ = [
    "Answer",
    "Answers",
    "Call",
    "DeadlockError",
    "Explored",
    "FakeConnection",
    "FakeDatabase",
    "FaultProxy",
    "Gate",
    "HookName",
    "NativeError",
    "Outcome",
    "Plan",
    "RecordedCall",
    "RecordedTransaction",
    "RunawayError",
    "Script",
    "ScriptedPool",
    "ScriptedSettings",
    "ShuffledLoop",
    "Step",
    "UnexpectedStatement",
    "VirtualLoop",
    "explore",
    "fails",
    "hangs",
    "passes",
    "run",
    "run_schedule",
    "sandbox",
    "says_no",
    "says_yes",
    "scripted_driver",
    "scripted_pool",
    "settled",
    "slow",
    "virtual",
    "waits",
]
