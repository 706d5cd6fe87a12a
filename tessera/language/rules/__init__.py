"""What nodes each operator adds to a graph: promotion, casts, shape and settings.

A rule takes the builder, the operands and the operator's settings and gives the
index of the result. `RULES` holds every operator that the language has.
"""

from __future__ import annotations

from tessera.language.rules.attention import ATTENTION
from tessera.language.rules.convolution import CONVOLUTION
from tessera.language.rules.elementwise import ELEMENTWISE
from tessera.language.rules.gathers import GATHERS
from tessera.language.rules.movement import MOVEMENT
from tessera.language.rules.normalization import NORMALIZATION
from tessera.language.rules.operand import Operand, Rule
from tessera.language.rules.products import PRODUCTS
from tessera.language.rules.reductions import REDUCTIONS

__all__ = ["RULES", "Operand", "Rule"]

RULES: dict[str, Rule] = {
    **ELEMENTWISE,
    **REDUCTIONS,
    **NORMALIZATION,
    **PRODUCTS,
    **MOVEMENT,
    **GATHERS,
    **CONVOLUTION,
    **ATTENTION,
}
"""Every operator of the language."""
