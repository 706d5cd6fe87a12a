"""The terminal app: a project's files, source beside PTX, and a compiler at hand."""

from tessera.workbench.app.application import WorkbenchApp

__all__ = ["WorkbenchApp"]
