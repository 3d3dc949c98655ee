"""The peers, with the settings that suit each of them best."""

from __future__ import annotations

from benchmarks.peers import bentoml, fastapi, kserve, litserve, mlflow, mlserver, triton
from benchmarks.peers.peer import Peer
from benchmarks.peers.protocols import v2_of
from benchmarks.questions import v2_json

HTTP = ("HTTP",)
BOTH = ("HTTP", "gRPC")

PEERS = (
    Peer(
        "Triton",
        "triton",
        BOTH,
        triton.program,
        v2_of(triton.DATATYPES),
        preparation=triton.train_own,
        datatypes=triton.DATATYPES,
    ),
    Peer("MLServer", "mlserver", BOTH, mlserver.program, v2_json),
    Peer("MLServer batching", "mlserver", BOTH, mlserver.batching_program, v2_json),
    Peer("KServe", "kserve", BOTH, kserve.program, v2_json),
    Peer("FastAPI", "fastapi", HTTP, fastapi.program, fastapi.ask),
    Peer("MLflow", "mlflow", HTTP, mlflow.program, mlflow.ask, preparation=mlflow.save_models),
    Peer("LitServe", "litserve", HTTP, litserve.program, litserve.ask),
    Peer("LitServe batching", "litserve", HTTP, litserve.batching_program, litserve.ask),
    Peer("BentoML", "bentoml", HTTP, bentoml.program, bentoml.ask),
)
