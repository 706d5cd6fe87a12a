"""Hostile containers, each right in everything but the one thing that its test is named for."""

import struct
from pathlib import Path

import msgspec
import pytest
from forge import Forged, Forger, deflate, patched

from tessera.package import Limits, Package
from tessera.package.archive import DIRECTORY, END
from tessera.package.manifest import Manifest, manifest_to_json
from tessera.package.records import DEFLATED, END_SIZE, Slot, end_records
from tessera.program.errors import IntegrityError, PackageError


def refused(path: Path, match: str, entry: str | None = None, limits: Limits | None = None) -> None:
    with pytest.raises(PackageError, match=match) as caught:
        Package.load(path, limits=limits or Limits())
    if entry is not None:
        assert caught.value.entry == entry


def test_the_forger_itself_is_accepted_when_it_does_nothing_wrong(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin"), Forged("runtime/b.py", b"x" * 99, DEFLATED)]
    assert Package.load(forger.write()).verify() == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../evil.bin", "'..'"),
        ("weights/../../evil.bin", "'..'"),
        ("weights/./a.bin", "plain letters"),
        ("/etc/passwd", "absolute"),
        ("C:/windows/a.bin", "absolute"),
        ("weights\\a.bin", "backslash"),
        ("weights/a\0.bin", "printable"),
        ("weights/a\n.bin", "printable"),
        ("weights//a.bin", "plain letters"),
        ("weights/", "folder"),
        ("weights/.hidden", "plain letters"),
        ("weights/a.bin.", "plain letters"),
        ("weights/a b.bin", "plain letters"),
        ("weights/aux.bin", "device"),
        ("weights/" + "a" * 300, "segment over"),
        ("/".join("abcdefghi"), "segments"),
        ("", "empty"),
    ],
)
def test_unsafe_names_are_refused(forger: Forger, name: str, problem: str) -> None:
    forger.entries = [Forged(name)]
    refused(forger.write(), problem)


def test_a_name_that_is_not_ascii_is_refused(forger: Forger) -> None:
    # Two Unicode spellings of one name would be one file on some systems.
    forger.entries = [Forged("weights/aXY.bin", central=lambda r: r.replace(b"XY", "é".encode()))]
    refused(forger.write(), "printable ASCII", DIRECTORY)


def test_duplicate_names_are_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin"), Forged("weights/a.bin", b"evil", listed=False)]
    refused(forger.write(), "appears twice", "weights/a.bin")


def test_names_that_differ_in_case_are_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin"), Forged("weights/A.bin")]
    refused(forger.write(), "only in case")


def test_a_name_that_is_also_a_folder_is_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a"), Forged("weights/A/b.bin")]
    refused(forger.write(), "also a folder")


def test_unsorted_entries_are_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin"), Forged("weights/b.bin")]
    forger.order = lambda entries: entries[::-1]
    refused(forger.write(), "not sorted", DIRECTORY)


@pytest.mark.parametrize("mode", [0o120777, 0o040755, 0o100755, 0o020644, 0])
def test_links_folders_devices_and_odd_modes_are_refused(forger: Forger, mode: int) -> None:
    forger.entries = [
        Forged("weights/a.bin", central=lambda r: patched(r, 38, struct.pack("<L", mode << 16)))
    ]
    refused(forger.write(), "external attributes", DIRECTORY)


def moved(slot: Slot, offset: int) -> Slot:
    return Slot(slot.name, slot.method, slot.crc, slot.packed_size, slot.size, offset)


def test_overlapping_entries_are_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin"), Forged("weights/b.bin", edit=lambda s: moved(s, 0))]
    refused(forger.write(), "overlaps the entry before it", "weights/b.bin")


def test_a_gap_between_entries_is_refused(forger: Forger) -> None:
    forger.entries = [
        Forged("weights/a.bin"),
        Forged("weights/b.bin", edit=lambda s: moved(s, s.header_offset + 4)),
    ]
    refused(forger.write(), "leaves a gap", "weights/b.bin")


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_range_beyond_the_file_is_refused(forger: Forger, size: int) -> None:
    forger.entries = [
        Forged("weights/a.bin", edit=lambda s: Slot(s.name, 0, s.crc, size, size, s.header_offset))
    ]
    refused(forger.write(), "reach past|more than")


@pytest.mark.parametrize("offset", [1 << 40, (1 << 64) - 1])
def test_an_offset_beyond_the_file_is_refused(forger: Forger, offset: int) -> None:
    forger.entries = [Forged("weights/a.bin", edit=lambda s: moved(s, offset))]
    refused(forger.write(), "begins at byte", "weights/a.bin")


def test_a_bomb_is_refused_before_it_is_inflated(forger: Forger) -> None:
    forger.entries = [Forged("runtime/bomb.py", bytes(50 << 20), DEFLATED)]
    refused(forger.write(), "more than 200 times", "runtime/bomb.py")


def test_many_small_bombs_are_refused_together(forger: Forger) -> None:
    forger.entries = [Forged(f"runtime/{i}.py", bytes(1 << 20), DEFLATED) for i in range(5)]
    refused(forger.write(), "inflate to", DIRECTORY, Limits(inflated_bytes=4 << 20))


def test_a_bomb_that_lies_about_its_size_is_stopped(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin", b"1234", DEFLATED, packed=deflate(bytes(50 << 20)))]
    package = Package.load(forger.write())
    with pytest.raises(IntegrityError, match="does not inflate to the 4 bytes"):
        package.constant("a")
    assert [f.entry for f in package.verify()] == ["weights/a.bin"]


@pytest.mark.parametrize(
    "packed", [b"\xff\xff", b"", deflate(b"123"), deflate(b"1234") + b"junk", deflate(b"1234")[:-1]]
)
def test_deflated_data_that_is_malformed_is_refused(forger: Forger, packed: bytes) -> None:
    forger.entries = [Forged("weights/a.bin", b"1234", DEFLATED, packed=packed)]
    package = Package.load(forger.write())
    with pytest.raises(IntegrityError, match=r"weights/a\.bin"):
        package.constant("a")


@pytest.mark.parametrize("method", [1, 9, 12, 14, 93, 99])
def test_other_compression_methods_are_refused(forger: Forger, method: int) -> None:
    forger.entries = [Forged("weights/a.bin", method=method)]
    refused(forger.write(), f"method {method}", "weights/a.bin")


def test_a_stored_entry_with_two_sizes_is_refused(forger: Forger) -> None:
    forger.entries = [
        Forged("weights/a.bin", edit=lambda s: Slot(s.name, 0, s.crc, s.size, 99, s.header_offset))
    ]
    refused(forger.write(), "sizes differ", "weights/a.bin")


@pytest.mark.parametrize("junk", [b"\0", b"#!/bin/sh\n", bytes(4096)])
def test_bytes_before_the_first_entry_are_refused(forger: Forger, junk: bytes) -> None:
    forger.entries = [Forged("weights/a.bin")]
    forger.whole = lambda data: junk + data
    refused(forger.write(), "is said to end at byte", DIRECTORY)


def test_bytes_after_the_end_are_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin")]
    forger.whole = lambda data: data + b"junk"
    refused(forger.write(), "followed by 4 bytes", END)


def test_a_comment_is_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin")]
    forger.end = lambda records: records[:-2] + b"\2\0hi"
    refused(forger.write(), "followed by 2 bytes", END)


def test_two_end_records_are_refused(forger: Forger) -> None:
    # One reader takes the first end record, another the last.
    forger.entries = [Forged("weights/a.bin")]
    forger.end = lambda records: records + records
    refused(forger.write(), "is said to end", DIRECTORY)


def test_a_plain_zip_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "plain.tsd", "w") as archive:
        archive.writestr("manifest.json", "{}")
    refused(tmp_path / "plain.tsd", "not what a package ends with", END)


def test_bytes_between_entries_and_directory_are_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin")]
    forger.whole = lambda data: data  # the directory moves down by its offset alone
    path = forger.write()
    data = path.read_bytes()
    at = data.index(b"PK\1\2")

    path.write_bytes(
        data[:at] + b"hide" + data[at:-END_SIZE] + end_records(2, len(data) - END_SIZE - at, at + 4)
    )
    refused(path, "4 bytes between", DIRECTORY)


@pytest.mark.parametrize(
    ("offset", "new", "field"),
    [
        (4, b"\x14\0", "version needed"),
        (6, b"\1\0", "flags"),
        (6, b"\x08\0", "flags"),
        (8, b"\x08\0", "compression method"),
        (10, b"\1\0", "time"),
        (14, b"evil", "crc-32"),
        (26, b"\5\0", "name length"),
        (28, b"\xff\xff", "extra length"),
        (47, b"\2\0", "extra field"),
        (60, b"\1", "extra field"),
    ],
)
def test_a_local_header_unlike_the_directory_is_refused(
    forger: Forger, offset: int, new: bytes, field: str
) -> None:
    forger.entries = [Forged("weights/a.bin", local=lambda h: patched(h, offset, new))]
    refused(forger.write(), field, "weights/a.bin")


def test_another_name_in_the_local_header_is_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin", local=lambda h: h.replace(b"weights/a", b"weights/b"))]
    refused(forger.write(), "another name", DIRECTORY)


def test_something_hidden_in_the_padding_is_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin", local=lambda h: h[:-8] + b"smuggled")]
    refused(forger.write(), "extra field", "weights/a.bin")


@pytest.mark.parametrize(
    ("offset", "field"), [(4, "made by"), (8, "flags"), (32, "comment length"), (34, "disk")]
)
def test_odd_directory_fields_are_refused(forger: Forger, offset: int, field: str) -> None:
    forger.entries = [Forged("weights/a.bin", central=lambda r: patched(r, offset, b"\1\1"))]
    refused(forger.write(), field, DIRECTORY)


@pytest.mark.parametrize("count", [0, 1, 3, 65_537, 1 << 40, (1 << 64) - 1])
def test_a_wrong_or_huge_count_of_entries_is_refused(forger: Forger, count: int) -> None:
    forger.entries = [Forged("weights/a.bin")]
    forger.count = count
    refused(forger.write(), "entries|last record|cannot hold|ends inside", DIRECTORY)


def test_more_entries_than_the_limit_are_refused(forger: Forger) -> None:
    forger.entries = [Forged(f"runtime/{i}.py") for i in range(10)]
    refused(forger.write(), "11 entries", DIRECTORY, Limits(entries=10))


def test_an_entry_that_the_manifest_lacks_is_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin"), Forged("weights/extra.bin", listed=False)]
    refused(forger.write(), "is not in the manifest", "weights/extra.bin")


def test_an_entry_in_the_reserved_folder_is_refused(forger: Forger) -> None:
    forger.entries = [Forged("META/model.sig", listed=False)]
    refused(forger.write(), "must be the last entry", "META/model.sig")
    forger.entries = [Forged("META/other", listed=False)]
    refused(forger.write(), "is not in the manifest", "META/other")


def test_an_entry_that_the_container_lacks_is_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin")]

    def add(manifest: Manifest) -> Manifest:
        ghost = msgspec.structs.replace(manifest.entries[0], path="runtime/ghost.py")
        return msgspec.structs.replace(
            manifest, entries=(ghost, *manifest.entries), runtime=("runtime/ghost.py",)
        )

    forger.manifest = add
    refused(forger.write(), "not in the file", "runtime/ghost.py")


def test_a_container_without_a_manifest_is_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin")]
    path = forger.write()
    path.write_bytes(path.read_bytes().replace(b"manifest.json", b"manifest.jsox"))
    refused(path, "is missing", "manifest.json")


def edited(**changes: object) -> object:
    return lambda manifest: msgspec.structs.replace(manifest, **changes)


def entry_edited(**changes: object) -> object:
    return lambda m: msgspec.structs.replace(
        m, entries=tuple(msgspec.structs.replace(e, **changes) for e in m.entries)
    )


def rows_edited(**changes: object) -> object:
    return lambda m: msgspec.structs.replace(
        m, weights=tuple(msgspec.structs.replace(w, **changes) for w in m.weights)
    )


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (entry_edited(offset=0), "size or place"),
        (entry_edited(size=5), "is 4 bytes, its entry 5"),
        (entry_edited(size=-1), "malformed"),
        (entry_edited(sha256="0" * 63), "malformed"),
        (entry_edited(sha256="A" * 64), "malformed"),
        (entry_edited(compression="deflate"), "size or place"),
        (entry_edited(path="weights/b.bin"), "no entry"),
        (rows_edited(path="weights/b.bin"), "which is no entry"),
        (rows_edited(shape=(1 << 62, 1 << 62)), "bytes, its entry 4"),
        (rows_edited(shape=(-4,)), "bytes, its entry 4"),
        (rows_edited(shape=(-2, -2)), "bytes, its entry 4"),
        (edited(weights=()), "no table names"),
        (edited(weights=(), config={"model": "weights/a.bin"}), "belongs under config/"),
        (edited(runtime=("weights/a.bin",)), "belongs under runtime/"),
        (edited(format="2.0"), "not 1.x"),
        (edited(format="1"), "not 1.x"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(forger: Forger, edit: object, problem: str) -> None:
    forger.entries = [Forged("weights/a.bin")]
    forger.manifest = edit
    refused(forger.write(), problem)


def test_two_weights_over_one_file_are_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin")]
    forger.manifest = lambda m: msgspec.structs.replace(
        m, weights=(*m.weights, msgspec.structs.replace(m.weights[0], name="alias"))
    )
    refused(forger.write(), "two rows share", "weights/a.bin")


def test_a_later_minor_version_with_more_fields_is_accepted(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin")]
    forger.document = lambda d: resealed(
        d.replace(b'"1.0"', b'"1.7"', 1).replace(b'"notes": []', b'"new": {"a": 1}', 1)
    )
    package = Package.load(forger.write())
    assert package.manifest.format == "1.7"
    assert package.verify() == []
    assert manifest_to_json(package.manifest)


def resealed(document: bytes) -> bytes:
    """`document` with its digest made right again."""
    import hashlib

    head = document[: -64 - 4]
    return head + hashlib.sha256(head).hexdigest().encode() + document[-4:]


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda d: d.replace(b'"forged"', b'"FORGED"'), "digest does not fit"),
        (lambda d: d[:-1], "digest does not fit"),
        (lambda d: d + b" ", "digest does not fit"),
        (lambda d: d[-68:-4] + d[-4:], "not strict JSON|digest does not fit"),
        (lambda d: b"", "digest does not fit"),
        (
            lambda d: resealed(d.replace(b'"name": "forged",', b'"name": "forged", "name": "other",')),
            "appears twice",
        ),
        (lambda d: resealed(d.replace(b'"forged"', b"NaN")), "not a JSON number"),
        (lambda d: resealed(d.replace(b'"forged"', b'"\xff"')), "not strict JSON"),
        (lambda d: resealed(d.replace(b'"forged"', b"7")), "Expected `str`"),
        (lambda d: resealed(d.replace(b'"u8"', b'"u7"')), "unknown dtype 'u7'"),
        (lambda d: resealed(d.replace(b'"tsd"', b'"exe"')), "kind"),
        (lambda d: resealed(d.replace(b"{}", b"[" * 200 + b"]" * 200, 1)), "nested 20. deep"),
        (lambda d: resealed(d.replace(b"{}", b"[" * 100_000 + b"]" * 100_000, 1)), "nested"),
        (lambda d: resealed(d.replace(b'"version"', b'"versio"')), "version"),
    ],
)
def test_a_manifest_that_is_malformed_is_refused(forger: Forger, edit: object, problem: str) -> None:
    forger.entries = [Forged("weights/a.bin")]
    forger.document = edit
    refused(forger.write(), problem, "manifest.json")


def test_a_manifest_over_the_limit_is_refused(forger: Forger) -> None:
    forger.entries = [Forged("weights/a.bin")]
    refused(forger.write(), "more than 100", "manifest.json", Limits(manifest_bytes=100))


def test_a_wrong_crc_is_found_by_verify(forger: Forger) -> None:
    wrong = {"local": lambda h: patched(h, 14, bytes(4)), "central": lambda r: patched(r, 16, bytes(4))}
    forger.entries = [Forged("weights/a.bin", **wrong)]
    findings = Package.load(forger.write()).verify()
    assert [f.entry for f in findings] == ["weights/a.bin"]
    assert "CRC-32" in findings[0].problem


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"[" * 500 + b"]" * 500, "nested 500 deep"),
        (b'{"schema": "2.0"}', "2.0"),
        (b'{"schema": "1.0"}', "missing required"),
        (b"\xff\xfe", "not strict JSON"),
        (b"{}{}", "not strict JSON"),
        (b'{"schema": "1.0", "schema": "1.0"}', "appears twice"),
        (b'"' * 50_001, "not strict JSON"),
        (b'"\\"' * 50_000, "not strict JSON"),
    ],
)
def test_a_malformed_program_is_refused(forger: Forger, document: bytes, problem: str) -> None:
    forger.entries = [Forged("programs/p.json", document)]
    refused(forger.write(), problem, "programs/p.json")


def test_a_program_over_the_limit_is_refused(forger: Forger) -> None:
    forger.entries = [Forged("programs/p.json", b" " * 2000)]
    refused(forger.write(), "more than 1000", "programs/p.json", Limits(document_bytes=1000))
