"""The keys themselves: how they are stored, found, exchanged, and what is said of bad ones."""

from __future__ import annotations

import gc
import hashlib
import json
import stat
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from oipserver.access import AccessError
from oipserver.access.entry import read_file, read_text
from oipserver.access.guard import KeyGuard
from oipserver.access.new import PREFIX, append, digest_of, make
from oipserver.access.plain import plain_warning
from oipserver.access.reload import Keys
from oipserver.cli import main
from oipserver.config import AccessConfig, ServerConfig, TlsConfig, load_config
from oipserver.core.admission import Caller, Right
from oipserver.core.errors import Unauthorized
from tests.access.running import SERVICE, KeyedServer, Sent, entry, key, write
from tests.conformance.wires import Connection, message
from tests.grpc.running import failure, raw_request
from tests.server_process import ServerProcess
from tests.support import PATIENCE, until

BODY = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]}]}


def nobody() -> str:
    return ""


def guard_of(*entries: dict[str, Any]) -> KeyGuard:
    return KeyGuard(read_text(json.dumps(entries)), "x-api-key")


def who(guard: KeyGuard, text: str) -> Caller:
    return guard.identify((), (text,), nobody)


def test_a_list_without_keys_lets_nobody_in() -> None:
    with KeyedServer(AccessConfig(keys=[])) as server:
        server.ask("GET", "/v2").error("UNAUTHORIZED")


# --- one key -----------------------------------------------------------------------------------------------


def test_a_new_key_has_256_random_bits_and_is_stored_hashed() -> None:
    one, other = make("a", {}), make("a", {})
    assert one.key != other.key
    assert one.key.startswith(PREFIX)
    assert len(one.key) - len(PREFIX) == 43  # 32 bytes in base64
    [stored] = read_text(one.line)
    assert stored.sha256 == hashlib.sha256(one.key.encode()).hexdigest()
    assert one.key not in one.line


def test_the_guard_keeps_no_key() -> None:
    """Neither the keys, which it has never seen, nor what it was asked with."""
    guard = guard_of(entry("a"))
    assert who(guard, key("a")).name == "a"
    found = gc.get_objects()
    texts = {text for one in found if isinstance(one, dict) for text in one.values() if isinstance(text, str)}
    texts |= {text for one in found if isinstance(one, dict) for text in one if isinstance(text, str)}
    del found
    assert key("a") not in texts


def test_the_cost_of_finding_a_key_does_not_depend_on_how_many_there_are() -> None:
    """In calls, as the interpreter counts them: nothing is walked, and nothing compared letter by letter."""

    def calls(guard: KeyGuard, text: str) -> int:
        count = 0

        def tick(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(tick)
        try:
            guard.identify((), (text,), nobody)
        except Unauthorized:
            pass
        finally:
            sys.setprofile(None)
        return count

    few, many = guard_of(entry("a")), guard_of(entry("a"), *(entry(f"k{at}") for at in range(1000)))
    assert calls(few, key("a")) == calls(many, key("a")) == calls(many, key("k999"))
    assert calls(few, key("a")[:-1] + "x") == calls(many, "nothing like it")


def test_a_hundred_thousand_unknown_keys_leave_nothing_behind() -> None:
    guard = guard_of(entry("a", rate=10))

    def knock(count: int, mark: str) -> None:
        known = 0
        for at in range(count):
            with suppress(Unauthorized):
                who(guard, f"{mark}{at}")
                known += 1
        assert not known

    knock(1000, "first")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    knock(100_000, "then")
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 500_000  # 5 bytes for each; other threads may allocate something meanwhile


@pytest.mark.parametrize(
    ("models", "target", "may"),
    [
        (["iris"], "iris", True),
        (["iris"], "iris2", False),
        (["iris-*"], "iris-7", True),
        (["iris-*"], "x-iris-7", False),
        (["a", "b?"], "bc", True),
        (["*"], "anything", True),
        (["*"], "/a/route", True),
        (["iris"], "/a/route", False),
        (["/a/*"], "/a/route", True),
        (["Iris"], "iris", False),
        (["[ab]c"], "ac", True),
        (["iris"], "iris\n", False),
    ],
)
def test_patterns(models: list[str], target: str, may: bool) -> None:
    assert who(guard_of(entry("a", models=models)), key("a")).may(Right.INFER, target) is may


@pytest.mark.parametrize(
    ("roles", "rights"),
    [
        (["infer"], {Right.INFER, Right.DESCRIBE}),
        (["read"], {Right.READ, Right.DESCRIBE}),
        (["infer", "read"], {Right.INFER, Right.READ, Right.DESCRIBE}),
        (["admin"], set(Right)),
    ],
)
def test_roles(roles: list[str], rights: set[Right]) -> None:
    caller = who(guard_of(entry("a", roles=roles)), key("a"))
    assert {right for right in Right if caller.may(right)} == rights


# --- the list of keys --------------------------------------------------------------------------------------

DIGEST = "0" * 64


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("{", "expected a list in YAML"),
        ("name: a", "expected a list of keys"),
        ("- 7", "keys[0]: expected a table"),
        (f"- {{sha256: '{DIGEST}'}}", "keys[0].name: expected a name"),
        ("- {name: a}", "keys[0].sha256: expected it, or a subject"),
        ("- {name: a, sha256: my-secret-key}", "keys[0].sha256: expected 64 hexadecimal digits"),
        ("- {name: a, key: my-secret-key}", "keys[0].key: unknown key"),
        (f"- {{name: 'a b', sha256: '{DIGEST}'}}", "keys[0].name: expected"),
        (f"- {{name: a, sha256: '{DIGEST}', roles: [boss]}}", "keys[0].roles: expected a list of infer"),
        (f"- {{name: a, sha256: '{DIGEST}', roles: []}}", "keys[0].roles: expected"),
        (f"- {{name: a, sha256: '{DIGEST}', rate: 0}}", "keys[0].rate: expected a number a second"),
        (f"- {{name: a, sha256: '{DIGEST}', rate: 1.0e-310}}", "keys[0].rate: expected a number a second"),
        (f"- {{name: a, sha256: '{DIGEST}', burst: 3}}", "keys[0].burst: expected rate beside it"),
        (f"- {{name: a, sha256: '{DIGEST}'}}\n- {{name: b, sha256: '{DIGEST}'}}", "sha256"),
        (f"- {{name: a, sha256: '{DIGEST}'}}\n- {{name: a, sha256: '{'1' * 64}'}}", "name"),
    ],
)
def test_a_bad_list_is_told_without_what_may_be_a_key(tmp_path: Path, written: str, complaint: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(written)
    with pytest.raises(AccessError) as caught:
        Keys(AccessConfig(keys_file=str(path)))
    assert complaint in str(caught.value)
    assert "my-secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("keys.yaml", f"- name: a\n  sha256: '{DIGEST}'\n  rate: 2.5\n"),
        ("keys.json", json.dumps([{"name": "a", "sha256": DIGEST, "rate": 2.5}])),
        ("keys.toml", f"[[keys]]\nname = 'a'\nsha256 = '{DIGEST}'\nrate = 2.5\n"),
    ],
)
def test_one_list_in_three_forms(tmp_path: Path, name: str, written: str) -> None:
    (tmp_path / name).write_text(written)
    [found] = read_file(str(tmp_path / name))
    assert (found.name, found.sha256, found.rate, found.roles) == ("a", DIGEST, 2.5, ("infer",))


def test_the_list_may_stand_in_the_configuration(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text("from oipserver import App\napp = App()\n")
    stored = {"apps": [str(app)], "access": {"keys": [entry("a")]}}
    (tmp_path / "server.json").write_text(json.dumps(stored))
    by_file = load_config({"config": str(tmp_path / "server.json")}, {})
    by_variable = load_config({"app": str(app)}, {"OIPSERVER_ACCESS_KEYS": json.dumps([entry("a")])})
    for config in (by_file, by_variable):
        assert who(Keys(config.access).guard, key("a")).name == "a"


@pytest.mark.parametrize("flag", ["--access-keys=[", "--access-keys-file=/nowhere/keys.yaml"])
def test_bad_keys_end_the_start_with_one_line(tmp_path: Path, flag: str) -> None:
    app = tmp_path / "app.py"
    app.write_text("from oipserver import App\napp = App()\n@app.get('/x')\ndef x(): return {}\n")
    process = ServerProcess(f"--app={app}", flag).start()
    assert process.wait() == 2
    *_, line = process.output.splitlines()
    assert line.startswith(f"oipserver: access.keys{'_file' if 'file' in flag else ''}: ")


# --- exchanged while the server runs -----------------------------------------------------------------------


def test_keys_come_and_go_with_their_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write(path, entry("a"), entry("b", rate=1000))
    with KeyedServer(AccessConfig(keys_file=str(path), check_interval=1000.0)) as server:

        def status(name: str) -> int:
            return server.ask("POST", "/v2/models/m/infer", BODY, x_api_key=key(name)).status

        assert [status(name) for name in "abc"] == [200, 200, 401]
        write(path, entry("b", rate=1000), entry("c"))
        assert status("a") == 200
        server.look()
        assert [status(name) for name in "abc"] == [401, 200, 200]
        path.write_text("[{")
        server.look()
        assert [status(name) for name in "abc"] == [401, 200, 200]
        path.unlink()
        server.look()
        assert [status(name) for name in "abc"] == [401, 200, 200]
        write(path, entry("a"))
        server.look()
        assert [status(name) for name in "abc"] == [200, 401, 401]


def test_a_known_head_ends_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write(path, entry("a"), entry("b"))
    same = message("POST", "/v2/models/m/infer", json.dumps(BODY).encode(), {"x-api-key": key("a")})
    with (
        KeyedServer(AccessConfig(keys_file=str(path), check_interval=1000.0)) as server,
        Connection(server.http_port) as connection,
    ):

        def statuses() -> list[int]:
            return [connection.send(same).answer().status for _ in range(4)]

        assert statuses() == [200] * 4
        write(path, entry("b"))
        server.look()
        assert statuses() == [401] * 4
        write(path, entry("a", models=["other"]))
        server.look()
        assert statuses() == [403] * 4
        write(path, entry("a"))
        server.look()
        assert statuses() == [200] * 4


def test_the_file_is_looked_at_from_time_to_time(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write(path, entry("a"))
    with KeyedServer(AccessConfig(keys_file=str(path), check_interval=0.01)) as server:
        write(path, entry("b"))
        keys = server.server._keys
        assert keys is not None
        server.on_loop(until(lambda: keys.guard.generation >= 2))
        assert server.ask("GET", "/v2", x_api_key=key("b")).status == 200


def test_a_key_that_was_not_changed_keeps_what_it_has_used_up() -> None:
    one, other = entry("a", rate=0.001, burst=1), entry("b", rate=1)
    guard = guard_of(one, other)
    who(guard, key("a")).take()
    guard.take_entries(read_text(json.dumps([one])))
    assert who(guard, key("a")).try_take(3, 1) == 0
    guard.take_entries(read_text(json.dumps([entry("a", rate=0.001, burst=2)])))
    assert who(guard, key("a")).try_take(3, 1) == 2


def test_a_stream_ends_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write(path, entry("a"))
    message = raw_request(1.0).SerializeToString()
    with KeyedServer(AccessConfig(keys_file=str(path), check_interval=1000.0)) as server:
        sent = Sent()
        call = server.channel.stream_stream(SERVICE + "ModelStreamInfer", None, None)
        answers = call(iter(sent), timeout=PATIENCE, metadata=(("x-api-key", key("a")),))
        sent.put(message)
        assert b"not known" not in next(answers)
        write(path, entry("b"))
        server.look()
        sent.put(message)
        assert b"the API key is not known" in next(answers)
        sent.put(None)
        assert list(answers) == []


def test_what_is_closed_by_choice(tmp_path: Path) -> None:
    write(tmp_path / "keys.json", entry("a"))
    access = AccessConfig(keys_file=str(tmp_path / "keys.json"), open=("none",), header="x-mine")
    with KeyedServer(access) as server:
        for path in ("/v2/health/live", "/v2/health/ready", "/metrics", "/v2/docs", "/ping"):
            server.ask("GET", path).error("UNAUTHORIZED")
        assert server.ask("GET", "/v2/health/live", x_mine=key("a")).status == 200
        server.ask("GET", "/v2/health/live", x_api_key=key("a")).error("UNAUTHORIZED")
        server.ask("GET", "/metrics", x_mine=key("a")).error("FORBIDDEN")
        assert failure(lambda: server.call("ServerLive"))[0] is grpc.StatusCode.UNAUTHENTICATED
        assert failure(lambda: server.call("/grpc.health.v1.Health/Check"))[0] is (
            grpc.StatusCode.UNAUTHENTICATED
        )
        assert server.call("ServerLive", x_mine=key("a"))


# --- how they travel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "tls", "warned"),
    [
        ("127.0.0.1", TlsConfig(), False),
        ("::1", TlsConfig(), False),
        ("localhost", TlsConfig(), False),
        ("0.0.0.0", TlsConfig(), True),
        ("example.org", TlsConfig(), True),
        ("0.0.0.0", TlsConfig(terminated=True), False),
        ("0.0.0.0", TlsConfig(cert_file="a", key_file="b"), False),
    ],
)
def test_keys_in_the_clear_are_warned_about(host: str, tls: TlsConfig, warned: bool) -> None:
    assert ("readable to everybody" in plain_warning(ServerConfig(host=host, tls=tls))) is warned


def test_the_warning_is_given_at_start(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text("from oipserver import App\napp = App()\n@app.get('/x')\ndef x(): return {}\n")
    flags = (f"--app={app}", "--host=0.0.0.0", f"--access-keys={make('a', {}).line.strip()}")
    with ServerProcess(*flags) as server:
        assert "API keys come in readable to everybody" in server.output
    with ServerProcess(*flags, "--tls-terminated") as server:
        assert "readable to everybody" not in server.output


# --- the command -------------------------------------------------------------------------------------------


def test_the_command_shows_a_key_once_and_writes_its_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.yaml"
    given = ["keys", "new", "--name=ci", "--role=infer", "--role=read", "--model=iris-*", "--rate=5"]
    assert main([*given, f"--file={path}"]) == 0
    shown = capsys.readouterr().out.strip()
    [found] = read_file(str(path))
    assert digest_of(shown) == found.sha256
    assert (found.roles, found.models, found.rate) == (("infer", "read"), ("iris-*",), 5.0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert main(["keys", "new", "--name=other", "--rate=0.5", "--burst=2", f"--file={path}"]) == 0
    assert [one.name for one in read_file(str(path))] == ["ci", "other"]


def test_the_command_without_a_file_prints_the_line_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "--name=ci"]) == 0
    written = capsys.readouterr()
    line = next(line for line in written.err.splitlines() if line.startswith("- "))
    [found] = read_text(line)
    assert found.sha256 == digest_of(written.out.strip())
    assert written.out.strip() not in written.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--name=a b"], "keys[0].name"),
        (["--name=a", "--role=boss"], "keys[0].roles"),
        (["--name=a", "--rate=fast"], "--rate: expected a number"),
        (["--name=a", "--burst=2"], "keys[0].burst: expected rate"),
        (["--name=a", "--file=keys.json"], "--file: expected a name that ends in .yaml"),
        (["--name=a", "--file=/nowhere/keys.yaml"], "--file: cannot write"),
        ([], "--name"),
    ],
)
def test_the_command_complains_in_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "new", *arguments]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    [line] = written.err.splitlines()
    assert complaint in line


def test_a_name_is_not_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    append(path, make("a", {}).line)
    before = path.read_text()
    with pytest.raises(AccessError, match="name"):
        append(path, make("a", {}).line)
    assert path.read_text() == before
    path.write_text(before.rstrip("\n"))
    append(path, make("b", {}).line)
    assert [one.name for one in read_file(str(path))] == ["a", "b"]
