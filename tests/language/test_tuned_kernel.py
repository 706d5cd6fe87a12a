import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import cuda

import tessera as ts
from tessera.language.tuning import make_space
from tessera.program.dim import evaluate
from tessera.program.errors import KernelError

BLOCK = 128
UNROLL = 2
SPACE = {"BLOCK": [64, 128, 256], "UNROLL": [1, 2, 4]}


@cuda.jit(device=True)
def reads_a_tuned_name(i):
    return i * UNROLL


def scale(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    first = cuda.blockIdx.x * BLOCK * UNROLL + cuda.threadIdx.x
    for k in range(UNROLL):
        i = first + k * BLOCK
        if i < x.shape[0]:
            y[i] = x[i] * 3


def kernel(**changes):
    rules = {
        "tune": SPACE,
        "grid": lambda n, BLOCK, UNROLL: ts.cdiv(n, BLOCK * UNROLL),
        "block": lambda BLOCK: BLOCK,
    }
    return ts.kernel(**{**rules, **changes})(scale)


def test_values_of_the_file_are_the_first_configuration():
    assert kernel().configuration == {"BLOCK": 128, "UNROLL": 2}
    assert kernel(tune={**SPACE, "BLOCK": [32, 512]}).configuration == {"BLOCK": 32, "UNROLL": 1}


def test_rules_and_function_see_the_values_of_a_configuration():
    chosen = kernel().configured({"BLOCK": 256, "UNROLL": 4})
    assert chosen.block == (256, 1, 1)
    assert evaluate(chosen.grid[0], {"n": 1025}) == 2
    assert chosen.fn.__globals__["UNROLL"] == 4
    assert kernel().fn.__globals__["UNROLL"] == 2
    assert UNROLL == 2


@pytest.mark.parametrize("configuration", [{"BLOCK": 64, "UNROLL": 4}, {"BLOCK": 256, "UNROLL": 1}])
def test_every_configuration_computes_the_same(rng, configuration):
    x = rng.normal(size=1000).astype("f4")
    result = kernel().configured(configuration)(x, np.zeros(1000, "f4"))
    np.testing.assert_allclose(result.numpy(), x.astype("f8") * 3, rtol=1e-6)


def test_names_of_an_enclosing_function_are_tuned_too(rng):
    width = 1

    @ts.kernel(tune={"width": [1, 4]}, grid=lambda n, width: ts.cdiv(n, 64 * width), block=64)
    def double(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
        first = cuda.grid(1) * width
        for i in range(first, min(first + width, x.shape[0])):
            y[i] = x[i] * 2

    x = rng.normal(size=777).astype("f4")
    for value in (1, 4):
        assert (
            double.configured({"width": value})(x, np.zeros(777, "f4")).numpy().tolist() == (x * 2).tolist()
        )


@pytest.mark.parametrize("where", ["BLOCK * UNROLL <= 256", lambda BLOCK, UNROLL: BLOCK * UNROLL <= 256])
def test_a_condition_leaves_configurations_out(where):
    found = list(kernel(where=where).space.configurations())
    assert found == [{"BLOCK": b, "UNROLL": u} for b in (64, 128, 256) for u in (1, 2, 4) if b * u <= 256]
    with pytest.raises(KernelError, match="not one of its configurations"):
        kernel(where=where).configured({"BLOCK": 256, "UNROLL": 4})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tune": {}}, "tune is empty"),
        ({"tune": {"BLOCK": []}}, "needs a list of values"),
        ({"tune": {"BLOCK": "64"}}, "needs a list of values"),
        ({"tune": {"BLOCK": [64, 64], "UNROLL": [1]}}, "given twice"),
        ({"tune": {"BLOCK": [None], "UNROLL": [1]}}, "neither a number nor text"),
        ({"tune": {"BLOCK": ["a"], "UNROLL": [1]}}, "text as a value"),
        ({"tune": {**SPACE, "BLOCKS": [1]}}, "neither the kernel nor its launch rule reads it"),
        ({"tune": {**SPACE, "first": [1]}}, "parameter or variable of that name"),
        ({"where": "BLOCK > 10000"}, "allows none of the 9"),
        ({"where": "BLOK > 10"}, "'BLOK' is not tuned"),
        ({"where": "BLOCK >"}, "not an expression"),
        ({"where": "BLOCK.real > 1"}, "has a Attribute"),
        ({"where": "__import__('os')"}, "'__import__' is not tuned"),
        ({"where": lambda BLOCK: BLOCK / 0}, "where fails for BLOCK=64"),
        ({"where": lambda WIDTH: WIDTH}, "'WIDTH' is not tuned"),
        ({"tune": None, "grid": 1, "block": 1, "where": "1"}, "nothing is tuned"),
        ({"min_blocks": 33}, "33; allowed are 1 to 32"),
        ({"max_registers": lambda UNROLL: 300 * UNROLL}, "allowed are 1 to 255"),
    ],
)
def test_a_wrong_space_says_what_is_wrong(changes, message):
    with pytest.raises(KernelError, match=message) as caught:
        kernel(**changes)
    assert caught.value.location is not None


def test_a_called_function_that_reads_a_tuned_name_is_refused():
    def calls(x: ts.Array[ts.f32, "n"]):
        x[0] = reads_a_tuned_name(UNROLL)

    with pytest.raises(KernelError, match="reads the tuned 'UNROLL'") as caught:
        ts.kernel(tune={"UNROLL": [1, 2]}, grid=1, block=1)(calls)
    assert "hand it over" in caught.value.hint


@given(
    st.dictionaries(
        st.sampled_from("ABCD"), st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True), min_size=1
    ),
    st.integers(0, 12),
)
def test_a_space_holds_what_it_lists_and_nothing_else(tune, least):
    total = " + ".join(tune)
    try:
        space = make_space("k", tune, f"{total} >= {least}")
    except KernelError:
        assert sum(map(max, tune.values())) < least
        return
    found = list(space.configurations())
    assert all(space.holds(c) and sum(c.values()) >= least for c in found)
    assert len({tuple(c.items()) for c in found}) == len(found)
    assert not space.holds({**found[0], "A": 99})
    assert not space.holds({})
