"""What `mkdocs.yml` asks for while the site is built: pages that stand outside of `docs`, and the version.

A link means the same in the repository and on the site. So `../README.md` of a page becomes the page made of it, and
what is `docs/config.md` in the README becomes `config.md`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

PAGES = {"README.md": "overview.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""What stands beside `docs`, and the pages made of it."""

OUTSIDE = re.compile(rf"\]\((?:\.\./)+(?P<name>{'|'.join(map(re.escape, PAGES))})")
FROM_OUTSIDE = re.compile(rf"\]\((?P<name>docs/|{'|'.join(map(re.escape, PAGES))})")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show the version of the project on every page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    config.copyright = f"{project['name']} {project['version']}"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=FROM_OUTSIDE.sub(_from_outside, text)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to what stands outside at the pages made of it."""
    up = "../" * page.file.src_uri.count("/")
    return OUTSIDE.sub(lambda found: f"]({up}{PAGES[found['name']]}", markdown)


def _from_outside(found: re.Match[str]) -> str:
    return f"]({PAGES.get(found['name'], '')}"
