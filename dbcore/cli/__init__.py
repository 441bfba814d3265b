"""The command `dbcore`, built on typer and rich: the extra `cli`. The library itself never imports it."""
