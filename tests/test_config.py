"""The configuration: who wins, what is refused, and that one error says everything."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from oipserver.config import ConfigError, ServerConfig, for_model, load_config
from oipserver.config.schema import MODEL_SETTINGS, SERVER_SETTINGS, SETTINGS
from oipserver.core.model_config import ModelConfig


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "flowers.joblib"
    path.write_bytes(b"")
    return path


def load(
    model: Path, flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> ServerConfig:
    """A configuration with one good model, so that a test may speak of one thing only."""
    return load_config({"model_uri": str(model), "runtime": "sklearn", **(flags or {})}, environ or {})


def problems(flags: Mapping[str, str], environ: Mapping[str, str] | None = None, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(flags, environ or {}, **options)
    assert str(caught.value) == "; ".join(caught.value.problems)
    assert "\n" not in str(caught.value)
    return caught.value.problems


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


# ------------------------------------------------------------------------------------------- defaults


def test_the_defaults_are_those_of_the_documents(model_file: Path) -> None:
    config = load(model_file)
    assert (config.host, config.http.port, config.grpc.port) == ("127.0.0.1", 8080, 8081)
    assert (config.http.max_json_bytes, config.http.max_body_bytes) == (32 * 2**20, 64 * 2**20)
    assert (config.http.max_header_bytes, config.http.max_headers, config.http.max_url_bytes) == (
        65536,
        100,
        8192,
    )
    assert (config.http.header_timeout, config.http.body_timeout) == (10.0, 30.0)
    assert (config.http.min_body_rate, config.http.keep_alive_timeout) == (1000, 75.0)
    assert (config.http.write_timeout, config.http.max_connections) == (60.0, 10_000)
    assert (config.grpc.max_message_bytes, config.grpc.max_concurrent_rpcs) == (64 * 2**20, 512)
    assert (config.limits.default_timeout, config.limits.max_queue_size) == (60.0, 8192)
    assert config.limits.max_queue_bytes == 2**30
    assert (config.shutdown.lame_duck, config.shutdown.drain, config.log.level) == (5.0, 20.0, "info")
    assert config.models == (ModelConfig("flowers", "sklearn", str(model_file)),)


def test_a_server_config_needs_no_argument() -> None:
    assert ServerConfig().models == ()


# -------------------------------------------------------------------------------------- the naming law


@pytest.mark.parametrize("one", SERVER_SETTINGS, ids=lambda one: one.leaf.path)
def test_flag_and_variable_follow_from_the_path(one: Any) -> None:
    words = "app" if one.leaf.path == "apps" else one.leaf.path.replace(".", "_")
    assert one.flag == "--" + words.replace("_", "-")
    assert one.env == "OIPSERVER_" + words.upper()


def test_no_two_settings_share_a_name() -> None:
    assert len(SETTINGS) == len(SERVER_SETTINGS) + len(MODEL_SETTINGS) + 1


def test_every_setting_has_a_help_text() -> None:
    assert all(one.leaf.help for one in SETTINGS.values())


# Values for the settings that are no number.
TEXTS = {
    "host": "localhost",
    "model_repository": str(Path(__file__).parent),
    "log.level": "debug",
    "log.format": "json",
    "tracing.endpoint": "http://collector:4318",
    "model_control": "poll",
    "sources.cache_dir": "/var/cache/models",
    "tls.cert_file": "/etc/tls/tls.crt",
    "tls.key_file": "/etc/tls/tls.key",
    "tls.client_ca_file": "/etc/tls/ca.crt",
    "tls.client_auth": "required",
    "access.keys_file": "/etc/oipserver/keys.yaml",
    "access.keys": "[]",
    "access.header": "x-token",
}
VALUES = {"log.requests": 0.5, "http.busy_poll": 0.002}
LISTS = {
    "apps": ["shop.routes:app", "stock"],
    "access.open": ["health", "docs"],
    "sources.schemes": ["https", "s3"],
    "sources.allow_hosts": ["10.0.0.0/8", "store"],
}


@pytest.mark.parametrize("one", SERVER_SETTINGS, ids=lambda one: one.leaf.path)
def test_every_setting_is_reached_from_flag_environment_and_file(
    one: Any, model_file: Path, tmp_path: Path
) -> None:
    number = not one.leaf.default if one.leaf.annotation is bool else VALUES.get(one.leaf.path, 7)
    value = TEXTS.get(one.leaf.path, LISTS.get(one.leaf.path, number))
    text = ", ".join(value) if isinstance(value, list) else str(value)
    section, _, name = one.leaf.path.rpartition(".")
    table = {section: {name: value}} if section else {name: value}
    file = write(tmp_path / "config.json", json.dumps(table))
    by_flag = load(model_file, {one.name: text})
    by_variable = load(model_file, environ={one.env: text})
    by_file = load(model_file, {"config": file})
    assert by_flag == by_variable == by_file != load(model_file)
    expected = tuple(value) if isinstance(value, list) else value
    assert getattr(getattr(by_flag, section) if section else by_flag, name) == expected


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("model_name", "a", "name", "a"),
        ("model_version", "v2", "version", "v2"),
        ("max_batch_size", "0", "max_batch_size", 0),
    ],
)
def test_a_model_setting_is_reached_from_flag_and_environment(
    name: str, value: str, field: str, expected: object, model_file: Path
) -> None:
    (by_flag,) = load(model_file, {name: value}).models
    (by_variable,) = load(model_file, environ={SETTINGS[name].env: value}).models
    assert by_flag == by_variable
    assert getattr(by_flag, field) == expected


def test_nested_model_settings(model_file: Path) -> None:
    flags = {"max_queue_delay_microseconds": "250", "instances": "3", "placement": "thread"}
    (model,) = load(model_file, flags).models
    assert model.dynamic_batching.max_queue_delay_microseconds == 250
    assert (model.instance_group.count, model.instance_group.placement) == (3, "thread")


# ------------------------------------------------------------------------------------------ precedence


@pytest.mark.parametrize(
    ("flag", "variable", "in_file", "winner"),
    [
        (None, None, None, 8080),
        (None, None, 3, 3),
        (None, "2", None, 2),
        (None, "2", 3, 2),
        ("1", None, None, 1),
        ("1", None, 3, 1),
        ("1", "2", None, 1),
        ("1", "2", 3, 1),
        ("<no value>", "2", 3, 2),
        ("<no value>", "<no value>", 3, 3),
        ("<no value>", "", None, 8080),
        ("1", "not a port", "nor this", 1),
    ],
)
def test_flags_before_environment_before_file_before_defaults(
    flag: str | None, variable: str | None, in_file: object, winner: int, model_file: Path, tmp_path: Path
) -> None:
    table = {} if in_file is None else {"http": {"port": in_file}}
    flags = {"config": write(tmp_path / "c.json", json.dumps(table))} | ({"http_port": flag} if flag else {})
    environ = {} if variable is None else {"OIPSERVER_HTTP_PORT": variable}
    assert load(model_file, flags, environ).http.port == winner


# ---------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("off", ["off", "OFF", "null"])
def test_a_front_is_switched_off_by_text(off: str, model_file: Path) -> None:
    assert load(model_file, {"grpc_port": off}).grpc.port is None


@pytest.mark.parametrize("off", ["off", "'off'", "null", "false"])
def test_a_front_is_switched_off_in_yaml(off: str, model_file: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", f"grpc: {{port: {off}}}")
    assert load(model_file, {"config": file}).grpc.port is None


def test_port_zero_is_a_port(model_file: Path) -> None:
    config = load(model_file, {"http_port": "0", "grpc_port": "0"})
    assert (config.http.port, config.grpc.port) == (0, 0)


def test_port_zero_is_a_port_in_a_file(model_file: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "http: {port: 0}\nshutdown: {lame_duck: 0}")
    config = load(model_file, {"config": file})
    assert (config.http.port, config.shutdown.lame_duck) == (0, 0.0)


def test_a_log_level_may_be_upper_case(model_file: Path) -> None:
    assert load(model_file, {"log_level": "DEBUG"}).log.level == "debug"


PORT = "expected a port from 0 (any free one) to 65535, or 'off'"
BYTES = "expected a whole number of bytes from 1"
NAME = "expected 1 to 128 of the characters A-Z a-z 0-9 . _ - with a letter or digit first"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("http_port", "abc", f"--http-port: {PORT}, got 'abc'"),
        ("http_port", "65536", f"--http-port: {PORT}, got '65536'"),
        ("grpc_port", "-1", f"--grpc-port: {PORT}, got '-1'"),
        ("grpc_port", "80.5", f"--grpc-port: {PORT}, got '80.5'"),
        ("http_port", "", f"--http-port: {PORT}, got ''"),
        ("http_max_json_bytes", "0", f"--http-max-json-bytes: {BYTES}, got '0'"),
        ("http_max_body_bytes", "64MiB", f"--http-max-body-bytes: {BYTES}, got '64MiB'"),
        ("grpc_max_message_bytes", "2147483648", "--grpc-max-message-bytes: expected bytes from 1 to"),
        ("http_max_headers", "-5", "--http-max-headers: expected a whole number from 1, got '-5'"),
        ("http_header_timeout", "0", "--http-header-timeout: expected seconds above 0, got '0'"),
        ("http_header_timeout", "nan", "--http-header-timeout: expected seconds above 0, got 'nan'"),
        ("http_header_timeout", "inf", "--http-header-timeout: expected seconds above 0, got 'inf'"),
        ("shutdown_drain", "-1", "--shutdown-drain: expected seconds from 0, got '-1'"),
        ("limits_max_queue_size", "many", "--limits-max-queue-size: expected a whole number from 1, got 'm"),
        ("log_level", "loud", "--log-level: expected one of debug, info, warning, error, got 'loud'"),
        ("host", "two words", "--host: expected an address or a host name, got 'two words'"),
        ("host", "", "--host: expected an address or a host name, got ''"),
        ("model_name", "../etc", f"--model-name: {NAME}, got '../etc'"),
        ("model_name", "a" * 129, f"--model-name: {NAME}, got '{'a' * 129}'"),
        ("model_name", "iris\n", f"--model-name: {NAME}, got 'iris?'"),
        ("model_name", "-iris", f"--model-name: {NAME}, got '-iris'"),
        ("model_version", "1/2", f"--model-version: {NAME}, got '1/2'"),
        ("max_batch_size", "-1", "--max-batch-size: expected rows from 1, or 0 for a model without"),
        ("instances", "0", "--instances: expected a whole number from 1 to 4096, got '0'"),
        ("placement", "gpu", "--placement: expected one of auto, inline, thread, got 'gpu'"),
        ("max_queue_delay_microseconds", "1.5", "--max-queue-delay-microseconds: expected microseconds"),
        ("runtime", "", "--runtime: expected an installed runtime, got ''"),
        ("model_uri", "", "--model-uri: expected a local path or a URI, got ''"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_what_was_expected_and_what_came(
    name: str, value: str, complaint: str, model_file: Path
) -> None:
    (problem,) = problems({"model_uri": str(model_file), "runtime": "sklearn", name: value})
    assert problem.startswith(complaint)


def test_values_of_a_file_are_not_guessed_from_text(model_file: Path, tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.yaml", "http: {port: '8080', max_headers: true, max_connections: , header_timeout: 5}"
    )
    flags = {"model_uri": str(model_file), "runtime": "sklearn", "config": file}
    assert problems(flags) == [
        f"{file}: http.port: {PORT}, got '8080'",
        f"{file}: http.max_headers: expected a whole number from 1, got bool True",
        f"{file}: http.max_connections: expected a whole number from 1, got nothing",
    ]


def test_values_of_every_kind_are_refused_in_their_words(model_file: Path, tmp_path: Path) -> None:
    model = {
        "model_uri": 5,
        "runtime": ["sklearn"],
        "parameters": "none",
        "dynamic_batching": {"retry_failed": "maybe", "max_queue_delay_microseconds": "soon"},
    }
    file = write(tmp_path / "c.json", json.dumps({"models": [model]}))
    assert problems({"config": file}) == [
        f"{file}: models[0].model_uri: expected a local path or a URI, got int 5",
        f"{file}: models[0].runtime: expected an installed runtime, got list ['sklearn']",
        f"{file}: models[0].parameters: expected a table of values, got 'none'",
        f"{file}: models[0].dynamic_batching.retry_failed: expected true or false, got 'maybe'",
        f"{file}: models[0].dynamic_batching.max_queue_delay_microseconds: expected microseconds"
        " from 0, got 'soon'",
    ]


def test_the_default_priority_is_one_of_the_levels(model_file: Path, tmp_path: Path) -> None:
    model = {"model_uri": str(model_file), "runtime": "sklearn"}
    batching = {"priority_levels": 2, "default_priority_level": 3}
    file = write(tmp_path / "c.json", json.dumps({"models": [{**model, "dynamic_batching": batching}]}))
    assert problems({"config": file}) == [
        f"{file}: models[0].dynamic_batching.default_priority_level: "
        "expected one of the 2 priority_levels, got 3"
    ]
    batching["default_priority_level"] = 2
    file = write(tmp_path / "d.json", json.dumps({"models": [{**model, "dynamic_batching": batching}]}))
    (read,) = load(model_file, {"config": file}).models
    assert (read.dynamic_batching.priority_levels, read.dynamic_batching.default_priority_level) == (2, 2)


def test_one_error_lists_every_bad_field_of_every_source(tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.yaml",
        """
        http: {max_headers: none of them, prot: 1}
        shutdown: 5
        limit: {}
        models:
          - {name: a/b, runtime: sklern, model_uri: missing.joblib, verison: 2}
          - just a name
          - {name: c}
        """,
    )
    flags = {"config": file, "http_port": "x"}
    assert problems(flags, {"OIPSERVER_LOG_LEVEL": "loud"}, runtimes=["sklearn"]) == [
        f"{file}: http.prot: unknown key, did you mean 'http.port'?",
        f"{file}: shutdown: expected a section of settings, got int 5",
        f"{file}: limit: unknown key, did you mean 'limits'?",
        f"{file}: models[0].verison: unknown key, did you mean 'version'?",
        f"{file}: models[1]: expected a table that describes a model, got 'just a name'",
        f"{file}: http.max_headers: expected a whole number from 1, got 'none of them'",
        "OIPSERVER_LOG_LEVEL: expected one of debug, info, warning, error, got 'loud'",
        f"--http-port: {PORT}, got 'x'",
        f"{file}: models[0].name: {NAME}, got 'a/b'",
        f"{file}: models[0].model_uri: no such file or directory: '{tmp_path}/missing.joblib'",
        f"{file}: models[0].runtime: expected an installed runtime (sklearn), got 'sklern',"
        " did you mean 'sklearn'?",
        f"{file}: models[2].runtime: expected an installed runtime (sklearn), got nothing",
        f"{file}: models[2].model_uri: expected a local path or a URI, got nothing",
    ]


def test_both_fronts_off(model_file: Path) -> None:
    flags = {"model_uri": str(model_file), "runtime": "sklearn", "http_port": "off"}
    assert problems(flags, {"OIPSERVER_GRPC_PORT": "off"}) == [
        "--http-port and OIPSERVER_GRPC_PORT: expected a port for one of them, got 'off' for both"
    ]


def test_both_fronts_on_one_port(model_file: Path) -> None:
    flags = {"model_uri": str(model_file), "runtime": "sklearn", "grpc_port": "8080"}
    assert problems(flags) == ["--grpc-port: expected another port than http.port, got 8080 for both"]


def test_a_bad_port_is_not_also_a_clash(model_file: Path) -> None:
    flags = {"model_uri": str(model_file), "runtime": "sklearn", "http_port": "x", "grpc_port": "8080"}
    assert problems(flags) == [f"--http-port: {PORT}, got 'x'"]


def test_an_unknown_flag() -> None:
    assert "http_prot: unknown flag, did you mean 'http_port'?" in problems({"http_prot": "1"})


# ----------------------------------------------------------------------------------------- environment


SERVICE_LINKS = {
    "OIPSERVER_SERVICE_HOST": "10.96.0.7",
    "OIPSERVER_SERVICE_PORT": "8080",
    "OIPSERVER_SERVICE_PORT_HTTP": "8080",
    "OIPSERVER_PORT": "tcp://10.96.0.7:8080",
    "OIPSERVER_PORT_8080_TCP": "tcp://10.96.0.7:8080",
    "OIPSERVER_PORT_8080_TCP_PROTO": "tcp",
    "OIPSERVER_PORT_8080_TCP_PORT": "8080",
    "OIPSERVER_PORT_8080_TCP_ADDR": "10.96.0.7",
    "OIPSERVER_HTTP_PORT": "tcp://10.96.0.8:80",
    "OIPSERVER_HTTP_SERVICE_HOST": "10.96.0.8",
}


def test_what_kubernetes_injects_is_passed_over(model_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(model_file, environ=SERVICE_LINKS) == load(model_file)
    assert caplog.records == []


def test_an_unknown_variable_is_warned_of(model_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(model_file, environ={"OIPSERVER_HTTP_PROT": "secret", "OTHER": "1"})
    (message,) = caplog.messages
    assert message == "OIPSERVER_HTTP_PROT is not a known variable, did you mean 'OIPSERVER_HTTP_PORT'?"


# ------------------------------------------------------------------------------------------------ files


def test_toml_and_yaml_say_the_same(model_file: Path, tmp_path: Path) -> None:
    toml = """
        host = "0.0.0.0"
        [http]
        port = 9000
        [grpc]
        port = "off"
        [[models]]
        name = "iris"
        runtime = "sklearn"
        model_uri = "flowers.joblib"
        version = "7"
        parameters = {trust = ["a", "b"]}
        dynamic_batching = {max_queue_size = 9, retry_failed = false}
        [models.instance_group]
        count = 2
    """
    yaml = """
        host: 0.0.0.0
        http:
          port: 9000
        grpc:
          port: off
        limits:
        models:
          - name: iris
            runtime: sklearn
            model_uri: flowers.joblib
            version: 7
            parameters: {trust: [a, b]}
            dynamic_batching: {max_queue_size: 9, retry_failed: false}
            instance_group:
              count: 2
    """
    by_toml = load_config({"config": write(tmp_path / "c.toml", toml)}, {})
    by_yaml = load_config({}, {"OIPSERVER_CONFIG": write(tmp_path / "c.yml", yaml)})
    assert by_toml == by_yaml
    (model,) = by_toml.models
    assert (model.name, model.version, model.model_uri) == ("iris", "7", str(model_file))
    assert model.parameters == {"trust": ["a", "b"]}
    assert (model.dynamic_batching.max_queue_size, model.dynamic_batching.retry_failed) == (9, False)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("c.yaml", "http: {port: 1", "expected ',' or '}'"),
        ("c.yaml", "- a list", "expected a table of settings, got list"),
        ("c.toml", "http = ", "Invalid value (at end of document)"),
        ("c.json", '{"http": }', "Expecting value: line 1 column 10"),
        ("c.ini", "", "expected a name that ends in .yaml, .yml, .toml, .json"),
        ("c.yaml", "models: 5", "models: expected a list of models, got int 5"),
        ("c.yaml", "5: 6", "5: unknown key"),
    ],
)
def test_a_file_that_cannot_be_used(name: str, text: str, complaint: str, tmp_path: Path) -> None:
    file = write(tmp_path / name, text)
    (problem,) = problems({"config": file})
    assert file in problem
    assert complaint in problem


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert problems({"config": f"{tmp_path}/c.yaml"}) == [
        f"--config: cannot read '{tmp_path}/c.yaml': No such file or directory"
    ]


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe")
    (problem,) = problems({}, {"OIPSERVER_CONFIG": f"{tmp_path}/c.yaml"})
    assert problem.startswith(f"OIPSERVER_CONFIG: '{tmp_path}/c.yaml': 'utf-8' codec")


# ----------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("model.joblib", "model"),
        ("my model (2).joblib", "my-model-2-"),
        ("v1.2/", "v1.2"),
        (".hidden/", "hidden"),
        ("größe.pkl", "gr-e"),
        ("plain", "plain"),
        ("x" * 140 + "/", "x" * 128),
    ],
)
def test_a_name_is_made_from_the_path(stored: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / stored
    if stored.endswith("/"):
        path.mkdir()
    else:
        path.touch()
    assert load(path).models[0].name == name


def test_a_path_that_makes_no_name(tmp_path: Path) -> None:
    (tmp_path / "___").mkdir()
    assert problems({"model_uri": f"{tmp_path}/___", "runtime": "sklearn"}) == [
        "--model-name: the path makes no name, give one"
    ]


def test_a_file_uri(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    for uri in (f"file://{tmp_path}/a%20b", f"file://localhost{tmp_path}/a%20b", f"file:{tmp_path}/a%20b"):
        (model,) = load_config({"model_uri": uri, "runtime": "sklearn"}, {}).models
        assert (model.model_uri, model.name) == (f"{tmp_path}/a b", "a-b")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("https://example.org/iris.joblib?signature=secret", "iris"),
        ("http://user:password@example.org/a/iris.tar.gz", "iris"),
        ("s3://bucket/models/iris/", "iris"),
        ("s3://bucket/models/iris.v2/", "iris.v2"),
        ("s3://iris", "iris"),
        ("gs://bucket/iris.skops", "iris"),
        ("az://container/iris.zip", "iris"),
        ("abfs://container@account.dfs.core.windows.net/iris.zip", "iris"),
        ("hf://someone/iris.small@main", "iris.small"),
        ("runs:/0123/iris", "iris"),
        ("models:/iris/3", "iris"),
        ("models:/iris@champion", "iris"),
        ("S3://bucket/iris", "iris"),
    ],
)
def test_what_is_fetched_keeps_its_uri_and_gives_the_name(uri: str, name: str) -> None:
    (model,) = load_config({"model_uri": uri, "runtime": "sklearn"}, {}).models
    assert (model.name, model.model_uri) == (name, uri)


@pytest.mark.parametrize("uri", ["ftp://example.org/iris", "sftp://user:secret@example.org/iris?key=secret"])
def test_an_unknown_scheme_is_told_the_known_ones(uri: str) -> None:
    (problem,) = problems({"model_uri": uri, "runtime": "sklearn"})
    assert problem.startswith(
        "--model-uri: expected a path or one of the schemes file, http, https, s3, gs, az, abfs, abfss, hf,"
        " runs, models, got '"
    )
    assert "secret" not in problem


@pytest.mark.parametrize("uri", ["http://[::1/iris", "https:///iris", "http://host:99999/iris", "s3:/bucket"])
def test_a_uri_without_usable_host_is_refused_at_start(uri: str) -> None:
    assert problems({"model_uri": uri, "runtime": "sklearn"}) == [
        f"--model-uri: expected a URI with a usable host and port, got '{uri}'"
    ]


def test_a_scheme_that_is_not_allowed_is_refused_at_start() -> None:
    flags = {"model_uri": "http://example.org/iris", "runtime": "sklearn", "sources_schemes": "https,s3"}
    assert problems(flags) == [
        "--model-uri: sources.schemes does not allow 'http' (allowed: https, s3), got 'http://example.org/iris'"
    ]


def test_pin_and_trust_belong_to_the_model(model_file: Path) -> None:
    pin = "0123456789abcdef" * 4
    (model,) = load(model_file, {"model_sha256": pin, "trust_pickle": "true"}).models
    assert (model.sha256, model.trust_pickle) == (pin, True)
    (problem,) = problems({"model_uri": str(model_file), "runtime": "sklearn", "model_sha256": "abc"})
    assert problem == "--model-sha256: expected 64 hexadecimal digits, got 'abc'"


@pytest.mark.parametrize("uri", ["file://models/iris", "file://"])
def test_a_file_uri_is_absolute(uri: str) -> None:
    (problem,) = problems({"model_uri": uri, "runtime": "sklearn"})
    assert problem.startswith("--model-uri: expected an absolute path in the URI, as in file:///models/iris")


def test_a_relative_path_starts_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.joblib").touch()
    monkeypatch.chdir(tmp_path / "here")
    file = write(
        tmp_path / "there" / "c.yaml", "models: [{model_uri: ./m.joblib, runtime: sklearn, name: a}]"
    )
    config = load_config({"config": file, "model_uri": "m.joblib", "runtime": "sklearn"}, {})
    assert [model.model_uri for model in config.models] == [
        f"{tmp_path}/there/m.joblib",
        f"{tmp_path}/here/m.joblib",
    ]


def test_a_model_that_is_not_there() -> None:
    assert problems({"model_uri": "/no/such/model", "runtime": "sklearn"}) == [
        "--model-uri: no such file or directory: '/no/such/model'"
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_model_that_may_not_be_read(model_file: Path) -> None:
    model_file.chmod(0)
    assert problems({"model_uri": str(model_file), "runtime": "sklearn"}) == [
        f"--model-uri: this user may not read '{model_file}'"
    ]


def test_an_installed_runtime(model_file: Path) -> None:
    flags = {"model_uri": str(model_file), "runtime": "sklearn"}
    assert load_config(flags, {}, runtimes=["sklearn", "other"]) == load(model_file)


def test_a_model_without_a_runtime(model_file: Path) -> None:
    assert problems({"model_uri": str(model_file)}) == [
        "--runtime: expected an installed runtime, got nothing"
    ]


def test_no_model_at_all() -> None:
    assert problems({}) == ["no model: give --model-uri and --runtime, or --config with a list of models"]


TWO_MODELS = """
models:
  - {name: a, runtime: sklearn, model_uri: flowers.joblib}
  - {name: b, runtime: sklearn, model_uri: flowers.joblib, version: "1"}
  - {name: b, runtime: sklearn, model_uri: flowers.joblib, version: "2"}
"""


def test_flags_are_laid_over_their_namesake(model_file: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", TWO_MODELS)
    config = load_config({"config": file, "model_name": "a", "max_batch_size": "5"}, {})
    assert [(model.name, model.max_batch_size) for model in config.models] == [
        ("a", 5),
        ("b", 1024),
        ("b", 1024),
    ]


def test_flags_choose_among_versions(model_file: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", TWO_MODELS)
    flags = {"config": file, "model_name": "b", "model_version": "2", "instances": "4"}
    assert [model.instance_group.count for model in load_config(flags, {}).models] == [1, 1, 4]


def test_flags_add_a_model_of_another_name(model_file: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", TWO_MODELS)
    config = load(model_file, {"config": file, "model_version": "9"})
    assert [(model.name, model.version) for model in config.models][-1] == ("flowers", "9")
    assert len(config.models) == 4


@pytest.mark.parametrize("flags", [{"instances": "2"}, {"instances": "2", "model_name": "b"}])
def test_flags_that_could_mean_several_models(
    flags: dict[str, str], model_file: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "c.yaml", TWO_MODELS)
    (problem,) = problems({"config": file, **flags})
    assert problem.endswith("the file has several models, give --model-name and --model-version")


def test_flags_without_a_name_mean_the_only_model(model_file: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "models: [{name: a, runtime: sklearn, model_uri: flowers.joblib}]")
    (model,) = load_config({"config": file}, {"OIPSERVER_INSTANCES": "2"}).models
    assert (model.name, model.instance_group.count) == ("a", 2)


def test_one_name_and_version_twice(model_file: Path, tmp_path: Path) -> None:
    one = "{name: a, runtime: sklearn, model_uri: flowers.joblib, version: 1}"
    file = write(tmp_path / "c.yaml", f"models: [{one}, {one}]")
    assert problems({"config": file}) == ["models: 'a' version '1' is there 2 times"]


# -------------------------------------------------------------------------------------------- in memory


def test_a_model_in_memory() -> None:
    config = for_model("iris", {"http_port": 9000, "max_batch_size": 256, "grpc_port": "off"})
    assert (config.http.port, config.grpc.port) == (9000, None)
    assert config.models == (ModelConfig("iris", "", max_batch_size=256),)


def test_every_bad_option_of_a_model_in_memory() -> None:
    with pytest.raises(ConfigError) as caught:
        for_model("a b", {"http_prot": 1, "model_uri": "x", "instances": 0, "grpc_port": 99999})
    assert caught.value.problems == [
        "http_prot: unknown option, did you mean 'http_port'?",
        "model_uri: unknown option, did you mean 'model_version'?",
        f"grpc_port: {PORT}, got int 99999",
        f"name: {NAME}, got 'a b'",
        "instances: expected a whole number from 1 to 4096, got int 0",
    ]
