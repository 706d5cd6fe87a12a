"""The command line and the terminal app: how a person meets Tessera.

No logic lives here: a command reads its arguments, calls a room below, and
shows what came back as words or as JSON.
"""
