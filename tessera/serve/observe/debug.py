"""A look into the running process, for operators: CPU stacks, memory, tasks. Off unless asked for."""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import FrameType
from typing import Any

import orjson

from tessera.serve.answer import Answer
from tessera.serve.endpoints import Routes
from tessera.serve.request import Request, RequestError

LONGEST_S = 60.0
MOST_HZ = 500
_KIB = 1024

Stack = tuple[tuple[str, str, int], ...]
"""From the outermost call on: function, file, line of the function."""


class StackSampler:
    """Counts the stacks of all threads, from a thread of its own.

    Args:
        hz: Samples a second. Each takes the interpreter for about 20 µs a thread.
    """

    def __init__(self, hz: float = 100.0) -> None:
        self._interval_s = 1.0 / hz
        self.stacks: dict[str, Counter[Stack]] = {}
        """By thread, how often each stack was seen."""
        self._stopped = threading.Event()
        self.samples = 0
        self.seconds = 0.0

    def run(self, seconds: float) -> None:
        """Sample for so long; blocks."""
        own = threading.get_ident()
        started_s = time.perf_counter()
        due_s = started_s
        while (now_s := time.perf_counter()) - started_s < seconds and not self._stopped.is_set():
            self._sample(own)
            due_s = max(due_s + self._interval_s, now_s)
            self._stopped.wait(max(0.0, due_s - time.perf_counter()))
        self.seconds = time.perf_counter() - started_s

    def stop(self) -> None:
        """End `run`: nobody waits for the samples any more."""
        self._stopped.set()

    def _sample(self, own: int) -> None:
        self.samples += 1
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():  # noqa: SLF001 - the interpreter's only way
            if ident == own:
                continue
            stack = []
            at: FrameType | None = frame
            while at is not None:
                code = at.f_code
                stack.append((code.co_qualname, code.co_filename, code.co_firstlineno))
                at = at.f_back
            name = names.get(ident, f"thread {ident}")
            self.stacks.setdefault(name, Counter())[tuple(reversed(stack))] += 1


def to_speedscope(sampler: StackSampler, name: str) -> dict[str, Any]:
    """The samples as a file for https://www.speedscope.app, one profile a thread.

    Source: speedscope, file-format-spec, version 0.0.1.
    """
    frames: dict[tuple[str, str, int], int] = {}
    profiles = []
    for thread, stacks in sorted(sampler.stacks.items()):
        samples = [[frames.setdefault(f, len(frames)) for f in stack] for stack in stacks]
        weights = [count * sampler.seconds / max(sampler.samples, 1) for count in stacks.values()]
        profiles.append(
            {
                "type": "sampled",
                "name": thread,
                "unit": "seconds",
                "startValue": 0,
                "endValue": sum(weights),
                "samples": samples,
                "weights": weights,
            }
        )
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": [{"name": n, "file": file, "line": line} for n, file, line in frames]},
        "profiles": profiles,
        "name": name,
        "exporter": "tessera",
    }


def to_folded(sampler: StackSampler) -> str:
    """The samples as lines for flamegraph.pl: thread and functions with semicolons, then how often."""
    lines = []
    for thread, stacks in sorted(sampler.stacks.items()):
        for stack, count in stacks.most_common():
            lines.append(";".join([thread, *(name for name, _, _ in stack)]) + f" {count}")
    return "\n".join(lines) + "\n"


def to_text(sampler: StackSampler, most: int = 20) -> str:
    """For people: by thread, in which functions it was, and which it had called."""
    parts = [f"{sampler.samples} samples in {sampler.seconds:.2f} s"]
    for thread, stacks in sorted(sampler.stacks.items()):
        total = sum(stacks.values())
        own: Counter[str] = Counter()
        within: Counter[str] = Counter()
        for stack, count in stacks.items():
            labels = [f"{name} ({file}:{line})" for name, file, line in stack]
            own[labels[-1]] += count
            within.update(dict.fromkeys(labels, count))
        parts.append(f"\n{thread}: {total} samples\n  here  below  function")
        for label, count in own.most_common(most):
            parts.append(f"{100 * count / total:5.1f}% {100 * within[label] / total:5.1f}%  {label}")
    return "\n".join(parts) + "\n"


def memory_summary(most: int = 20) -> dict[str, Any]:
    """What the process holds: its memory, its threads, and the kinds of objects that there are most of."""
    kinds: Counter[str] = Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())
    return {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB,
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "objects": dict(kinds.most_common(most)),
        "garbage": [dict(generation) for generation in gc.get_stats()],
        "modules": len(sys.modules),
    }


def tasks_text() -> str:
    """What each asyncio task of the running loop waits for, and where each thread is."""
    parts = []
    for task in sorted(asyncio.all_tasks(), key=lambda t: t.get_name()):
        where = "".join(traceback.format_list([_entry(f) for f in task.get_stack()]))
        parts.append(f"task {task.get_name()}: {task.get_coro()!r:.200}\n{where}")
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001
        parts.append(f"thread {names.get(ident, ident)}\n" + "".join(traceback.format_stack(frame)))
    return "\n".join(parts)


def _entry(frame: Any) -> traceback.FrameSummary:
    return traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)


def add_debug(routes: Routes) -> None:
    """Add what is under `/debug`, for operators."""
    running = threading.Lock()

    async def profile(request: Request) -> Answer:
        seconds = _number(request, "seconds", 5.0, LONGEST_S)
        hz = _number(request, "hz", 100.0, MOST_HZ)
        form = request.query.get("format", "speedscope")
        if form not in _FORMS:
            raise RequestError(f"the format is {form[:40]!r}", hint=f"one of {', '.join(_FORMS)}")
        if not running.acquire(blocking=False):
            raise RequestError(
                "a profile is being taken", hint="wait until it is done", status=HTTPStatus.CONFLICT
            )
        sampler = StackSampler(hz)
        try:
            await asyncio.to_thread(sampler.run, seconds)
        finally:
            sampler.stop()
            running.release()
        return _FORMS[form](sampler)

    async def memory(_: Request) -> dict[str, Any]:
        return memory_summary()

    async def tasks(_: Request) -> Answer:
        return _text(tasks_text())

    for path, call in (("/debug/profile", profile), ("/debug/memory", memory), ("/debug/tasks", tasks)):
        routes.add_default(path, "GET", call, admin=True)


def _speedscope(sampler: StackSampler) -> Answer:
    name = time.strftime("tessera-%Y%m%dT%H%M%SZ", time.gmtime())
    headers = {"Content-Disposition": f'attachment; filename="{name}.speedscope.json"'}
    return Answer(HTTPStatus.OK, orjson.dumps(to_speedscope(sampler, name)), headers=headers)


def _text(text: str) -> Answer:
    return Answer(HTTPStatus.OK, text.encode("utf-8", "replace"), "text/plain; charset=utf-8")


_FORMS: dict[str, Callable[[StackSampler], Answer]] = {
    "speedscope": _speedscope,
    "folded": lambda sampler: _text(to_folded(sampler)),
    "text": lambda sampler: _text(to_text(sampler)),
}


def _number(request: Request, name: str, default: float, most: float) -> float:
    given: Sequence[str] = request.query.getlist(name)
    if not given:
        return default
    try:
        value = float(given[0])
    except ValueError:
        value = -1.0
    if not 0 < value <= most:
        raise RequestError(f"{name} is {given[0][:40]!r}", hint=f"a number up to {most:g}")
    return value
