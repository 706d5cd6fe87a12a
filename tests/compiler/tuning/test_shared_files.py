"""Files of records and choices that several processes, machines and people write."""

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tessera.compiler.tuning.lock_file import LockedPick, read_lock, write_lock
from tessera.compiler.tuning.record import picks
from tessera.compiler.tuning.record_file import RecordFile
from tessera.program.errors import ConfigError
from tests.compiler.tuning.samples import record

ADDS = """
import sys
from tessera.compiler.tuning.record_file import RecordFile
from tests.compiler.tuning.samples import record

file, who = RecordFile(sys.argv[1]), sys.argv[2]
for n in range(25):
    file.add([record(float(n), configuration={"BLOCK": n}, gpu=who), record(configuration={"BLOCK": n})])
"""


def test_processes_that_add_at_once_lose_nothing(tmp_path):
    path = tmp_path / "cache.json"
    started = [
        subprocess.Popen([sys.executable, "-c", ADDS, str(path), who]) for who in ("one", "two", "three")
    ]
    assert [p.wait() for p in started] == [0, 0, 0]
    found = RecordFile(path).read()
    assert len(found) == 25 * 4
    assert {r.gpu for r in found} == {"one", "two", "three", "A100"}
    assert sorted(p.name for p in tmp_path.iterdir()) == [".cache.json.lock", "cache.json"]


def test_locks_that_are_written_at_once_keep_every_pick(tmp_path):
    path = tmp_path / "tessera.lock"

    def write(number):
        pick = LockedPick(
            kernel=f"k{number}", kernel_hash="aa", target="sm_80", bucket={}, configuration={"BLOCK": number},
            kind="measured",
        )  # fmt: skip
        write_lock(path, [pick])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(16)))
    assert {p.kernel for p in read_lock(path)} == {f"k{n}" for n in range(16)}


def machine(gpu, seed, count):
    """What a machine measured: ties among them."""
    draw = random.Random(seed)
    return [
        record(draw.choice([1.0, 1.0, 2.0]), n=n, configuration={"BLOCK": b}, gpu=gpu, kind="measured")
        for n in (64, 4096)
        for b in draw.sample(range(32, 512, 32), count)
    ]


def test_records_of_two_machines_give_one_lock_in_every_order(tmp_path):
    first, second = machine("A100 SXM", 1, 9), machine("A100 PCIe", 2, 6)
    locks = []
    for number, order in enumerate(([*first, *second], [*second, *first])):
        file = RecordFile(tmp_path / f"{number}.json")
        for each in random.Random(number).sample(order, len(order)):
            file.add([each])
        own = {"kernel": "k", "kernel_hash": "aa", "target": "sm_80"}
        found = [
            LockedPick(**own, bucket=dict(p.bucket), configuration=dict(p.configuration), kind=p.kind)
            for p in picks(file.read(), **own)
        ]
        path = tmp_path / f"{number}.lock"
        write_lock(path, found)
        locks.append(path.read_bytes())
    assert locks[0] == locks[1]
    # The GPU with the most records counts; equal costs fall to the first configuration by its text.
    winners = [r for r in first if r.bucket == {"n": 4096} and r.cost_ms == 1.0]
    (last,) = [p for p in json.loads(locks[0])["picks"] if p["bucket"] == {"n": 4096}]
    assert last["configuration"] == min((r.configuration for r in winners), key=str)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost_ms": -1}, r"Expected `float` >= 0.* - at `\$.records\[0\].cost_ms`"),
        ({"cost_ms": "fast"}, r"Expected `float \| null`, got `str` - at `\$.records\[0\].cost_ms`"),
        ({"status": "great"}, r"enum value 'great' - at `\$.records\[0\].status`"),
        ({"note": "mine"}, "unknown field `note`"),
        ({"kernel": None}, r"got `null` - at `\$.records\[0\].kernel`"),
    ],
)
def test_an_edit_by_hand_that_does_not_fit_is_named(tmp_path, change, message):
    file = RecordFile(tmp_path / "cache.json")
    file.add([record()])
    data = json.loads(file.path.read_bytes())
    data["records"][0] |= change
    file.path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=message) as caught:
        file.read()
    assert "cache.json is damaged" in caught.value.message


def test_an_edit_by_hand_that_fits_is_taken(tmp_path):
    file = RecordFile(tmp_path / "cache.json")
    file.add([record(2.0), record(3.0, configuration={"BLOCK": 128})])
    data = json.loads(file.path.read_bytes())
    data["records"].reverse()
    next(r for r in data["records"] if r["configuration"] == {"BLOCK": 128})["cost_ms"] = 1
    file.path.write_text(json.dumps(data, indent=4))
    assert min(file.read(), key=lambda r: r.cost_ms).configuration == {"BLOCK": 128}
    file.add([])
    assert file.path.read_bytes().count(b"\n") == 4, "written anew in its own form"


FULL = """
import resource, signal, sys
from tessera.compiler.tuning.record_file import RecordFile
from tessera.program.errors import ConfigError
from tests.compiler.tuning.samples import record

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
file = RecordFile(sys.argv[1])
try:
    for n in range(99):
        file.add([record(configuration={"BLOCK": n})])
except ConfigError as error:
    print(n, error.message, error.hint)
"""


def test_a_disk_that_fills_up_keeps_what_was_recorded(tmp_path):
    path = tmp_path / "cache.json"
    said = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True
    ).stdout
    count = int(said.split()[0])
    assert "cannot write" in said
    assert "df -h" in said
    assert 5 < count < 40
    assert len(RecordFile(path).read()) == count
    assert sorted(p.name for p in tmp_path.iterdir()) == [".cache.json.lock", "cache.json"]


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path):
    other = tmp_path / ".a.0123.tmp"
    other.write_text("somebody's")
    RecordFile(tmp_path / "[a].json").add([record()])
    assert other.exists()
    assert len(RecordFile(tmp_path / "[a].json").read()) == 1
