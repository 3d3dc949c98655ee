"""The server's configuration: flags, then environment, then file, then the defaults in `schema`.

schema    the sections, their limits, and the law of names
fields    dataclasses as tables of dotted paths
sources   flags, environment and file
models    the models that they describe
uris      what a model URI says before anything is fetched
mlserver  a repository made for MLServer, in our words
load      all together; one error lists every bad field
"""

from oipserver.config.load import ConfigError, for_model, load_config
from oipserver.config.schema import (
    AccessConfig,
    GrpcConfig,
    HttpConfig,
    IdempotencyConfig,
    LimitsConfig,
    LogConfig,
    ServerConfig,
    ShutdownConfig,
    SourcesConfig,
    TlsConfig,
)

__all__ = [
    "AccessConfig",
    "ConfigError",
    "GrpcConfig",
    "HttpConfig",
    "IdempotencyConfig",
    "LimitsConfig",
    "LogConfig",
    "ServerConfig",
    "ShutdownConfig",
    "SourcesConfig",
    "TlsConfig",
    "for_model",
    "load_config",
]
