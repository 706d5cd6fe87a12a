"""Tuning records, drawn and plain."""

from hypothesis import strategies as st

from tessera.compiler.tuning.record import Record

NAMES = st.text(min_size=1, max_size=8)
VALUES = (
    st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | NAMES
)


@st.composite
def made_records(draw):
    status = draw(st.sampled_from(["ok", "pruned", "compile", "runtime", "wrong"]))
    return Record(
        kernel=draw(NAMES),
        kernel_hash=draw(st.sampled_from(["aa", "bb"])),
        target=draw(st.sampled_from(["sm_80", "sm_90"])),
        gpu=draw(NAMES),
        driver=draw(NAMES),
        kind=draw(st.sampled_from(["predicted", "measured"])),
        bucket=draw(st.dictionaries(NAMES, st.integers(0, 2**40), max_size=3)),
        sizes=draw(st.dictionaries(NAMES, st.integers(0, 2**40), max_size=3)),
        configuration=draw(st.dictionaries(NAMES, VALUES, max_size=3)),
        status=status,
        reason="" if status == "ok" else draw(NAMES),
        cost_ms=draw(st.floats(1e-6, 1e6)) if status == "ok" else None,
        registers=draw(st.none() | st.integers(0, 255)),
        occupancy=draw(st.none() | st.floats(0, 1)),
    )


def record(cost=1.0, n=1024, **changes):
    return Record(
        **{
            "kernel": "k", "kernel_hash": "aa", "target": "sm_80", "gpu": "A100", "driver": "1",
            "kind": "predicted", "bucket": {"n": n}, "sizes": {"n": n}, "configuration": {"BLOCK": 64},
            "status": "ok", "cost_ms": cost, **changes,
        }
    )  # fmt: skip
