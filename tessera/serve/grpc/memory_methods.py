"""Shared memory over gRPC: register, unregister, status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tessera.serve.grpc.protocol import inference_pb2 as pb
from tessera.serve.shared_memory.regions import Regions, no_cuda_memory


def memory_methods(regions: Regions) -> dict[str, Callable[[Any], Awaitable[Any]]]:
    """The methods by name."""

    async def status(request: pb.SystemSharedMemoryStatusRequest) -> pb.SystemSharedMemoryStatusResponse:
        response = pb.SystemSharedMemoryStatusResponse()
        for region in regions.status(request.name or None):
            entry = response.regions[region.name]
            entry.name, entry.key = region.name, region.key
            entry.offset, entry.byte_size = region.offset, region.size
        return response

    async def register(
        request: pb.SystemSharedMemoryRegisterRequest,
    ) -> pb.SystemSharedMemoryRegisterResponse:
        regions.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def unregister(
        request: pb.SystemSharedMemoryUnregisterRequest,
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        regions.unregister(request.name or None)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def cuda_status(_: pb.CudaSharedMemoryStatusRequest) -> pb.CudaSharedMemoryStatusResponse:
        return pb.CudaSharedMemoryStatusResponse()

    async def cuda_register(_: pb.CudaSharedMemoryRegisterRequest) -> pb.CudaSharedMemoryRegisterResponse:
        raise no_cuda_memory()

    async def cuda_unregister(
        _: pb.CudaSharedMemoryUnregisterRequest,
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        return pb.CudaSharedMemoryUnregisterResponse()

    return {
        "SystemSharedMemoryStatus": status,
        "SystemSharedMemoryRegister": register,
        "SystemSharedMemoryUnregister": unregister,
        "CudaSharedMemoryStatus": cuda_status,
        "CudaSharedMemoryRegister": cuda_register,
        "CudaSharedMemoryUnregister": cuda_unregister,
    }
