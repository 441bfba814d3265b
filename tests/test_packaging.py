"""What the distributions hold and say of themselves. `make wheels` tries them out, installed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

PACKAGES = {
    "dbcore": ROOT,
    "dbcore_sqlite": ROOT / "drivers" / "sqlite",
    "dbcore_postgres": ROOT / "drivers" / "postgres",
    "dbcore_asyncpg": ROOT / "drivers" / "asyncpg",
    "dbcore_mysql": ROOT / "drivers" / "mysql",
}

DRIVERS = [package for package in PACKAGES if package != "dbcore"]

BESIDE = {"dbcore": ("pytest_dbcore",)}
"""Packages that stand beside the one that the distribution is named after."""


def project(package: str) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((PACKAGES[package] / "pyproject.toml").read_text())["project"]
    return table


def requirements(package: str) -> dict[str, Requirement]:
    return {found.name: found for found in map(Requirement, project(package)["dependencies"])}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheels")
    for home in PACKAGES.values():
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(command, cwd=home, check=True, capture_output=True)
    return {package: zipfile.ZipFile(next(folder.glob(f"{package}-*.whl"))) for package in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_its_package_and_nothing_else(wheels: dict[str, zipfile.ZipFile], package: str) -> None:
    held = {name for name in wheels[package].namelist() if not name.split("/")[0].endswith(".dist-info")}
    files = {
        str(path.relative_to(PACKAGES[package]))
        for source in (package, *BESIDE.get(package, ()))
        for path in (PACKAGES[package] / source).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == files
    assert f"{package}/py.typed" in held


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_carries_the_license(wheels: dict[str, zipfile.ZipFile], package: str) -> None:
    assert any(name.endswith("/licenses/LICENSE") for name in wheels[package].namelist())


def test_the_core_depends_on_pydantic_alone() -> None:
    assert set(requirements("dbcore")) == {"pydantic"}


def test_each_driver_depends_on_the_core_and_its_library() -> None:
    assert set(requirements("dbcore_sqlite")) - {"pydantic"} == {"dbcore", "aiosqlite"}
    assert set(requirements("dbcore_postgres")) - {"pydantic"} == {"dbcore", "psycopg"}
    assert set(requirements("dbcore_asyncpg")) - {"pydantic"} == {"dbcore", "asyncpg"}
    assert set(requirements("dbcore_mysql")) - {"pydantic"} == {"dbcore", "asyncmy"}
    assert "binary" in requirements("dbcore_postgres")["psycopg"].extras, "pure Python is 15 times slower on rows"


def test_the_versions_go_together() -> None:
    versions = {package: project(package)["version"] for package in PACKAGES}
    assert len(set(versions.values())) == 1, versions
    for package in DRIVERS:
        assert requirements(package)["dbcore"].specifier.contains(versions["dbcore"])
        extra = Requirement(project("dbcore")["optional-dependencies"][package.removeprefix("dbcore_")][0])
        assert extra.name == package.replace("_", "-")
        assert extra.specifier.contains(versions[package])


@pytest.mark.parametrize("package", DRIVERS)
def test_a_driver_names_itself_in_the_entry_point_group(package: str) -> None:
    name = package.removeprefix("dbcore_")
    assert project(package)["entry-points"]["dbcore.drivers"] == {name: f"{package}:driver"}


def test_the_core_brings_a_pytest_plugin() -> None:
    assert project("dbcore")["entry-points"]["pytest11"] == {"dbcore": "pytest_dbcore"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_python_that_is_promised_is_one_of_the_classifiers(package: str) -> None:
    said = {each.rpartition(" ")[2] for each in project(package)["classifiers"] if ":: Python :: 3." in each}
    assert {"3.11", "3.12", "3.13"} <= said
    assert project(package)["requires-python"] == ">=3.11"
    assert "Typing :: Typed" in project(package)["classifiers"]
