"""All rules."""

from __future__ import annotations

from tessera.profiler.rules.arithmetic import ARITHMETIC
from tessera.profiler.rules.flow import FLOW
from tessera.profiler.rules.memory import MEMORY
from tessera.profiler.rules.reuse import REUSE
from tessera.profiler.rules.rule import Rule
from tessera.profiler.rules.shared import SHARED

RULES: tuple[Rule, ...] = (*MEMORY, *REUSE, *SHARED, *FLOW, *ARITHMETIC)
"""Every rule, by what it looks at."""
