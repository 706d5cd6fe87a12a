import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.compiler.options import AOTConfig, CompilationTarget, shared_limit
from tessera.program.errors import ArchitectureError, OptionError


def test_target_of_the_guide_resolves():
    target = CompilationTarget(
        architecture="sm_80",
        optimization_flags=["-O3", "--use_fast_math", "--maxrregcount=128"],
        tensor_core_config="auto",
    )
    options = target.tool_options()
    assert (options.target, options.opt_level, options.fast_math, options.max_registers) == (
        "sm_80",
        3,
        True,
        128,
    )


def test_hopper_features_compile_for_sm_90a():
    target = CompilationTarget("sm_90", ["-O3"], enable_hopper_features=True, wgmma_config="m64n256k32")
    assert target.tool_options().target == "sm_90a"
    assert target.tool_options().wgmma == (64, 256, 32)


def test_hopper_features_elsewhere_are_refused():
    with pytest.raises(OptionError, match="sm_80"):
        CompilationTarget("sm_80", enable_hopper_features=True)


@pytest.mark.parametrize("flag", ["-O4", "--fast", "-maxrregcount", "--maxrregcount=abc", "", 3])
def test_unknown_flag_is_named(flag):
    with pytest.raises(OptionError) as caught:
        CompilationTarget("sm_80", ["-O3", flag])
    assert repr(flag) in caught.value.message
    assert "--use_fast_math" in caught.value.hint


@given(st.text(min_size=1, max_size=12))
def test_arbitrary_flags_are_understood_or_refused(flag):
    with contextlib.suppress(OptionError):
        assert CompilationTarget("sm_80", [flag]).tool_options().target == "sm_80"


@pytest.mark.parametrize("limit", [15, 256, 100000])
def test_register_limit_out_of_range_is_refused(limit):
    with pytest.raises(OptionError, match="16 to 255"):
        CompilationTarget("sm_80", [f"--maxrregcount={limit}"])


def test_device_debug_turns_optimization_off():
    options = CompilationTarget("sm_80", ["-O3", "-G"]).tool_options()
    assert options.debug
    assert options.opt_level == 0


@pytest.mark.parametrize("shape", ["m32n8k16", "m64n7k16", "m64n264k16", "m64n256k15", "64x64x16", "m64n256"])
def test_impossible_wgmma_shape_is_refused(shape):
    with pytest.raises(OptionError, match="warpgroup"):
        CompilationTarget("sm_90", wgmma_config=shape)


def test_unknown_architecture_suggests_the_nearest():
    with pytest.raises(ArchitectureError) as caught:
        CompilationTarget("sm_91")
    assert "did you mean sm_90" in caught.value.hint


def test_flags_as_one_text_are_refused_with_the_list():
    with pytest.raises(OptionError) as caught:
        CompilationTarget("sm_80", "-O3 -lineinfo")
    assert "['-O3', '-lineinfo']" in caught.value.hint


def test_config_takes_names_and_targets():
    config = AOTConfig(targets=["sm_70", CompilationTarget("sm_90", ["-O1"])], include_debug_info=True)
    first, second = config.tool_options()
    assert (first.target, second.target, second.opt_level) == ("sm_70", "sm_90", 1)
    assert first.lineinfo
    assert second.lineinfo


def test_same_architecture_twice_is_refused():
    with pytest.raises(OptionError, match="twice"):
        AOTConfig(targets=["sm_90a", CompilationTarget("sm_90", enable_hopper_features=True)])


def test_config_that_makes_nothing_is_refused():
    with pytest.raises(OptionError, match="empty"):
        AOTConfig(targets=[])
    with pytest.raises(OptionError, match="generate_cubin"):
        AOTConfig(targets=["sm_80"], generate_ptx=False, generate_cubin=False)


@pytest.mark.parametrize("limit", [-1, 1.5, "48K", True])
def test_shared_memory_cap_that_is_no_size_is_refused(limit):
    with pytest.raises(OptionError, match="bytes"):
        AOTConfig(targets=["sm_80"], max_shared_memory_per_block=limit)


def test_shared_limit_is_the_lower_of_hardware_and_cap():
    assert shared_limit("sm_90", None) == 227 << 10
    assert shared_limit("sm_90", 163840) == 163840
    assert shared_limit("sm_70", 163840) == 96 << 10


@pytest.mark.parametrize("level", [-1, 4, True, "3"])
def test_optimization_level_out_of_range_is_refused(level):
    with pytest.raises(OptionError, match="0, 1, 2 or 3"):
        AOTConfig.of(["sm_80"], optimization_level=level)


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (lambda: AOTConfig(targets=None), "targets is a list, not None", 'targets=["sm_80", "cpu"]'),
        (lambda: AOTConfig(targets=[80]), "a name or a CompilationTarget, not 80", "CompilationTarget("),
        (lambda: AOTConfig.of([CompilationTarget("sm_80")]), "takes names", "config=AOTConfig(targets="),
        (lambda: AOTConfig.of(CompilationTarget("sm_80")), "takes names", "config=AOTConfig(targets="),
    ],
)
def test_targets_of_another_type_say_what_to_write(make, message, hint):
    with pytest.raises(OptionError, match=message) as caught:
        make()
    assert hint in caught.value.hint


def test_targets_may_come_from_a_generator():
    config = AOTConfig(targets=(f"sm_{n}" for n in (80, 90)))
    assert [t.architecture for t in config.targets] == ["sm_80", "sm_90"]
