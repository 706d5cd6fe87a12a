"""`tessera profile --rules`: what the rules look for, and where it is written."""

from __future__ import annotations

from typing import Any

from tessera.workbench.output import Column, print_table


def print_rules() -> None:
    """Every rule in a table, with its source below."""
    from tessera.profiler.rules import RULES

    print(f"{len(RULES)} rules, applied to what tessera profile counts\n")
    rows = [(rule.name, rule.fault, rule.when) for rule in RULES]
    print_table([Column("Rule"), Column("Fault", wraps=True), Column("Speaks from", wraps=True)], rows)
    print("sources")
    sources = [(rule.name, f"{rule.source.title}: {rule.source.section}") for rule in RULES]
    print_table([Column("Rule"), Column("Source", wraps=True)], sources)


def rules_data() -> dict[str, Any]:
    """The same for programs, with links."""
    from tessera.profiler.rules import RULES

    return {
        "rules": [
            {"name": r.name, "fault": r.fault, "when": r.when, "remedy": r.remedy, "needs": list(r.needs),
             "resource": r.resource.name,
             "source": {"title": r.source.title, "section": r.source.section, "url": r.source.url}}
            for r in RULES
        ]
    }  # fmt: skip
