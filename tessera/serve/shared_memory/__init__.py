"""Tensors in memory that a client on the same host shares with the server."""
