"""What Numba says of kernels, and how it is said to their authors: a table."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Remedy:
    """How one kind of message of Numba's is said to a user."""

    pattern: re.Pattern[str]
    message: str
    """Template over the groups of `pattern`."""
    hint: str


REMEDIES: tuple[Remedy, ...] = tuple(
    Remedy(re.compile(pattern, re.DOTALL), message, hint)
    for pattern, message, hint in (
        (
            r">>> (?:set|get)item\([^\n]*?\n.*?Unsupported array index type (?P<type>\w+)",
            "an array is indexed by a value of {type}, not by a whole number",
            "i // 2 and int(…) are whole; cuda.threadIdx and its like have .x, .y and .z",
        ),
        (
            r"found for signature:\s+>>> setitem\((?P<array>[^\n]*?\)), (?P<index>[^\n]*), "
            r"(?P<type>none|str|unicode_type|Literal\[str\]\([^\n]*?\))\)",
            "an element of {array} cannot be {type}",
            "store a number",
        ),
        (
            r"function (?P<home>shared|local)\.array at [^\n]*found for signature:\s+>>> array\("
            r"(?:Literal\[int\]|int|[^\n]*Literal)[^\n]*\n.*?missing a required argument: 'dtype'",
            "cuda.{home}.array lacks the type of its elements",
            "cuda.{home}.array(32, float32)",
        ),
        (
            r"function shared\.array at [^\n]*found for signature",
            "the shape of a shared array is known only when the kernel runs, or its type is none",
            "give a number that stands in the source or a global: cuda.shared.array(32, float32); of a size "
            "that the launch chooses, cuda.shared.array(0, float32) and shared_bytes=… on the kernel",
        ),
        (
            r"function (?:local|const)\.array at [^\n]*found for signature",
            "the shape of a local array is known only when the kernel runs, or its type is none",
            "give a number that stands in the source or a global: cuda.local.array(4, float32)",
        ),
        (
            r">>> (?P<name>zeros|ones|empty|full|arange|zeros_like|empty_like|array|copy)\(",
            "{name} makes a new array, and a kernel has no memory to put it into",
            "use cuda.local.array or cuda.shared.array, or memory passed in as an argument",
        ),
        (
            r">>> (?P<name>inc|dec)\(array\(int(?P<bits>32|64)",
            "cuda.atomic.{name} counts in unsigned integers",
            "cuda.atomic.{name}(y.view(np.uint{bits}), i, limit), or cuda.atomic.add",
        ),
        (
            r"failed to unpack (?P<type>[^\n]+)",
            "one {type} cannot be taken apart into several names",
            "i, j = cuda.grid(2) gives two numbers, i = cuda.grid(1) one",
        ),
        (
            r"(?P<name>\w+)\(\) missing \d+ required positional arguments?: (?P<missing>[^\n]+)",
            "{name}() lacks {missing}",
            "cuda.grid(1); cuda.shfl_sync(mask, value, lane); cuda.atomic.add(array, index, value)",
        ),
        (
            r"got an unexpected keyword argument '(?P<missing>\w+)'",
            "there is no argument {missing}",
            "give the arguments by their places, as in NVIDIA's manual of Numba CUDA",
        ),
        (
            r"Unknown attribute '(?P<name>\w+)' of type list\(",
            "a kernel cannot make a list: there is no memory to put it into",
            "use cuda.local.array(4, float32) and indices",
        ),
        (
            r"Cannot unify (?P<a>[^\n]+?) and (?P<b>[^\n]+?) for '\$",
            "an expression is {a} on one path and {b} on another",
            "give both sides of a conditional expression one type",
        ),
        (
            r"cannot type infer runaway recursion|'insert_unresolved_ref'",
            "a function that calls itself, which Numba does not compile for GPUs",
            "write it as a loop; CUDA C++ has recursion, see ts.cuda_kernel",
        ),
        (
            r"(?P<what>gpu\.\w+ takes [^\n]+)",
            "{what}",
            "cast numbers with uint32(…) or float32(…); tuples need as many elements as it says",
        ),
        (
            r"Untyped global name '(?P<name>[^']+)': Cannot determine Numba type of <class 'function'>",
            "{name} is a plain Python function, which a kernel cannot call",
            "put @cuda.jit(device=True) above def {name}",
        ),
        (
            r"Untyped global name '(?P<name>[^']+)': Cannot determine Numba type of <class 'type'>",
            "{name} is a class of Numba's or your own, which a kernel knows by its full name alone",
            "write cuda.atomic.{name}(…), or what leads to it, in the kernel",
        ),
        (
            r"Untyped global name '(?P<name>[^']+)': Cannot determine Numba type of (?P<type>[^\n]+)",
            "the global {name} is a {type}, which a kernel cannot read",
            "pass it as an argument, or make it a number, a tuple or a NumPy array",
        ),
        (
            r"No implementation of function .+? found for signature:\s+>>> (?P<call>[^\n]+)",
            "there is no {call}",
            "check the types of the arguments; cast with float32(…) or int64(…), or index the array first",
        ),
        (
            r"No conversion from (?P<type>.+?) to none for '\$\w*return_value",
            "a kernel returns nothing, but this returns a {type}",
            "write the result into an array argument and return without a value",
        ),
        (
            r"Cannot unify (?P<a>.+?) and (?P<b>.+?) for '(?P<name>[^'.]+)",
            "{name} is {a} on one path and {b} on another",
            "give {name} one type everywhere",
        ),
        (
            r"Variable '(?P<name>[^']+)' (?:is not defined|referenced before assignment)",
            "{name} is read before it has a value",
            "assign {name} first",
        ),
        (
            r"(?:The|Use of) (?P<what>'[^']+'|unsupported opcode \(\S+\)|unknown opcode \S+)[^\n]*",
            "a kernel cannot use {what}",
            "kernels know numbers, tuples, arrays, if, for, while, and the functions of math and numba.cuda",
        ),
        (
            r"Only accept returning of array passed into the function",
            "a kernel cannot make arrays",
            "pass the memory in as an argument",
        ),
        (
            r"NRT required but not enabled",
            "a kernel cannot make a list, a set or a new array: there is no memory to put it into",
            "use cuda.local.array or cuda.shared.array, a tuple, or memory passed in as an argument",
        ),
        (
            r"(?:resolving|typing|Unsupported) .*?(?P<what>list|dict|set|str|unicode_type)",
            "a kernel cannot use a Python {what}",
            "use cuda.local.array or cuda.shared.array, or arguments",
        ),
    )
)
"""First match wins."""
