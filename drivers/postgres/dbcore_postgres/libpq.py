"""Functions of libpq that psycopg does not hand on, from the very libpq that psycopg uses."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import pq

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.pq.abc import PGconn

__all__ = ["send_sync", "set_verbosity"]


def _load(name: str, *types: Any) -> Callable[..., int] | None:
    """Find a function through psycopg's extension module. None of those here waits, so they keep the GIL."""
    file = sys.modules[pq.PGconn.__module__].__file__
    try:
        function = getattr(ctypes.PyDLL(file), name)
    except (OSError, AttributeError):  # psycopg's pure Python form has no extension module; a libpq may be too old
        return None
    function.argtypes = [ctypes.c_void_p, *types]
    function.restype = ctypes.c_int
    return cast("Callable[..., int]", function)


_set_verbosity = _load("PQsetErrorVerbosity", ctypes.c_int)
_send_sync = _load("PQsendPipelineSync")


def set_verbosity(pgconn: PGconn, level: int) -> None:
    """Say how much libpq puts into the text of an error."""
    pointer = cast("Any", pgconn).pgconn_ptr
    if _set_verbosity is not None and pointer is not None:
        _set_verbosity(pointer, level)


def send_sync(pgconn: PGconn) -> None:
    """Put a sync point into the pipeline. libpq before 17 hands over what it has at each: a call to the system."""
    if _send_sync is None:
        pgconn.pipeline_sync()
    elif not _send_sync(cast("Any", pgconn).pgconn_ptr):  # no pointer: the connection was dropped
        raise psycopg.OperationalError(f"a sync point could not be sent: {pgconn.get_error_message()}")
