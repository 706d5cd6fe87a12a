#!/usr/bin/env python3
"""Make tessera/serve/grpc/protocol/*_pb2.py from the .proto files beside them.

    pip install grpcio-tools==1.71.2
    python scripts/make_grpc_protocol.py [--check]

protoc's own output registers its messages in protobuf's one pool of a process, under names that
`tritonclient` registers too: whoever imported both would get neither. So the modules made here keep a
pool of their own, and only the descriptors and the types (.pyi) are protoc's.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = "1.71.2"
"""Its messages are read by every protobuf from 5.29 on."""

PROTOCOL = Path(__file__).parents[1] / "tessera" / "serve" / "grpc" / "protocol"

MODULE = '''"""Messages of {proto}. Made by scripts/make_grpc_protocol.py; do not edit."""

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

_FILE = descriptor_pool.DescriptorPool().AddSerializedFile(
{descriptor}
)

SERVICE = _FILE.services_by_name["{service}"]

{classes}
'''


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the gRPC protocol's modules.")
    parser.add_argument("--check", action="store_true", help="only say whether they are up to date")
    only_check = parser.parse_args().check
    try:
        version = importlib.metadata.version("grpcio-tools")
    except importlib.metadata.PackageNotFoundError:
        version = "missing"
    if version != TOOLS:
        print(f"grpcio-tools is {version}: pip install grpcio-tools=={TOOLS}", file=sys.stderr)
        return 2
    stale = [path.name for path, text in made().items() if not path.exists() or path.read_text() != text]
    if only_check:
        print(f"out of date: {', '.join(stale)}" if stale else "up to date")
        return 1 if stale else 0
    for path, text in made().items():
        path.write_text(text)
    return 0


def made() -> dict[Path, str]:
    """What each module must hold."""
    found: dict[Path, str] = {}
    for proto in sorted(PROTOCOL.glob("*.proto")):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [
                    *(sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOCOL}", f"--pyi_out={folder}"),
                    *(f"--descriptor_set_out={folder}/set", proto.name),
                ],
                check=True,
            )
            types = Path(folder, f"{proto.stem}_pb2.pyi").read_text()
            found[PROTOCOL / f"{proto.stem}_pb2.py"] = module(proto.name, Path(folder, "set").read_bytes())
        found[PROTOCOL / f"{proto.stem}_pb2.pyi"] = types + "\nSERVICE: _descriptor.ServiceDescriptor\n"
    return found


def module(name: str, descriptor_set: bytes) -> str:
    """The module for one file's descriptors."""
    from google.protobuf import descriptor_pb2

    (file,) = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file
    raw = file.SerializeToString()
    lines = [f"    {raw[at : at + 60]!r}" for at in range(0, len(raw), 60)]
    classes = [
        f'{e.name} = enum_type_wrapper.EnumTypeWrapper(_FILE.enum_types_by_name["{e.name}"])'
        for e in file.enum_type
    ]
    classes += [
        f'{m.name} = message_factory.GetMessageClass(_FILE.message_types_by_name["{m.name}"])'
        for m in file.message_type
    ]
    return MODULE.format(
        proto=name, descriptor="\n".join(lines), service=file.service[0].name, classes="\n".join(classes)
    )


if __name__ == "__main__":
    sys.exit(main())
