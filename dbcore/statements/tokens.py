"""How SQL falls into tokens: one regular expression per `Syntax`, and nothing remembered between tokens.

Its named groups are the kinds of token that somebody asks about; everything else is `other`. Whatever is not
terminated (a string, a comment) reaches to the end of the text: the database will say so better than we could.
"""

from __future__ import annotations

import re
from functools import lru_cache

from dbcore.driver import Syntax

__all__ = ["end_of_nested_comment", "token_pattern"]

# Databases take every character beyond ASCII for a letter, and a "$" inside of an identifier for a part of it.
_LETTER = r"A-Za-z_\x80-\U0010ffff"
_WORD = rf"[{_LETTER}0-9][{_LETTER}0-9$]*+"
# A name is ours alone, so a space that is beyond ASCII (pasted from a document) ends it.
_NAME = r":(?:[A-Za-z_]|[^\x00-\x7f\s])(?:\w|[^\x00-\x7f\s])*+"
_SPACE = r"[ \t\n\r\f\v]"
# SQLite takes a byte order mark for a space where a token could begin, and for a letter inside of a word. The others
# refuse a text with one, or take it for a name.
_MARK = r"\ufeff"
_BLOCK_COMMENT = r"/\*(?:[^*]++|\*(?!/))*+(?:\*/)?"
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def _quoted(quote: str, *, backslash: bool = False) -> str:
    if backslash:
        return rf"{quote}(?:[^{quote}\\]++|{quote}{quote}|\\.?)*+{quote}?"
    return rf"{quote}(?:[^{quote}]++|{quote}{quote})*+{quote}?"


def _escape_string() -> str:
    """`E'...'`, with the parts that follow on lines of their own: backslashes escape in those as well."""
    part = _quoted("'", backslash=True)
    gap = rf"(?>[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?>{_SPACE}|--[^\n\r]*+[\n\r])*+"
    return rf"[eE]{part}(?>{gap}{part})*+"


@lru_cache(maxsize=32)
def token_pattern(syntax: Syntax) -> re.Pattern[str]:
    """Return the pattern that matches one token at any position of any text.

    `lastgroup` is `space` (comments too), `nested` (the start of a comment that may hold comments), `quoted`,
    `word`, `number` (`$1`), `junk` (`$1` with letters stuck to it), `name`, `mark` (one of `;?()[]`) or `other`.
    """
    # Databases with dollar quotes end a line comment at a lone carriage return too, the others do not.
    line_end = r"\n\r" if syntax.dollar_quotes else r"\n"
    space = [rf"(?:{_SPACE}|{_MARK})++", rf"--[^{line_end}]*+"]
    if syntax.hash_comments:
        space.append(rf"\#[^{line_end}]*+")
    if not syntax.nested_comments:
        space.append(_BLOCK_COMMENT)
    backslash = syntax.backslash_strings
    quoted = [
        _quoted("'", backslash=backslash),
        _quoted('"', backslash=backslash and syntax.double_quote_strings),
        _quoted("`"),
    ]
    if syntax.bracket_identifiers:
        quoted.append(r"\[[^\]]*+\]?")
    if syntax.escape_strings:
        quoted.append(_escape_string())
    if syntax.dollar_quotes:
        quoted.append(rf"\$(?P<tag>(?:[{_LETTER}][{_LETTER}0-9]*+)?)\$(?:.*?\$(?P=tag)\$|.*)")
    kinds = {
        "space": "|".join(space),
        "nested": r"/\*" if syntax.nested_comments else None,
        "quoted": "|".join(quoted),
        "word": _WORD,
        "junk": rf"\$[0-9]++[{_LETTER}]++",
        "number": r"\$[0-9]++",
        "name": rf"(?<!:){_NAME}",
        "mark": r"[;?()\[\]]",
        "other": r"::|:=|[,=<>+*!~^&|%@]++|.",
    }
    return re.compile("|".join(f"(?P<{kind}>{text})" for kind, text in kinds.items() if text), re.DOTALL)


def end_of_nested_comment(sql: str, start: int) -> int:
    """Return where the comment that begins at `start` ends, with the comments inside of it."""
    depth, position = 0, start
    while edge := _COMMENT_EDGE.search(sql, position):
        depth += 1 if edge.group() == "/*" else -1
        position = edge.end()
        if depth == 0:
            return position
    return len(sql)
