"""Reading files: the config itself and the files that hold secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dbcore.config.problems import Place, Problems

__all__ = ["read_secret", "read_toml"]

_POSITION = re.compile(r"\(at line (\d+), column (\d+)\)")
# The parser's reasons that hold nothing of the input: words, and the punctuation that it expected.
_SAFE_REASON = re.compile(r"(?:[A-Za-z ,/-]|'[=\]\[.,]')+")


def read_toml(path: Path, place: Place, problems: Problems) -> dict[str, Any] | None:
    """The content of a TOML file, or `None` and a problem that shows none of it."""
    import tomllib  # here, and not at the top: who opens a URL needs none of it

    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        problems.add(place, f"the file cannot be read: {error.strerror}", "Give the path of a file that can be read.")
    except UnicodeDecodeError as error:
        problems.add(place, f"the file is not UTF-8 (byte {error.start})", "Save it as UTF-8.")
    except RecursionError:
        problems.add(place, "the file is nested too deeply", "Flatten it.")
    except ValueError as error:
        problems.add(*_syntax(str(error), place))
    return None


def _syntax(message: str, place: Place) -> tuple[Place, str, str]:
    reason = message.partition(" (at ")[0]
    why = f": {reason[0].lower()}{reason[1:]}" if _SAFE_REASON.fullmatch(reason) else ""
    at = _POSITION.search(message)
    where = f" at line {at[1]}, column {at[2]}" if at else ""
    return place, f"no valid TOML{where}{why}", "Write key = value; a text stands in quotes, a number does not."


def read_secret(name: object, folder: Path, place: Place, problems: Problems) -> str | None:
    """The text of a secret file less one newline at its end, or `None` and a problem.

    The path is not shown: a secret put there by mistake would be.
    """
    if not isinstance(name, (str, Path)) or not str(name):
        problems.add(place, "this is no path", "Write the path of the file that holds the secret, as a text.")
        return None
    try:
        text = (folder / name).read_bytes().decode("utf-8")
    except OSError as error:
        problems.add(
            place,
            f"the secret file cannot be read: {error.strerror}",
            f"Create it, or correct the path (a relative one starts in {folder}).",
        )
        return None
    except ValueError:  # a null byte in the path, or content that is not UTF-8
        problems.add(place, "the path or the content of the secret file is not a text", "Store the secret as UTF-8.")
        return None
    text = text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")
    if not text:
        problems.add(place, "the secret file is empty", "Write the secret into it.")
        return None
    return text
