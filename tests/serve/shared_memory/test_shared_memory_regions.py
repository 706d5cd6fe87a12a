"""Segments and regions: only what is there, the user's own and within its bounds is touched."""

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.serve.request import RequestError
from tessera.serve.shared_memory.regions import MAX_REGIONS, Regions, check_client
from tessera.serve.shared_memory.segment import FOLDER, Segment, checked_name

Make = Callable[[int], SharedMemory]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes segments; they are gone at the end."""
    made: list[SharedMemory] = []

    def segment(size: int) -> SharedMemory:
        made.append(SharedMemory(create=True, size=size))
        return made[-1]

    yield segment
    for each in made:
        each.close()
        with contextlib.suppress(FileNotFoundError):
            each.unlink()


def regions(allowed: bool | str = True, max_bytes: int = 1 << 20) -> Regions:
    return Regions(allowed, max_bytes)


def descriptors(shared: SharedMemory) -> int:
    """How often this process has it open."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(link.readlink())
    return links.count(Path(FOLDER, shared.name))


def tensor_in(name: str, size: int, offset: int = 0) -> dict[str, Any]:
    return {
        "shared_memory_region": name,
        "shared_memory_byte_size": size,
        "shared_memory_offset": offset,
    }


@pytest.mark.parametrize("slash", ["", "/"])
def test_region_is_read_and_written_where_it_lies(make: Make, slash: str, rng: np.random.Generator) -> None:
    shared = make(256)
    data = rng.bytes(256)
    shared.buf[:] = data
    found = regions()
    found.register("r", slash + shared.name, 64, 128)
    place = found.place("input 'x'", tensor_in("r", 16, 32))
    assert place is not None
    assert place.read("input 'x'") == data[96:112]
    place.write(b"0123456789", "output 'y'")
    assert bytes(shared.buf) == data[:96] + b"0123456789" + data[106:]
    assert place.parameters(10) == tensor_in("r", 10, 32)


@pytest.mark.parametrize(
    "key", ["", "/", "a/b", "../etc/passwd", "..", "/..", ".", "//a", "a\0b", "a b", "é", "x" * 251, "a\n"]
)
def test_key_that_is_no_name_is_refused(key: str) -> None:
    with pytest.raises(RequestError, match="no name of shared memory"):
        regions().register("r", key, 0, 8)


@given(st.text(max_size=20))
def test_names_that_pass_lead_nowhere_else(key: str) -> None:
    try:
        name = checked_name(key)
    except RequestError:
        return
    assert Path(FOLDER, name).resolve().parent == Path(FOLDER).resolve()


def test_segment_that_is_not_there_is_refused() -> None:
    with pytest.raises(RequestError, match="cannot be used: No such file") as error:
        regions().register("r", "tessera-is-not-there", 0, 8)
    assert error.value.fields["status"] == 400


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link, pipe = Path(FOLDER, f"tessera-link-{os.getpid()}"), Path(FOLDER, f"tessera-pipe-{os.getpid()}")
    link.symlink_to(secret)
    os.mkfifo(pipe)
    try:
        for path in (link, pipe):
            with pytest.raises(RequestError, match="cannot be used"):
                regions().register("r", path.name, 0, 6)
    finally:
        link.unlink()
        pipe.unlink()


def test_segment_of_another_user_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = make(64)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(RequestError, match="belongs to another user"):
        regions().register("r", shared.name, 0, 8)


@pytest.mark.parametrize(
    ("offset", "size", "part"),
    [
        (0, 8193, "8193 bytes at 0 of the shared memory .* which has 4096"),
        (4096, 1, "1 bytes at 4096"),
        (2**63, 8, "which has 4096"),
        (-1, 8, "which is none"),
        (0, 0, "which is none"),
        (0, -8, "which is none"),
    ],
)
def test_region_beyond_its_segment_is_refused(make: Make, offset: int, size: int, part: str) -> None:
    with pytest.raises(RequestError, match=part):
        regions().register("r", make(4096).name, offset, size)


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        (tensor_in("r", 129), "129 bytes at 0 of the shared-memory region 'r', which has 128"),
        (tensor_in("r", 8, 121), "8 bytes at 121"),
        (tensor_in("r", -1), "'-1', not a number"),
        ({"shared_memory_region": "r"}, "shared_memory_byte_size is 'None'"),
        (tensor_in("other", 8), "no shared-memory region 'other'"),
        ({"shared_memory_region": 5}, "not a name"),
    ],
)
def test_tensor_beyond_its_region_is_refused(make: Make, parameters: dict[str, Any], part: str) -> None:
    found = regions()
    found.register("r", make(256).name, 64, 128)
    with pytest.raises(RequestError, match=part):
        found.place("input 'x'", parameters)


def test_tensor_over_the_limit_is_413(make: Make) -> None:
    found = regions(max_bytes=100)
    found.register("r", make(256).name, 0, 256)
    with pytest.raises(RequestError, match="the limit is 100") as error:
        found.place("input 'x'", tensor_in("r", 101))
    assert error.value.fields["status"] == 413


def test_segment_that_was_shortened_is_an_error_and_no_crash(make: Make) -> None:
    shared = make(8192)
    found = regions()
    found.register("r", shared.name, 0, 8192)
    place = found.place("input 'x'", tensor_in("r", 8192))
    assert place is not None
    os.truncate(f"{FOLDER}/{shared.name}", 100)
    with pytest.raises(RequestError, match="has 100 bytes now"):
        place.read("input 'x'")
    with pytest.raises(RequestError, match="has 100 bytes now"):
        place.write(bytes(200), "output 'y'")
    assert Path(FOLDER, shared.name).stat().st_size == 100
    place.write(b"fits", "output 'y'")


def test_output_larger_than_its_place_is_refused(make: Make) -> None:
    found = regions()
    found.register("r", make(256).name, 0, 256)
    place = found.place("output 'y'", tensor_in("r", 8))
    assert place is not None
    with pytest.raises(RequestError, match="output 'y' is 9 bytes, but shared_memory_byte_size says 8"):
        place.write(bytes(9), "output 'y'")


def test_unregistering_leaves_what_is_in_use_whole_and_closes_it_afterwards(make: Make) -> None:
    shared = make(64)
    own = descriptors(shared)
    shared.buf[:4] = b"data"
    found = regions()
    found.register("r", shared.name, 0, 64)
    place = found.place("input 'x'", tensor_in("r", 4))
    assert place is not None
    found.unregister("r")
    found.unregister("r")
    assert found.status() == []
    assert place.read("input 'x'") == b"data"
    assert descriptors(shared) == own + 1
    del place
    gc.collect()
    assert descriptors(shared) == own


def test_names_are_taken_once_and_counted(make: Make) -> None:
    shared = make(64)
    found = regions()
    found.register("0", shared.name, 0, 64)
    with pytest.raises(RequestError, match="region '0' already") as error:
        found.register("0", shared.name, 0, 8)
    assert error.value.fields["status"] == 409
    for i in range(1, MAX_REGIONS):
        found.register(str(i), shared.name, 0, 64)
    with pytest.raises(RequestError, match=f"there are {MAX_REGIONS}"):
        found.register("one more", shared.name, 0, 64)
    found.unregister()
    with pytest.raises(RequestError, match="no shared-memory region '0'") as error:
        found.status("0")
    assert error.value.fields["status"] == 404


def test_setting_says_which_segments_there_may_be(make: Make) -> None:
    shared = make(64)
    with pytest.raises(RequestError, match="takes no shared memory") as error:
        regions(allowed=False).register("r", shared.name, 0, 64)
    assert error.value.fields["status"] == 501
    with pytest.raises(RequestError, match="names begin with 'mine-' here"):
        regions(allowed="mine-").register("r", shared.name, 0, 64)
    regions(allowed=shared.name[:4]).register("r", f"/{shared.name}", 0, 64)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("127.0.0.1", True), ("::1", True), (None, True), ("10.0.0.7", False), ("2001:db8::1", False)],
)
def test_only_this_machine_registers(address: str | None, allowed: bool) -> None:
    with contextlib.nullcontext() if allowed else pytest.raises(RequestError, match="is another one"):
        check_client(address)


def test_segment_is_not_registered_for_cleaning_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # The client's own process removes it; the server must neither remove nor report it at its end.
    seen: list[str] = []
    monkeypatch.setattr(resource_tracker, "register", lambda name, kind: seen.append(name))
    Segment(make(64).name).read(0, 64, "x")
    assert len(seen) <= 1
