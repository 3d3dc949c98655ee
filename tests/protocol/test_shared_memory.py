"""System shared memory: tensors in regions of the client's, on both fronts."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from oipserver.core.errors import BadRequest
from oipserver.core.shared_memory import FOLDER, MAX_REGIONS, Region, Regions
from tests.protocol.fronts import Front, Http, Tensor, elements, raw
from tests.server_process import ServerProcess

pytestmark = pytest.mark.skipif(not Path(FOLDER).is_dir(), reason="no shared memory objects in a folder")

SIZE = 4096
KEYS = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")


class Memory:
    """A shared memory object of the client's, made and registered as a client would."""

    def __init__(self, size: int = SIZE) -> None:
        self.key = f"/oip-{uuid.uuid4().hex}"
        self.path = Path(FOLDER + self.key)
        self.path.touch(0o600, exist_ok=False)
        self.resize(size)

    def resize(self, size: int) -> None:
        """Its owner may, at any time."""
        os.truncate(self.path, size)

    def put(self, offset: int, data: bytes) -> None:
        """Write into it."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def get(self, offset: int, size: int) -> bytes:
        """Read from it."""
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.path.unlink(missing_ok=True)


@pytest.fixture
def region(front: Front, memory: Memory) -> Iterator[str]:
    """The whole of it but for the first 64 bytes, registered."""
    name = f"r-{uuid.uuid4().hex}"
    front.register(name, memory.key, SIZE - 64, 64)
    yield name
    front.unregister(name)


def at(region: str, offset: int, size: int) -> dict[str, Any]:
    place = dict(zip(KEYS, (region, offset, size), strict=True))
    return place if offset else {key: place[key] for key in place if key != KEYS[1]}


def pair(region: str, offset: int = 0, size: int = 16) -> Tensor:
    """An input of `double` in a region."""
    return Tensor("x", "FP64", [1, 2], parameters=at(region, offset, size))


OWN = Tensor("x", "FP64", [1, 2], [3.0, 4.0])


def test_tensors_in_and_out(front: Front, memory: Memory, region: str) -> None:
    memory.put(64, raw([1.5, -2.0], "FP64"))
    answer = front.infer("double", [pair(region)], {"y": at(region, 128, 256)})["y"]
    assert (answer.datatype, answer.shape, answer.data) == ("FP64", [1, 2], None)
    assert {key: answer.parameters[key] for key in KEYS} == dict(zip(KEYS, (region, 128, 16), strict=True))
    assert elements(memory.get(64 + 128, 16), "FP64") == [3.0, -4.0]
    assert memory.get(64 + 128 + 16, 240) == bytes(240)
    assert memory.get(0, 64) == bytes(64)


def test_in_alone_and_out_alone(front: Front, memory: Memory, region: str) -> None:
    memory.put(64 + 32, raw([1.0, 2.0], "FP64"))
    assert front.infer("double", [pair(region, 32)], {})["y"].data == [2.0, 4.0]
    assert front.infer("double", [OWN], {"y": at(region, 0, 16)})["y"].data is None
    assert elements(memory.get(64, 16), "FP64") == [6.0, 8.0]


def test_texts_in_and_out_beside_a_tensor_in_the_request(front: Front, memory: Memory, region: str) -> None:
    words = raw(["ab", "grün"], "BYTES")
    memory.put(64, words)
    inputs = [
        Tensor("word", "BYTES", [2], parameters=at(region, 0, len(words))),
        Tensor("times", "INT64", [2], [2, 1]),
    ]
    answer = front.infer("repeat", inputs, {"text": at(region, 512, 100), "long": {}})
    size = answer["text"].parameters[KEYS[2]]
    assert elements(memory.get(64 + 512, size), "BYTES") == ["abab", "grün"]
    assert answer["long"].data == [False, True]
    assert front.infer("repeat", inputs[::-1], {})["text"].data == ["abab", "grün"]


def test_requests_like_an_earlier_one(front: Front, memory: Memory, region: str) -> None:
    """As the server remembers documents: many at a time, each with a place of its own, and again."""

    def ask(number: int) -> None:
        tensor = Tensor("x", "FP64", [1, 2], [float(number), 0.0])
        assert front.infer("double", [tensor], {"y": at(region, 16 * (number % 16), 16)})["y"].data is None

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(160)))
    answers = [elements(memory.get(64 + 16 * place, 16), "FP64") for place in range(16)]
    # Of those with the same place the last one to be computed is there.
    assert [answer[0] / 2 % 16 for answer in answers] == list(range(16))
    front.unregister(region)
    words = front.refused("NOT_FOUND", "double", [OWN], {"y": at(region, 16, 16)})
    assert f"no shared memory region '{region}'" in words


def test_what_is_registered_is_told(front: Front, memory: Memory) -> None:
    names = [f"a-{uuid.uuid4().hex}", f"b-{uuid.uuid4().hex}"]
    front.register(names[0], memory.key, SIZE)
    front.register(names[1], memory.key.removeprefix("/"), 100, 7)
    found = front.regions()
    assert found[names[0]] == {"name": names[0], "key": memory.key, "offset": 0, "byte_size": SIZE}
    assert found[names[1]] == {"name": names[1], "key": memory.key[1:], "offset": 7, "byte_size": 100}
    front.unregister(names[0])
    assert names[0] not in front.regions()
    front.unregister(names[0])  # as Triton, twice is no mistake
    words = front.not_registered("ALREADY_EXISTS", names[1], memory.key, 10)
    assert f"'{names[1]}' is registered already" in words
    front.unregister()
    assert front.regions() == {}


def test_a_region_is_the_same_on_both_fronts(fronts: dict[str, Front], memory: Memory) -> None:
    name = f"r-{uuid.uuid4().hex}"
    fronts["http"].register(name, memory.key, SIZE)
    assert fronts["grpc"].regions()[name] == fronts["http"].regions()[name]
    fronts["grpc"].unregister(name)
    assert name not in fronts["http"].regions()


@pytest.mark.parametrize(
    ("inputs", "outputs", "code", "words"),
    [
        ([pair("nobody")], {}, "NOT_FOUND", "no shared memory region 'nobody'"),
        ([OWN], {"y": at("nobody", 0, 16)}, "NOT_FOUND", "no shared memory region 'nobody'"),
        ([pair("", SIZE - 64 - 15)], {}, "BAD_REQUEST", "not within the 4032 bytes"),
        ([pair("", 2**63 - 1)], {}, "BAD_REQUEST", "not within the 4032 bytes"),
        ([pair("", 0, 15)], {}, "BAD_REQUEST", "takes 16 bytes, got 15"),
        ([pair("", 0, 24)], {}, "BAD_REQUEST", "takes 16 bytes, got 24"),
        ([pair("", 0, 0)], {}, "BAD_REQUEST", "takes 16 bytes, got 0"),
        ([OWN], {"y": at("", SIZE - 64 - 8, 16)}, "BAD_REQUEST", "not within the 4032 bytes"),
        ([OWN], {"y": at("", 0, 15)}, "BAD_REQUEST", "has 16 bytes, its place"),
        ([OWN], {"y": {**at("", 0, 16), "classification": 1}}, "BAD_REQUEST", "classification and"),
        ([OWN], {"y": {**at("", 0, 16), "binary_data": True}}, "BAD_REQUEST", "binary_data and"),
        ([OWN], {"y": {KEYS[0]: ""}}, "BAD_REQUEST", f"{KEYS[2]} must be an unsigned integer, got nothing"),
        ([OWN], {"y": {KEYS[2]: 16}}, "BAD_REQUEST", f"{KEYS[0]} must be a string, got nothing"),
        ([OWN], {"y": {KEYS[1]: 0}}, "BAD_REQUEST", f"{KEYS[0]} must be a string, got nothing"),
        (
            [OWN],
            {"y": {**at("", 0, 16), KEYS[1]: -1}},
            "BAD_REQUEST",
            "must be an unsigned integer, got '-1'",
        ),
        (
            [OWN],
            {"y": {**at("", 0, 16), KEYS[2]: 1.5}},
            "BAD_REQUEST",
            "must be an unsigned integer, got '1.5'",
        ),
        ([OWN], {"y": {**at("", 0, 16), KEYS[0]: 1}}, "BAD_REQUEST", "must be a string, got '1'"),
        (
            [Tensor("x", "FP64", [2**20, 2**20], parameters=at("", 0, 16))],
            {},
            "BAD_REQUEST",
            "more than 67108864 elements",
        ),
    ],
)
def test_places_that_are_none(
    front: Front, memory: Memory, region: str, inputs: Any, outputs: Any, code: str, words: str
) -> None:
    def named(parameters: Any) -> Any:
        """The fixture's region in place of "" """
        return {key: region if value == "" else value for key, value in parameters.items()}

    inputs = [Tensor(one.name, one.datatype, one.shape, one.data, named(one.parameters)) for one in inputs]
    outputs = {name: named(parameters) for name, parameters in outputs.items()}
    assert words in front.refused(code, "double", inputs, outputs)
    assert memory.get(0, SIZE) == bytes(SIZE)
    assert front.infer("double", [OWN], {})["y"].data == [6.0, 8.0]


def test_data_twice(fronts: dict[str, Front], memory: Memory) -> None:
    name = f"r-{uuid.uuid4().hex}"
    fronts["http"].register(name, memory.key, SIZE)
    tensor = Tensor("x", "FP64", [1, 2], [1.0, 2.0], at(name, 0, 16))
    assert "got two" in fronts["http"].refused("BAD_REQUEST", "double", [tensor], {})
    words = fronts["grpc"].refused("BAD_REQUEST", "double", [tensor], {})
    assert "raw_input_contents has 1 entries for 0 inputs" in words
    fronts["http"].unregister(name)


@pytest.mark.parametrize(
    ("key", "size", "offset", "words"),
    [
        ("/no-such-object", 1, 0, "cannot be opened: No such file or directory"),
        ("", 1, 0, "must be the name of a shared memory object"),
        ("/", 1, 0, "must be the name of a shared memory object"),
        ("/..", 1, 0, "must be the name of a shared memory object"),
        ("..", 1, 0, "must be the name of a shared memory object"),
        ("/../../etc/passwd", 1, 0, "must be the name of a shared memory object"),
        ("//etc/passwd", 1, 0, "must be the name of a shared memory object"),
        ("a/b", 1, 0, "must be the name of a shared memory object"),
        ("/etc/passwd", 1, 0, "must be the name of a shared memory object"),
        ("/a\0b", 1, 0, "must be the name of a shared memory object"),
        ("/" + "a" * 256, 1, 0, "must be the name of a shared memory object"),
        ("KEY", 0, 0, "is not within the 4096 bytes"),
        ("KEY", SIZE + 1, 0, "is not within the 4096 bytes"),
        ("KEY", 1, SIZE, "is not within the 4096 bytes"),
        ("KEY", 2**63, 2**63, "is not within the 4096 bytes"),
        ("FOLDER", 1, 0, "cannot be opened: Is a directory"),
        ("LINK", 1, 0, "cannot be opened: Too many levels of symbolic links"),
        ("PIPE", 1, 0, "is no shared memory object"),
    ],
)
def test_regions_that_are_none(
    front: Front, memory: Memory, key: str, size: int, offset: int, words: str
) -> None:
    path = memory.path.with_suffix(".other")
    try:
        if key == "FOLDER":
            path.mkdir()
        elif key == "LINK":
            path.symlink_to("/etc/passwd")
        elif key == "PIPE":
            os.mkfifo(path)
        key = {"KEY": memory.key, "FOLDER": path.name, "LINK": path.name, "PIPE": path.name}.get(key, key)
        assert words in front.not_registered("BAD_REQUEST", "bad", key, size, offset)
        assert "bad" not in front.regions()
    finally:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "'key' must be a string, got None"),
        ({"key": 7, "byte_size": 1}, "'key' must be a string, got 7"),
        ({"key": "k"}, "'byte_size' must be an unsigned integer, got None"),
        ({"key": "k", "byte_size": "1"}, "'byte_size' must be an unsigned integer, got 1"),
        ({"key": "k", "byte_size": True}, "'byte_size' must be an unsigned integer, got True"),
        ({"key": "k", "byte_size": 1, "offset": -1}, "'offset' must be an unsigned integer, got -1"),
        ([], "expected a JSON object"),
    ],
)
def test_registrations_that_are_none(fronts: dict[str, Http], document: Any, words: str) -> None:
    answer = fronts["http"].ask("POST", "systemsharedmemory/region/bad/register", document)
    assert words in answer.error("BAD_REQUEST")


def test_a_name_that_is_none(front: Front, memory: Memory) -> None:
    assert "1 to 256 printable characters" in front.not_registered("BAD_REQUEST", "x" * 257, memory.key, 1)


def test_an_unknown_region_has_no_status(fronts: dict[str, Http]) -> None:
    answer = fronts["http"].ask("GET", "systemsharedmemory/region/nobody/status")
    assert "'nobody'" in answer.error("NOT_FOUND")


def test_a_request_takes_no_more_than_a_body_may_have(front: Front) -> None:
    memory = Memory(65 * 2**20)  # of which nothing is ever touched
    try:
        front.register("large", memory.key, 65 * 2**20)
        most = 64 * 2**20
        tensor = Tensor("x", "FP64", [most // 16 + 1, 2], parameters=at("large", 0, most + 16))
        assert f"may take {most} bytes from" in front.refused("BAD_REQUEST", "double", [tensor], {})
        half = most // 2 + 8
        two = [
            Tensor(name, "FP64", [half // 8], parameters=at("large", 0, half)) for name in ("word", "times")
        ]
        assert f"may take {most} bytes from" in front.refused("BAD_REQUEST", "repeat", two, {})
        front.unregister("large")
    finally:
        memory.path.unlink()


def test_an_object_that_was_shortened_harms_nobody(front: Front, memory: Memory, region: str) -> None:
    memory.resize(72)
    words = f"region '{region}': '{memory.key}' is shorter than when it was registered"
    assert words in front.refused("BAD_REQUEST", "double", [pair(region)], {})
    assert words in front.refused("BAD_REQUEST", "double", [OWN], {"y": at(region, 0, 16)})
    assert memory.path.stat().st_size == 72  # and was not made longer
    memory.resize(SIZE)
    assert front.infer("double", [pair(region)], {})["y"].data == [0.0, 0.0]


def test_an_object_that_is_shortened_all_the_time(
    front: Front, memory: Memory, region: str, server: ServerProcess
) -> None:
    """Between the server's look at its size and its copy, too: a mapping would kill the process."""
    over = threading.Event()

    def resize() -> None:
        while not over.is_set():
            memory.resize(0)
            memory.resize(SIZE)

    owner = threading.Thread(target=resize)
    owner.start()
    try:
        answers = [front.tried("double", [pair(region)], {"y": at(region, 16, 16)}) for _ in range(150)]
    finally:
        over.set()
        owner.join()
    assert all("is shorter than when it was registered" in text for text in answers if text), answers
    assert server.exit_code is None
    assert front.infer("double", [OWN], {})["y"].data == [6.0, 8.0]


def test_an_object_that_is_removed_is_kept_until_it_is_unregistered(
    front: Front, memory: Memory, region: str, server: ServerProcess
) -> None:
    memory.path.unlink()
    assert front.infer("double", [pair(region)], {})["y"].data == [0.0, 0.0]
    assert memory.key in open_objects(server)
    front.unregister(region)
    assert front.infer("double", [OWN], {})["y"].data == [6.0, 8.0]
    assert memory.key not in open_objects(server)


def open_objects(server: ServerProcess) -> str:
    """The shared memory objects that the server holds open."""
    found = []
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        try:
            found.append(os.readlink(descriptor))
        except FileNotFoundError:  # closed meanwhile
            continue
    return " ".join(found)


def test_no_more_regions_than_there_are_descriptors_for(memory: Memory) -> None:
    regions = Regions(enabled=True)
    for number in range(MAX_REGIONS):
        regions.add(Region(str(number), memory.key, 0, 1))
    with pytest.raises(BadRequest, match=f"{MAX_REGIONS} regions are registered, no more"):
        regions.add(Region("one more", memory.key, 0, 1))
    regions.remove("")
    assert regions.listed() == []


@pytest.mark.parametrize("region", ["", "mine"])
def test_cuda_memory_is_none(fronts: dict[str, Http], region: str) -> None:
    """Clients begin with forgetting all regions, of both kinds."""
    one = f"/region/{region}" if region else ""
    ask = fronts["http"].ask
    assert ask("POST", f"cudasharedmemory{one}/unregister").status == 200
    status = ask("GET", f"cudasharedmemory{one}/status")
    assert "'mine'" in status.error("NOT_FOUND") if region else status.json() == []
    if region:
        answer = ask("POST", f"cudasharedmemory{one}/register", {"raw_handle": {"b64": ""}})
        assert "CUDA shared memory is not supported" in answer.error("UNSUPPORTED")
