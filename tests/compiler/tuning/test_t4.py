"""Records as T4 results: what is written fits the schema, what is read is checked against it."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.compiler.tuning.t4 import from_t4, to_t4
from tessera.package.atomic import write_json
from tessera.program.errors import ConfigError
from tests.compiler.tuning.samples import made_records, record

# What the published schema of T4 results 1.0.0 asks for: `kernel_tuner/schema/T4/1.0.0/results-schema.json`.
NUMBER, TEXT, LIST = {"type": "number"}, {"type": "string"}, {"type": "array"}
MEASUREMENT = {"name": TEXT, "value": {"type": ["number", "string", "array"]}, "unit": TEXT}
TIMES = dict.fromkeys(("compilation_time", "framework", "search_algorithm", "validation"), NUMBER)
RESULT = {
    "timestamp": TEXT,
    "configuration": {"type": "object"},
    "objectives": LIST,
    "times": {"type": "object", "properties": {**TIMES, "runtimes": LIST}},
    "invalidity": {"enum": ["timeout", "compile", "runtime", "correctness", "constraints", "correct"]},
    "correctness": NUMBER,
    "measurements": {**LIST, "items": {"type": "object", "properties": MEASUREMENT}},
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "schema_version": {**TEXT, "pattern": "^[0-9]{1,}.[0-9]{1,}.[0-9]{1,}$"},
        "results": {
            **LIST,
            "items": {
                "type": "object",
                "properties": RESULT,
                "required": ["configuration", "times", "invalidity", "correctness"],
            },
        },
    },
}

# As Kernel Tuner 1.5 writes it.
GOOD = {
    "timestamp": "2026-01-01T00:00:00", "objectives": ["time"],
    "configuration": {"BLOCK": 64, "LAYOUT": "row"},
    "times": {"compilation": 120.5, "framework": 0.4, "search_algorithm": 0, "runtimes": [0.5, 0.6]},
    "invalidity": "correct", "correctness": 1,
    "measurements": [
        {"name": "time", "value": 0.55, "unit": "ms"}, {"name": "GFLOP/s", "value": 9, "unit": ""},
    ],
}  # fmt: skip
FAILED = {
    **GOOD, "configuration": {"BLOCK": 999}, "invalidity": "compile",
    "measurements": [{"name": "time", "value": "CompilationFailedConfig", "unit": "ms"}],
}  # fmt: skip


def document(*results, **members):
    return {
        "schema_version": "1.0.0",
        "metadata": {"timeunit": "milliseconds"},
        "results": results,
        **members,
    }


@given(records=st.lists(made_records(), max_size=4))
def test_what_is_written_fits_the_schema_and_is_read_back(records, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "t4.json"
    unique = {r.key: r for r in records}
    write_json(path, to_t4(unique.values()))
    jsonschema.validate(json.loads(path.read_text()), SCHEMA, cls=jsonschema.Draft202012Validator)
    assert {r.key: r for r in from_t4(path, record())} == unique


def test_results_of_kernel_tuner_are_measured_records(tmp_path):
    path = tmp_path / "t4.json"
    wrong = {**GOOD, "configuration": {"BLOCK": 7}, "correctness": 0}
    write_json(path, document(GOOD, FAILED, wrong, {**FAILED, "invalidity": "timeout"}))
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    found = from_t4(path, record())
    assert [(r.kind, r.status, r.cost_ms) for r in found] == [
        ("measured", "ok", 0.55),
        ("measured", "compile", None),
        ("measured", "wrong", None),
        ("measured", "runtime", None),
    ]
    assert found[0].configuration == {"BLOCK": 64, "LAYOUT": "row"}


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({**GOOD, "invalidity": "odd"}, r"enum value 'odd' - at `\$.results\[0\].invalidity`"),
        ({**GOOD, "configuration": [1]}, r"got `array` - at `\$.results\[0\].configuration`"),
        ({**GOOD, "configuration": {"A": None}}, r"got `null` - at `\$.results\[0\].configuration"),
        ({k: v for k, v in GOOD.items() if k != "times"}, "missing required field `times`"),
        ({k: v for k, v in GOOD.items() if k != "correctness"}, "missing required field `correctness`"),
        ({**GOOD, "measurements": []}, r"results\[0\] is correct, but has no measurement called time"),
        ({**GOOD, "measurements": [{"name": "time", "value": -1, "unit": "ms"}]}, "a time of -1"),
        ({**GOOD, "measurements": [{"name": "time", "value": 1, "unit": "h"}]}, "a time of 1.* 'h'"),
        ({**GOOD, "tessera": {"gpu": 3}}, r"results\[0\]: Expected `str`, got `int` - at `\$.gpu`"),
    ],
)
def test_a_result_that_does_not_fit_is_named(tmp_path, result, message):
    path = tmp_path / "t4.json"
    write_json(path, document(result))
    with pytest.raises(ConfigError, match=message) as caught:
        from_t4(path, record())
    assert "t4.json" in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[]", "no T4 results file"),
        ('{"schema_version": "1.0.0"}', "missing required field `results`"),
        ('{"schema_version": "one", "results": []}', "no T4 results file"),
        ('{"schema_version": "2.0.0", "results": []}', "T4 schema 2.0.0; this Tessera reads 1.0.0"),
        (json.dumps(document(GOOD))[:-9], "is not JSON"),
    ],
)
def test_another_file_is_named_as_such(tmp_path, text, message):
    path = tmp_path / "t4.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        from_t4(path, record())
    assert "schema_version 1.0.0" in caught.value.hint


@given(data=st.binary(max_size=200) | st.text().map(str.encode))
def test_bytes_of_any_kind_are_records_or_a_clear_error(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    try:
        assert from_t4(path, record()) == []
    except ConfigError as error:
        assert "any.json" in error.message  # noqa: PT017 - most bytes are refused, a few are empty results
