"""tritonclient asks over TLS, HTTP and gRPC, with a certificate of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.clients.conftest import PATIENCE, interpreter
from tests.tls.encrypted import Folder

SCRIPT = """
import json, sys
import numpy as np
import tritonclient.grpc, tritonclient.http
from gevent.ssl import SSLContext, PROTOCOL_TLS_CLIENT

http_port, grpc_port = sys.argv[1:]

def context():
    made = SSLContext(PROTOCOL_TLS_CLIENT)
    made.load_verify_locations("ca.crt")
    made.load_cert_chain("client.crt", "client.key")
    return made

def doubled(module, client):
    tensor = module.InferInput("x", [1, 2], "FP64")
    tensor.set_data_from_numpy(np.array([[1.0, 2.0]]))
    return client.infer("model", [tensor]).as_numpy("y").tolist()

http = tritonclient.http.InferenceServerClient(
    f"localhost:{http_port}", ssl=True, ssl_context_factory=context
)
own = {"private_key": "client.key", "certificate_chain": "client.crt"}
grpc = tritonclient.grpc.InferenceServerClient(
    f"localhost:{grpc_port}", ssl=True, root_certificates="ca.crt", **own
)
print(json.dumps([doubled(tritonclient.http, http), doubled(tritonclient.grpc, grpc)]))
"""


def test_it_is_served_on_both_fronts(tmp_path: Path) -> None:
    python = interpreter("tritonclient_http")
    folder = Folder(tmp_path)
    folder.context(folder.issue("me@example.com", common_name="me"))  # writes the client's files
    flags = (f"--tls-client-ca-file={tmp_path / 'ca.crt'}", "--tls-client-auth=required")
    with folder.server(*flags) as server:
        finished = subprocess.run(
            [python, "-c", SCRIPT, str(server.http_port), str(server.grpc_port)],
            cwd=tmp_path,
            env={**os.environ, "no_proxy": "localhost", "NO_PROXY": "localhost", "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == [[[2.0, 4.0]]] * 2
