"""A few instructions run by one block, on eight 32-bit inputs and outputs per thread.

In a body, `%a0`…`%a7` are the inputs and `%o0`…`%o7` the outputs; `%t0`… (32 bits), `%h0`… (16), `%d0`… (64)
and `%p0`… (predicates) are free; `%s` is the address of 16 KiB of shared memory, `%i` the thread's number.
"""

from typing import Any

import numpy as np

from tessera.emulator import Emulator
from tessera.emulator.lockstep import launch

Array = np.ndarray[Any, Any]


def program(body: str, target: str = "sm_90a") -> str:
    """The module with a kernel `k(in, out)` that runs `body`."""
    loads = "\n".join(f"    ld.global.b32 %a{i}, [%in+{4 * i}];" for i in range(8))
    zeros = "\n".join(f"    mov.b32 %o{i}, 0;" for i in range(8))
    stores = "\n".join(f"    st.global.b32 [%out+{4 * i}], %o{i};" for i in range(8))
    return f""".version 8.7
.target {target}
.address_size 64
.visible .entry k(.param .u64 inputs, .param .u64 outputs)
{{
    .reg .b32 %a<8>, %o<8>, %t<40>, %i, %s, %w;
    .reg .b16 %h<20>;
    .reg .b64 %d<20>, %in, %out, %wide;
    .reg .pred %p<8>;
    .shared .align 1024 .b8 memory[16384];
    mov.u32 %i, %tid.x;
    mov.u32 %s, memory;
    ld.param.u64 %in, [inputs];
    ld.param.u64 %out, [outputs];
    mul.wide.u32 %wide, %i, 32;
    add.u64 %in, %in, %wide;
    add.u64 %out, %out, %wide;
{loads}
{zeros}
{body}
{stores}
    ret;
}}
"""


def run(body: str, inputs: Array, engine: Emulator | None = None) -> Array:
    """(threads, 8) uint32: the outputs of `body` for (threads, up to 8) inputs of 32 bits.

    The interpreter runs it, or the engine that is given.
    """
    threads = len(inputs)
    words = np.zeros((threads, 8), np.uint32)
    raw = np.ascontiguousarray(inputs).view(np.uint32).reshape(threads, -1)
    words[:, : raw.shape[1]] = raw
    out = np.zeros((threads, 8), np.uint32)
    text = program(body)
    if engine is None:
        launch(text, "k", (1,), (threads,), [words, out])
    else:
        engine.launch(engine.load(text), "k", (1,), (threads,), [words, out])
    return out


def widened(values: Array) -> Array:
    """float64 of any floating values. NumPy warns of signalling NaN, which PTX treats like any other."""
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def each(form: str, count: int = 8) -> str:
    """`form` with `{}` replaced by 0, 1, …: the same instruction on every input register."""
    return "\n".join(form.format(*[i] * form.count("{}")) for i in range(count))
