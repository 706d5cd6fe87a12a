"""Blocks of shared memory: never two at one place, and none is lost."""

import os
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.errors import OverloadedError
from tessera.serve.processes.arena import ALIGNMENT, MIN_BLOCK_BYTES, Arena, create_memory

SIZE = 1 << 16


@pytest.fixture(scope="module")
def memory():
    fd = create_memory("tessera-test", SIZE)
    yield fd
    os.close(fd)


@given(
    st.lists(st.one_of(st.integers(1, SIZE // 2), st.integers(1, 600), st.integers(-40, -1)), max_size=120)
)
def test_blocks_do_not_overlap_and_all_come_back(memory: int, steps: list[int]) -> None:
    arena = Arena(memory)
    taken: list[tuple[int, int]] = []
    for step in steps:
        if step > 0:
            try:
                offset, order = arena.take(step)
            except OverloadedError:
                continue
            assert step <= 1 << order
            assert offset % ALIGNMENT == 0
            assert offset + (1 << order) <= SIZE
            for other, size in taken:
                assert offset + (1 << order) <= other or other + (1 << size) <= offset
            taken.append((offset, order))
        elif taken:
            arena.give(*taken.pop(step % len(taken)))
        assert arena.used_bytes == sum(1 << order for _, order in taken)
    for block in taken:
        arena.give(*block)
    assert arena.take(SIZE) == (0, SIZE.bit_length() - 1)
    arena.close()


def test_full_memory_is_overload_and_says_what_is_in_use(memory: int) -> None:
    arena = Arena(memory)
    for _ in range(SIZE // MIN_BLOCK_BYTES):
        arena.take(1)
    with pytest.raises(OverloadedError, match=f"{SIZE} of {SIZE} bytes of shared memory are in use"):
        arena.take(1)
    arena.close()


def test_freed_large_blocks_give_their_pages_back() -> None:
    fd = create_memory("tessera-test", 8 << 20)
    arena = Arena(fd)
    offset, order = arena.take(4 << 20)
    arena.memory[offset : offset + (4 << 20)] = b"x" * (4 << 20)
    assert os.fstat(fd).st_blocks * 512 >= 4 << 20
    arena.give(offset, order)
    assert os.fstat(fd).st_blocks * 512 < 1 << 20
    arena.close()
    os.close(fd)


def test_memory_that_is_not_to_be_had_is_an_error_with_the_remedy() -> None:
    code = """
import resource
from tessera.program.errors import ServeError
from tessera.serve.processes.arena import create_memory
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    create_memory("tessera-front-0", 1 << 28)
except ServeError as error:
    assert "268435456 bytes of shared memory for tessera-front-0" in error.message, error.message
    assert "ulimit" in error.hint, error.hint
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
