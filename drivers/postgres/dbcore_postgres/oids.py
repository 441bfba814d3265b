"""The numbers of the types of Postgres that are known by name here."""

from __future__ import annotations

BOOL = 16
BYTEA = 17
NAME = 19
INT8 = 20
INT2 = 21
INT4 = 23
TEXT = 25
JSON = 114
CIDR = 650
FLOAT4 = 700
FLOAT8 = 701
MONEY = 790
INET = 869
VARCHAR = 1043
DATE = 1082
TIME = 1083
TIMESTAMP = 1114
TIMESTAMPTZ = 1184
INTERVAL = 1186
TIMETZ = 1266
NUMERIC = 1700
UUID = 2950
JSONB = 3802
