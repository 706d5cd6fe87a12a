"""What to compile for and how: targets, compiler flags, switches, all checked before any work starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tessera.compiler.tiling import StepTilings
from tessera.program.arch import SM_LIMITS, is_cpu, parse_arch, resolve_target
from tessera.program.errors import OptionError

_WGMMA_WIDTHS = (64, 128, 256)
_WGMMA = re.compile(r"m(\d+)n(\d+)k(\d+)\Z")
_TENSOR_CORE_CONFIGS = ("auto", "off")
KNOWN_FLAGS = "-O0 -O1 -O2 -O3 --use_fast_math --maxrregcount=N -lineinfo -G"
"""Every value that `CompilationTarget.optimization_flags` understands."""


DEFAULT_ARCHITECTURES = ("sm_70", "sm_80", "sm_90", "cpu")
"""What is compiled for when nobody says: V100, A100, H100 and this machine's processor."""


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """One target's settings in the form that the toolchain uses. A part of every cache key."""

    target: str
    """Full target name: `sm_90a`, `cpu-x86_64-v3`."""
    opt_level: int = 3
    """0 to 3."""
    fast_math: bool = False
    """Flush denormals, approximate division and square root, contract and reassociate."""
    max_registers: int | None = None
    """Registers per thread that the assembler may use."""
    lineinfo: bool = False
    """Source lines in PTX and cubin."""
    debug: bool = False
    """Full debug information; implies optimization level 0."""
    tensor_cores: bool = True
    """Whether generated matrix products may use tensor cores."""
    wgmma: tuple[int, int, int] | None = None
    """Shape (m, n, k) wanted for warpgroup products on sm_90a; None leaves it to the compiler."""
    tilings: StepTilings = ()
    """Tiles, stages and threads of the steps of a tensor function that were tuned, by step."""


@dataclass(frozen=True, slots=True)
class CompilationTarget:
    """One architecture to compile for, and its flags.

    Args:
        architecture: `sm_70` … `sm_121a`, `cpu` (this machine's level) or a level such as `cpu-x86_64-v3`.
        optimization_flags: Flags in nvcc's spelling: see `KNOWN_FLAGS`.
        tensor_core_config: `auto` uses tensor cores where they fit, `off` never.
        enable_hopper_features: Compile `sm_90` as `sm_90a`, which allows wgmma and TMA.
        wgmma_config: Warpgroup product shape such as `m64n256k16`: n is the columns of a block's tile, 64,
            128 or 256; the depth follows from the operands' type.

    Raises:
        ArchitectureError: No such architecture.
        OptionError: A flag is unknown, or settings contradict each other; the message names them.
    """

    architecture: str
    optimization_flags: Sequence[str] = ("-O3",)
    tensor_core_config: str | None = "auto"
    enable_hopper_features: bool = False
    wgmma_config: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.optimization_flags, str):
            raise OptionError(
                f"optimization_flags must be a list, not {self.optimization_flags!r}",
                hint=f"optimization_flags={self.optimization_flags.split()!r}",
            )
        object.__setattr__(self, "optimization_flags", tuple(self.optimization_flags))
        self.tool_options()

    def tool_options(self) -> ToolOptions:
        """These settings, resolved and checked.

        Raises:
            ArchitectureError, OptionError: As for the class.
        """
        target = _resolve(self.architecture, hopper=self.enable_hopper_features)
        if self.tensor_core_config not in (None, *_TENSOR_CORE_CONFIGS):
            raise OptionError(
                f"tensor_core_config {self.tensor_core_config!r} of {target} is unknown",
                hint="one of " + ", ".join(map(repr, _TENSOR_CORE_CONFIGS)),
            )
        options = ToolOptions(
            target=target,
            tensor_cores=self.tensor_core_config != "off",
            wgmma=_parse_wgmma(self.wgmma_config, target),
        )
        for flag in self.optimization_flags:
            options = _apply_flag(options, flag)
        return replace(options, opt_level=0) if options.debug else options


@dataclass(frozen=True, slots=True)
class AOTConfig:
    """Everything an ahead-of-time compilation may be told.

    Raises:
        ArchitectureError, OptionError: A target is wrong, appears twice, or nothing would be made.
    """

    targets: Sequence[CompilationTarget | str] = field(
        default_factory=lambda: tuple(CompilationTarget(a) for a in DEFAULT_ARCHITECTURES)
    )
    """What to compile for; a plain name is a `CompilationTarget` with the defaults."""
    enable_graph_optimization: bool = True
    """Simplify the graph of a `@ts.jit` function before code is made."""
    enable_kernel_fusion: bool = True
    """Put neighbouring operators into one kernel."""
    enable_autotuning: bool = False
    """Compile kernels that name values to tune with the best: those on record, else by predicted cost."""
    autotune_cache: str | None = None
    """JSON file of tuning records, read and added to; `tessera tune` writes the same."""
    autotune_lock: str | None = None
    """File of choices that `tessera tune --lock` wrote: these are compiled, and nothing is tuned."""
    max_shared_memory_per_block: int | None = None
    """Bytes; a kernel that needs more is refused."""
    include_debug_info: bool = False
    """Source lines in PTX and cubins, as `-lineinfo`."""
    generate_ptx: bool = True
    """Keep PTX, for GPUs newer than the targets, for inspection and for the emulator."""
    generate_cubin: bool = True
    """Make cubins."""

    def __post_init__(self) -> None:
        given = (self.targets,) if isinstance(self.targets, (str, CompilationTarget)) else self.targets
        targets = tuple(CompilationTarget(t) if isinstance(t, str) else t for t in _checked_targets(given))
        object.__setattr__(self, "targets", targets)
        if not targets:
            raise OptionError("targets is empty: nothing to compile for", hint='targets=["sm_80", "cpu"]')
        if not (self.generate_ptx or self.generate_cubin):
            raise OptionError("generate_ptx and generate_cubin are both off: a GPU target would make nothing")
        limit = self.max_shared_memory_per_block
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise OptionError(f"max_shared_memory_per_block must be a number of bytes, not {limit!r}")
        self.tool_options()

    def tool_options(self) -> tuple[ToolOptions, ...]:
        """Every target's settings, in the order given.

        Raises:
            OptionError: Two targets are the same architecture.
        """
        found: dict[str, ToolOptions] = {}
        for target in self.targets:
            assert isinstance(target, CompilationTarget)  # noqa: S101 - made so in __post_init__
            options = target.tool_options()
            if options.target in found:
                raise OptionError(
                    f"{options.target} is given twice in targets",
                    hint="give each architecture once, with all its flags",
                    architecture=options.target,
                )
            lineinfo = options.lineinfo or self.include_debug_info
            found[options.target] = replace(options, lineinfo=lineinfo)
        return tuple(found.values())

    @classmethod
    def of(
        cls, architectures: Iterable[str], *, optimization_level: int = 3, fast_math: bool = False
    ) -> AOTConfig:
        """The configuration for plain architecture names and one level for all.

        Raises:
            ArchitectureError, OptionError: As for the class.
        """
        alone = isinstance(architectures, (str, CompilationTarget))
        names: tuple[object, ...] = (architectures,) if alone else tuple(architectures)
        if any(isinstance(name, CompilationTarget) for name in names):
            raise OptionError(
                "target_architectures takes names, not CompilationTargets",
                hint='config=AOTConfig(targets=[CompilationTarget("sm_80", …)]), or names: ["sm_80", "cpu"]',
            )
        if isinstance(optimization_level, bool) or optimization_level not in (0, 1, 2, 3):
            raise OptionError(f"optimization_level must be 0, 1, 2 or 3, not {optimization_level!r}")
        flags = [f"-O{optimization_level}", *(["--use_fast_math"] if fast_math else [])]
        return cls(targets=[CompilationTarget(str(name), flags) for name in dict.fromkeys(names)])


def _checked_targets(given: object) -> tuple[CompilationTarget | str, ...]:
    if not isinstance(given, Iterable):
        raise OptionError(f"targets is a list, not {given!r:.60}", hint='targets=["sm_80", "cpu"]')
    targets = tuple(given)
    for target in targets:
        if not isinstance(target, (str, CompilationTarget)):
            raise OptionError(
                f"a target is a name or a CompilationTarget, not {target!r:.60}",
                hint='targets=["sm_80", CompilationTarget("sm_90", enable_hopper_features=True)]',
            )
    return targets


def _resolve(name: str, *, hopper: bool) -> str:
    target = resolve_target(name)
    if not hopper:
        return target
    if is_cpu(target) or parse_arch(target).cc != (9, 0):
        raise OptionError(
            f"enable_hopper_features is for sm_90, not {target}",
            hint='CompilationTarget(architecture="sm_90", enable_hopper_features=True)',
        )
    return "sm_90a"


def _parse_wgmma(text: str | None, target: str) -> tuple[int, int, int] | None:
    if text is None or text == "auto":
        return None
    match = _WGMMA.match(text) if isinstance(text, str) else None
    shape = (int(match[1]), int(match[2]), int(match[3])) if match else None
    if shape is None or shape[0] != 64 or shape[1] not in range(8, 257, 8) or shape[2] not in (8, 16, 32):
        raise OptionError(
            f"wgmma_config {text!r} of {target} is not a warpgroup product shape",
            hint="m64n<8…256 in steps of 8>k<8 (tf32), 16 (16-bit) or 32 (8-bit)>, as in 'm64n256k16'",
        )
    if target != "sm_90a":
        raise OptionError(
            f"wgmma_config is for sm_90 with enable_hopper_features, not {target}",
            hint="CompilationTarget('sm_90', enable_hopper_features=True, wgmma_config='m64n256k16')"
            if target == "sm_90"
            else "leave it out there",
        )
    if shape[1] not in _WGMMA_WIDTHS:
        raise OptionError(
            f"wgmma_config {text!r}: generated products are 64, 128 or 256 columns wide, not {shape[1]}",
            hint="'m64n128k16', or a kernel of your own with tessera.gpu.wgmma_bf16",
        )
    return shape


def _set_level(options: ToolOptions, value: str) -> ToolOptions:
    return replace(options, opt_level=int(value))


def _set_registers(options: ToolOptions, value: str) -> ToolOptions:
    limit = int(value)
    if not 16 <= limit <= 255:
        raise OptionError(f"--maxrregcount={limit} of {options.target}: a thread has 16 to 255 registers")
    return replace(options, max_registers=limit)


_FLAGS: tuple[tuple[re.Pattern[str], Callable[[ToolOptions, str], ToolOptions]], ...] = (
    (re.compile(r"-O([0-3])\Z"), _set_level),
    (re.compile(r"(?:-|--)use_fast_math()\Z"), lambda o, _: replace(o, fast_math=True)),
    (re.compile(r"(?:-|--)maxrregcount=(\d{1,6})\Z"), _set_registers),
    (re.compile(r"(?:-lineinfo|--generate-line-info)()\Z"), lambda o, _: replace(o, lineinfo=True)),
    (re.compile(r"(?:-G|--device-debug)()\Z"), lambda o, _: replace(o, debug=True)),
)


def _apply_flag(options: ToolOptions, flag: Any) -> ToolOptions:
    for pattern, apply in _FLAGS:
        match = pattern.match(flag) if isinstance(flag, str) else None
        if match:
            return apply(options, match[1])
    raise OptionError(
        f"unknown optimization flag {flag!r} of {options.target}",
        hint=f"known: {KNOWN_FLAGS}",
        flag=str(flag),
    )


def shared_limit(target: str, configured: int | None) -> int:
    """Most shared memory, in bytes, that a block may use on `target` under the configured cap."""
    most = SM_LIMITS[parse_arch(target).cc].shared_optin_bytes
    return most if configured is None else min(most, configured)
