"""The command line: flags to a configuration, and the configuration to the server.  No other logic.

A mistake is one line on stderr, `oipserver: <what>`, and exit code 2.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oipserver.config import ConfigError, ServerConfig, load_config
from oipserver.config.schema import CONFIG_FILE, MODEL_SETTINGS, SERVER_SETTINGS, Setting
from oipserver.config.uris import without_secrets
from oipserver.core import runtimes
from oipserver.core.user_code import CodeUri

if TYPE_CHECKING:
    from oipserver.server import OnReady

Command = Callable[..., int]

USAGE_ERROR = 2
# The model that `inspect` looks at, beside those that a configuration file may have.
INSPECTED = "inspected"
INTERRUPTED = 130

# Spellings that other servers' users have in their fingers; underscores for dashes work everywhere.
ALIASES = {"model_uri": ("--model-dir",)}
SECTIONS = {"http": "HTTP", "grpc": "gRPC", "tls": "TLS", "access": "Access", "limits": "Limits"}
SECTIONS |= {"idempotency": "Idempotency", "shutdown": "Shutdown", "sources": "Model sources", "log": "Log"}
SECTIONS |= {"tracing": "Traces", "metrics": "Metrics"}

DEMO_REQUEST = {
    "inputs": [
        {
            "name": "input-0",
            "shape": [2, 4],
            "datatype": "FP64",
            "data": [[5.1, 3.5, 1.4, 0.2], [4.9, 3.0, 1.4, 0.2]],
        }
    ]
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        return int(commands.main(args=arguments, prog_name="oipserver", standalone_mode=False) or 0)
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        return _complain(error.format_message())
    except (ConfigError, runtimes.RuntimeUnavailable) as error:
        return _complain(str(error))


def _complain(text: str) -> int:
    click.echo("oipserver: " + " ".join(text.split()), err=True)
    return USAGE_ERROR


class _Commands(click.Group):
    """`oipserver --runtime ...` is `oipserver serve --runtime ...`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and os.path.exists(args[0]):
            raise click.UsageError(f"to serve it: oipserver --runtime NAME --model-uri {args[0]}", ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


class _Option(click.Option):
    """An option that knows under which heading of the help it stands."""

    def __init__(self, *arguments: Any, section: str, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.section = section


class _Command(click.Command):
    """A command whose help groups the options by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, group in groupby(self.get_params(ctx), lambda one: getattr(one, "section", "Other")):
            with formatter.section(section):
                formatter.write_dl([record for one in group if (record := one.get_help_record(ctx))])


def _options(settings: Sequence[Setting], section: str = "") -> Callable[[Command], Command]:
    def decorate(function: Command) -> Command:
        for one in reversed(settings):  # as stacked decorators: the last applied is listed first
            heading = section or SECTIONS.get(one.leaf.path.partition(".")[0], "Server")
            function = _option(one, heading)(function)
        return function

    return decorate


def _option(one: Setting, section: str) -> Callable[[Command], Command]:
    names = (one.flag, *ALIASES.get(one.name, ()), one.name)
    text = one.leaf.help + _default(one.leaf.default)
    # A switch may stand alone: --trust-pickle means --trust-pickle true.
    alone = {"is_flag": False, "flag_value": "true"} if one.leaf.annotation is bool else {}
    return click.option(*names, cls=_Option, metavar=one.leaf.metavar, help=text, section=section, **alone)


def _default(value: object) -> str:
    if value in (None, "", (), False):
        return ""
    if isinstance(value, tuple):
        value = ",".join(value)
    mebibytes = f" ({value // 2**20} MiB)" if isinstance(value, int) and value % 2**20 == 0 < value else ""
    return f"  [default: {value}{mebibytes}]"


_CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda token: token.replace("_", "-"),
    "max_content_width": 110,
}


@click.group(cls=_Commands, context_settings=_CONTEXT)
@click.version_option(package_name="oipserver", message="%(prog)s %(version)s")
def commands() -> None:
    """Serve trained models over the Open Inference Protocol v2, HTTP and gRPC.

    \b
    Serve a model:        oipserver --runtime sklearn --model-uri model.joblib
    Serve several:        oipserver --config models.yaml
    Try it out:           oipserver demo
    See every option:     oipserver serve --help

    Every option can also be given as an environment variable (--http-port is OIPSERVER_HTTP_PORT) or in the
    file that --config names (http.port). Flags win over the environment, the environment over the file.
    """  # noqa: D301 -- click wants the real character


@commands.command(cls=_Command)
@_options(MODEL_SETTINGS, "Model")
@_options([CONFIG_FILE], "Server")
@_options(SERVER_SETTINGS)
def serve(**flags: str | None) -> int:
    """Serve one model given by flags, or those that a file lists.

    \b
    oipserver serve --runtime sklearn --model-uri model.joblib --model-name iris
    oipserver serve --config models.yaml --http-port 9000

    'oipserver' alone means 'oipserver serve'. The last one of repeated options wins.
    """  # noqa: D301
    return _run(_load(flags))


@commands.command(cls=_Command)
@_options([CONFIG_FILE], "Server")
@_options(SERVER_SETTINGS)
def demo(**flags: str | None) -> int:
    """Train a small model, serve it, and show how to ask it."""
    with tempfile.TemporaryDirectory(prefix="oipserver-demo-") as directory:
        _load(
            {**flags, "model_uri": directory, "runtime": "sklearn"}
        )  # a mistake is told before the training
        model = runtimes.get_demo("sklearn")(Path(directory))
        named = {"model_name": model.name, "model_uri": model.model_uri, "runtime": model.runtime}
        config = _load({**flags, **named})
        return _run(config, on_ready=lambda http, grpc: _show_request(config.host, http, model.name))


@commands.command(cls=_Command)
@click.argument("uri")
@click.option("--sha256", default="", metavar="SHA256", help="Pin that the file must have.")
@click.option("--runtime", default="", metavar="NAME", help="What loads it, when it cannot be told.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@_options([CONFIG_FILE], "Server")
@_options([one for one in SERVER_SETTINGS if one.leaf.path.startswith("sources.")])
def inspect(uri: str, sha256: str, runtime: str, as_json: bool, **flags: str | None) -> int:
    """Report on a stored model: runtime, metadata, versions, digest, and what its pickles would run.

    Nothing of it is loaded. The exit code is 1 when a pickle names what no model needs (os.system), or cannot
    be read to its end, so that a pipeline can stop there; 0 is no permission.
    """
    described = {"model_uri": uri, "model_name": INSPECTED, "runtime": runtime or "any"}
    given = {**flags, **described, "model_sha256": sha256 or None}
    config = load_config({name: value for name, value in given.items() if value is not None}, os.environ)
    model = next(one for one in config.models if one.name == INSPECTED)
    location = CodeUri.parse(model.model_uri).location  # of "model.py:Model" the file
    if not location:
        return _complain(f"'{uri}' is a module that is imported by its name: there is no file to look into")
    from oipserver.artifacts import inspection, text
    from oipserver.sources import SourceError, fetch

    try:
        fetched = fetch(replace(model, model_uri=location), config.sources)
        pin = "" if fetched.local else fetched.sha256
        report = inspection.inspect(fetched.path, without_secrets(uri), pin, runtime)
    except (SourceError, OSError) as error:
        return _complain(str(error))
    click.echo(text.as_json(report) if as_json else text.as_text(report), nl=False)
    return int(report.alarming)


@commands.command(name="runtimes")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def list_runtimes(as_json: bool) -> None:
    """List the installed runtimes, and what they still need."""
    found = runtimes.installed()
    if as_json:
        fields = ("name", "target", "package", "version", "missing", "install")
        click.echo(json.dumps([{field: getattr(one, field) for field in fields} for one in found], indent=2))
        return
    rows = [("NAME", "PACKAGE", "MODULE", "STATUS")]
    rows += [(one.name, f"{one.package} {one.version}", one.target, _status(one)) for one in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@commands.group()
def keys() -> None:
    """Make API keys, which say who may ask what."""


@keys.command(name="new")
@click.option("--name", required=True, metavar="NAME", help="Who gets it; stands in logs.")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="infer, read or admin; several times.")
@click.option("--model", "models", multiple=True, metavar="PATTERN", help="Models it is for, e.g. 'iris-*'.")
@click.option("--rate", metavar="N", help="Requests a second.")
@click.option("--burst", metavar="N", help="Requests at once.")
@click.option("--rows-rate", metavar="N", help="Rows a second.")
@click.option("--rows-burst", metavar="N", help="Rows at once.")
@click.option("--file", metavar="FILE", help="YAML file that the entry is written to, instead of shown.")
def new(name: str, file: str | None, **given: str | tuple[str, ...] | None) -> int:
    """Make a key, show it once, and what is to be kept of it: a digest that nobody can turn back."""
    from oipserver.access import AccessError
    from oipserver.access import new as making

    try:
        made = making.make(name, given)
        if file is not None:
            making.append(Path(file), made.line)
    except AccessError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"--file: cannot write '{file}': {error.strerror}")
    click.echo(made.key)
    where = f"{file} has the entry now." if file else f"For the file of the keys:\n\n{made.line}"
    click.echo(f"\nThat is the key; it is not shown again.  {where}", err=True)
    return 0


def _load(flags: Mapping[str, str | None]) -> ServerConfig:
    given = {name: value for name, value in flags.items() if value is not None}
    return load_config(given, os.environ, runtimes.names())


def _run(config: ServerConfig, **options: OnReady) -> int:
    gc.disable()  # an import leaves nothing to collect
    try:
        from oipserver.server import run
    finally:
        gc.enable()
    return run(config, **options)


def _show_request(host: str, port: int | None, model: str) -> None:
    if port is None:
        return
    if host in ("127.0.0.1", "0.0.0.0", "::1", "::"):  # noqa: S104 -- compared, not bound
        host = "localhost"
    body = json.dumps(DEMO_REQUEST, separators=(",", ":"))
    click.echo(f"\nAsk it:\n\ncurl -s http://{host}:{port}/v2/models/{model}/infer -d '{body}'\n")


def _status(one: runtimes.RuntimeInfo) -> str:
    return f"needs {', '.join(one.missing)}: {one.install}" if one.missing else "available"


if __name__ == "__main__":
    sys.exit(main())
