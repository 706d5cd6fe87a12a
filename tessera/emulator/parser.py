"""PTX text to `Module`. Reads what NVVM, nvcc, Triton and inline assembly write.

Source: PTX ISA 8.8, chapters 4 (syntax), 5 (state spaces and types) and 11 (directives).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NoReturn

from tessera.emulator.lexer import Token, literal, negated, tokenize
from tessera.emulator.ptx import (
    Address,
    Function,
    Immediate,
    Instruction,
    Label,
    Module,
    Negated,
    Operand,
    Pair,
    ParamList,
    Register,
    Symbol,
    Variable,
    Vector,
)
from tessera.program.errors import CompileError

_SPACES = {".global": "global", ".const": "const", ".shared": "shared", ".local": "local", ".param": "param"}
_LINKAGE = {".visible", ".extern", ".weak", ".common"}
_TUNING = {".maxntid", ".reqntid", ".minnctapersm", ".maxnctapersm", ".maxnreg", ".reqnctapercluster",
           ".maxclusterrank"}  # fmt: skip
_FLAGS = {".explicitcluster", ".noreturn", ".abi_preserve", ".blocksareclusters"}


def parse_ptx(text: str) -> Module:
    """The module that PTX text holds.

    Raises:
        CompileError: Text that is not PTX as this parser knows it; names the line.
    """
    return _Parser(tokenize(text.split("\x00", 1)[0])).module()


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.result = Module()
        self.location = (0, 0)
        self.callers: tuple[tuple[int, int], ...] = ()
        self.inlined: dict[tuple[int, int, int], tuple[tuple[int, int], ...]] = {}
        self.scopes: list[dict[str, str]] = []
        self.scope_count = 0
        self.declared: set[str] = set()

    # -- tokens ---------------------------------------------------------------------------------

    def peek(self) -> str:
        return self.tokens[self.at].text if self.at < len(self.tokens) else ""

    def line(self) -> int:
        return self.tokens[min(self.at, len(self.tokens) - 1)].line if self.tokens else 1

    def token(self) -> Token:
        if self.at >= len(self.tokens):
            self.fail("unexpected end")
        return self.tokens[self.at]

    def take(self) -> str:
        text = self.token().text
        self.at += 1
        return text

    def accept(self, text: str) -> bool:
        if self.peek() == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.fail(f"expected {text!r}, found {self.peek()!r}")

    def fail(self, message: str) -> NoReturn:
        raise CompileError(f"PTX line {self.line()}: {message}", ptx_line=self.line())

    def integer(self) -> int:
        sign = -1 if self.accept("-") else 1
        value = self.number()
        if not isinstance(value.value, int):
            self.fail(f"expected an integer, found {value.value!r}")
        return sign * value.value

    def number(self) -> Immediate:
        token = self.token()
        if token.kind != "number":
            self.fail(f"expected a number, found {token.text!r}")
        return literal(self.take())

    # -- module ---------------------------------------------------------------------------------

    def module(self) -> Module:
        while self.at < len(self.tokens):
            word = self.peek()
            if word == ".version":
                self.take()
                match = re.fullmatch(r"(\d+)\.(\d+)", self.take())
                if match is None:
                    self.fail("expected a version such as 8.0")
                self.result.version = (int(match[1]), int(match[2]))
            elif word == ".target":
                self.take()
                self.result.target = self.take()
                while self.accept(","):
                    self.take()
            elif word == ".address_size":
                self.take()
                if self.take() != "64":
                    self.fail("only 64-bit addresses are supported")
            elif word == ".file":
                self.file()
            elif word == ".section":
                self.section()
            else:
                self.declaration()
        return self.result

    def file(self) -> None:
        self.take()
        index = self.integer()
        self.result.files[index] = self.take().strip('"')
        while self.accept(","):
            self.take()

    def section(self) -> None:
        # DWARF sections carry debug information that nothing here reads.
        while self.take() != "{":
            pass
        depth = 1
        while depth:
            depth += {"{": 1, "}": -1}.get(self.take(), 0)

    def declaration(self) -> None:
        external = False
        while self.peek() in _LINKAGE:
            external |= self.take() == ".extern"
        word = self.peek()
        if word in (".entry", ".func"):
            self.function()
        elif word in _SPACES:
            for variable in self.variables(external=external):
                self.result.variables[variable.name] = variable
        elif word in (".alias", ".pragma"):
            while self.take() != ";":
                pass
        elif not self.accept(";"):
            self.fail(f"unexpected {word!r}")

    # -- variables ------------------------------------------------------------------------------

    def variables(self, *, external: bool = False, end: str = ";") -> list[Variable]:
        """`.space [.align n] .type name[count] [= init], …;`."""
        if self.peek() not in _SPACES:
            self.fail(f"expected a state space, found {self.peek()!r}")
        space = _SPACES[self.take()]
        align, kind, width = 0, "", 1
        while self.token().kind == "directive":
            word = self.take()
            if word == ".align":
                align = self.integer()
            elif word in (".v2", ".v4"):
                width = int(word[2:])
            elif word == ".ptr":
                # `.ptr .global .align n`: what the pointer parameter points to; a promise, not a size.
                while self.peek() in _SPACES:
                    self.take()
                if self.accept(".align"):
                    self.integer()
            elif word not in (".attribute", ".unified", ".managed"):
                kind = word[1:]
        found = [self.variable(space, kind, width, align, external)]
        while end == ";" and self.accept(","):
            found.append(self.variable(space, kind, width, align, external))
        if end == ";":
            self.expect(";")
        return found

    def variable(self, space: str, kind: str, width: int, align: int, external: bool) -> Variable:
        name = self.take()
        count = width
        if self.accept("<"):
            self.fail("parameterized variable names are supported for registers only")
        while self.accept("["):
            if self.accept("]"):
                count = 0
            else:
                count *= self.integer()
                self.expect("]")
        initial: list[Immediate | Symbol] = []
        if self.accept("="):
            self.initializer(initial)
        if count == 0 and initial:
            count = len(initial)
        return Variable(name, space, kind, count, align, tuple(initial), external)

    def initializer(self, into: list[Immediate | Symbol]) -> None:
        if self.accept("{"):
            while not self.accept("}"):
                self.initializer(into)
                self.accept(",")
            return
        negative = self.accept("-")
        token = self.token()
        if token.kind == "number":
            value = self.number()
            into.append(negated(value) if negative else value)
            return
        name = self.take()
        if name == "generic" and self.accept("("):
            name = self.take()
            offset = self.offset()
            self.expect(")")
        else:
            offset = self.offset()
        into.append(Symbol(name, offset))

    def offset(self) -> int:
        """`+ n`, `- n`, `+ -n`, or nothing."""
        if self.accept("+"):
            return self.integer()
        return -self.number_as_int() if self.accept("-") else 0

    def number_as_int(self) -> int:
        value = self.number().value
        return value if isinstance(value, int) else self.fail("expected an integer offset")

    # -- functions ------------------------------------------------------------------------------

    def function(self) -> None:
        is_entry = self.take() == ".entry"
        line = self.line()
        results: tuple[Variable, ...] = ()
        if not is_entry and self.peek() == "(":
            results = self.params()
        name = self.take()
        params = self.params() if self.peek() == "(" else ()
        function = Function(name, is_entry, params, results, line=line)
        while self.peek() in _TUNING | _FLAGS:
            word = self.take()
            values = [self.integer()] if word in _TUNING else []
            while self.accept(","):
                values.append(self.integer())
            function.directives[word[1:]] = tuple(values)
        if self.accept(";"):
            self.result.functions.setdefault(name, function)
            return
        self.expect("{")
        self.location, self.scopes, self.scope_count = (0, 0), [{}], 0
        self.callers, self.inlined = (), {}
        # Parameters may be registers, as device functions without an ABI have them.
        function.registers.update({v.name: v.type for v in (*params, *results) if v.space == "reg"})
        self.declared = set(function.registers)
        self.block(function)
        self.result.functions[name] = function

    def params(self) -> tuple[Variable, ...]:
        self.expect("(")
        found: list[Variable] = []
        while not self.accept(")"):
            if self.peek() == ".reg":
                self.take()
                kind = self.take()[1:]
                found.append(Variable(self.take(), "reg", kind))
            else:
                found += self.variables(end=")")
            self.accept(",")
        return tuple(found)

    def block(self, function: Function) -> None:
        """Statements up to the closing brace."""
        self.declare_labels()
        while not self.accept("}"):
            token = self.tokens[self.at] if self.at < len(self.tokens) else None
            if token is None:
                self.fail(f"function {function.name} is not closed")
            if token.text == "{":
                self.take()
                self.scopes.append({})
                self.scope_count += 1
                self.block(function)
                self.scopes.pop()
            elif token.kind == "directive":
                self.body_directive(function)
            elif token.kind == "word" and self.next_is_colon():
                self.label(function)
            elif not self.accept(";"):
                function.body.append(self.instruction())

    def declare_labels(self) -> None:
        # A branch may come before its label, so the labels of a scope are known from its start.
        depth, at = 0, self.at
        while at + 1 < len(self.tokens) and depth >= 0:
            token = self.tokens[at]
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            if depth == 0 and token.kind == "word" and self.tokens[at + 1].text == ":":
                self.declare(token.text)
            at += 1

    def next_is_colon(self) -> bool:
        return self.at + 1 < len(self.tokens) and self.tokens[self.at + 1].text == ":"

    def label(self, function: Function) -> None:
        name, line = self.resolve(self.take()), self.line()
        self.expect(":")
        if self.peek() in (".branchtargets", ".calltargets"):
            self.take()
            targets = [self.resolve(self.take())]
            while self.accept(","):
                targets.append(self.resolve(self.take()))
            self.expect(";")
            function.branch_tables[name] = tuple(targets)
        elif self.peek() == ".callprototype":
            while self.take() != ";":
                pass
        else:
            function.body.append(Label(name, line))

    def body_directive(self, function: Function) -> None:
        word = self.peek()
        if word == ".reg":
            self.registers(function)
        elif word in _SPACES:
            for variable in self.variables():
                function.variables.append(replace(variable, name=self.declare(variable.name)))
        elif word == ".loc":
            self.take()
            place = self.integer(), self.integer(), self.integer()
            self.location, self.callers = place[:2], ()
            while self.accept(","):
                # `function_name label+offset` and `inlined_at file line column` of inlined code.
                if self.peek() == "inlined_at":
                    self.take()
                    site = self.integer(), self.integer(), self.integer()
                    self.callers = (*self.inlined.get(site, ()), site[:2])
                while (
                    self.peek() not in (",", "")
                    and self.tokens[self.at].line == self.tokens[self.at - 1].line
                ):
                    self.take()
            self.inlined[place] = self.callers
        elif word == ".pragma":
            while self.take() != ";":
                pass
        elif word == ".file":
            self.file()
        else:
            self.fail(f"unknown directive {word!r}")

    def registers(self, function: Function) -> None:
        """`.reg .b32 %r<5>, a, b;`."""
        self.take()
        kind = self.take()
        if kind in (".v2", ".v4"):
            self.fail("vector registers are not supported")
        while True:
            name = self.take()
            names = [name]
            if self.accept("<"):
                names = [f"{name}{i}" for i in range(self.integer())]
                self.expect(">")
            for each in names:
                unique = self.declare(each)
                self.declared.add(unique)
                function.registers[unique] = kind[1:]
            if self.accept(";"):
                return
            self.expect(",")

    def declare(self, name: str) -> str:
        # Inline assembly declares names in scopes of its own: inner ones get a suffix.
        unique = name if len(self.scopes) == 1 else f"{name}@{self.scope_count}"
        self.scopes[-1][name] = unique
        return unique

    def resolve(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return name

    # -- instructions ---------------------------------------------------------------------------

    def instruction(self) -> Instruction:
        line = self.line()
        guard, negated = None, False
        if self.accept("@"):
            negated = self.accept("!")
            guard = Register(self.resolve(self.take()))
        opcode, *modifiers = re.split(r"\.(?!:)", self.take())
        operands: list[Operand] = []
        while not self.accept(";"):
            operands.append(self.operand())
            if not self.accept(","):
                self.expect(";")
                break
        file, source_line = self.location
        return Instruction(
            opcode, tuple(modifiers), tuple(operands), line, guard, negated, file, source_line,
            callers=self.callers,
        )  # fmt: skip

    def operand(self) -> Operand:
        token = self.token()
        if token.text == "[":
            return self.address()
        if token.text == "{":
            return Vector(self.sequence("{", "}"))
        if token.text == "(":
            return ParamList(self.sequence("(", ")"))
        if self.accept("!"):
            return Negated(Register(self.resolve(self.take())))
        if token.text == "-" or token.kind == "number":
            negative = self.accept("-")
            value = self.number()
            return negated(value) if negative else value
        if token.kind != "word":
            self.fail(f"expected an operand, found {token.text!r}")
        return self.name_operand()

    def name_operand(self) -> Operand:
        name = self.resolve(self.take())
        if self.accept("|"):
            return Pair(_register(name), _register(self.resolve(self.take())))
        base, _, part = name.rpartition(".")
        if part[:1] in ("b", "h") and part[1:].isdigit() and self.resolve(base) in self.declared:
            return Register(self.resolve(base), part)
        if self.peek() in ("+", "-") and not self.is_register(name):
            return Symbol(name, self.offset())
        return Register(name) if self.is_register(name) else Symbol(name)

    def is_register(self, name: str) -> bool:
        # Special registers (%tid.x) are declared nowhere; inline assembly may declare any name.
        return name.startswith("%") or name == "_" or name in self.declared

    def sequence(self, opening: str, closing: str) -> tuple[Operand, ...]:
        self.expect(opening)
        found: list[Operand] = []
        while not self.accept(closing):
            found.append(self.operand())
            self.accept(",")
        return tuple(found)

    def address(self) -> Address:
        self.expect("[")
        token = self.token()
        base: Register | Symbol | Immediate
        if token.kind == "number":
            base = self.number()
        else:
            name = self.resolve(self.take())
            base = Register(name) if self.is_register(name) else Symbol(name)
        offset = self.offset()
        coordinates = None
        if self.accept(","):
            coordinates = Vector(self.sequence("{", "}"))
        self.expect("]")
        return Address(base, offset, coordinates)


def _register(name: str) -> Register:
    return Register(name)
