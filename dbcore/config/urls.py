"""URLs, taken apart without ever showing what is in them.

The standard library's parser is not used: it drops characters in silence and quotes the input in its errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

__all__ = ["BadUrl", "Url", "decode", "split_url"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_QUERY_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,79}")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

FORM = "scheme://user:password@host:port/database?key=value"
ENCODE = "Percent-encode special characters in user and password: '@' is %40, '/' %2F, '?' %3F, '#' %23, '%' %25."


class BadUrl(Exception):
    """What is wrong with a URL, and the cure. A driver's `from_url` raises it; nothing of the URL may be in it."""

    def __init__(self, what: str, cure: str = ENCODE) -> None:
        super().__init__(what)
        self.what = what
        self.cure = cure


@dataclass(frozen=True, slots=True, repr=False)
class Url:
    """A URL in its parts, as they were written; no `repr`, for there may be a password in it."""

    scheme: str
    authority: str
    path: str | None
    """What follows the first slash after the authority."""
    query: tuple[tuple[str, str], ...]
    """Names and values, the values still encoded."""

    def without(self, keys: frozenset[str]) -> str:
        """The text of the URL, less these keys of its query."""
        query = "&".join(f"{key}={value}" for key, value in self.query if key not in keys)
        path = "" if self.path is None else f"/{self.path}"
        return f"{self.scheme}://{self.authority}{path}{'?' + query if query else ''}"

    def query_value(self, key: str) -> str:
        """One value of the query, decoded."""
        return decode(dict(self.query)[key])

    def keys(self) -> Mapping[str, str]:
        """Host, port, user, password, database and the keys of the query: those that are there, decoded."""
        userinfo, _, address = self.authority.rpartition("@")
        user, _, password = userinfo.partition(":")
        host, port = _address(address)
        parts = {"user": user, "password": password, "host": host, "port": port, "database": self.path or ""}
        found = {key: decode(value) for key, value in parts.items() if value}
        for key, value in self.query:
            if key in found:
                raise BadUrl(f"{key} is in the URL twice: in its query and before that", "Leave one of them out.")
            found[key] = decode(value)
        return found


def split_url(text: str) -> Url:
    """Take a URL apart, for a driver that reads its own: nothing is decoded yet. Raises `BadUrl`."""
    start = _SCHEME.match(text)
    if start is None:
        cure = f"A URL has the form {FORM}."
        if "${" in text:
            cure += " '${NAME}' is filled in where a URL stands in a file or mapping."
        raise BadUrl("this is no URL", cure)
    if text != text.strip() or _CONTROL.search(text):
        raise BadUrl("the URL has white space around it or a control character", "Take it out, or percent-encode it.")
    if "#" in text:
        raise BadUrl("the URL has a '#', which means nothing here")
    if _BAD_PERCENT.search(text):
        raise BadUrl("the URL has a '%' that no two hexadecimal digits follow")
    address, _, query = text[start.end() :].partition("?")
    authority, slash, path = address.partition("/")
    if authority and ("@" in path or "@" in query):
        # Most likely a password with a slash or question mark in it: half of it would be taken for a database name.
        raise BadUrl("the URL has an '@' behind its host")
    return Url(start[1].lower(), authority, path if slash else None, _query(query))


def decode(text: str) -> str:
    """Percent-decode one part of a URL. Raises `BadUrl`."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadUrl("a percent-encoded part of the URL is not UTF-8", "Encode its UTF-8 form.") from None


def _query(text: str) -> tuple[tuple[str, str], ...]:
    pairs: dict[str, str] = {}
    for item in text.split("&") if text else ():
        key, equals, value = item.partition("=")
        if not equals or not _QUERY_KEY.fullmatch(key):
            raise BadUrl("the query of the URL is not made of key=value, joined by '&'")
        if key in pairs:
            raise BadUrl(f"{key} is in the query of the URL twice", "Leave one of them out.")
        pairs[key] = value
    return tuple(pairs.items())


def _address(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadUrl("the host of the URL has a bracket too many", "An IPv6 address is written [::1]:5432.")
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        raise BadUrl("the port of the URL is no number")
    return host, port
