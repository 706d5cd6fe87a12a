"""Kernels with one known fault each, marked `fault: KIND` at its line, and good twins of the same work."""
