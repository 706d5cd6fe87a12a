"""Names of dtypes in the Open Inference Protocol, which servers and their clients share.

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

DATATYPES: dict[str, str] = {
    "f64": "FP64",
    "f32": "FP32",
    "tf32": "FP32",
    "f16": "FP16",
    "bf16": "BF16",
    "f8e4m3": "FP8_E4M3",
    "f8e5m2": "FP8_E5M2",
    "i64": "INT64",
    "i32": "INT32",
    "i16": "INT16",
    "i8": "INT8",
    "u64": "UINT64",
    "u32": "UINT32",
    "u16": "UINT16",
    "u8": "UINT8",
    "bool": "BOOL",
}
"""The protocol's name of each dtype. It has none for fp8; those two are ours."""

DTYPE_OF: dict[str, str] = {datatype: name for name, datatype in DATATYPES.items() if name != "tf32"}
"""The dtype of each of the protocol's names."""
