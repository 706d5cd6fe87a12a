"""Names, versions and states of a server's models."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import WEIGHT, linear_model

from tessera.program.errors import OverloadedError, PackageError
from tessera.serve.config import ServerConfig
from tessera.serve.models.lifecycle import Lifecycle
from tessera.serve.models.registry import ModelNotFoundError, Registry, State
from tessera.serve.models.versions import version_key
from tessera.serve.service import Phase, Service


def service(name: str | None = None, version: str | None = None, model: Any = None) -> Service:
    chosen = linear_model() if model is None else model
    return Service(lambda: chosen, ServerConfig(), name=name, version=version)


def loaded(*named: tuple[str, str]) -> Registry:
    """A registry of loaded linear models."""
    registry = Registry()
    for name, version in named:
        registry.add(service(name, version), name=name, version=version)
    asyncio.run(load(registry))
    return registry


async def load(registry: Registry) -> None:
    """Load what was added."""
    await Lifecycle(registry, lambda spec: service(), drain_timeout_s=5).start()


def test_resolve_gives_the_latest_by_semantic_version_whatever_the_order() -> None:
    registry = loaded(("a", "1.10.0"), ("a", "1.9.0"), ("a", "2.0.0-rc.1"), ("b", "1"))
    assert registry.resolve("a").version == "2.0.0-rc.1"
    assert registry.resolve("a", "").version == "2.0.0-rc.1"
    assert registry.resolve("a", "1.9.0").version == "1.9.0"
    assert registry.versions("a") == ["2.0.0-rc.1", "1.10.0", "1.9.0"]
    assert [(row.name, row.version) for row in registry.listing()][-1] == ("b", "1")
    assert registry.close(1.0)


def test_resolve_unknown_name_or_version_lists_what_there_is() -> None:
    registry = loaded(("a", "1"), ("a", "2"), ("b", "1"))
    for name, version in (("c", None), ("a", "3")):
        with pytest.raises(ModelNotFoundError) as caught:
            registry.resolve(name, version)
        assert caught.value.fields["status"] == 404
        assert caught.value.hint == "there is 'a' of version '2', '1', 'b' of version '1'"
    assert registry.close(1.0)


def test_default_is_the_only_model_or_the_one_that_is_set() -> None:
    registry = loaded(("a", "1"), ("a", "2"))
    assert registry.default.version == "2"
    assert registry.close(1.0)
    registry = loaded(("a", "1"), ("b", "1"))
    with pytest.raises(ModelNotFoundError, match="several"):
        _ = registry.default
    registry.set_default("b")
    assert registry.default.name == "b"
    registry.set_default("c")
    with pytest.raises(ModelNotFoundError, match="'c'"):
        _ = registry.default
    assert registry.close(1.0)
    with pytest.raises(ModelNotFoundError, match="no model here"):
        _ = Registry().default


def test_model_that_loads_answers_overloaded_and_takes_its_name_from_the_package() -> None:
    registry = Registry()
    registry.add(service())
    assert [(r.name, r.state) for r in registry.listing()] == [(None, State.LOADING)]
    with pytest.raises(OverloadedError):
        registry.resolve("linear")
    with pytest.raises(OverloadedError):
        _ = registry.default.model
    assert registry.phase is Phase.LOADING
    asyncio.run(load(registry))
    assert registry.phase is Phase.READY
    assert registry.resolve("linear", "1") is registry.default
    assert registry.close(1.0)


def test_model_that_cannot_be_loaded_is_listed_with_the_reason() -> None:
    def fail() -> Any:
        raise PackageError("torn")

    registry = Registry()
    registry.add(Service(fail, ServerConfig(), name="a", version="1"), name="a", version="1")
    with pytest.raises(PackageError):
        asyncio.run(load(registry))
    (row,) = registry.listing()
    assert (row.state, row.reason) == (State.UNAVAILABLE, "torn")
    with pytest.raises(ModelNotFoundError, match="torn"):
        registry.resolve("a")


def test_infer_goes_to_the_default(rng: np.random.Generator) -> None:
    async def ask() -> Any:
        registry = Registry()
        registry.add(service())
        await load(registry)
        return await registry.infer(x), registry

    x = rng.standard_normal((2, 4)).astype(np.float32)
    output, registry = asyncio.run(ask())
    np.testing.assert_allclose(output, x @ WEIGHT, rtol=1e-5, atol=1e-5)
    assert registry.close(1.0)


ORDER = ["main", "0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11"]
ORDER += ["1.0.0-rc.1", "1.0.0", "v1.0.1", "1.9", "1.10", "2", "10.0.0+build.5"]


@given(st.permutations(ORDER))
def test_versions_are_ordered_as_semantic_versioning_says(shuffled: list[str]) -> None:
    assert sorted(shuffled, key=version_key) == ORDER


@given(st.text(), st.text())
def test_any_text_can_be_compared_as_a_version(a: str, b: str) -> None:
    assert (version_key(a) < version_key(b)) + (version_key(a) > version_key(b)) <= 1
