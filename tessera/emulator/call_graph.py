"""Who calls whom in a PTX module: through pointers too, and in circles."""

from __future__ import annotations

from collections.abc import Iterator

from tessera.emulator.ptx import Function, Instruction, Module, Operand, ParamList, Symbol, Vector

SERVICES = frozenset({"vprintf", "malloc", "free", "__assertfail", "__assert_fail"})
"""Functions that the driver provides and the engine has."""


def call_parts(item: Instruction) -> tuple[tuple[Operand, ...], Operand, tuple[Operand, ...]]:
    """Results, function and arguments of a `call`."""
    operands = list(item.operands)
    results: tuple[Operand, ...] = ()
    if isinstance(first := operands[0], ParamList):
        results = first.elements
        del operands[0]
    target = operands.pop(0)
    arguments: tuple[Operand, ...] = ()
    if operands and isinstance(operands[0], ParamList):
        arguments = operands[0].elements
    return results, target, arguments


class CallGraph:
    """The calls of a module.

    Args:
        module: The module.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.taken = sorted(self._taken(), key=list(module.functions).index)
        """Functions whose address is taken, in the module's order."""

    def _taken(self) -> set[str]:
        found: set[str] = set()
        for function in self.module.functions.values():
            for item in function.body:
                if isinstance(item, Instruction):
                    operands = item.operands
                    if item.opcode == "call":
                        results, _, arguments = call_parts(item)
                        operands = (*results, *arguments)
                    found |= {name for operand in operands for name in _symbols(operand)}
        for variable in self.module.variables.values():
            found |= {item.name for item in variable.initial if isinstance(item, Symbol)}
        return {name for name in found if self._callable(name)}

    def _callable(self, name: str) -> bool:
        function = self.module.functions.get(name)
        return function is not None and bool(function.body) and not function.is_entry

    def targets(self, caller: Function, item: Instruction) -> list[str]:
        """Functions that a `call` may call: for a pointer, all of that shape whose address is taken."""
        results, target, arguments = call_parts(item)
        if isinstance(target, Symbol):
            return [target.name]
        last = item.operands[-1]
        if isinstance(last, Symbol) and last.name in caller.branch_tables:
            return list(caller.branch_tables[last.name])
        shapes = {name: self.module.functions[name] for name in self.taken}
        return [
            name
            for name, function in shapes.items()
            if len(function.params) == len(arguments) and len(function.results) == len(results)
        ]

    def called(self, name: str) -> set[str]:
        """Functions with a body that a function may call itself."""
        function = self.module.functions[name]
        calls = (item for item in function.body if isinstance(item, Instruction) and item.opcode == "call")
        return {target for item in calls for target in self.targets(function, item) if self._callable(target)}

    def circles(self, entry: str) -> dict[str, frozenset[str]]:
        """For each function that may come to call itself, those that it does so through."""
        reach: dict[str, set[str]] = {}
        waiting = [entry]
        while waiting:
            name = waiting.pop()
            if name not in reach:
                reach[name] = self.called(name)
                waiting += reach[name]
        changed = True
        while changed:
            changed = False
            for found in reach.values():
                more = set().union(*(reach[n] for n in found)) - found if found else set()
                changed |= bool(more)
                found |= more
        return {
            name: frozenset(other for other in found if name in reach[other])
            for name, found in reach.items()
            if name in found
        }


def _symbols(operand: Operand) -> Iterator[str]:
    if isinstance(operand, Symbol):
        yield operand.name
    elif isinstance(operand, Vector):
        for element in operand.elements:
            yield from _symbols(element)
