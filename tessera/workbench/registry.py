"""Every command by name: where it lives, what it does, and one real example.

Help texts stand here, not in the commands' modules, so that `tessera --help`
imports none of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """One command, imported when it is called."""

    name: str
    """Word typed on the command line."""
    section: str
    """Heading it stands under in `--help`."""
    summary: str
    """One line for the list of commands."""
    target: str
    """`module:function`; empty for a group."""
    example: str = ""
    """A call that works as it stands, after `tessera new hello && cd hello` where it needs files."""
    detail: str = ""
    """More paragraphs for the command's own `--help`."""
    children: tuple[CommandEntry, ...] = ()
    """Commands of a group."""


def _in(module: str, function: str) -> str:
    return f"tessera.workbench.commands.{module}:{function}"


_FILE = (
    "FILE[:NAME] is a Python file and a kernel, function or Module in it; "
    "without NAME, everything the file defines."
)
_SPEC = (
    "A function whose arguments carry no shapes needs one --spec each, such as "
    "--spec 'x=bf16[None,1024]': None is a size known only at run time, a word is a named one."
)

PACKAGE: tuple[CommandEntry, ...] = (
    CommandEntry(
        "build",
        "Commands",
        "Compile a file and write a deployment package (.tsd).",
        _in("package", "build"),
        "tessera package build kernels.py --arch sm_90 --arch cpu -o hello.tsd",
        f"{_FILE}\n\n{_SPEC}",
    ),
    CommandEntry(
        "inspect",
        "Commands",
        "What a package holds.",
        _in("package", "inspect"),
        "tessera package inspect hello.tsd",
    ),
    CommandEntry(
        "verify",
        "Commands",
        "Check every byte of a package, and who signed it.",
        _in("package", "verify"),
        "tessera package verify hello.tsd",
        "Exit status 1 if anything is not as the manifest says, or not signed by whom --key, --trust, "
        "--policy or [trust] of tessera.toml name; the entry and the rule are named. With --rebuild, the "
        "source is compiled anew with the package's own options, and must give the same bytes.",
    ),
    CommandEntry(
        "keygen",
        "Commands",
        "Make a key to sign packages with.",
        _in("signing", "keygen"),
        "tessera package keygen release --no-passphrase",
        "Writes NAME.pem, for its owner alone, and NAME.pub.pem, for everybody. The private key is encrypted "
        "with a passphrase from --passphrase-file, TESSERA_KEY_PASSPHRASE or the terminal.",
    ),
    CommandEntry(
        "sign",
        "Commands",
        "Sign a package, in place or as a new file.",
        _in("signing", "sign"),
        "tessera package sign hello.tsd --key release.pem",
        "The signature goes into the package, as OpenSSF Model Signing writes it, and how it was made into "
        "PKG.sigstore.json beside it, as SLSA provenance. All of the package is checked first.",
    ),
    CommandEntry(
        "unpack",
        "Commands",
        "Write a package's tree into a folder.",
        _in("package", "unpack"),
        "tessera package unpack hello.tsd hello/",
    ),
    CommandEntry(
        "repack",
        "Commands",
        "Write a package anew, from its folder too.",
        _in("repacking", "repack"),
        "tessera package repack hello.tsd --weights deflate -o small.tsd",
        "A signature goes along where it still holds: where the manifest stays what it is.",
    ),
    CommandEntry(
        "diff",
        "Commands",
        "What differs between two packages.",
        _in("repacking", "diff"),
        "tessera package diff old.tsd new.tsd",
        "Programs, kernels with their registers and spills, weights with how many elements differ and by how "
        "much, options and versions of tools. Exit status 1 if anything differs.",
    ),
    CommandEntry(
        "export-weights",
        "Commands",
        "Write a package's weights as a safetensors file.",
        _in("repacking", "export_weights"),
        "tessera package export-weights hello.tsd -o hello.safetensors",
    ),
)

CACHE: tuple[CommandEntry, ...] = (
    CommandEntry(
        "show", "Commands", "Where it is and how large.", _in("cache", "show"), "tessera cache show"
    ),
    CommandEntry(
        "prune",
        "Commands",
        "Remove what was not used for longest.",
        _in("cache", "prune"),
        "tessera cache prune --max-size 500MB",
    ),
    CommandEntry("clear", "Commands", "Remove everything.", _in("cache", "clear"), "tessera cache clear"),
)

COMMANDS: tuple[CommandEntry, ...] = (
    CommandEntry(
        "new",
        "Start",
        "Write a project that compiles, runs and tests at once.",
        _in("new", "new"),
        "tessera new hello",
    ),
    CommandEntry(
        "workbench",
        "Start",
        "Open the terminal app on a project.",
        _in("workbench", "workbench"),
        "tessera workbench hello",
    ),
    CommandEntry(
        "demo",
        "Start",
        "The whole way once, from source to served answers.",
        _in("demo", "demo"),
        "tessera demo",
    ),
    CommandEntry(
        "compile",
        "Build",
        "Compile for any architecture, without a GPU.",
        _in("compile", "compile_"),
        "tessera compile kernels.py --arch sm_80 --arch sm_90",
        f"{_FILE}\n\n{_SPEC}",
    ),
    CommandEntry(
        "inspect",
        "Build",
        "What a file or package holds: kernels, PTX, SASS, graph.",
        _in("inspect", "inspect"),
        "tessera inspect kernels.py:saxpy --ptx",
        _FILE,
    ),
    CommandEntry(
        "package",
        "Build",
        "Build, inspect, sign, verify, unpack packages.",
        "",
        children=PACKAGE,
    ),
    CommandEntry(
        "cache",
        "Build",
        "Show, prune or clear the cache of compiled kernels.",
        "",
        children=CACHE,
    ),
    CommandEntry(
        "run",
        "Run",
        "Run a function or package once and show its outputs.",
        _in("run", "run"),
        "tessera run kernels.py:linear_relu --device cpu --size batch=4",
        f"{_FILE} Inputs that are not given are drawn at random, from a seed that is shown.\n\n{_SPEC}",
    ),
    CommandEntry(
        "check",
        "Run",
        "Find memory errors and races in kernels, without a GPU.",
        _in("check", "check"),
        "tessera check kernels.py:saxpy --size n=1000",
        f"{_FILE} The kernels run in the emulator under a sanitizer. Exit status 1 if anything was found. "
        f"Inputs that are not given are drawn at random, from a seed that is shown.\n\n{_SPEC}",
    ),
    CommandEntry(
        "debug",
        "Run",
        "Step through a kernel, forwards and back, without a GPU.",
        _in("debug", "debug"),
        "tessera debug kernels.py:saxpy -x 'break 17 if i == 40' -x continue -x locals",
        "FILE[:NAME] is a Python file and a kernel, function or Module in it. In a terminal it opens a "
        "screen; with -x, --no-tui or commands on stdin it answers line by line: help lists the commands. "
        "Exit status 1 if a command failed or the program has a bug that stopped it. "
        f"Inputs that are not given are drawn at random, from a seed that is shown.\n\n{_SPEC}",
    ),
    CommandEntry(
        "serve",
        "Run",
        "Serve packages over HTTP.",
        _in("serve", "serve"),
        "tessera serve hello.tsd --port 8080",
        "Answers on /predict, /health and /ready until Ctrl-C; several packages under /v2/models/NAME, where "
        "NAME is the file's unless NAME=PKG says another.",
    ),
    CommandEntry(
        "profile",
        "Measure",
        "What each line of a kernel does, counted without a GPU; times on a GPU or CPU.",
        _in("profile", "profile"),
        "tessera profile kernels.py:saxpy --size n=65536",
        f"{_FILE} In the emulator kernels are counted: instructions, sectors of memory, bank conflicts, "
        "divergence, operations; PTX is counted, not the machine code of a GPU. With --device cpu or cuda:0 "
        f"each step is measured.\n\n{_SPEC}",
    ),
    CommandEntry(
        "tune",
        "Measure",
        "Try configurations of kernels, tiles of functions: predicted without a GPU, measured on one.",
        _in("tune", "tune"),
        "tessera tune examples/tuned/kernels.py:transpose --arch sm_90",
        "FILE[:NAME] is a Python file and a kernel in it that names values to tune, or a function or model: "
        "the tiles of its steps are tuned. Records are kept after "
        "each configuration: a run that was ended goes on where it stood, and AOTConfig(enable_autotuning="
        "True, autotune_cache=FILE) compiles what is best. With --show, what is on record is printed again.",
    ),
    CommandEntry(
        "bench",
        "Measure",
        "Latency and throughput, against a baseline, a saved run and the roofline; of servers, too.",
        _in("bench", "bench"),
        "tessera bench kernels.py:linear_relu --device cpu",
        f"{_FILE} A URL is a running server of the Open Inference Protocol. Every run is saved; --history "
        "lists them. Exit status 1 if --compare finds a row slower, or the baseline computes something else.",
    ),
    CommandEntry(
        "top",
        "Measure",
        "GPUs live: utilization, memory, power, clocks, processes; record and replay.",
        _in("top", "top"),
        "tessera top --replay demo",
        "In a terminal it is a screen with keys; in a pipe it prints once. Without a GPU it says so, with "
        "exit status 1; recordings play anywhere. --json is one object: the newest figures.",
    ),
    CommandEntry(
        "diag",
        "Measure",
        "Whether machine, toolchain and package are fit.",
        _in("diag", "diag"),
        "tessera diag",
        "Exit status 1 if a check failed; warnings do not count. --bundle FILE.zip writes the answers, "
        "versions and settings for a bug report; names of people and machines and secrets are left out.",
    ),
    CommandEntry(
        "report",
        "Measure",
        "One HTML page about a file or package.",
        _in("report", "report"),
        "tessera report kernels.py -o report.html",
        _FILE,
    ),
)
"""The commands of `tessera`, in the order of `--help`."""
