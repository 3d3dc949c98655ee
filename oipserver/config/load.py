"""The two doors: `load_config` for a process, `for_model` for an object in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from oipserver.config.apps import locate
from oipserver.config.fields import Given, build, convert, did_you_mean
from oipserver.config.models import merge, model_values, models_from
from oipserver.config.schema import MODEL_FLAGS, SERVER_LEAVES, SETTINGS, ServerConfig
from oipserver.config.sources import File, from_environment, from_flags, read_file
from oipserver.core.model_config import ModelConfig


class ConfigError(ValueError):
    """The configuration is wrong; the text is one line with every problem.

    Attributes:
        problems: one sentence per bad field, each beginning with where it was given.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


def load_config(
    flags: Mapping[str, str], environ: Mapping[str, str], runtimes: Collection[str] | None = None
) -> ServerConfig:
    """The configuration that all sources together describe.

    Args:
        flags: by name of `SETTINGS`, e.g. "http_port"; the value "<no value>" means not set.
        environ: `OIPSERVER_*` variables count.  What Kubernetes injects for services is passed over, other
            unknown ones are logged as a warning.
        runtimes: the names that a model's `runtime` may have; None leaves that open.

    Raises:
        ConfigError: lists every bad field of every source, a model file that is not there, and a
            configuration without any model.
    """
    problems: list[str] = []
    given = from_environment(environ) | from_flags(flags, problems)
    file = read_file(given.pop("config", None), problems)
    server = file.server | _server_part(given)
    alone = not file.models and "model_uri" not in given
    theirs = _theirs(server.get("model_repository"), environ, alone, problems)
    config = _server(theirs.server | server, problems)
    drafts = merge([*file.models, *theirs.models], _model_part(given), problems)
    models = models_from(drafts, runtimes, config.sources.schemes, problems)
    apps = locate(server.get("apps"), config.apps, problems)
    if not problems and not models and not apps:
        problems.append("no model: give --model-uri and --runtime, or --config with a list of models")
    if problems:
        raise ConfigError(problems)
    return replace(config, models=models, apps=apps)


def for_model(name: str, options: Mapping[str, object]) -> ServerConfig:
    """The configuration for one model that is already in memory; neither environment nor file count.

    Args:
        options: by name of `SETTINGS`, e.g. `{"http_port": 9000, "max_batch_size": 256}`.

    Raises:
        ConfigError: lists every bad option.
    """
    problems: list[str] = []
    usable = SETTINGS.keys() - {"config", "model_repository", "model_uri", "model_name"}
    problems.extend(
        f"{option}: unknown option{did_you_mean(option, usable)}"
        for option in options
        if option not in usable
    )
    given = {option: Given(options[option], option, text=True) for option in options if option in usable}
    config = _server(_server_part(given), problems)
    apps = locate(given.get("app"), config.apps, problems)
    model = model_values({"name": Given(name, "name"), **_model_part(given)}, problems)
    if problems:
        raise ConfigError(problems)
    return replace(config, apps=apps, models=(build(ModelConfig, {"runtime": "", **model}),))


def _theirs(root: Given | None, environ: Mapping[str, str], alone: bool, problems: list[str]) -> File:
    """What was made for MLServer, as `read_repository` tells; only a start with such things imports it."""
    if root is None and not any(variable.upper().startswith("MLSERVER_") for variable in environ):
        return File()
    from oipserver.config.mlserver import read_repository

    return read_repository(root, environ, alone, problems)


def _server_part(given: Mapping[str, Given]) -> dict[str, Given]:
    return {SETTINGS[name].leaf.path: one for name, one in given.items() if name not in MODEL_FLAGS}


def _model_part(given: Mapping[str, Given]) -> dict[str, Given]:
    return {SETTINGS[name].leaf.path: one for name, one in given.items() if name in MODEL_FLAGS}


def _server(given: Mapping[str, Given], problems: list[str]) -> ServerConfig:
    values = convert(SERVER_LEAVES, given, problems)
    config = build(ServerConfig, values)
    if values.keys() >= given.keys() & {"http.port", "grpc.port"}:
        http, grpc = (given[port].source if port in given else port for port in ("http.port", "grpc.port"))
        if config.http.port is None and config.grpc.port is None:
            problems.append(f"{http} and {grpc}: expected a port for one of them, got 'off' for both")
        elif config.http.port and config.http.port == config.grpc.port:
            problems.append(f"{grpc}: expected another port than {http}, got {config.grpc.port} for both")
    return config
