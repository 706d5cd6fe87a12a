"""Trying configurations of a kernel: what is not worth running, what one costs, and the sweep over them."""
