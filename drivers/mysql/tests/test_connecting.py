"""Connecting: what fails for good, what may pass, encryption, sockets."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cutting import connects_that_are_cut_off_leave_no_file_open, on_linux
from dbcore_mysql.connection import server_info
from dbcore_mysql.driver import make_hooks
from mysql_connections import changed, configured, connected, failure, rows
from mysql_server import Outside, Server
from servers import ENCODED, PASSWORD, USER, ServerMissing

import dbcore as db
from dbcore.errors import DbConnectionError


async def refusal(url: str, **keys: Any) -> DbConnectionError:
    error = await failure(make_hooks(configured(url, **keys)).connect())
    assert isinstance(error, DbConnectionError)
    return error


# -- what fails --------------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_permanent_and_has_its_code(mysql_url: str) -> None:
    error = await refusal(changed(mysql_url, password="wr0ng"))
    assert (error.retryable, error.sqlstate) == (False, "28000")
    assert "Access denied" in str(error)
    assert "wr0ng" not in f"{error!s}{error!r}"


async def test_a_database_that_is_not_there_is_permanent(mysql_url: str) -> None:
    error = await refusal(changed(mysql_url, path="/nowhere"))
    assert (error.retryable, error.sqlstate) == (False, "42000")
    assert "nowhere" in str(error)


async def test_where_nobody_listens_it_may_pass(mysql_url: str) -> None:
    error = await refusal(changed(mysql_url, port=1))
    assert error.retryable
    assert "127.0.0.1:1 cannot be reached: Connection refused" in str(error)


async def test_a_name_that_nobody_knows_may_pass() -> None:
    error = await refusal("mysql://app@no-such-host.invalid/shop")
    assert error.retryable
    assert "no-such-host.invalid" in str(error)


@pytest.mark.parametrize("key", ["variables.no_such_variable", "variables.lock_wait_timeout"])
async def test_a_variable_that_the_server_refuses_is_permanent(mysql_url: str, key: str) -> None:
    error = await refusal(f"{mysql_url}?{key}=nonsense")
    assert not error.retryable
    assert key.rpartition(".")[2] in str(error)


async def test_a_server_that_hangs_up_may_come_back() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await refusal(f"mysql://app@127.0.0.1:{port}/shop")).retryable


async def test_a_server_that_speaks_another_language_is_no_connection() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await refusal(f"mysql://app@127.0.0.1:{port}/shop")


async def test_a_connect_that_is_cancelled_leaves_nothing_behind() -> None:
    """Laws: E1."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hooks = make_hooks(configured(f"mysql://app@127.0.0.1:{silent.getsockname()[1]}/shop"))
        task = asyncio.ensure_future(hooks.connect())
        peer, _ = await asyncio.to_thread(silent.accept)
        with peer:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert await asyncio.to_thread(peer.recv, 1) == b""


@on_linux
async def test_a_connect_leaves_no_file_open_wherever_it_is_cut_off(mysql_url: str) -> None:
    """Laws: E6."""
    await connects_that_are_cut_off_leave_no_file_open(make_hooks(configured(mysql_url)))


async def test_too_many_connections_may_pass() -> None:
    with own_server({"max-connections": "10"}) as server:
        held: list[Outside] = []
        try:
            while True:
                try:
                    held.append(Outside(server.url).__enter__())
                except Exception:
                    break
            error = await refusal(server.url)
            assert error.retryable
            assert "1040" in str(error)
        finally:
            for outside in held:
                outside.__exit__()


# -- what succeeds -----------------------------------------------------------------------------------------------------


async def test_a_session_is_as_the_driver_needs_it(mysql_url: str) -> None:
    async with connected(f"{mysql_url}?variables.lock_wait_timeout=77") as (hooks, connection):
        facts = "SELECT @@character_set_client, @@time_zone, @@autocommit, @@lock_wait_timeout, @@sql_mode"
        ((charset, zone, commits, seconds, mode),) = await rows(connection, facts)
        assert (charset, zone, commits, seconds) == ("utf8mb4", "+00:00", 1, 77)
        assert {"STRICT_ALL_TABLES", "ONLY_FULL_GROUP_BY"} <= set(mode.split(","))
        assert hooks.is_clean(connection)
        assert hooks.is_usable(connection)
        info = await server_info(connection)
        assert info.version.split()[0] in ("MariaDB", "MySQL")
        assert info.version.split()[1][0].isdigit()


async def test_a_password_beyond_ascii(mysql_url: str) -> None:
    with Outside(mysql_url) as ask:
        ask("CREATE OR REPLACE USER strange@'%' IDENTIFIED BY 'pä東ß'")
        try:
            async with connected(changed(mysql_url, user="strange", password=quote("pä東ß"), path="/")) as (
                _,
                connection,
            ):
                assert await rows(connection, "SELECT 1") == [(1,)]
        finally:
            ask("DROP USER strange@'%'")


def own_server(settings: dict[str, str | None]) -> Server:
    try:
        return Server(settings)
    except ServerMissing as error:
        pytest.skip(str(error))


async def test_a_unix_socket(mysql: Server) -> None:
    url = f"mysql://{USER}:{ENCODED}@/test?unix_socket={mysql.socket}"
    async with connected(url) as (_, connection):
        assert await rows(connection, "SELECT DATABASE()") == [("test",)]
    error = await refusal(f"mysql://{USER}@/test?unix_socket={mysql.socket}.not")
    assert error.retryable
    assert "socket.not" in str(error)


async def test_a_pool_is_well_again_after_a_restart(tmp_path: Path) -> None:
    with own_server({}) as server:
        async with db.open({"url": server.url, "pool": {"max_size": 3}}) as database:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(database.fetch_value("SELECT SLEEP(0.05)"))
            await asyncio.to_thread(server.restart)
            for _ in range(5):
                assert await database.fetch_value("SELECT 1") == 1
            with Outside(server.url) as ask:  # all that idle are killed
                for (number,) in ask("SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()"):
                    ask(f"KILL {number}")
            for _ in range(5):
                assert await database.fetch_value("SELECT 1") == 1


# -- encryption --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server with a certificate for `localhost`, and the folder of the authority that signed it."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)
    for parent in list(folder.parents)[:3]:
        if parent.owner() == folder.owner() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    ca = ["-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2"]
    ca += ["-addext", "keyUsage=critical,keyCertSign"]  # Python 3.13 wants authorities to say that they are such
    openssl("req", *ca, "-subj", "/CN=authority")
    openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost"
    )
    (folder / "names").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", "request.pem", "-out", "cert.pem", *sign)
    (folder / "key.pem").chmod(0o644)
    with own_server({f"ssl-{key}": str(folder / f"{key}.pem") for key in ("ca", "cert", "key")}) as server:
        yield server, folder


@pytest.mark.parametrize(
    ("host", "query", "encrypts"),
    [
        ("127.0.0.1", "", True),
        ("127.0.0.1", "ssl_mode=disabled", False),
        ("127.0.0.1", "ssl_mode=required", True),
        ("127.0.0.1", "ssl_mode=verify_ca&ssl_ca={ca}", True),
        ("localhost", "ssl_mode=verify_identity&ssl_ca={ca}", True),
        ("localhost", "ssl_mode=required&ssl_cert={cert}&ssl_key={key}", True),
    ],
)
async def test_encryption_is_as_it_was_asked_for(
    encrypted: tuple[Server, Path], host: str, query: str, encrypts: bool
) -> None:
    server, folder = encrypted
    files = {name: str(folder / f"{name}.pem") for name in ("ca", "cert", "key")}
    url = f"{changed(server.url, host=host, password=quote(PASSWORD, safe=''))}?{query.format(**files)}".rstrip("?")
    async with connected(url) as (hooks, connection):
        ((_, cipher),) = await rows(connection, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        assert bool(cipher) is encrypts
        assert (await server_info(connection)).tls is encrypts
        assert hooks.is_usable(connection)
        large = "x" * 1_000_000
        assert await rows(connection, "SELECT %s", large) == [(large,)]
        assert hooks.is_usable(connection)


@pytest.mark.parametrize(
    ("host", "query", "word"),
    [
        ("127.0.0.1", "ssl_mode=verify_identity&ssl_ca={ca}", "not valid for '127.0.0.1'"),
        ("localhost", "ssl_mode=verify_identity", "self-signed certificate in certificate chain"),
        ("localhost", "ssl_mode=verify_ca&ssl_ca=/no/such/file", "ssl_ca, ssl_cert and ssl_key"),
    ],
)
async def test_a_certificate_that_is_not_trusted_is_permanent(
    encrypted: tuple[Server, Path], host: str, query: str, word: str
) -> None:
    server, folder = encrypted
    error = await refusal(f"{changed(server.url, host=host)}?{query.format(ca=folder / 'ca.pem')}")
    assert not error.retryable
    assert word in str(error)


async def test_encryption_that_the_server_does_not_offer_is_permanent(mysql: Server) -> None:
    async with connected(mysql.url) as (_, connection):
        assert not connection.is_encrypted
    error = await refusal(f"{mysql.url}?ssl_mode=required")
    assert not error.retryable
    assert "does not offer encryption" in str(error)


def test_a_context_is_made_once_for_its_files(encrypted: tuple[Server, Path]) -> None:
    from dbcore_mysql.connecting import _tls

    _, folder = encrypted
    settings = configured(f"mysql://db/x?ssl_mode=verify_ca&ssl_ca={folder / 'ca.pem'}").settings
    first = _tls(settings)
    assert isinstance(first, ssl.SSLContext)
    assert _tls(settings) is first
    (folder / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
    assert _tls(settings) is not first
