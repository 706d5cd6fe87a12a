import json
import random
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.compiler.tuning.record import Record, best, bucket_of, picks
from tessera.compiler.tuning.record_file import RecordFile, decode, encode
from tessera.program.errors import ConfigError
from tests.compiler.tuning.samples import made_records, record


def refusal(data):
    """The error that the bytes of a file give, if they give one."""
    try:
        decode(data, Path("autotune_cache.json"))
    except ConfigError as error:
        return error
    return None


@given(records=st.lists(made_records(), max_size=5))
def test_what_was_written_is_read(records, tmp_path_factory):
    unique = {r.key: r for r in records}
    found = decode(encode(unique.values()), tmp_path_factory.getbasetemp() / "x.json")
    assert {r.key: r for r in found} == unique
    assert encode(found) == encode(unique.values())
    json.loads(encode(found))


@settings(max_examples=25)
@given(st.lists(made_records(), max_size=5), st.randoms())
def test_the_order_of_additions_does_not_matter(records, shuffler):
    unique = list({r.key: r for r in records}.values())
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name in ("a.json", "b.json"):
            file = RecordFile(Path(folder, name))
            shuffler.shuffle(unique)
            file.add([])
            for each in unique:
                file.add([each])
            files.append(file.path.read_bytes())
        assert files[0] == files[1]


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_bytes_of_any_kind_are_records_or_a_clear_error(data):
    error = refusal(data)
    assert error is None or ("autotune_cache.json" in error.message and error.hint)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_file_is_read_or_names_the_place(place, byte):
    good = encode([record(cost) for cost in (1.0, 2.0)] + [record(3.0, n=2048)])
    place %= len(good)
    bad = good[:place] + bytes([byte]) + good[place + 1 :]
    error = refusal(bad)
    assert error is None or error.message.startswith("autotune_cache.json is")
    assert error is None or "rm autotune_cache.json" in error.hint or "import" in error.hint


def test_a_torn_file_is_refused_with_its_line(tmp_path):
    file = RecordFile(tmp_path / "cache.json")
    file.add([record(), record(n=4096)])
    data = file.path.read_bytes()
    file.path.write_bytes(data[: len(data) - 30])
    with pytest.raises(ConfigError, match=r"cache.json is damaged: .*truncated") as caught:
        file.add([record()])
    assert "rm " in caught.value.hint
    assert file.path.read_bytes() == data[: len(data) - 30]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema_version": "1.0.0", "results": []}', "not a file of tuning records"),
        ('{"format": "tessera autotune", "version": 9, "records": []}', "version 9"),
        ("[]", "damaged"),
    ],
)
def test_foreign_files_are_named_as_such(tmp_path, text, message):
    path = tmp_path / "cache.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        RecordFile(path).read()


def test_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot write") as caught:
        RecordFile(tmp_path / "no" / "cache.json").add([record()])
    assert "mkdir" in caught.value.hint
    with pytest.raises(ConfigError, match="cannot write"):
        RecordFile(tmp_path / "no" / "cache.json").check()
    RecordFile(tmp_path / "yet.json").check()
    assert not (tmp_path / "yet.json").exists()
    assert RecordFile(tmp_path / "none.json").read() == []


def test_what_a_killed_writer_left_is_removed(tmp_path):
    left = tmp_path / ".cache.json.0011223344556677.tmp"
    left.write_bytes(b"half")
    RecordFile(tmp_path / "cache.json").add([record()])
    assert not left.exists()


@given(st.lists(st.tuples(st.floats(1e-3, 10), st.integers(0, 5)), min_size=1, max_size=8), st.randoms())
def test_equal_costs_are_decided_the_same_way_in_every_order(found, shuffler):
    records = [record(cost, configuration={"BLOCK": value}) for cost, value in found]
    records += [record(cost, configuration={"BLOCK": value + 10}) for cost, value in found]
    first = best(records)
    shuffler.shuffle(records)
    assert best(records) == first
    assert first.cost_ms == min(r.cost_ms for r in records)


def test_picks_are_one_for_each_bucket_and_neighbours_of_one_winner_are_joined():
    by_size = {64: 32, 1024: 32, 65536: 256, 2**20: 512}
    records = [
        record(1.0 if value == winner else 2.0, n=n, configuration={"BLOCK": value})
        for n, winner in by_size.items()
        for value in (32, 256, 512)
    ]
    random.Random(1).shuffle(records)
    found = picks(records, kernel="k", kernel_hash="aa", target="sm_80")
    assert [(p.bucket["n"], p.configuration["BLOCK"]) for p in found] == [
        (1024, 32), (65536, 256), (2**20, 512),
    ]  # fmt: skip
    measured = record(5.0, kind="measured", configuration={"BLOCK": 128})
    found = picks([*records, measured], kernel="k", kernel_hash="aa", target="sm_80")
    assert [p.configuration for p in found] == [{"BLOCK": 128}]
    assert picks(records, kernel="k", kernel_hash="other", target="sm_80") == ()
    assert picks([record(None, status="wrong")], kernel="k", kernel_hash="aa", target="sm_80") == ()


def test_buckets_are_powers_of_two():
    assert bucket_of({"n": 1000, "m": 1024, "k": 0, "j": 1}) == {"j": 1, "k": 0, "m": 1024, "n": 1024}


def test_a_record_takes_no_unknown_member():
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode({"surprise": 1}), type=Record)
