"""Digests taken side by side are those taken in turns."""

import hashlib
import zlib

import numpy as np
import pytest

from tessera.package.digest import CHUNK, digests


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_digests_are_those_of_the_whole_whatever_the_size(size: int) -> None:
    data = memoryview(np.random.default_rng(size).bytes(size))
    given = bytearray()
    expected = (hashlib.sha256(data).hexdigest(), zlib.crc32(data))
    assert digests(data) == expected
    assert digests(data, given.extend) == expected
    assert given == data


def test_an_error_of_the_writer_ends_the_work() -> None:
    def full(chunk: memoryview) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        digests(memoryview(bytes(3 * CHUNK)), full)
