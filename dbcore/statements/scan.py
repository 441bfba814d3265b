"""One walk over a text: where its placeholders are, which words it has, where its statements end."""

from __future__ import annotations

from dataclasses import dataclass, field

from dbcore.driver import Syntax
from dbcore.statements.tokens import end_of_nested_comment, token_pattern

__all__ = ["Placeholder", "Scan", "scan"]

_HAVE_BODIES = frozenset({"TRIGGER", "FUNCTION", "PROCEDURE"})
_HEAD = 6
"""As many words it takes until `CREATE OR REPLACE CONSTRAINT TRIGGER` has said what it creates."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`sql[start:end]` is `$1` or `:name`; `key` is the number or the name."""

    start: int
    end: int
    key: int | str


@dataclass(slots=True)
class Scan:
    """What the walk saw. Positions are offsets into the text."""

    placeholders: list[Placeholder] = field(default_factory=list[Placeholder])
    words: list[str] = field(default_factory=list[str])
    """Every bare word, upper case, in order: no strings, quoted identifiers, comments or placeholders."""
    calls: set[str] = field(default_factory=set[str])
    """What stands before a parenthesis, upper case: functions, and words such as IN. A name in quotes keeps them; one
    that a schema stands before begins with the dot."""
    statements: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Start and end of each statement that is not empty, without its semicolon."""
    junk: str | None = None
    """The first `$1` that has letters stuck to it."""
    question_mark: bool = False
    """There is a bare `?`, which some libraries take for a placeholder."""


class _Body:
    """Whether the walk is inside of `BEGIN ... END` of a trigger or function, where a semicolon ends no statement.

    The body ends at the END that follows a semicolon (or `BEGIN [ATOMIC]` itself): the END of a CASE never does, and
    a column named "end" hardly. Blocks within blocks, which only other databases have, are not understood.
    """

    __slots__ = ("before", "head", "inside")

    def __init__(self) -> None:
        self.inside = False
        self.head: list[str] = []
        self.before = ""

    def saw(self, word: str, *, in_parentheses: bool) -> None:
        if self.inside:
            if word == "END" and self.before in {";", "ATOMIC", "BEGIN"}:
                self.inside = False
        elif word == "BEGIN" and self.head and not in_parentheses and self.before != "." and self._creates_body():
            self.inside = True
        if len(self.head) < _HEAD:
            self.head.append(word)

    def _creates_body(self) -> bool:
        creates = self.head[0] == "CREATE" or (self.head[0] == "EXPLAIN" and "CREATE" in self.head)
        return creates and not _HAVE_BODIES.isdisjoint(self.head)


def scan(sql: str, syntax: Syntax) -> Scan:
    """Walk over `sql` once. Raises nothing: what is wrong with a text is for the caller to say."""
    found = Scan()
    match_token = token_pattern(syntax).match
    position, length = 0, len(sql)
    parentheses = brackets = 0
    start = end = -1
    body = _Body()
    name = qualifier = ""
    while position < length:
        token = match_token(sql, position)
        if token is None:
            raise AssertionError("bug: every character is a token")
        kind, here, position = token.lastgroup, position, token.end()
        if kind == "space":
            continue
        if kind == "nested":
            position = end_of_nested_comment(sql, here)
            continue
        text = token.group()
        if text == ";" and not (parentheses or brackets or body.inside):
            if start >= 0:
                found.statements.append((start, end))
            start, body = -1, _Body()
            continue
        if start < 0:
            start = here
        end = position
        if text == "(" and name:
            found.calls.add(name)
        name = qualifier + text.upper() if kind in {"word", "quoted"} else ""
        qualifier = text if text == "." else ""
        if kind == "word":
            text = text.upper()
            if not text[0].isdigit():
                found.words.append(text)
                body.saw(text, in_parentheses=parentheses > 0)
        elif kind == "number":
            found.placeholders.append(Placeholder(here, position, int(text[1:])))
        elif kind == "name":
            if not brackets:
                found.placeholders.append(Placeholder(here, position, text[1:]))
        elif kind == "junk":
            found.junk = found.junk or text
        elif kind == "mark":
            match text:
                case "(":
                    parentheses += 1
                case ")":
                    parentheses = max(0, parentheses - 1)
                case "[":
                    brackets += 1
                case "]":
                    brackets = max(0, brackets - 1)
                case "?" if not brackets:
                    found.question_mark = True
                case _:
                    pass
        body.before = text
    if start >= 0:
        found.statements.append((start, end))
    return found
