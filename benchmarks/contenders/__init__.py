"""The contenders: dbcore, its peers, the libraries underneath, and a floor."""

from __future__ import annotations

from benchmarks.contenders import aiosqlites, asyncpgs, floor, ours, psycopgs
from benchmarks.contenders.contender import FOREVER, Contender, Opened, holding, settle

__all__ = ["CONTENDERS", "FOREVER", "Contender", "Opened", "holding", "settle"]

CONTENDERS: tuple[Contender, ...] = (
    floor.FLOOR,
    *ours.CONTENDERS,
    *psycopgs.CONTENDERS,
    *asyncpgs.CONTENDERS,
    *aiosqlites.CONTENDERS,
)
