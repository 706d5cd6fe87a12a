"""Every attack that the container guards against has a test of its own."""

import ast
from pathlib import Path

import pytest

ATTACKS = {
    "duplicate names": "test_duplicate_names_are_refused",
    "case collisions": "test_names_that_differ_in_case_are_refused",
    "Unicode collisions": "test_a_name_that_is_not_ascii_is_refused",
    "a file that is also a folder": "test_a_name_that_is_also_a_folder_is_refused",
    "absolute paths, '..', NUL, backslash": "test_unsafe_names_are_refused",
    "symbolic links and special files": "test_links_folders_devices_and_odd_modes_are_refused",
    "symbolic links in a folder": "test_a_symbolic_link_is_refused",
    "prefix bytes": "test_bytes_before_the_first_entry_are_refused",
    "trailing bytes": "test_bytes_after_the_end_are_refused",
    "bytes between entries": "test_a_gap_between_entries_is_refused",
    "bytes before the directory": "test_bytes_between_entries_and_directory_are_refused",
    "an archive comment": "test_a_comment_is_refused",
    "two end records": "test_two_end_records_are_refused",
    "local header unlike central header": "test_a_local_header_unlike_the_directory_is_refused",
    "another name in the local header": "test_another_name_in_the_local_header_is_refused",
    "data in the padding": "test_something_hidden_in_the_padding_is_refused",
    "overlapping entries": "test_overlapping_entries_are_refused",
    "sizes that overflow": "test_a_range_beyond_the_file_is_refused",
    "offsets that overflow": "test_an_offset_beyond_the_file_is_refused",
    "entry set unlike manifest, more": "test_an_entry_that_the_manifest_lacks_is_refused",
    "entry set unlike manifest, fewer": "test_an_entry_that_the_container_lacks_is_refused",
    "too many entries": "test_more_entries_than_the_limit_are_refused",
    "a huge count of entries": "test_a_wrong_or_huge_count_of_entries_is_refused",
    "a huge manifest": "test_a_manifest_over_the_limit_is_refused",
    "deep JSON, duplicate keys, NaN": "test_a_manifest_that_is_malformed_is_refused",
    "a huge program": "test_a_program_over_the_limit_is_refused",
    "a bomb": "test_a_bomb_is_refused_before_it_is_inflated",
    "many bombs": "test_many_small_bombs_are_refused_together",
    "a bomb that lies about its size": "test_a_bomb_that_lies_about_its_size_is_stopped",
    "tensor aliasing": "test_two_weights_over_one_file_are_refused",
    "shapes that overflow": "test_a_manifest_that_does_not_fit_is_refused",
    "foreign compression methods": "test_other_compression_methods_are_refused",
    "a file cut short while mapped": "test_a_file_cut_short_after_loading_is_an_error_and_no_bus_error",
    "a wrong CRC-32": "test_a_wrong_crc_is_found_by_verify",
    "a plain ZIP": "test_a_plain_zip_is_refused",
}
"""Attacks by what they do, and the test that makes each."""


def defined() -> set[str]:
    return {
        node.name
        for path in Path(__file__).parent.glob("test_container_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_a_named_test(attack: str) -> None:
    assert ATTACKS[attack] in defined(), f"{attack}: no test {ATTACKS[attack]}"


def test_every_hostile_container_is_in_the_table() -> None:
    path = Path(__file__).with_name("test_container_attacks.py")
    tests = {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}
    hostile = {name for name in tests if name.startswith("test_") and name.endswith("_refused")}
    minor = {
        "test_unsorted_entries_are_refused",
        "test_a_stored_entry_with_two_sizes_is_refused",
        "test_deflated_data_that_is_malformed_is_refused",
        "test_odd_directory_fields_are_refused",
        "test_an_entry_in_the_reserved_folder_is_refused",
        "test_a_container_without_a_manifest_is_refused",
        "test_a_malformed_program_is_refused",
    }
    assert hostile - minor <= set(ATTACKS.values())
