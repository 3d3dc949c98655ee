"""What the benchmarks know of a peer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.models import MODELS, Rows, rows_for
from benchmarks.peers.launch import Place, Program, launched
from benchmarks.peers.protocols import Ask
from benchmarks.questions import HttpQuestion, Numbers
from benchmarks.servers import Server

ENVIRONMENTS = Path(__file__).parents[2] / ".envs" / "bench"

_NO_NUMBERS = np.empty(0)


def _nothing(environment: Path, models: Path) -> None:
    """Most peers take the models as they are."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another model server at its best settings.

    Attributes:
        name: as in the tables.
        environment: the name of its virtual environment and of the file of its requirements.
        fronts: "HTTP", "gRPC".
        program: what is started.
        ask: its words over HTTP; over gRPC all speak the Open Inference Protocol.
        preparation: what is done once for trained models, (environment, models).
        datatypes: of a model's input, where it takes only one.
    """

    name: str
    environment: str
    fronts: tuple[str, ...]
    program: Callable[[Place], Program]
    ask: Ask
    preparation: Callable[[Path, Path], None] = _nothing
    datatypes: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The folder of its environment."""
        return ENVIRONMENTS / self.environment

    @property
    def installed(self) -> bool:
        """Whether `make` has built its environment."""
        return (self.home / ".installed").exists()

    def datatype(self, model: str) -> str:
        """Of the rows that a model is asked with."""
        return self.datatypes.get(model, "FP64")

    def grpc_model(self, model: str) -> str:
        """A model's name over gRPC."""
        return model

    def http_question(self, model: str, rows: Rows, expected: Numbers) -> HttpQuestion | None:
        """JSON in its own protocol.

        Args:
            rows: FP64 `[rows, features]`.
            expected: what the model says to them.
        """
        return self.ask(model, rows, expected)

    def prepare(self, models: Path) -> None:
        """Do what is no part of a start; the second time it does nothing.

        Raises:
            RuntimeError: its environment was not built, or it failed.
        """
        if not self.installed:
            raise RuntimeError(
                f"not installed: make {self.home.relative_to(ENVIRONMENTS.parents[1])}/.installed"
            )
        self.preparation(self.home, models.resolve())

    def serve(self, models: Path, core: int | None) -> AbstractContextManager[Server]:
        """It runs, all its processes on one core, and every model has answered.

        Args:
            models: the folder with the trained models.

        Raises:
            RuntimeError: it did not start; with the tail of what it wrote.
        """
        self.prepare(models)
        first = [self.ask(model, rows_for(model, 1), _NO_NUMBERS) for model in MODELS]
        return launched(self.home, models.resolve(), self.program, first, core)
