"""`tessera cache show|prune|clear`."""

from __future__ import annotations

from typing import Annotated

import typer

from tessera.workbench.output import JsonOption


def show(as_json: JsonOption = False) -> None:
    """Show where the cache is and how large."""
    import time

    from tessera.compiler.cache import CompileCache
    from tessera.workbench.output import bytes_text, emit

    cache = CompileCache.default()
    entries = cache.contents()
    size = sum(bytes_ for _, bytes_, _ in entries)
    if as_json:
        emit(
            {
                "folder": str(cache.folder) if cache.folder else None,
                "entries": len(entries),
                "bytes": size,
                "max_bytes": cache.max_bytes,
                "oldest_used": entries[0][0] if entries else None,
            }
        )
        return
    print(f"{_counted(len(entries))}, {bytes_text(size)} of {bytes_text(cache.max_bytes)}, in {cache.folder}")
    if entries:
        days = (time.time() - entries[0][0]) / 86400
        print(f"the oldest was last used {days:.1f} days ago")


def prune(
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size", metavar="SIZE", help="Bytes to keep, such as 500MB; the limit if not given."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the entries that were not used for longest."""
    from tessera.program.bytesize import parse_bytes
    from tessera.workbench.failure import UsageError

    limit = None if max_size is None else parse_bytes(max_size)
    if max_size is not None and limit is None:
        raise UsageError(f"--max-size {max_size} is no size", hint="--max-size 500MB")
    _remove(limit, as_json)


def clear(as_json: JsonOption = False) -> None:
    """Remove every entry."""
    _remove(0, as_json)


def _remove(limit: int | None, as_json: bool) -> None:
    from tessera.compiler.cache import CompileCache
    from tessera.workbench.output import bytes_text, emit

    cache = CompileCache.default()
    before = sum(size for _, size, _ in cache.contents())
    removed = cache.prune(limit)
    freed = before - sum(size for _, size, _ in cache.contents())
    if as_json:
        emit({"removed": removed, "freed_bytes": freed})
    else:
        print(f"removed {_counted(removed)}, {bytes_text(freed)}, from {cache.folder}")


def _counted(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries} entries"
