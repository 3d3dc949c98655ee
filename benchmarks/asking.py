"""One question, asked once by an ordinary client: what came back, or what is wrong with it."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import grpc

from benchmarks.questions import GRPC_PATH, GrpcQuestion, HttpQuestion, Right

_SECONDS = 60.0
_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class WrongAnswer(Exception):
    """A server refused, or answered, and not what the model says; the text tells which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A right one; gRPC has no headers here."""

    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def ask(http_port: int, grpc_port: int, question: HttpQuestion | GrpcQuestion) -> Answer:
    """The right answer.

    Raises:
        WrongAnswer: anything else.
    """
    try:
        if isinstance(question, HttpQuestion):
            answer = _ask_http(http_port, question)
        else:
            answer = _ask_grpc(grpc_port, question)
    except (OSError, http.client.HTTPException) as error:
        raise WrongAnswer(f"no answer: {type(error).__name__}") from None
    if not _judged(question.right, answer.body):
        raise WrongAnswer(f"wrong answer: {answer.body[:80]!r}")
    return answer


def metadata(http_port: int, model: str) -> Any:
    """What a server of the Open Inference Protocol says of a model."""
    with urlopen(f"http://127.0.0.1:{http_port}/v2/models/{model}", timeout=_SECONDS) as response:
        return json.load(response)


def _ask_http(port: int, question: HttpQuestion) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("POST", question.path, question.body, dict(question.headers))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise WrongAnswer(f"HTTP {response.status}")
    return Answer(body, tuple(response.getheaders()))


def _ask_grpc(port: int, question: GrpcQuestion) -> Answer:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_UNLIMITED) as channel:
        try:
            call = channel.unary_unary(GRPC_PATH, None, None)
            return Answer(call(question.message, timeout=_SECONDS))
        except grpc.RpcError as error:
            raise WrongAnswer(f"gRPC {error.code().name}") from None


def _judged(right: Right, body: bytes) -> bool:
    try:
        return right(body)
    except Exception:  # whatever a strange answer makes of its reader
        return False
