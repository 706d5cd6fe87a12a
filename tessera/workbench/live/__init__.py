"""Draws what GPUs do: text of a given width and height, for a terminal or a pipe."""
