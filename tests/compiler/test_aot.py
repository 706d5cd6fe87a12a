import numpy as np
import pytest
from sample_kernels import saxpy, with_barrier

import tessera as ts
from tessera.compiler.aot import AOTCompiler, BatchCompiler
from tessera.compiler.cache import CompileCache
from tessera.compiler.options import AOTConfig, CompilationTarget
from tessera.package.package import Package
from tessera.program.errors import ArchitectureError, CompileError, OptionError, ResourceError
from tessera.reference import run_graph
from tessera.runtime import open_artifact


@ts.jit
def dense(x: ts.Tensor[ts.f32, "batch", 32], w: ts.Tensor[ts.f32, 32, 16]) -> ts.Tensor:
    return ts.relu(ts.matmul(x, w))


TARGETS = ["sm_70", "sm_80", "sm_90", "cpu"]


@pytest.fixture(scope="module")
def compiled():
    return AOTCompiler(target_architectures=TARGETS).compile(dense)


def test_every_target_has_machine_code(compiled):
    made = {(b.target, b.format) for b in compiled.binaries}
    for arch in TARGETS[:3]:
        assert {(arch, "cubin"), (arch, "ptx")} <= made
    assert any(form == "so" for _, form in made)
    launched = {s.kernel for p in compiled.programs[0].plans for s in p.steps if hasattr(s, "kernel")}
    assert launched <= {name for b in compiled.binaries for name in b.kernels}


def test_cubins_come_with_registers_and_occupancy(compiled):
    for binary in compiled.binaries:
        if binary.format == "cubin":
            assert binary.resources.registers > 0
            assert 0 < binary.resources.occupancy <= 1


def test_cpu_code_agrees_with_the_reference(compiled, rng):
    x, w = rng.normal(size=(7, 32)).astype("f4"), rng.normal(size=(32, 16)).astype("f4")
    with open_artifact(compiled.artifact, device="cpu") as runtime:
        result = np.asarray(runtime.execute(x, w))
    (exact,) = run_graph(compiled.programs[0].graph, {"x": x, "w": w}, {}, precision="f64").values()
    np.testing.assert_allclose(result, exact, rtol=1e-5, atol=1e-5)


def test_saved_file_holds_what_was_compiled(compiled, tmp_path):
    path = compiled.save(tmp_path / "dense.tsc")
    package = Package.load(path)
    assert set(package.programs) == {"dense"}
    for binary in compiled.binaries:
        found = package.binary("dense", binary.kernels[0], binary.target, binary.format)
        assert bytes(found.data) == binary.data


def test_progress_counts_every_kernel_and_target():
    seen = []
    AOTCompiler(target_architectures=TARGETS).compile(saxpy, progress=lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == [1, 2, 3, 4]
    assert {total for _, total, _ in seen} == {4}
    assert [label.split()[0] for _, _, label in seen] == ["saxpy"] * 4
    assert len({label for _, _, label in seen}) == 4


def test_specs_may_be_given_instead_of_annotations():
    @ts.jit
    def double(x: ts.Tensor) -> ts.Tensor:
        return x + x

    compiled = AOTCompiler(target_architectures=["sm_80"]).compile(
        double, ts.TensorSpec((None,), ts.f32), "twice"
    )
    assert compiled.name == "twice"
    assert compiled.programs[0].inputs[0].dtype == ts.f32


def test_config_of_the_guide_compiles_and_says_that_nothing_was_tuned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = AOTConfig(
        targets=[
            CompilationTarget(
                "sm_80", ["-O3", "--use_fast_math", "--maxrregcount=128"], tensor_core_config="auto"
            ),
            CompilationTarget("sm_90", ["-O3"], enable_hopper_features=True, wgmma_config="m64n256k32"),
        ],
        enable_graph_optimization=True,
        enable_kernel_fusion=True,
        enable_autotuning=True,
        autotune_cache="autotune_cache.json",
        max_shared_memory_per_block=163840,
        include_debug_info=False,
        generate_ptx=True,
        generate_cubin=True,
    )
    compiled = AOTCompiler(config).compile(dense)
    assert compiled.programs[0].targets == ("sm_80", "sm_90a")
    assert any("nothing was tuned" in note for note in compiled.artifact.notes)
    assert any("wgmma" in note for note in compiled.artifact.notes)


@pytest.mark.parametrize(("ptx", "cubin"), [(True, False), (False, True)])
def test_only_the_formats_asked_for_are_made(ptx, cubin):
    config = AOTConfig(targets=["sm_80"], generate_ptx=ptx, generate_cubin=cubin)
    formats = {b.format for b in AOTCompiler(config).compile(saxpy).binaries}
    assert formats == ({"ptx"} if ptx else {"cubin"})


def test_kernel_over_the_shared_memory_cap_is_refused():
    config = AOTConfig(targets=["sm_80"], max_shared_memory_per_block=1024)
    with pytest.raises(ResourceError) as caught:
        AOTCompiler(config).compile(dense)
    assert caught.value.limit == 1024
    assert caught.value.required > 1024


def test_batch_shares_one_artifact(tmp_path):
    batch = BatchCompiler(AOTConfig(targets=["sm_80", "cpu"]))
    batch.add_kernel(dense, name="first")
    batch.add_kernel(saxpy)
    package = batch.compile_all()
    assert [p.name for p in package.programs] == ["first", "saxpy"]
    path = package.save(tmp_path / "both.tsp")
    assert set(Package.load(path).programs) == {"first", "saxpy"}


def test_one_kernel_under_two_names_fits_one_package(tmp_path):
    batch = BatchCompiler(AOTConfig(targets=["sm_80", "cpu"]))
    batch.add_kernel(saxpy, name="first")
    batch.add_kernel(saxpy, name="second")
    package = Package.load(batch.compile_all().save(tmp_path / "both.tsp"))
    for program in ("first", "second"):
        assert package.binary(program, "saxpy", "sm_80", "cubin") is not None


def test_batch_of_nothing_and_of_one_name_twice_are_refused():
    batch = BatchCompiler(AOTConfig(targets=["sm_80"]))
    with pytest.raises(CompileError, match="empty"):
        batch.compile_all()
    batch.add_kernel(saxpy)
    with pytest.raises(CompileError, match="saxpy"):
        batch.add_kernel(with_barrier, name="saxpy")


def test_unknown_architecture_suggests_the_nearest():
    with pytest.raises(ArchitectureError) as caught:
        AOTCompiler(target_architectures=["sm_91"])
    assert "did you mean sm_90" in caught.value.hint


def test_two_ways_to_say_the_targets_are_refused():
    with pytest.raises(OptionError, match="both"):
        AOTCompiler(AOTConfig(targets=["sm_80"]), target_architectures=["sm_90"])


def test_plain_function_is_told_to_be_decorated():
    def plain(x):
        return x

    with pytest.raises(CompileError) as caught:
        AOTCompiler(target_architectures=["sm_80"]).compile(plain)
    assert caught.value.hint == "put @ts.jit above def plain"


def test_same_source_gives_the_same_artifact_twice(tmp_path):
    from tessera.compiler.cache import CompileCache

    made = [
        AOTCompiler(target_architectures=TARGETS, cache=CompileCache.off()).compile(dense) for _ in range(2)
    ]
    assert [b.data for b in made[0].binaries] == [b.data for b in made[1].binaries]
    assert made[0].programs == made[1].programs
    assert made[0].artifact.provenance == made[1].artifact.provenance


def test_provenance_holds_versions_and_no_folder(compiled):
    text = str(compiled.artifact.provenance)
    assert "numba-cuda" in text
    assert set(compiled.artifact.provenance["sources"]) == {"dense"}
    assert "/" not in text


def test_several_compiled_side_by_side_are_what_they_are_alone():
    compiler = AOTCompiler(target_architectures=["sm_80", "sm_90"], cache=CompileCache.off())
    items = [(saxpy, None, None), (dense, None, None), (saxpy, None, "again")]
    together = compiler.compile_each(items)
    alone = [compiler.compile(fn, specs, name) for fn, specs, name in items]
    assert [k.name for k in together] == ["saxpy", "dense", "again"]
    assert [[b.data for b in k.binaries] for k in together] == [[b.data for b in k.binaries] for k in alone]
    assert together[0].seconds["cubin"] > 0
    assert together[0].seconds["front end"] > 0


def test_failure_among_several_ends_all(recwarn):
    @ts.kernel(grid=1, block=32)
    def wrong(x: ts.Array[ts.f32, "n"]):
        x[0] = x.nothing

    compiler = AOTCompiler(target_architectures=["sm_80"], cache=CompileCache.off())
    with pytest.raises(CompileError, match="nothing"):
        compiler.compile_each([(saxpy, None, None), (wrong, None, None)])
    assert not recwarn.list


def test_batch_keeps_arrays_without_a_name_apart(rng):
    x = rng.standard_normal(5).astype(np.float32)
    shifts = [rng.standard_normal(5).astype(np.float32) for _ in range(2)]
    batch = BatchCompiler(AOTConfig(targets=["sm_80"]))
    for number, shift in enumerate(shifts):
        shifted = ts.jit(lambda x, shift=shift: x + shift.copy())
        batch.add_kernel(shifted, name=f"shift{number}", input_specs=[ts.TensorSpec((5,), ts.f32)])
    artifact = batch.compile_all().artifact
    assert len(artifact.constants) == 2
    with open_artifact(artifact, "emulator") as runtime:
        for number, shift in enumerate(shifts):
            np.testing.assert_array_equal(runtime.execute(f"shift{number}", x), x + shift)
