"""The app: files on the left, source in the middle, PTX on the right."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Footer, Static, Tree

from tessera.program.errors import TesseraError
from tessera.workbench.app import words
from tessera.workbench.app.code_pane import CodePane
from tessera.workbench.app.code_view import CodeView
from tessera.workbench.app.compile_job import CompiledKernel, CompileJob, Failure, Outcome
from tessera.workbench.app.editor import edit
from tessera.workbench.app.help import HelpScreen
from tessera.workbench.app.highlight import LANGUAGES, highlight
from tessera.workbench.app.outline import list_project
from tessera.workbench.app.project_tree import Place, ProjectTree
from tessera.workbench.app.ptx_lines import LineMap, first_location, line_map
from tessera.workbench.app.session import Key, Session
from tessera.workbench.failure import visible
from tessera.workbench.project import find_project

WATCH_S = 1.0
"""How often the open file is looked at for changes."""


class WorkbenchApp(App[None]):
    """Opens a project folder."""

    CSS_PATH = "workbench.tcss"
    TITLE = "Tessera"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it
        (0, "-narrow"),
        (110, "-wide"),
    ]

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "compile", "Compile"),
        Binding("a", "arch(1)", "Arch"),
        Binding("A", "arch(-1)", "Arch back", show=False),
        Binding("e", "edit", "Edit"),
        Binding("z", "zoom", "Zoom"),
        Binding("left_square_bracket", "kernel(-1)", "Kernel before", show=False),
        Binding("right_square_bracket", "kernel(1)", "Next kernel", show=False),
        Binding("escape", "stop", "Stop", show=False),
        Binding("r", "reload", "Reload", show=False),
        Binding("n", "new", "New", show=False),
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder.resolve()
        self._job: CompileJob | None = None
        self._job_started = 0.0
        self._map = LineMap((), {})
        self._stamp = 0
        self._project_problem: str | None = None
        arches = self._read_arches()
        self.session = Session(arches, arches[-1])
        """Selection and results."""

    def _read_arches(self) -> tuple[str, ...]:
        from tessera.program.arch import is_cpu, parse_arch

        try:
            arches = [a for a in find_project(self.folder).arch() if not is_cpu(a)]
            for arch in arches:
                parse_arch(arch)
        except TesseraError as error:
            self._project_problem = str(error)
            arches = []
        return tuple(arches) or words.DEFAULT_ARCHES

    def compose(self) -> ComposeResult:
        """Title, three panes, status and keys."""
        yield Static(words.title(self.folder, self.size.width), id="title", markup=False)
        with Horizontal(id="body"):
            yield ProjectTree(self.folder, id="files")
            with Horizontal(id="panes"):
                yield CodePane("source")
                yield CodePane("ptx")
        yield Static("", id="status", markup=False)
        yield Footer()

    def on_resize(self, event: events.Resize) -> None:
        """Fit the title to the new width."""
        for title in self.query("#title").results(Static):
            title.update(words.title(self.folder, event.size.width))

    def on_mount(self) -> None:
        """Read the project and watch the open file."""
        self.query_one(ProjectTree).focus()
        self.action_reload()
        self.set_interval(WATCH_S, self._look_for_changes)
        self.set_interval(0.1, self._show_progress)
        if self._project_problem:
            self.notify(self._project_problem, severity="error", markup=False)

    def on_unmount(self) -> None:
        """Leave no compiler behind."""
        if self._job is not None:
            self._job.stop()

    # Selection

    @on(Tree.NodeHighlighted)
    def _show_place(self, event: Tree.NodeHighlighted[Place]) -> None:
        place = event.node.data
        if place is None:
            return
        before = self.session.place
        self.session.place = place
        if before is None or before.key != place.key:
            self.session.kernel_index = 0
        same_file = before is not None and before.file == place.file
        if not same_file:
            self._show_source()
        if place.definition is not None:
            self.source.view.go_to(place.definition.line - 1)
        self._show_ptx()

    @on(Tree.NodeSelected)
    def _enter_place(self) -> None:
        self.source.focus_inside()

    @property
    def source(self) -> CodePane:
        """The middle pane."""
        return self.query_one("#source-pane", CodePane)

    @property
    def ptx(self) -> CodePane:
        """The right pane."""
        return self.query_one("#ptx-pane", CodePane)

    def _show_source(self, *, keep_place: bool = False) -> None:
        place = self.session.place
        if place is None:
            self.source.set_title("Source")
            self.source.show_message(words.NOTHING_HERE)
            return
        self.source.set_title(visible(str(place.path.relative_to(self.folder))))
        try:
            self._stamp = place.path.stat().st_mtime_ns
            text = place.path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            self.source.show_message(f"{place.path.name} cannot be read: {error.strerror}", error=True)
            return
        language = LANGUAGES.get(place.path.suffix, "text")
        self.source.show_code(highlight(text, language, self.theme_variables), keep_place=keep_place)

    # PTX

    def _show_ptx(self) -> None:
        """What is known about the selection: PTX, an error, or which key to press."""
        kernel, result = self.session.kernel(), self.session.result()
        self._map = LineMap((), {})
        self.source.view.mark_error(None)
        self.source.view.tint({})
        self.source.view.match(())
        self.ptx.set_title(words.ptx_title(self.session))
        if self._job is not None:
            self.ptx.show_message(words.COMPILING)
        elif result is not None and isinstance(result.outcome, Failure):
            self._show_failure(result.outcome)
        elif kernel is None:
            self.ptx.show_message(words.why_no_ptx(self.session))
        elif not kernel.ptx:
            self.ptx.show_message("The compiler kept no PTX of this kernel.")
        else:
            self._show_kernel(kernel)
        self._show_status()

    def _show_kernel(self, kernel: CompiledKernel) -> None:
        place = self.session.place
        self.ptx.show_code(highlight(kernel.ptx, "ptx", self.theme_variables))
        if place is None or self.session.is_stale(self._stamp):
            return
        self._map = line_map(kernel.ptx, place.path.name)
        hues = {line: index for index, line in enumerate(sorted(self._map.ptx_of))}
        self.source.view.tint({line - 1: hue for line, hue in hues.items()})
        self.ptx.view.tint({i: hues[line] for i, line in enumerate(self._map.source_of) if line})
        cursor = self.source.view.cursor
        self._match_from_source(cursor, reveal=False)
        # The top of a PTX file is comments and parameters: begin at what was asked for, or at the code.
        found = self._map.ptx_of.get(cursor + 1)
        self.ptx.view.go_to(found[0] if found else first_location(kernel.ptx))

    def _show_failure(self, failure: Failure) -> None:
        self.ptx.show_message(visible(failure.text), error=True)
        place = self.session.place
        if place and failure.file and failure.line and Path(failure.file).resolve() == place.path.resolve():
            self.source.view.mark_error(failure.line - 1)

    @on(CodeView.LineSelected, "#source")
    def _source_line(self, event: CodeView.LineSelected) -> None:
        self._match_from_source(event.line, reveal=True)

    @on(CodeView.LineSelected, "#ptx")
    def _ptx_line(self, event: CodeView.LineSelected) -> None:
        line = self._map.source_of[event.line] if event.line < len(self._map.source_of) else None
        if line is None:
            self.source.view.match(())
            self.ptx.view.match(())
            return
        self.source.view.match([line - 1])
        self.source.view.reveal(line - 1)
        self.ptx.view.match(self._map.ptx_of[line])

    def _match_from_source(self, line: int, *, reveal: bool) -> None:
        found = self._map.ptx_of.get(line + 1, ())
        self.ptx.view.match(found)
        self.source.view.match([line] if found else [])
        if found and reveal:
            self.ptx.view.reveal(found[0])

    # Status

    def _show_status(self) -> None:
        status = self.query_one("#status", Static)
        result = self.session.result()
        status.set_class(result is not None and isinstance(result.outcome, Failure), "error")
        status.update(words.status(self.session, stale=self.session.is_stale(self._stamp)))

    def _show_progress(self) -> None:
        if self._job is not None:
            elapsed = time.monotonic() - self._job_started
            self.query_one("#status", Static).update(words.progress(self._job, elapsed))

    def _look_for_changes(self) -> None:
        place = self.session.place
        if place is None or self._job is not None:
            return
        try:
            stamp = place.path.stat().st_mtime_ns
        except OSError:
            self.action_reload()
            return
        if stamp != self._stamp:
            self.action_reload()

    # Actions

    def action_compile(self) -> None:
        """Compile what is selected."""
        place = self.session.place
        if self._job is not None:
            self.notify("a compilation is running; esc stops it", markup=False)
        elif place is None:
            self.notify("there is nothing to compile here; n writes an example project", markup=False)
        elif not (place.file.definitions or place.file.uses_tessera):
            name = place.path.name
            self.notify(f"{name} has no kernel, function or Module", severity="warning", markup=False)
        else:
            self._compile(place.key, place)

    @work(exclusive=True, group="compile")
    async def _compile(self, key: Key, place: Place) -> None:
        target = str(place.path) + (f":{key[1]}" if key[1] else "")
        job = self._job = CompileJob(target, self.session.arches, self.folder)
        self._job_started = time.monotonic()
        stamp = place.path.stat().st_mtime_ns
        self._show_ptx()
        try:
            outcome = await job.run()
        finally:
            job.stop()
            self._job = None
        if job.stopped:
            self.notify("stopped", markup=False)
        else:
            self.session.record(key, outcome, stamp)
            self._tell(outcome, place)
        self._show_ptx()

    def _tell(self, outcome: Outcome, place: Place) -> None:
        """A toast with the time it took; an error is shown where the PTX would be."""
        if not isinstance(outcome, Failure):
            seconds = time.monotonic() - self._job_started
            name = place.definition.name if place.definition else place.path.name
            self.notify(f"{name}: {words.cubins(outcome)} in {seconds:.1f} s", timeout=3, markup=False)

    def action_stop(self) -> None:
        """Stop the compilation, or leave the zoom."""
        if self._job is not None:
            self._job.stop()
        else:
            self._zoom(None)

    def action_arch(self, step: int) -> None:
        """Show another architecture."""
        self.session.turn_arch(step)
        self._show_ptx()

    def action_kernel(self, step: int) -> None:
        """Show another kernel of the same function."""
        self.session.kernel_index += step
        self._show_ptx()

    def action_edit(self) -> None:
        """Edit the file in the user's editor."""
        place = self.session.place
        if place is None:
            self.notify("there is no file to edit", markup=False)
            return
        problem = edit(self, place.path, self.source.view.cursor + 1)
        if problem:
            self.notify(problem, severity="warning", markup=False)
        self.action_reload()

    def action_reload(self) -> None:
        """Read the project again."""
        listing = list_project(self.folder)
        before = self.session.place
        self.query_one(ProjectTree).show(listing)
        files = {file.path: file for file in listing.files}
        if before is None or before.path not in files:
            self.session.place = None
            self._show_source()
        else:
            names = {d.name: d for d in files[before.path].definitions}
            definition = names.get(before.definition.name) if before.definition else None
            self.session.place = Place(files[before.path], definition)
            self._show_source(keep_place=True)
        self._show_ptx()

    def action_new(self) -> None:
        """Write the example project into an empty folder."""
        from tessera.workbench.commands.new import write_project

        try:
            files = write_project(self.folder)
        except TesseraError as error:
            self.notify(f"{error.message}: {error.hint}", severity="warning", markup=False)
            return
        self.notify(f"wrote {len(files)} files; c compiles", markup=False)
        self.action_reload()

    def action_zoom(self) -> None:
        """The focused pane alone, or all three again."""
        body = self.query_one("#body")
        panes = {"files": "#files", "source": "#source-pane", "ptx": "#ptx-pane"}
        focused = next(
            (n for n, selector in panes.items() if self.query_one(selector).has_focus_within), None
        )
        self._zoom(None if any(body.has_class(f"zoom-{n}") for n in panes) else focused)

    def _zoom(self, pane: str | None) -> None:
        body = self.query_one("#body")
        for name in ("files", "source", "ptx"):
            body.set_class(name == pane, f"zoom-{name}")

    def action_help(self) -> None:
        """Show every key."""
        self.push_screen(HelpScreen())

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command palette: ours first, each with its key."""
        yield SystemCommand("Compile: selection", "for every architecture (c)", self.action_compile)
        yield SystemCommand("Compile: stop", "the running compilation (esc)", self.action_stop)
        for arch in self.session.arches:
            yield SystemCommand(f"Show: {arch}", "its PTX (a, A)", lambda arch=arch: self._choose_arch(arch))
        yield SystemCommand("Edit: file", "in $EDITOR (e)", self.action_edit)
        yield SystemCommand("Reload: project", "read all files again (r)", self.action_reload)
        yield SystemCommand("Zoom: pane", "the focused one alone (z)", self.action_zoom)
        yield SystemCommand("New: example project", "in an empty folder (n)", self.action_new)
        yield from super().get_system_commands(screen)

    def _choose_arch(self, arch: str) -> None:
        self.session.arch = arch
        self._show_ptx()

    def watch_theme(self, _theme: str) -> None:
        """Colour the code again."""
        if self.is_running and self.session.place is not None:
            self._show_source(keep_place=True)
            self._show_ptx()
