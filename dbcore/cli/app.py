"""The commands: what they are asked, what they print, and with which code they exit."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dbcore.cli.checking import find_drivers, probe, read
from dbcore.cli.tables import connection_table, driver_table, problem_text
from dbcore.loading import schema as config_schema
from dbcore.registry import offer

__all__ = ["app"]

# A traceback with the values of local variables would show passwords.
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

WIDTH_OF_A_FILE = 160
"""Columns where the output goes to a file or a pipe, which have no width of their own."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dbcore {version('dbcore')}")
        raise typer.Exit


@app.callback()
def dbcore(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Look at a database config, at what it connects to, and at the drivers that are installed."""


@app.command()
def check(
    source: Annotated[
        str | None,
        typer.Argument(metavar="FILE|URL", help="The config. Without one: the file $DBCORE_CONFIG, else db.toml here."),
    ] = None,
    *,
    connect: Annotated[bool, typer.Option("--connect", help="Connect as well, and ask each server who it is.")] = False,
) -> None:
    """Show every connection of a config and everything that is wrong with it. Exits with 1 if anything is."""
    report = read(source)
    if connect:
        report = asyncio.run(probe(report))
    console = _console()
    if report.configs:
        console.print(connection_table(report))
    for problem in report.problems:
        console.print(problem_text(problem), soft_wrap=True)
    raise typer.Exit(1 if report.problems else 0)


@app.command()
def drivers() -> None:
    """List the drivers that are installed. Exits with 1 if one of them is broken."""
    found = find_drivers()
    console = _console()
    if not found:
        console.print(
            f"No driver is installed. Each is a package of its own: {offer(())}", markup=False, soft_wrap=True
        )
    else:
        console.print(driver_table(found))
    problems = [problem for each in found for problem in each.problems]
    for problem in problems:
        console.print(problem_text(problem), soft_wrap=True)
    raise typer.Exit(1 if problems else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the config file, for editors: with the keys of every driver that is installed."""
    typer.echo(json.dumps(config_schema(), indent=2))


@app.command()
def conformance(
    connection: Annotated[
        str | None,
        typer.Argument(metavar="CONNECTION", help="Its name in the config, or a URL. Without one: the default."),
    ] = None,
    *,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The config. Without one: the file $DBCORE_CONFIG, else db.toml here."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as a page as well, in Markdown.")
    ] = None,
    figures: Annotated[bool, typer.Option(help="Measure how fast it is, for about a second.")] = True,
) -> None:
    """Try a driver: does it keep what dbcore promises? Exits with 1 if it breaks something.

    Makes tables named dbcore_conformance_* in that database and drops them again. Use a database for trying things.
    """
    from dbcore.cli.conformance import conform  # here: the other commands have no use for the suite

    raise typer.Exit(0 if conform(connection, config, markdown, _console(), figures=figures) else 1)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_OF_A_FILE)
