"""Places in memory as words: `x[1000]`, and how much of it there is."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.emulator.findings import Other
from tessera.emulator.shadow import Region


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a region."""

    text: str
    """`x[70, 3]`, or `byte 16 of buffer h`."""
    extent: str
    """`x has shape (64, 8)`."""
    index: tuple[int, ...] | None
    """Index into the array, where its shape is known; one number if only the size of an access is."""


def place_of(region: Region, space: str, offset: int, size: int) -> Where:
    """The place at a byte offset of a region.

    Args:
        region: The array.
        space: `global`, `shared` or `local`.
        offset: Bytes from its begin; may lie outside.
        size: Bytes of the access, the unit of the index where the elements are not known.
    """
    name = region.name or f"an array in {space} memory"
    if region.itemsize and region.shape is not None:
        index = _unravel(offset // region.itemsize, region.shape)
        return Where(f"{name}[{', '.join(map(str, index))}]", _extent(name, region.shape), index)
    unit = size if size in (1, 2, 4, 8) else 4
    element = offset // unit
    if region.name is None and space == "local":
        name = "a local array"
    return Where(f"byte {offset} of {name}", f"it has {region.size} bytes", (element,))


def _unravel(element: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Index by axis; only the first may leave its axis, as addresses have it."""
    if not shape or 0 in shape[1:]:
        return (element,)
    index = []
    for length in reversed(shape[1:]):
        element, rest = divmod(element, length)
        index.append(rest)
    return (element, *reversed(index))


def _extent(name: str, shape: tuple[int, ...]) -> str:
    if len(shape) > 1:
        return f"{name} has shape ({', '.join(map(str, shape))})"
    count = shape[0] if shape else 1
    return f"{name} is empty" if count == 0 else f"{name} has {count} element{'s' if count != 1 else ''}"


_PAST = {"read": "reads", "write": "writes", "atomic": "updates"}


def conflict_text(access: str, place: Where, other: Other, line: tuple[int, int], same_block: bool) -> str:
    """What a race is, in words."""
    who = f"thread {_point(other.thread)}" if same_block else f"block {_point(other.block)}"
    where = f"in line {other.line}" if other.line else f"at PTX line {other.ptx_line}"
    if other.line and other.line == line[1]:
        where = "in the same line"
    order = "no barrier between them" if same_block else "nothing orders blocks"
    also = "also " if _PAST[access] == _PAST[other.access] else ""
    return f"{_PAST[access]} {place.text}, which {who} {also}{_PAST[other.access]} {where}; {order}"


def _point(point: tuple[int, int, int]) -> str:
    return "(" + ", ".join(map(str, point)) + ")"
