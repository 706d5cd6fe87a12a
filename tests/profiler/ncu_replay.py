"""An `ncu` that replays what a GPU once counted, in the formats that the real one writes.

The metrics are those that an H200 counted (tests/emulator/hardware/counters.json). `NCU_REPLAY` makes it
behave as the real one does on machines where something is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

RECORDED = Path(__file__).parents[1] / "emulator" / "hardware" / "counters.json"
HEAD = ("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Block Size",
        "Grid Size", "Device", "CC")  # fmt: skip
SOURCE_HEAD = (
    "Line No", "Source", "Address", "Source", "Warp Stall Sampling (All Samples)",
    "Warp Stall Sampling (Not-issued Samples)", "# Samples", "Instructions Executed",
    "Thread Instructions Executed", "Avg. Threads Executed", "L1 Wavefronts Shared",
    "L2 Theoretical Sectors Global", "stall_long_sb", "stall_wait", "stall_selected",
    "stall_long_sb (Not Issued)",
)  # fmt: skip

SASS_HEAD = (
    "# Samples", "Instructions Executed", "Thread Instructions Executed",
    "Predicated-On Thread Instructions Executed", "Divergent Branches", "L1 Tag Requests Global",
    "L1 Wavefronts Shared", "L1 Wavefronts Shared Ideal", "L2 Theoretical Sectors Global",
    "L2 Theoretical Sectors Global Ideal", "L2 Theoretical Sectors Local", "stall_long_sb",
)  # fmt: skip

SCRIPT = """\
#!{python}
import os, signal, subprocess, sys, time
from pathlib import Path

arguments, here = sys.argv[1:], Path(__file__).parent
mode = os.environ.get("NCU_REPLAY", "")
with (here / "calls").open("a") as calls:
    calls.write(repr(arguments) + "\\n")
if mode == "stub":
    print("Nsight Compute is not installed")
elif arguments == ["--version"]:
    print("NVIDIA (R) Nsight Compute Command Line Profiler")
    print("Copyright (c) 2018-2025 NVIDIA Corporation")
    print("Version 2025.1.1.0 (build 35528883) (public-release)")
elif "--import" in arguments:
    page = arguments[arguments.index("--page") + 1]
    if page == "source" and "--print-source" not in arguments:
        page = "sass"
    elif page == "source" and mode == "old":
        sys.exit("unrecognised option '--print-source'")
    file = here / (page + ".csv")
    sys.stdout.write(file.read_text() if file.exists() else "")
else:
    print("==PROF== Connected to process 4711 (/usr/bin/python3.11)")
    asked = arguments[arguments.index("--metrics") + 1].split(",")
    if mode == "permission":
        print("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU "
              "Performance Counters on the target device 0. For instructions on enabling permissions and to "
              "get more information see https://developer.nvidia.com/ERR_NVGPUCTRPERM")
        sys.exit(1)
    if mode == "no section" and "SourceCounters" in arguments:
        sys.exit("==ERROR== Failed to find section: SourceCounters")
    if mode == "hang":
        time.sleep(600)
    if mode == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == "program":
        print("error: device 'cuda:0' cannot run this: out of memory", file=sys.stderr)
        sys.exit(1)
    if mode == "old" and "--import-source" in arguments:
        sys.exit("==ERROR== unrecognised option '--import-source'. Use --help for further details.")
    if mode == "old" and "dram__bytes_read.sum" in asked:
        sys.exit("==ERROR== Failed to find metric regex:^dram__bytes_read\\\\.(sum|avg|min|max)$\\n"
                 "==ERROR== Failed to find metric lts__t_sector_hit_rate.pct")
    if mode == "run":
        start = arguments.index("-P") - 1
        done = subprocess.run([*arguments[start:-1], "emulator"])
        if done.returncode:
            sys.exit(done.returncode)
    Path(arguments[arguments.index("--export") + 1]).write_bytes(b"NVR\\0")
    print("==PROF== Disconnected from process 4711")
"""


def install(
    folder: Path, launches: Mapping[str, str], source: str, *, comma: bool = False, cc: str = "9.0"
) -> Path:
    """An `ncu` in a folder; it answers for kernels with the metrics that were recorded of others.

    Machine code is what it shows of a file `sass.csv` in that folder, if there is one.
    """
    folder.mkdir(exist_ok=True)
    recorded = json.loads(RECORDED.read_text())
    text = raw_page({kernel: recorded[case] for kernel, case in launches.items()}, cc)
    (folder / "raw.csv").write_text(foreign(text) if comma else text)
    (folder / "source.csv").write_text(foreign(source) if comma else source)
    program = folder / "ncu"
    program.write_text(SCRIPT.format(python=sys.executable))
    program.chmod(0o755)
    return program


def details_page(rows: Iterable[Mapping[str, str]]) -> str:
    """`--page details --csv`: metrics and rules of each section, a row each."""
    titles = (*HEAD, "Section Name", "Metric Name", "Metric Unit", "Metric Value", "Rule Name", "Rule Type",
              "Rule Description", "Estimated Speedup Type", "Estimated Speedup")  # fmt: skip
    cells = [titles, *([row.get(title, "") for title in titles] for row in rows)]
    return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in cells)


def sass_page(kernel: str, instructions: Iterable[tuple[int, str, Mapping[str, float]]]) -> str:
    """`--page source --csv`, which shows machine code alone.

    Args:
        kernel: Its name.
        instructions: Offset, text and numbers of each by the titles of `SASS_HEAD`.
    """
    rows = [["Kernel Name", f"{kernel}(float *, long)"], ["Address", "Source", *SASS_HEAD]]
    for offset, text, numbers in instructions:
        cells = [grouped(numbers.get(title, 0)) for title in SASS_HEAD]
        rows.append([f"0x7fd3{0x1A000 + offset:08x}", f"      {text}", *cells])
    return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows)


def raw_page(kernels: Mapping[str, Mapping[str, float]], cc: str = "9.0") -> str:
    """`--page raw --csv`: a row of names, one of units, one per launch; what else is said stands before."""
    extra = {
        "gpu__time_duration.sum": ("ns", 2848),
        "sm__throughput.avg.pct_of_peak_sustained_elapsed": ("%", 14.26),
        "dram__bytes_read.sum": ("Kbyte", 1024.5),
        "dram__bytes_write.sum": ("byte", 0),
    }
    names = sorted({name for own in kernels.values() for name in own} | set(extra))
    rows = [
        [*HEAD, *names],
        [*[""] * len(HEAD), *(extra.get(name, ("", 0))[0] for name in names)],
    ]
    for index, (kernel, own) in enumerate(kernels.items()):
        process = [str(index), "4711", "python3.11", "localhost"]
        shape = ["1", "13", "(256, 1, 1)", "(256, 1, 1)", "0", cc]
        identity = [*process, f"{kernel}(float *, long, long)", *shape]
        values = [own.get(name, extra[name][1] if name in extra else None) for name in names]
        rows.append([*identity, *("" if v is None else grouped(v) for v in values)])
    return "==PROF== Connected to process 4711\nprinted by the program, with a comma\n" + "".join(
        ",".join(f'"{cell}"' for cell in row) + "\n" for row in rows
    )


def source_page(
    kernel: str, file: str, lines: Mapping[tuple[int, str], list[tuple[int, int]]], start: int = 0x10
) -> str:
    """`--page source --print-source cuda,sass --csv` of one launch.

    Args:
        kernel: Its name.
        file: Path of the source.
        lines: By number and text of a line, samples and executions of each of its instructions.
        start: Address of the first instruction.
    """
    rows: list[list[str]] = []
    address = start
    for (number, text), instructions in lines.items():
        samples, executed = (sum(i[k] for i in instructions) for k in (0, 1))
        rows.append([str(number), text, "-", "-", *_numbers(samples, executed)])
        for each, times in instructions:
            rows.append(
                ["", "", f"0x7f{address:06x}", "IMAD.MOV R1, RZ, RZ, c[0x0][0x28]", *_numbers(each, times)]
            )
            address += 16
    cells = [["File Path", file], ["Function Name", f"{kernel}(float *, long)"], list(SOURCE_HEAD), *rows]
    return "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in cells)


def _numbers(samples: int, executed: int) -> list[str]:
    long = samples // 2
    values = [samples, samples // 3, samples, executed, 32 * executed, 32, 0, 4 * executed, long,
              samples - long, 1, samples // 3]  # fmt: skip
    return [grouped(value) for value in values]


def grouped(value: float) -> str:
    """`1,234.50`, as ncu writes numbers."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def foreign(text: str) -> str:
    """The page as ncu writes it under German settings: `1.234,50`."""
    import csv
    import io
    import re

    rows = []
    for row in csv.reader(io.StringIO(text)):
        cells = [
            cell.translate(str.maketrans(",.", ".,"))
            if re.fullmatch(r"\d{1,3}(,\d{3})*(\.\d+)?", cell) and cell != "9.0"
            else cell
            for cell in row
        ]
        rows.append(",".join('"' + cell.replace('"', '""') + '"' for cell in cells))
    return "\n".join(rows) + "\n"
