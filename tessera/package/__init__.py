"""The .tsc, .tsp and .tsd container: build, save, load, verify."""

from tessera.package.builder import PackageBuilder
from tessera.package.content import Finding
from tessera.package.limits import Limits
from tessera.package.manifest import Entry, KernelRow, Manifest, WeightRow
from tessera.package.package import Package, verify
from tessera.package.requirements import VersionSpec, parse_bytes

__all__ = [
    "Entry",
    "Finding",
    "KernelRow",
    "Limits",
    "Manifest",
    "Package",
    "PackageBuilder",
    "VersionSpec",
    "WeightRow",
    "parse_bytes",
    "verify",
]
