"""What rules read of a kernel's code: loops, what a branch decides about, where values come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tessera.emulator.cfg import Block, ControlFlow
    from tessera.emulator.counters import Counters, InstructionCounts
    from tessera.emulator.ptx import Function, Instruction, Module

CP_ASYNC_BYTES = 4
"""What `cp.async` copies at least. Source: PTX ISA, "cp.async"."""
Line = tuple[str, int]
Values = dict[Line, dict[str, float]]


@dataclass(frozen=True, slots=True)
class CountedFunction:
    """A function of a kernel's code, with how often each instruction ran."""

    flow: ControlFlow
    counts: Mapping[int, InstructionCounts]
    """By the identity of the instruction."""
    barrier_loops: frozenset[int]
    """Basic blocks of loops that have a barrier."""
    lines: Mapping[int, Line]
    """By position; what the compiler put in without a line belongs to that of the instruction before."""
    after: tuple[int, ...]
    """Of each basic block, the one where all ways from it meet again; the number of blocks: at the end."""

    def instructions(self, block: Block) -> Iterator[tuple[Instruction, InstructionCounts]]:
        """Those of a basic block that ran."""
        for instruction in block.instructions:
            own = self.counts.get(id(instruction))
            if own is not None:
                yield instruction, own


def code_values(module: Module, counters: Counters) -> tuple[Values, dict[str, float]]:
    """Numbers by line, and those of the kernel as a whole.

    Args:
        module: The kernel's code.
        counters: Of its launches.
    """
    found: Values = {}
    kernel: dict[str, float] = {}
    for function in functions_of(module, counters):
        _divergence(function, found)
        _division(function, found)
        _products(function, found)
        _copies(function, found)
        _float64(function, found)
    opcodes = [i.mnemonic.split(".") for i in counters.instructions]
    kernel["asynchronous_copies"] = float(sum(1 for o in opcodes if o[0] == "cp" and "async" in o))
    kernel["tensor_instructions"] = float(counters.count("tensor"))
    kernel["shuffles"] = float(counters.count("shuffle", "vote"))
    return found, kernel


def functions_of(module: Module, counters: Counters) -> Iterator[CountedFunction]:
    """The functions that ran."""
    from tessera.emulator.cfg import control_flow

    counted: dict[str, dict[int, InstructionCounts]] = {}
    for row in counters.instructions:
        counted.setdefault(row.function, {})[row.position] = row
    for name, rows in counted.items():
        function: Function = module.functions[name]
        flow = control_flow(function)
        by_identity = {id(item): rows[i] for i, item in enumerate(function.body) if i in rows}
        yield CountedFunction(flow, by_identity, _barrier_loops(flow), _lines(rows), _post_dominators(flow))


def _lines(rows: Mapping[int, InstructionCounts]) -> dict[int, Line]:
    found: dict[int, Line] = {}
    last: Line = ("", 0)
    for position in sorted(rows):
        row = rows[position]
        last = (row.file, row.source_line) if row.source_line else last
        found[position] = last
    return found


def _barrier_loops(flow: ControlFlow) -> frozenset[int]:
    """Blocks that a jump backwards may bring about again, together with a barrier."""
    waits = {b.index for b in flow.blocks if any(i.opcode in ("bar", "barrier") for i in b.instructions)}
    if not waits:
        return frozenset()
    before: dict[int, list[int]] = {}
    for block in flow.blocks:
        for target in block.successors:
            before.setdefault(target, []).append(block.index)
    found: set[int] = set()
    for block in flow.blocks:
        for target in block.successors:
            turn = _between(before, target, block.index) if target <= block.index else set[int]()
            found |= turn if turn & waits else set()
    return frozenset(found)


def _between(before: Mapping[int, Sequence[int]], head: int, tail: int) -> set[int]:
    """Blocks from which a loop's end is reached without passing its head."""
    found, left = {head, tail}, [tail]
    while left:
        block_index = left.pop()
        if block_index == head:
            continue
        for previous in before.get(block_index, ()):
            if previous not in found:
                found.add(previous)
                left.append(previous)
    return found


def _post_dominators(flow: ControlFlow) -> tuple[int, ...]:
    """Of each block, the first that every way to the end passes.

    Source: Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm", 2001, on the reversed graph.
    """
    end = len(flow.blocks)
    order = _by_distance_to_end(flow)
    rank = {block: i for i, block in enumerate(order)}
    parent: dict[int, int] = {end: end}

    def meet(a: int, b: int) -> int:
        while a != b:
            while rank[a] > rank[b]:
                a = parent[a]
            while rank[b] > rank[a]:
                b = parent[b]
        return a

    changed = True
    while changed:
        changed = False
        for block in order[1:]:
            ways = [t for t in flow.blocks[block].successors or (end,) if t in parent]
            new = ways[0]
            for other in ways[1:]:
                new = meet(new, other)
            if parent.get(block) != new:
                parent[block], changed = new, True
    return tuple(parent.get(i, end) for i in range(end))


def _by_distance_to_end(flow: ControlFlow) -> list[int]:
    """Blocks that reach the end, each after one that it leads to: reverse postorder of the reversed graph."""
    end = len(flow.blocks)
    before: dict[int, list[int]] = {}
    for block in flow.blocks:
        for target in block.successors or (end,):
            before.setdefault(target, []).append(block.index)
    seen, done = {end}, list[int]()
    stack: list[tuple[int, Iterator[int]]] = [(end, iter(before.get(end, ())))]
    while stack:
        node, left = stack[-1]
        following = next((n for n in left if n not in seen), None)
        if following is None:
            done.append(node)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(before.get(following, ()))))
    return done[::-1]


def _add(found: Values, function: CountedFunction, own: InstructionCounts, **numbers: float) -> None:
    values = found.setdefault(function.lines[own.position], {})
    for name, number in numbers.items():
        values[name] = values.get(name, 0.0) + number


# -- what is looked for -------------------------------------------------------------------------


def _divergence(function: CountedFunction, found: Values) -> None:
    """Threads that wait between branches that divided their warp and where the ways meet again."""
    regions: dict[Line, tuple[float, set[int], InstructionCounts]] = {}
    for block in function.flow.blocks:
        last = block.instructions[-1] if block.instructions else None
        branch = function.counts.get(id(last)) if last is not None else None
        if branch is None or not branch.divergent:
            continue
        # A loop has several branches at one line, with one region: it counts once.
        present = branch.threads / branch.executed
        line = function.lines[branch.position]
        most, inside, _ = regions.get(line, (0.0, set[int](), branch))
        behind = {each.index for each in _region(function, block.index)}
        regions[line] = (max(most, present), inside | behind, branch)
    for present, inside, branch in regions.values():
        rows = [own for i in inside for _, own in function.instructions(function.flow.blocks[i])]
        executed, threads = sum(own.executed for own in rows), sum(own.threads for own in rows)
        _add(
            found,
            function,
            branch,
            divergence_idle=max(executed * present - threads, 0.0),
            divergence_instructions=executed,
            divergence_threads=threads,
        )


def _region(function: CountedFunction, start: int) -> Iterable[Block]:
    """The blocks behind a branch, up to where all its ways meet."""
    blocks, end = function.flow.blocks, function.after[start]
    seen: set[int] = set()
    left = [t for t in blocks[start].successors if t != end]
    while left:
        index = left.pop()
        if index not in seen and index < len(blocks):
            seen.add(index)
            left += [t for t in blocks[index].successors if t != end]
    return [blocks[i] for i in sorted(seen)]


def _division(function: CountedFunction, found: Values) -> None:
    """Divisions: of integers by what is not known when it is compiled, and precise ones of floats."""
    for block in function.flow.blocks:
        for instruction, own in function.instructions(block):
            if instruction.opcode not in ("div", "rem"):
                continue
            if instruction.modifiers[-1][0] in "su":
                _add(found, function, own, divisions=own.executed)
            elif instruction.mnemonic == "div.rn.f32":
                _add(found, function, own, float_divisions=own.executed)


def _products(function: CountedFunction, found: Values) -> None:
    """Multiply-adds of 16-bit floats: those of f16 itself, or of f32 that was widened from it."""
    halves = {
        name
        for block in function.flow.blocks
        for i in block.instructions
        if i.opcode == "cvt" and i.modifiers[-2:] in (("f32", "f16"), ("f32", "bf16"))
        for name in _registers(i, 0, 1)
    }
    for block in function.flow.blocks:
        for instruction, own in function.instructions(block):
            widened = own.kind == "fp32 fma" and set(_registers(instruction, 1, 3)) <= halves
            if own.kind == "fp16 fma" or widened:
                _add(found, function, own, half_products=own.executed)


def _copies(function: CountedFunction, found: Values) -> None:
    """Stores to shared memory of what was just loaded, as it is, in loops with barriers."""
    for block in function.flow.blocks:
        if block.index not in function.barrier_loops:
            continue
        loaded: set[str] = set()
        for instruction in block.instructions:
            sources = set(_registers(instruction, 1, 2))
            modifiers = instruction.modifiers
            fresh = instruction.opcode == "ld" and "global" in modifiers
            if fresh or (instruction.opcode == "mov" and sources & loaded):
                loaded.update(_registers(instruction, 0, 1))
            own = function.counts.get(id(instruction))
            if instruction.opcode != "st" or "shared" not in modifiers or own is None or not own.accesses:
                continue
            if sources and sources <= loaded and own.accesses[0].size >= CP_ASYNC_BYTES:
                _add(found, function, own, direct_copies=own.executed)


def _float64(function: CountedFunction, found: Values) -> None:
    """Float64 arithmetic of lines that widen float32, and narrow the result or have a constant."""
    from tessera.emulator.ptx import Immediate

    rows = [pair for block in function.flow.blocks for pair in function.instructions(block)]
    widen, accident = set[Line](), set[Line]()
    for instruction, own in rows:
        line, types = (own.file, own.source_line), instruction.modifiers[-2:]
        if instruction.opcode == "cvt" and types == ("f64", "f32"):
            widen.add(line)
        elif (instruction.opcode == "cvt" and types == ("f32", "f64")) or (
            own.precision == "fp64" and any(isinstance(o, Immediate) for o in instruction.operands)
        ):
            accident.add(line)
    for _, own in rows:
        if own.precision == "fp64" and (own.file, own.source_line) in widen & accident:
            _add(found, function, own, fp64_by_accident=own.executed)


def _registers(instruction: Instruction, first: int, last: int) -> list[str]:
    """Names of the registers among some operands."""
    from tessera.emulator.ptx import Register, Vector

    names: list[str] = []
    for operand in instruction.operands[first:last]:
        parts = operand.elements if isinstance(operand, Vector) else (operand,)
        names += [p.name for p in parts if isinstance(p, Register)]
    return names
