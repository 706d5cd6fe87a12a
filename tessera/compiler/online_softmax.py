"""The softmax of attention, tile after tile of keys, on scores in the registers of tensor-core products.

A lane has, of every 16 rows and 8 columns of scores, two neighbours in each of two rows that lie 8 apart:
`mma` and `wgmma` alike. For each of its rows it keeps the largest score so far and its share of the sum of
the exponentials below it. Exponentials are powers of 2, their scale multiplied into what they are taken of.

Source: Dao, "FlashAttention-2", 2023, algorithm 1; PTX ISA 8.8, "Matrix Fragments for mma.m16n8k16".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.index import Index
from tessera.compiler.writer import Name

_LOG2_E = math.log2(math.e)
_ALL = "0xffffffff"

ScoreName = Callable[[int, int, int], str]
"""(16 rows, 8 columns, which of a lane's four scores there) → what it is called."""


@dataclass(frozen=True, slots=True)
class OnlineSoftmax:
    """Writes the softmax of one kernel.

    In the kernel's text `first_key` is the tile's first key, and `warp_row` the first query of a warp's.
    """

    body: Body
    core: int
    """The attention's node."""
    batch: Name
    head: Name
    fragments: int
    """16 rows each, of a warp."""
    keys: int
    """Of a tile."""

    @property
    def _columns(self) -> range:
        return range(self.keys // 8)

    @property
    def _rows(self) -> list[tuple[int, int]]:
        return list(itertools.product(range(self.fragments), (0, 1)))

    @property
    def _mask(self) -> int | None:
        inputs = self.body.graph.nodes[self.core].inputs
        return inputs[3] if len(inputs) > 3 else None

    @property
    def _factor(self) -> float:
        """What scores are multiplied with for powers of 2."""
        return float(str(self.body.graph.nodes[self.core].attrs["scale"])) * _LOG2_E

    @property
    def _scaled_first(self) -> bool:
        """Whether scores are scaled before the largest is sought, rather than with the exponent."""
        mask = self._mask
        added = mask is not None and self.body.graph.nodes[mask].dtype.is_float
        return added or not self._factor > 0

    def begin(self) -> None:
        """What is the same for all tiles, and the sums of none."""
        writer, nodes = self.body.writer, self.body.graph.nodes
        node = nodes[self.core]
        queries, length = node.shape[-2], nodes[node.inputs[1]].shape[-2]
        size = writer.size(length)
        ahead = writer.size(length - queries)
        causal = bool(node.attrs["causal"])
        writer.line(f"free = min({size}, warp_row + 1 + {ahead})" if causal else f"free = int64({size})")
        writer.line("column = (lane & 3) << 1")
        for f, h in self._rows:
            name = f"{f}_{h}"
            writer.line(f"query{name} = warp_row + (lane >> 2) + {16 * f + 8 * h}")
            reach = f"min({size}, query{name} + 1 + {ahead})" if causal else f"int64({size})"
            writer.line(f"reach{name} = {reach} - column")
            if self._mask is not None:
                writer.line(f"row{name} = min(query{name}, {writer.size(queries)} - 1)")
            writer.line(f"top{name} = float32(-math.inf)")
            writer.line(f"total{name} = float32(0)")

    def weigh(self, score: ScoreName, turn: str = "") -> None:
        """Scores of a tile become weights `p…`; `fade…` is what earlier sums of a row are to be scaled by.

        Args:
            score: What the scores are called.
            turn: In the names of this place in the text, if there are several.
        """
        self._prepare(score, turn)
        writer = self.body.writer
        # What no query of the warp is kept from seeing needs no look at each score.
        with writer.block(f"if first_key + {self.keys} > free"):
            for f, h in self._rows:
                writer.line(f"left = int32(max(-1, min(reach{f}_{h} - first_key, {self.keys})))")
                for n, i in itertools.product(self._columns, (0, 1)):
                    name = f"s{turn}{f}_{n}_{2 * h + i}"
                    writer.line(f"{name} = seen_f32({name}, {8 * n + i}, left)")
        for f, h in self._rows:
            self._row(f, h, turn)

    def _prepare(self, score: ScoreName, turn: str) -> None:
        """Scores by the names `s…`, with what the mask does to them."""
        writer = self.body.writer
        scale = f" * float32({self._factor!r})" if self._scaled_first else ""
        name = "s" if self._mask is None else "r"
        for (f, h), n, i in itertools.product(self._rows, self._columns, (0, 1)):
            writer.line(f"{name}{turn}{f}_{n}_{2 * h + i} = {score(f, n, 2 * h + i)}{scale}")
        if self._mask is not None:
            self._apply_mask(self._mask, turn)

    def _apply_mask(self, mask: int, turn: str) -> None:
        writer, nodes = self.body.writer, self.body.graph.nodes
        node = nodes[self.core]
        length = nodes[node.inputs[1]].shape[-2]
        whole = (*node.shape[:-1], length)
        lead = ((len(whole) - 3, self.batch), (1, self.head))
        last = writer.let("last", f"{writer.size(length)} - 1")
        for n, i in itertools.product(self._columns, (0, 1)):
            # Past the end the last key's is read, and the score not used.
            key = writer.let("key", f"min(first_key + column + {8 * n + i}, {last})")
            for f, h in self._rows:
                row = Name(f"row{f}_{h}", writer.depth)
                index = Index(writer, whole, (*lead, (1, row), (1, key))).broadcast(nodes[mask].shape)
                value, part = self.body.value(mask, index), f"{turn}{f}_{n}_{2 * h + i}"
                # A name of its own: Numba's time grows with names that are given a value again.
                if nodes[mask].dtype.is_float:
                    writer.line(f"s{part} = r{part} + {value} * float32({_LOG2_E!r})")
                else:
                    writer.line(f"s{part} = seen_f32(r{part}, 0, {value})")

    def _row(self, f: int, h: int, turn: str) -> None:
        """One row: its largest score, the weights, and their sum."""
        writer, name = self.body.writer, f"{f}_{h}"
        scores = [f"s{turn}{f}_{n}_{2 * h + i}" for n, i in itertools.product(self._columns, (0, 1))]
        writer.line(f"best = {_tree(scores, 'max({}, {})')}")
        for lanes in (1, 2):
            writer.line(f"best = max(best, gpu.shuffle_xor({_ALL}, best, {lanes}))")
        writer.line(f"best = max(best, top{name})")
        # A row that has seen no key yet has no largest score to go below.
        writer.line("below = float32(0) if best == float32(-math.inf) else best")
        factor = "" if self._scaled_first else f" * float32({self._factor!r})"
        writer.line(f"below = below{factor}")
        writer.line(f"fade{name} = gpu.exp2_approx(top{name}{factor} - below)")
        writer.line(f"top{name} = best")
        weights = [f"p{score[1:]}" for score in scores]
        for weight, score in zip(weights, scores, strict=True):
            writer.line(f"{weight} = gpu.exp2_approx({score}{factor} - below)")
        writer.line(f"total{name} = total{name} * fade{name} + ({_tree(weights, '({} + {})')})")

    def packed(self, f: int, step: int, kind: str, turn: str = "") -> str:
        """The weights of 16 rows and 16 keys as a left operand of 16-bit elements."""
        pairs = [(2 * step + n, i) for n in (0, 1) for i in (0, 2)]
        registers = [f"gpu.f32_to_{kind}x2(p{turn}{f}_{n}_{i}, p{turn}{f}_{n}_{i + 1})" for n, i in pairs]
        return f"({', '.join(registers)})"

    def finish(self) -> None:
        """`share…` of a row: what its sums are to be multiplied by; 0 keys give 0."""
        writer = self.body.writer
        for f, h in self._rows:
            name = f"{f}_{h}"
            for lanes in (1, 2):
                writer.line(f"total{name} += gpu.shuffle_xor({_ALL}, total{name}, {lanes})")
            one = "float32(1)"
            total = writer.let("all", f"{one} if total{name} == float32(0) else total{name}")
            writer.line(f"share{name} = {scalar_math.divide(one, total, 'float32')}")


def _tree(terms: list[str], form: str) -> str:
    """Terms combined pairwise, so that none waits for all the others."""
    while len(terms) > 1:
        pairs = [form.format(*terms[i : i + 2]) for i in range(0, len(terms) - 1, 2)]
        terms = [*pairs, *([terms[-1]] if len(terms) % 2 else [])]
    return terms[0]
