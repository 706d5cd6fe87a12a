"""Runs programs: on a CPU, on a GPU, by the reference. Needs no compiler."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tessera.runtime.deployment import DeploymentPackage
    from tessera.runtime.devices import DeviceFallbackWarning, parse_device
    from tessera.runtime.profile import Profile, StepProfile
    from tessera.runtime.repeats import Repeats
    from tessera.runtime.runtime import Runtime, open_artifact
    from tessera.runtime.source import ArtifactSource, ProgramSource
    from tessera.runtime.timeline import Span, Timeline

__all__ = [
    "ArtifactSource",
    "DeploymentPackage",
    "DeviceFallbackWarning",
    "Profile",
    "ProgramSource",
    "Repeats",
    "Runtime",
    "Span",
    "StepProfile",
    "Timeline",
    "open_artifact",
    "parse_device",
]

_HOMES = {
    "ArtifactSource": "source",
    "DeploymentPackage": "deployment",
    "DeviceFallbackWarning": "devices",
    "Profile": "profile",
    "ProgramSource": "source",
    "Repeats": "repeats",
    "Runtime": "runtime",
    "Span": "timeline",
    "StepProfile": "profile",
    "Timeline": "timeline",
    "open_artifact": "runtime",
    "parse_device": "devices",
}


def __getattr__(name: str) -> object:
    # numpy costs 60 ms: a name is imported when it is first used.
    if name in _HOMES:
        return getattr(import_module(f"tessera.runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
