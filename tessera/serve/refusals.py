"""Errors of requests that come too early or too late; whatever runs the model says them in the same words."""

from __future__ import annotations

from tessera.program.errors import OverloadedError


def still_loading() -> OverloadedError:
    """The error of a request for a model that is not there yet."""
    return OverloadedError("the model is still being loaded", hint="try again in 1 s", retry_after_s=1)


def server_stopping() -> OverloadedError:
    """The error of a request that a server which ends takes no more."""
    return OverloadedError("the server is stopping", hint="send the request again", retry_after_s=1)
