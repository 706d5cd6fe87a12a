"""What an owner says of its model to the fronts."""

from __future__ import annotations

import msgspec

from tessera.program.codec import encode
from tessera.program.program import Program


class ModelInfo(msgspec.Struct, frozen=True):
    """What an owner says of the model that it has loaded."""

    name: str
    """What clients call it."""
    version: str
    package_version: str
    device: str
    program: bytes
    """Its interface, as a Program's JSON."""
    rows: str | None
    """The symbol that counts rows; None: requests are not stacked."""


def interface_of(program: Program) -> bytes:
    """The JSON of `program` without what only the process that runs it needs."""
    return encode(msgspec.structs.replace(program, constants=(), plans=(), graph=None))
