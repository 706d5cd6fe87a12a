"""The GPUs that Tessera knows, by their datasheets: always to be labelled *datasheet*.

Rates are dense: what a document gives "with sparsity" is halved. Products of matrices have float32 sums
(int32 for 8-bit integers), at which GeForce cards are half as fast as with float16 sums.
"""

from __future__ import annotations

import difflib
import re
import string

from tessera.profiler.datasheet import Datasheet
from tessera.program.errors import OptionError

_VOLTA = "NVIDIA V100 datasheet"
_A100 = "NVIDIA A100 datasheet"
_GA102 = "NVIDIA Ampere GA102 architecture whitepaper"
_ADA = "NVIDIA Ada GPU architecture whitepaper"
_H100 = "NVIDIA H100 datasheet"
_H200 = "NVIDIA H200 datasheet"
_RTX50 = "NVIDIA RTX Blackwell architecture whitepaper"
_RTX_PRO = "NVIDIA RTX PRO Blackwell architecture whitepaper"
_BLACKWELL = "NVIDIA Blackwell datasheet"
_AMPERE = "NVIDIA A100 architecture whitepaper"

_Rate = float | None


def _row(
    name: str, cc: tuple[int, int], sms: int, memory_tb_s: float,
    f64: _Rate, f32: float, f64_tensor: _Rate, tf32: _Rate, f16: _Rate, bf16: _Rate, f8: _Rate, i8: _Rate,
    document: str, *aliases: str, l2: tuple[int, float] | None = None,
) -> Datasheet:  # fmt: skip
    return Datasheet(
        name, f32, bf16, memory_tb_s, cc, f64, sms, f64_tensor, tf32, f16, f8, i8, l2 and l2[0], l2 and l2[1],
        document, aliases, _AMPERE if l2 else "",
    )  # fmt: skip


_V100_L2, _A100_L2 = (2048, 1.53), (5120, 1.41)
"""Bytes of the L2 cache read in a clock, and the boost clock in GHz."""

_HOPPER_SXM = (34.0, 67.0, 67.0, 494.5, 989.0, 989.0, 1979.0, 1979.0)
_HOPPER_NVL = (30.0, 60.0, 60.0, 417.5, 835.5, 835.5, 1670.5, 1670.5)
_GA100 = (9.7, 19.5, 19.5, 156.0, 312.0, 312.0, None, 624.0)
_ROWS = (
    # name, capability, multiprocessors, memory; f64, f32, then tensor cores: f64, tf32, f16, bf16, f8, i8
    _row("V100 SXM2", (7, 0), 80, 0.9, 7.8, 15.7, None, None, 125.0, None, None, None, _VOLTA,
         "V100", "V100 SXM2 16GB", "V100 SXM2 32GB", l2=_V100_L2),
    _row("V100 PCIe", (7, 0), 80, 0.9, 7.0, 14.0, None, None, 112.0, None, None, None, _VOLTA,
         "V100 PCIE 16GB", "V100 PCIE 32GB"),
    _row("V100S PCIe", (7, 0), 80, 1.134, 8.2, 16.4, None, None, 130.0, None, None, None, _VOLTA,
         "V100S", "V100S PCIE 32GB"),
    _row("T4", (7, 5), 40, 0.32, 8.1 / 32, 8.1, None, None, 65.0, None, None, 130.0, "NVIDIA T4 datasheet"),
    _row("RTX 2080 Ti", (7, 5), 68, 0.616, 13.4 / 32, 13.4, None, None, 53.8, None, None, 215.2,
         "NVIDIA Turing GPU architecture whitepaper"),
    _row("A100 SXM 80 GB", (8, 0), 108, 2.039, *_GA100, _A100, "A100 SXM4 80GB", l2=_A100_L2),
    _row("A100 SXM 40 GB", (8, 0), 108, 1.555, *_GA100, _A100, "A100 SXM4 40GB", l2=_A100_L2),
    _row("A100 PCIe 80 GB", (8, 0), 108, 1.935, *_GA100, _A100, "A100 80GB PCIe", l2=_A100_L2),
    _row("A100 PCIe 40 GB", (8, 0), 108, 1.555, *_GA100, _A100, "A100 PCIE 40GB", l2=_A100_L2),
    _row("A30", (8, 0), 56, 0.933, 5.2, 10.3, 10.3, 82.0, 165.0, 165.0, None, 330.0, "NVIDIA A30 datasheet"),
    _row("A40", (8, 6), 84, 0.696, 37.4 / 64, 37.4, None, 74.8, 149.7, 149.7, None, 299.3,
         "NVIDIA A40 datasheet"),
    _row("A10", (8, 6), 72, 0.6, 31.2 / 64, 31.2, None, 62.5, 125.0, 125.0, None, 250.0,
         "NVIDIA A10 datasheet"),
    _row("A10G", (8, 6), 80, 0.6, 31.5 / 64, 31.5, None, 35.0, 70.0, 70.0, None, 140.0,
         "NVIDIA A10G datasheet"),
    _row("A2", (8, 6), 10, 0.2, 4.5 / 64, 4.5, None, 9.0, 18.0, 18.0, None, 36.0, "NVIDIA A2 datasheet"),
    _row("RTX A6000", (8, 6), 84, 0.768, 38.7 / 64, 38.7, None, 77.4, 154.8, 154.8, None, 309.7, _GA102),
    _row("RTX 3080", (8, 6), 68, 0.76, 29.8 / 64, 29.8, None, 29.8, 59.5, 59.5, None, 238.0, _GA102),
    _row("RTX 3090", (8, 6), 82, 0.936, 35.6 / 64, 35.6, None, 35.6, 71.0, 71.0, None, 284.0, _GA102),
    _row("RTX 3090 Ti", (8, 6), 84, 1.008, 40.0 / 64, 40.0, None, 40.0, 80.0, 80.0, None, 320.0, _GA102),
    _row("L4", (8, 9), 58, 0.3, 30.3 / 64, 30.3, None, 60.0, 121.0, 121.0, 242.5, 242.5,
         "NVIDIA L4 datasheet"),
    _row("L40", (8, 9), 142, 0.864, 90.5 / 64, 90.5, None, 90.5, 181.05, 181.05, 362.0, 362.0,
         "NVIDIA L40 datasheet"),
    _row("L40S", (8, 9), 142, 0.864, 91.6 / 64, 91.6, None, 183.0, 362.0, 362.0, 733.0, 733.0,
         "NVIDIA L40S datasheet"),
    _row("RTX 6000 Ada", (8, 9), 142, 0.96, 91.1 / 64, 91.1, None, 182.1, 364.2, 364.2, 728.5, 728.5,
         "NVIDIA Ada professional GPU architecture whitepaper", "RTX 6000 Ada Generation"),
    _row("RTX 4080", (8, 9), 76, 0.7168, 48.7 / 64, 48.7, None, 48.7, 97.5, 97.5, 194.9, 389.9, _ADA),
    _row("RTX 4090", (8, 9), 128, 1.008, 82.6 / 64, 82.6, None, 82.6, 165.2, 165.2, 330.3, 660.6, _ADA),
    _row("H100 SXM", (9, 0), 132, 3.35, *_HOPPER_SXM, _H100, "H100 80GB HBM3", "H100 SXM5"),
    _row("H100 PCIe", (9, 0), 114, 2.0, 26.0, 51.0, 51.0, 378.0, 756.5, 756.5, 1513.0, 1513.0, _H100),
    _row("H100 NVL", (9, 0), 132, 3.9, *_HOPPER_NVL, _H100),
    _row("H200 SXM", (9, 0), 132, 4.8, *_HOPPER_SXM, _H200, "H200"),
    _row("H200 NVL", (9, 0), 132, 4.8, *_HOPPER_NVL, _H200),
    _row("GH200", (9, 0), 132, 4.0, *_HOPPER_SXM, "NVIDIA GH200 Grace Hopper datasheet", "GH200 480GB"),
    _row("B200", (10, 0), 148, 7.7, 37.0, 75.0, 37.0, 1100.0, 2250.0, 2250.0, 4500.0, 4500.0,
         f"{_BLACKWELL}, HGX B200"),
    _row("GB200", (10, 0), 148, 8.0, 40.0, 80.0, 40.0, 1250.0, 2500.0, 2500.0, 5000.0, 5000.0,
         f"{_BLACKWELL}, GB200 NVL72"),
    _row("RTX 5090", (12, 0), 170, 1.792, 104.8 / 64, 104.8, None, 104.8, 209.5, 209.5, 419.0, 838.0, _RTX50),
    _row("RTX 5080", (12, 0), 84, 0.96, 56.3 / 64, 56.3, None, 56.3, 112.6, 112.6, 225.1, 450.2, _RTX50),
    _row("RTX PRO 6000", (12, 0), 188, 1.792, 126.0 / 64, 126.0, None, 251.9, 503.8, 503.8, 1007.6, 1007.6,
         _RTX_PRO, "RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell"),
    _row("GB10", (12, 1), 48, 0.273, 31.0 / 64, 31.0, None, None, None, None, None, None,
         "NVIDIA DGX Spark datasheet; float32 from NVIDIA's talk on GB10, Hot Chips 2025", "DGX Spark"),
)  # fmt: skip

DATASHEETS: dict[str, Datasheet] = {sheet.name: sheet for sheet in _ROWS}
"""By name. Float64 of cards whose documents name the ratio alone: 1/32 (Turing) or 1/64 (GeForce, RTX, A and
L series) of float32."""
FEATURED = ("V100 SXM2", "A100 SXM 80 GB", "H100 SXM", "H200 SXM", "L4", "L40S", "RTX 4090")
"""What tables show where nobody names a GPU."""

NEAR = 0.6
"""Share of the best likeness from which a name is worth suggesting too."""
ALIKE = 0.7
"""Share of letters that two words have in common, from which one may be the other mistyped."""

_WORDS = re.compile(r"[a-z]+\d+[a-z]*|\d+[a-z]*|[a-z]+")
_MAKERS = frozenset({"nvidia", "geforce", "tesla", "quadro", "gpu", "edition", "blackwell", "generation"})


def _key(name: str) -> frozenset[str]:
    """The words of a name that tell GPUs apart: `NVIDIA A100-SXM4-80GB` → a100, sxm, 80gb."""
    text = re.sub(r"(\d+)\s+gb\b", r"\1gb", name.lower())
    text = re.sub(r"\b(rtx|gtx)(?=\d)", r"\1 ", text)
    words = {"sxm" if w.startswith("sxm") else w for w in _WORDS.findall(text)}
    return frozenset(words - _MAKERS)


def find_datasheet(name: str) -> Datasheet:
    """The GPU that a name means: one of `DATASHEETS`, an abbreviation, or what the driver calls it.

    Raises:
        OptionError: No GPU is called that, or several are; the hint lists near names.
    """
    text = name if isinstance(name, str) else str(name)
    key = _key(text)
    for sheet in _ROWS:
        if key and key in {_key(known) for known in (sheet.name, *sheet.aliases)}:
            return sheet
    near = [s.name for s in _ROWS if key and key <= _key(s.name)]
    if len(near) > 1:
        raise OptionError(
            f"several GPUs are called {text!r}: {', '.join(near)}",
            hint=f"name one of them, such as '{near[0]}'",
        )
    if near:
        return DATASHEETS[near[0]]
    raise OptionError(f"no datasheet for the GPU {text!r}", hint=_near_hint(text))


def _near_hint(text: str) -> str:
    words = _key(text)
    scores = {name: sum(_likeness(word, words) for word in _key(name)) for name in DATASHEETS if words}
    best = max(scores.values(), default=0.0)
    near = [name for name in scores if best and scores[name] >= NEAR * best]
    near = sorted(near, key=lambda name: -scores[name])[:4]
    start = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{start}known: {', '.join(DATASHEETS)}"


def _likeness(word: str, given: frozenset[str]) -> float:
    """How much a word of a GPU's name is like one of those given, 0 to 1.

    One that a given word begins with counts by its length: `a100x` is an a100 before an a10. Others, such as
    `h300`, must be of the same family by their letters, or both be numbers, and have most digits in common.
    """
    if word in given:
        return 1.0
    begun = max((len(word) / len(g) for g in given if g.startswith(word)), default=0.0)
    family = [g for g in given if _family(g) == _family(word)]
    alike = max((difflib.SequenceMatcher(None, word, g).ratio() for g in family), default=0.0)
    return max(begun, alike if alike >= ALIKE else 0.0)


def _family(word: str) -> str:
    """The letters that a word begins with: `h` of `h300`."""
    return word[: len(word) - len(word.lstrip(string.ascii_lowercase))]
