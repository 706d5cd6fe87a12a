"""Convolutions of Tessera on this machine's GPU against cuDNN through PyTorch: TFLOP/s and their ratio.

    python benchmarks/gpu_conv.py [--dtype f16] [--batch 32] [--repeats 20] [CxHxO-K/S …]

A layer `64x56x128-3/2` takes 64 channels of 56 × 56 to 128 with a 3 × 3 window that moves by 2; its padding
is half the window. Both work on the same device memory in turns, timed by events on one stream; the median
of the rounds counts. cuDNN is timed on tensors as they lie (`NCHW`) and on tensors whose channels already
lie last (`NHWC`), its fastest algorithm chosen first. Tessera's time holds the copy of the operand; weights
are packed before, as they are at load where they are constants. Needs a GPU, CuPy, PyTorch and Tessera's
compiler; where the machine with the GPU has no compiler, `--save FOLDER` elsewhere and `--packages FOLDER`
there do it in two steps.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LAYERS = ("3x224x64-7/2", "64x56x64-3/1", "64x56x256-1/1", "128x56x128-3/2", "128x28x128-3/1",
          "512x28x128-1/1", "256x14x256-3/1", "1024x14x256-1/1", "512x28x1024-1/2", "512x7x512-3/1",
          "512x7x2048-1/1")  # fmt: skip
"""Of ResNet-50."""
WARM_UP = 3
QUEUE_CYCLES = 1_000_000
"""Of the GPU's clock, some half a millisecond: what queueing takes on the CPU is nobody's time then."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution."""

    channels: int
    size: int
    out: int
    window: int
    stride: int

    @classmethod
    def parse(cls, text: str) -> Layer:
        """From `64x56x128-3/2`."""
        found = re.fullmatch(r"(\d+)x(\d+)x(\d+)-(\d+)/(\d+)", text)
        if found is None:
            raise SystemExit(f"{text}: not a layer; write 64x56x128-3/2")
        return cls(*map(int, found.groups()))

    @property
    def places(self) -> int:
        """Places of the window along an axis."""
        return (self.size + 2 * (self.window // 2) - self.window) // self.stride + 1

    def shapes(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Of the operand, the weights and the result."""
        return (
            (batch, self.channels, self.size, self.size),
            (self.out, self.channels, self.window, self.window),
            (batch, self.out, self.places, self.places),
        )

    def work(self, batch: int) -> float:
        """GFLOP."""
        return 2 * batch * self.out * self.channels * self.window**2 * self.places**2 / 1e9

    def __str__(self) -> str:
        window = f"{self.window}×{self.window}/{self.stride}"
        return f"{self.channels}→{self.out} {self.size}×{self.size} {window}"


def main() -> int:
    arguments = argparse.ArgumentParser(description="convolutions against cuDNN")
    arguments.add_argument("layers", nargs="*", default=LAYERS, metavar="CxHxO-K/S")
    arguments.add_argument("--dtype", default="f16", choices=("f16", "tf32"))
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument("--save", type=Path, metavar="FOLDER", help="compile only, and write packages")
    arguments.add_argument("--arch", default="sm_90", help="with --save")
    arguments.add_argument("--packages", type=Path, metavar="FOLDER", help="measure these packages")
    chosen = arguments.parse_args()
    layers = {text: Layer.parse(text) for text in chosen.layers}
    if chosen.save:
        chosen.save.mkdir(parents=True, exist_ok=True)
        for text, layer in layers.items():
            compiled(layer, chosen).save(chosen.save / file_name(text, chosen))
        return 0
    try:
        import cupy
        import torch
    except ImportError as missing:
        print(f"needs CuPy and PyTorch: {missing}", file=sys.stderr)
        return 2
    if not torch.cuda.is_available():
        print("needs a GPU: no CUDA device here", file=sys.stderr)
        return 2
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = True
    versions = f"cuDNN {torch.backends.cudnn.version()}, PyTorch {torch.__version__}"
    print(f"{torch.cuda.get_device_name()}, {versions}, {chosen.dtype}, batch {chosen.batch}, TFLOP/s")
    heads = ("Tessera", "product", "NCHW", "NHWC", "ratio", "ratio", "difference")
    print(f"{'layer':<26}{'kernel':<26}" + "".join(f"{head:>11}" for head in heads))
    for text, layer in layers.items():
        measure(cupy, torch, text, layer, chosen)
    return 0


def file_name(text: str, chosen: argparse.Namespace) -> str:
    return f"{text.replace('/', '_')}-{chosen.dtype}-{chosen.batch}.tsc"


def compiled(layer: Layer, chosen: argparse.Namespace) -> Any:
    import tessera as ts
    from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget

    target = CompilationTarget(chosen.arch, enable_hopper_features=chosen.arch == "sm_90")
    stride, padding = layer.stride, layer.window // 2
    fn = ts.jit(lambda x, w: ts.conv2d(x, w, stride=stride, padding=padding), name="conv")
    specs = [ts.TensorSpec(shape, chosen.dtype) for shape in layer.shapes(chosen.batch)[:2]]
    return AOTCompiler(AOTConfig(targets=[target])).compile(fn, specs)


def measure(cupy: Any, torch: Any, text: str, layer: Layer, chosen: argparse.Namespace) -> None:
    dtype = {"f16": torch.float16, "tf32": torch.float32}[chosen.dtype]
    torch.manual_seed(0)
    x, w = (torch.randn(s, device="cuda").to(dtype) for s in layer.shapes(chosen.batch)[:2])
    out = torch.full(layer.shapes(chosen.batch)[2], float("nan"), device="cuda", dtype=dtype)
    steps = Steps(cupy, torch, package(text, layer, chosen), x, w, out)
    x_last, w_last = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))

    def cudnn(x: Any = x, w: Any = w) -> Any:
        return torch.nn.functional.conv2d(x, w, stride=layer.stride, padding=layer.window // 2)

    steps.launch_all()
    theirs = cudnn()
    torch.cuda.synchronize()
    difference = float((out.float() - theirs.float()).abs().max() / theirs.float().abs().max())
    works = (steps.launch, steps.launch_product, cudnn, lambda: cudnn(x_last, w_last))
    rounds = [[timed(torch, work) for work in works] for _ in range(WARM_UP + chosen.repeats)]
    times = [statistics.median(column) for column in zip(*rounds[WARM_UP:], strict=True)]
    rates = [layer.work(chosen.batch) / time for time in times]
    ratios = rates[0] / rates[2], rates[0] / rates[3]
    print(
        f"{layer!s:<26}{steps.name:<26}" + "".join(f"{rate:>11.1f}" for rate in rates)
        + "".join(f"{ratio:>11.2f}" for ratio in ratios) + f"{difference:>11.1e}", flush=True,
    )  # fmt: skip


def timed(torch: Any, work: Any) -> float:
    """Milliseconds between two events around `work`, which waits on the GPU until all of it is queued."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(QUEUE_CYCLES)  # noqa: SLF001 - PyTorch has no public kernel that only waits
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop))


def package(text: str, layer: Layer, chosen: argparse.Namespace) -> Any:
    from tessera.package import Package

    if chosen.packages:
        return Package.load(chosen.packages / file_name(text, chosen))
    return Package.from_artifact(compiled(layer, chosen).artifact, name="conv")


class Steps:
    """The launches of a program of fixed sizes, on given memory, prepared as the runtime does."""

    def __init__(self, cupy: Any, torch: Any, package: Any, x: Any, w: Any, out: Any) -> None:
        from tessera.program.bind import bind_symbols
        from tessera.runtime.cells import ArgumentCells
        from tessera.runtime.cuda_driver import CupyDriver
        from tessera.runtime.schedule import make_schedule

        (program,) = package.programs.values()
        (plan,) = program.plans
        names = [port.name for port in program.inputs]
        symbols = bind_symbols(program, dict(zip(names, (tuple(x.shape), tuple(w.shape)), strict=True)))
        schedule = make_schedule(program, plan, symbols)
        arena = torch.empty(max(schedule.arena_bytes, 1), dtype=torch.uint8, device="cuda")
        driver = CupyDriver(0)
        bases = [*(("input", name) for name in names), ("output", program.outputs[0].name), ("arena", "")]
        self._cells = ArgumentCells(schedule, bases, lambda _: 0, {}, driver.encode_map)
        self._cells.bind([tensor.data_ptr() for tensor in (x, w, out, arena)], ())
        self._arena, self._launches = arena, []
        for index, call in enumerate(schedule.calls):
            binary = package.binary(program.name, call.kernel, plan.targets[0], "cubin")
            function = driver.load(bytes(binary.data), call.kernel)
            place = self._cells.address(index)
            self._launches.append(driver.launcher(function, call, place, cupy.cuda.Stream.null))
        self._packs = packing(plan, names[1])
        self.name = schedule.calls[-1].kernel.rpartition("matmul_")[2]

    def launch_all(self) -> None:
        """Pack, then run."""
        for launch in self._launches:
            launch()

    def launch(self) -> None:
        """Run, in order."""
        for index, launch in enumerate(self._launches):
            if index not in self._packs:
                launch()

    def launch_product(self) -> None:
        """The product alone."""
        self._launches[-1]()


def packing(plan: Any, weights: str) -> set[int]:
    """Numbers of the steps that read weights alone: they are done at load where weights are constants."""
    known, found = {weights}, set()
    for index, step in enumerate(plan.steps[:-1]):
        *reads, target = [arg.name for arg in step.args if hasattr(arg, "space")]
        if known.issuperset(reads):
            found.add(index)
            known.add(target)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
