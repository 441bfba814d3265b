"""What columns come as: by asyncmy's decoders, and by ours where those lose something."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dbcore_mysql.library import conversions

__all__ = ["CONVERSIONS"]

_TIMESTAMP, _TIME, _BIT = 7, 11, 16

_read_datetime: Callable[[str], Any] = conversions[_TIMESTAMP]


def _moment(text: str) -> Any:
    """A TIMESTAMP is a moment: the server keeps it in UTC, and shows it so in our sessions."""
    value = _read_datetime(text)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value  # "0000-00-00 00:00:00" stays a text


def _bits(data: bytes) -> int:
    return int.from_bytes(data)


CONVERSIONS: dict[Any, Any] = {
    **{key: convert for key, convert in conversions.items() if key != _TIME},
    _TIMESTAMP: _moment,
    _BIT: _bits,
}
"""asyncmy's conversions and ours. A TIME comes as its text: it may be a time of day or a duration, and `into` says
which; no Python type is both."""
