"""`python -m dbcore` and the command `dbcore`: what to install where its extra is missing, else the command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command. Exits with 1, and says what to install, where typer or rich are missing."""
    try:
        from dbcore.cli.app import app  # here, since it needs what may not be installed
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in {"typer", "rich"}:
            raise
        sys.exit(f'The command needs {missing}, which is not installed: pip install "dbcore[cli]"')
    app(prog_name="dbcore")


if __name__ == "__main__":
    main()
