"""The oracle: every operator of a graph in NumPy, plainly written, in native precision or float64."""

from tessera.reference.execute import run_graph

__all__ = ["run_graph"]
