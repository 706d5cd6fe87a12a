"""Ground floor: pure data that every other room agrees on. No I/O, no heavy imports."""
