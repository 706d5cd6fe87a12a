"""Sizes as people write them, and the pool of working memory."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.errors import ConfigError, OutOfMemoryError
from tessera.runtime.memory import Block, MemoryPool, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 << 30),
        ("4 GiB", 4 << 30),
        ("512mb", 512 << 20),
        ("1.5G", 3 << 29),
        ("64 KB", 65536),
        ("100", 100),
        ("2TB", 2 << 40),
        (12345, 12345),
        (None, None),
    ],
)
def test_sizes_are_powers_of_1024(text: object, size: int | None) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "four", "4XB", "-1GB", "0", 0, -1, 1.5, True, [], "1e9"])
def test_what_is_no_size_is_named_with_its_setting(text: object) -> None:
    with pytest.raises(ConfigError, match="max_workspace"):
        parse_bytes(text, what="max_workspace")


class Source:
    """An allocator that counts, and may be full."""

    def __init__(self, capacity: int = 1 << 60) -> None:
        self.made = 0
        self.capacity = capacity

    def __call__(self, size: int) -> Block[None]:
        if size > self.capacity:
            raise OutOfMemoryError("full", required=size, available=self.capacity)
        self.made += 1
        return Block(None, 256, size)


def test_released_block_is_used_again() -> None:
    source = Source()
    pool = MemoryPool("cpu", source)
    for size in (100_000, 99_000, 90_000, 100_000):
        pool.release(pool.acquire(size))
    assert source.made == 1


def test_large_block_is_not_wasted_on_a_small_request() -> None:
    source = Source()
    pool = MemoryPool("cpu", source)
    pool.release(pool.acquire(100 << 20))
    small = pool.acquire(1 << 20)
    assert small.bytes < 2 << 20
    assert source.made == 2


def test_limit_holds_and_idle_blocks_make_room() -> None:
    pool = MemoryPool("cpu", Source(), limit_bytes=1 << 20)
    pool.release(pool.acquire(600_000))
    block = pool.acquire(1_000_000)
    assert block.bytes <= 1 << 20
    with pytest.raises(OutOfMemoryError) as caught:
        pool.acquire(100_000)
    assert caught.value.required == 100_000
    assert caught.value.available == (1 << 20) - block.bytes
    pool.release(block)
    pool.acquire(900_000)


def test_request_of_exactly_the_limit_fits() -> None:
    assert MemoryPool("cpu", Source(), limit_bytes=1_000_001).acquire(1_000_001).bytes == 1_000_001


def test_full_device_gets_its_idle_blocks_back_first() -> None:
    source = Source()
    pool = MemoryPool("cuda:0", source)
    pool.release(pool.acquire(1000))
    source.capacity = 5_000_000
    block = pool.acquire(5_000_000)
    assert block.bytes == 5_000_000
    assert pool.usage()["reserved_bytes"] == 5_000_000
    with pytest.raises(OutOfMemoryError, match="full"):
        pool.acquire(6_000_000)


def test_trim_gives_idle_blocks_back() -> None:
    pool = MemoryPool("cpu", Source())
    kept = pool.acquire(1000)
    pool.release(pool.acquire(500_000))
    pool.trim()
    assert pool.usage()["reserved_bytes"] == kept.bytes


@given(st.lists(st.tuples(st.integers(0, 3 << 20), st.booleans()), max_size=60))
def test_books_balance_whatever_happens(requests: list[tuple[int, bool]]) -> None:
    pool = MemoryPool("cpu", Source(), limit_bytes=8 << 20)
    held: list[Block[None]] = []
    for size, free_one in requests:
        if free_one and held:
            pool.release(held.pop(0))
        try:
            block = pool.acquire(size)
        except OutOfMemoryError:
            continue
        assert block.bytes >= size
        held.append(block)
        usage = pool.usage()
        assert usage["in_use_bytes"] == sum(b.bytes for b in held)
        assert usage["in_use_bytes"] <= usage["reserved_bytes"] <= 8 << 20
        assert usage["peak_bytes"] >= usage["in_use_bytes"]
    for block in held:
        pool.release(block)
    assert pool.usage()["in_use_bytes"] == 0


def test_threads_may_share_a_pool() -> None:
    pool = MemoryPool("cpu", Source(), limit_bytes=64 << 20)

    def work() -> None:
        for size in range(1, 200):
            pool.release(pool.acquire(size * 100))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.usage()["in_use_bytes"] == 0
