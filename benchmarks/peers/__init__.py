"""The model servers that ours is compared with, each in an environment of its own below `.envs/bench/`."""

from benchmarks.peers.peer import Peer
from benchmarks.peers.table import PEERS

__all__ = ["PEERS", "Peer"]
