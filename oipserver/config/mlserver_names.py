"""MLServer's names, and what each of them is here."""

from __future__ import annotations

SUPPORTED = "mlserver_sklearn.SKLearnModel and mlserver_mlflow.MLflowRuntime"
RUNTIMES = {
    "mlserver_sklearn.SKLearnModel": "sklearn",
    "mlserver_sklearn.sklearn.SKLearnModel": "sklearn",
    "mlserver_mlflow.MLflowRuntime": "mlflow",
    "mlserver_mlflow.runtime.MLflowRuntime": "mlflow",
}
# The files that it looks for, in this order, where a path is a folder.
WELL_KNOWN = {"sklearn": ("model.joblib", "model.pickle", "model.pkl")}

# Its name to the path of ours.
SERVER_NAMES = {
    "host": "host",
    "http_port": "http.port",
    "grpc_port": "grpc.port",
    "grpc_max_message_length": "grpc.max_message_bytes",
    "log_level": "log.level",
    "debug": "log.level",
}
MODEL_NAMES = ("name", "implementation", "max_batch_size", "max_batch_time")
PARAMETER_NAMES = ("uri", "version", "extra")
ROOTS = ("models_dir", "model_repository_root")

# Known, and without effect; with the reason where one may wonder.
_THREADS = "models run in this process; --instances is how many threads call one"
_OWN_ENVIRONMENT = "models run in the environment of the server"
_AS_LOADED = "the metadata is the loaded model's own"
_METRICS = "metrics are at /metrics of the HTTP port"
UNUSED_BY_SERVER = {
    "parallel_workers": _THREADS,
    "parallel_workers_timeout": _THREADS,
    "metrics_port": _METRICS,
    "metrics_endpoint": _METRICS,
    "environments_dir": _OWN_ENVIRONMENT,
    "env_tarball": _OWN_ENVIRONMENT,
    "load_models_at_startup": "every model is loaded at the start",
} | dict.fromkeys(
    (
        "access_log", "cache_enabled", "cache_size", "cors_settings", "empty_registry_readiness",
        "extensions", "gzip_enabled", "kafka_enabled", "kafka_servers", "kafka_topic_input",
        "kafka_topic_output", "logging_settings", "metrics_dir", "metrics_rest_server_prefix",
        "model_repository_implementation", "model_repository_implementation_args",
        "model_repository_root", "models_dir", "path", "root_path", "server_name", "server_version",
        "strict_readiness", "tracing_server", "use_structured_logging",
    ),
    "",
)  # fmt: skip
UNUSED_BY_MODEL = {
    "inputs": _AS_LOADED,
    "outputs": _AS_LOADED,
    "platform": _AS_LOADED,
    "versions": _AS_LOADED,
    "parallel_workers": _THREADS,
    "warm_workers": "every model is warm before it is ready",
    "cache_enabled": "",
    "parameters.environment_tarball": _OWN_ENVIRONMENT,
    "parameters.environment_path": _OWN_ENVIRONMENT,
    "parameters.inference_pool_gid": _THREADS,
    "parameters.autogenerate_inference_pool_gid": _THREADS,
    "parameters.content_type": "the model's datatypes decide",
    "parameters.format": "",
}
