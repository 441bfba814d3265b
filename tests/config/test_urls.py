from __future__ import annotations

import re
import traceback
from urllib.parse import quote

import pytest
from config_drivers import ALPHA, make_driver, only_problem, problems_of
from hypothesis import given
from hypothesis import strategies as st

from dbcore.config import Config
from dbcore.config.urls import BadUrl, split_url
from dbcore.errors import ConfigError
from dbcore.loading import load, load_url

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@pytest.mark.parametrize(
    ("url", "keys"),
    [
        ("s://", {}),
        ("s://h", {"host": "h"}),
        ("s://h:5", {"host": "h", "port": "5"}),
        ("s://h:/d", {"host": "h", "database": "d"}),
        ("s:///d/e", {"database": "d/e"}),
        ("s://u@/d", {"user": "u", "database": "d"}),
        ("s://u:p%40%2F@[::1]:5/d", {"user": "u", "password": "p@/", "host": "::1", "port": "5", "database": "d"}),
        ("s://u:p@ss@h", {"user": "u", "password": "p@ss", "host": "h"}),
        ("s://h?a=1&b=x%20y+z&c=", {"host": "h", "a": "1", "b": "x y+z", "c": ""}),
        ("s://bench@/bench?host=/tmp/x/sock&port=54329",
         {"user": "bench", "database": "bench", "host": "/tmp/x/sock", "port": "54329"}),
        ("s:///a@b.db", {"database": "a@b.db"}),
    ],
)  # fmt: skip
def test_a_url_is_taken_apart(url: str, keys: dict[str, str]) -> None:
    assert split_url(url).keys() == keys


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "s:hunter2",
        "://hunter2",
        "s://u:hunter2@h:port/d",
        "s://u:hunter2@h/d#x",
        "s://u:hun#ter2@h",
        "s://u:hun/ter2@h",
        "s://u:1?hunter2@h",
        "s://u:1?hunter2=x@h",
        "s://u:1/hunter2@h/d",
        "s://u:hunter2%@h",
        "s://u:hunter2%zz@h",
        "s://u:%ff@h",
        "s://u:hunter2@[::1",
        "s://u:hunter2@[::1]x",
        " s://u:hunter2@h",
        "s://u:hunter2@h\n",
        "s://u:hunter2@h?a",
        "s://u:hunter2@h?=b",
        "s://u:hunter2@h?a=1&a=2",
        "s://u:hunter2@h?host=i",
        "s://h?password=hunter2&&x=1",
    ],
)
def test_what_is_no_good_url_is_told_without_showing_it(url: str) -> None:
    """Laws: P4."""
    with pytest.raises(BadUrl) as caught:
        split_url(url).keys()
    told = caught.value.what + caught.value.cure
    for part in ("hunter2", "hun", "ter2"):
        assert part not in told


@given(user=TEXT, password=TEXT, host=TEXT, port=st.integers(1, 65535), database=TEXT)
def test_percent_encoded_parts_come_back(user: str, password: str, host: str, port: int, database: str) -> None:
    def encoded(text: str) -> str:
        return quote(text, safe="")

    url = f"alpha://{encoded(user)}:{encoded(password)}@{encoded(host)}:{port}/{encoded(database)}"
    settings = load_url(url).settings
    assert (settings.user, settings.host, settings.port, settings.database) == (user, host, port, database)
    assert settings.password.get_secret_value() == password


@given(st.text())
def test_any_text_as_a_url_is_a_config_or_a_config_error(text: str) -> None:
    for url in (text, f"alpha://{text}", f"alpha://u:{text}@h", f"alpha://h?{text}", f"beta://{text}", f"{text}://h"):
        try:
            load_url(url)
        except ConfigError as error:
            assert error.problems  # noqa: PT017 (either outcome is right)


@given(st.text("0123456789abcdef/?#@:%&=. ", min_size=6))
def test_a_password_in_a_url_never_shows(text: str) -> None:
    """Laws: P1."""
    secret = f"Qx{text}xQ"
    for url in (f"alpha://u:{secret}@h:bad/d", f"alpha://u:{secret}@h/d?hots=1", f"gamma://u:{secret}@h"):
        with pytest.raises(ConfigError) as caught:
            load_url(url)
        told = str(caught.value) + repr(caught.value)
        assert "Qx" not in told
        assert "xQ" not in told


HIDING_PLACES = (
    "alpha://u:{}@h/d",
    "alpha://{}:x@h/d?hots=1",
    "alpha://h/d?password={}",
    "alpha://h/d?token={}",
    "alpha://h/d?pasword={}",
    "alpha://h/d?user=u&password={}&port=bad",
    "alpha://h/d#{}",
    "alpha://h:{}/d",
)


@pytest.mark.parametrize("url", HIDING_PLACES)
def test_a_secret_shows_from_no_place_of_a_url(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Laws: P1, P4."""
    secret = "".join(("hun", "ter", "2"))  # the line of the call below stands in the traceback
    try:
        config = load_url(url.format(secret))
    except ConfigError as error:
        told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.problems)
    else:
        told = f"{config!r} {config} {config.settings!r} {config.settings}"
    assert secret not in told + caplog.text


def test_the_keys_of_the_core_may_stand_in_the_query() -> None:
    config = load_url("beta:///x.db?pool.max_size=7&statement_timeout=2.5&startup=lazy&mode=ro&pool.max_lifetime=none")
    assert (config.pool.max_size, config.pool.max_lifetime) == (7, None)
    assert (config.statement_timeout, config.startup) == (2.5, "lazy")
    assert (config.settings.path, config.settings.mode) == ("/x.db", "ro")


def test_an_unknown_key_of_the_query_is_a_problem_with_the_nearest_one() -> None:
    problem = only_problem("alpha://h?pasword=hunter2")
    assert (problem.where, problem.what) == ("url (pasword)", "unknown key 'pasword'")
    assert problem.cure == "Did you mean 'password'?"


@pytest.mark.parametrize("key", ["drivr", "urll", "credential", "xyz"])
def test_an_unknown_key_of_the_query_is_not_likened_to_one_that_a_url_refuses(key: str) -> None:
    cure = only_problem(f"alpha://h?{key}=x").cure
    assert not {"driver", "url", "credentials"} & set(re.findall(r"\w+", cure))


def test_an_unknown_pool_key_of_the_query_is_a_problem_with_the_nearest_one() -> None:
    assert only_problem("alpha://h?pool.max_sice=1").cure == "Did you mean 'max_size'?"


@pytest.mark.parametrize("key", ["driver", "url", "credentials"])
def test_a_url_cannot_name_driver_url_or_credentials(key: str) -> None:
    assert "cannot be part of a URL" in only_problem(f"alpha://h?{key}=os:getcwd").what


def test_a_scheme_is_known_in_any_case_and_by_any_of_its_names() -> None:
    assert load_url("ALPHAsql://h").driver == "alpha"


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    problem = only_problem("gamma://u:hunter2@h")
    assert problem.where == "url"
    assert "'gamma'" in problem.what
    assert "alpha, alphasql" in problem.cure
    assert "gamma" not in problem.cure, "nobody promised a package of that name"


def test_a_scheme_with_a_plus_is_not_cut() -> None:
    assert "'alpha+x'" in only_problem("alpha+x://h").what


def test_a_driver_reads_its_own_urls_and_its_problems_are_taken_over() -> None:
    assert only_problem("beta:////x").what == "the path has two slashes"
    assert str(only_problem("beta://host")) == "url: there is no host in this URL. Leave it out."


def test_what_a_driver_raises_over_a_url_is_not_shown() -> None:
    problem = only_problem("beta://x?int=hunter2")
    assert "cannot read this URL" in problem.what
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    ("beside", "key"),
    [
        ({"user": "me"}, "user"),
        ({"password": "x"}, "password"),
        ({"pool": {"max_size": 5}}, "pool.max_size"),
        ({"statement_timeout": 5}, "statement_timeout"),
    ],
)
def test_a_key_in_the_url_and_beside_it_is_a_contradiction(beside: dict[str, object], key: str) -> None:
    url = "alpha://u:hunter2@h?pool.max_size=5&statement_timeout=5"
    problem = only_problem({"url": url, **beside})
    assert problem.where == f"config: {key}"
    assert problem.what == f"{key} is in the URL as well"


def test_a_password_in_the_url_and_in_a_file_is_a_contradiction() -> None:
    problem = only_problem({"url": "alpha://u:hunter2@h", "password_file": "x"})
    assert (problem.where, problem.what) == ("config: password_file", "password is given as well as password_file")


def test_keys_beside_the_url_complete_it() -> None:
    config = load({"url": "alpha://u@h", "password": "pw", "ratio": 2, "pool.min_size": 2})["main"]
    assert config.settings.password.get_secret_value() == "pw"
    assert (config.settings.user, config.settings.ratio, config.pool.min_size) == ("u", 2.0, 2)


def test_driver_and_url_that_differ_are_a_contradiction() -> None:
    problem = only_problem({"driver": "alpha", "url": "beta://x"})
    assert problem.where == "config: url"
    assert "does not answer" in problem.what
    assert "alpha, alphasql" in problem.cure
    assert load({"driver": "alpha", "url": "alphasql://h"})["main"].driver == "alpha"


def test_a_broken_url_does_not_make_other_keys_missing() -> None:
    (problem,) = problems_of({"driver": "beta", "url": "beta:////x"})
    assert problem.where == "config: url"


def test_from_url_makes_a_config() -> None:
    config = Config.from_url("alpha://u:hunter2@h/d", name="other")
    assert (config.name, config.driver, config.settings.host) == ("other", "alpha", "h")
    assert "hunter2" not in repr(config)


def test_from_url_takes_a_driver_value() -> None:
    gamma = make_driver("gamma")
    assert Config.from_url("gamma://h", driver=gamma).driver == "gamma"
    with pytest.raises(ConfigError, match="no driver is installed for the URL scheme 'delta'"):
        Config.from_url("delta://h", driver=gamma)
    assert Config.from_url("alpha://h", driver=ALPHA).driver == "alpha"
