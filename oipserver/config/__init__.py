"""The server's configuration: flags, then environment, then file, then the defaults in `schema`.

schema    the sections, their limits, and the law of names
fields    dataclasses as tables of dotted paths
sources   flags, environment and file
models    the models that they describe
load      all together; one error lists every bad field
"""

from oipserver.config.load import ConfigError, for_model, load_config
from oipserver.config.schema import (
    GrpcConfig,
    HttpConfig,
    LimitsConfig,
    LogConfig,
    ServerConfig,
    ShutdownConfig,
)

__all__ = [
    "ConfigError",
    "GrpcConfig",
    "HttpConfig",
    "LimitsConfig",
    "LogConfig",
    "ServerConfig",
    "ShutdownConfig",
    "for_model",
    "load_config",
]
