"""The protocol's files: names and numbers are those of the clients, and the modules are made from them."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tessera.serve.grpc.protocol import inference_pb2 as pb

ROOT = Path(__file__).parents[3]


def fields_of(message: Any) -> dict[str, Any]:
    """Number, type and label of each field, by name."""
    return {
        f.name: (f.number, f.type, f.is_repeated, f.message_type and f.message_type.full_name)
        for f in message.fields
    }


def test_every_message_is_wire_compatible_with_the_clients() -> None:
    pytest.importorskip("tritonclient.grpc")
    from tritonclient.grpc import model_config_pb2, service_pb2

    theirs = {
        **service_pb2.DESCRIPTOR.message_types_by_name,
        **model_config_pb2.DESCRIPTOR.message_types_by_name,
    }
    ours = pb.SERVICE.file.message_types_by_name
    checked = 0

    def compare(mine: Any, other: Any) -> None:
        nonlocal checked
        mine_fields, other_fields = fields_of(mine), fields_of(other)
        assert mine_fields.items() <= other_fields.items(), mine.full_name
        # Of a configuration we have what we fill in; of everything else, all but one recent statistic.
        if not mine.full_name.startswith("inference.Model") or "Infer" in mine.name:
            assert mine_fields.keys() == other_fields.keys(), mine.full_name
        checked += 1
        for nested in mine.nested_types:
            compare(nested, other.nested_types_by_name[nested.name])

    for name, message in ours.items():
        compare(message, theirs[name])
    assert checked > 60


def test_service_has_the_methods_that_the_clients_call() -> None:
    pytest.importorskip("tritonclient.grpc")
    from tritonclient.grpc import service_pb2

    (service,) = service_pb2.DESCRIPTOR.services_by_name.values()
    assert service.full_name == pb.SERVICE.full_name
    assert {(m.name, m.input_type.full_name, m.output_type.full_name) for m in service.methods} == {
        (m.name, m.input_type.full_name, m.output_type.full_name) for m in pb.SERVICE.methods
    }


def test_modules_are_made_from_the_proto_files() -> None:
    try:
        version = importlib.metadata.version("grpcio-tools")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pip install grpcio-tools==1.71.2")
    if version != "1.71.2":
        pytest.skip(f"grpcio-tools is {version}, not 1.71.2")
    script = ROOT / "scripts" / "make_grpc_protocol.py"
    subprocess.run([sys.executable, script, "--check"], check=True)
