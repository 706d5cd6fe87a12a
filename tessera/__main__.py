"""`python -m tessera` is the command `tessera`."""

from tessera.workbench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
