"""The .tsc, .tsp and .tsd container: build, save, load, verify."""

from tessera.package.builder import PackageBuilder
from tessera.package.content import Finding
from tessera.package.keys import KeyPair, generate_key
from tessera.package.limits import Limits
from tessera.package.manifest import Entry, KernelRow, Manifest, WeightRow
from tessera.package.package import Package, verify
from tessera.package.requirements import VersionSpec, parse_bytes
from tessera.package.safetensors import SafeTensors, export_weights, read_safetensors, write_safetensors
from tessera.package.signing import SigningKey, read_signer, sign_package
from tessera.package.trust import Signer, TrustPolicy
from tessera.package.verification import check_signature

__all__ = [
    "Entry",
    "Finding",
    "KernelRow",
    "KeyPair",
    "Limits",
    "Manifest",
    "Package",
    "PackageBuilder",
    "SafeTensors",
    "Signer",
    "SigningKey",
    "TrustPolicy",
    "VersionSpec",
    "WeightRow",
    "check_signature",
    "export_weights",
    "generate_key",
    "parse_bytes",
    "read_safetensors",
    "read_signer",
    "sign_package",
    "verify",
    "write_safetensors",
]
