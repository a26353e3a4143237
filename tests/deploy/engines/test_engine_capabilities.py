"""What a TensorRT can do, read off the names that three generations of the real bindings have."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy import engines
from deploy.engines import capabilities
from deploy.engines.capabilities import Capabilities
from train.errors import UsageError

API = Path(__file__).parents[2] / "trt" / "api"
EXTERNAL = ("CUBLAS", "CUBLAS_LT", "CUDNN")
EXPECTED = {
    "8.6.0": Capabilities(
        strongly_typed=False,
        explicit_batch=True,
        fp16_flag=True,
        int8_flag=True,
        layer_precision=True,
        int64=False,
        progress_monitor=False,
        external_tactics=EXTERNAL,
        parser_node_names=False,
        native_instancenorm=False,
        version_compatible=True,
        hardware=("none", "ampere+"),
    ),
    "10.16.1.11": Capabilities(
        strongly_typed=True,
        explicit_batch=True,
        fp16_flag=True,
        int8_flag=True,
        layer_precision=True,
        int64=True,
        progress_monitor=True,
        external_tactics=EXTERNAL,
        parser_node_names=True,
        native_instancenorm=True,
        version_compatible=True,
        hardware=("none", "same", "ampere+"),
    ),
    "11.4.0.106": Capabilities(
        strongly_typed=True,
        explicit_batch=False,
        fp16_flag=False,
        int8_flag=False,
        layer_precision=False,
        int64=True,
        progress_monitor=True,
        external_tactics=(),
        parser_node_names=True,
        native_instancenorm=True,
        version_compatible=True,
        hardware=("none", "same", "ampere+"),
    ),
}


def table(version: str) -> dict:
    """Class → names; what a subclass gives is in the docstring of its class."""
    found = json.loads((API / f"{version}.json").read_text())
    names = {kind: set(members) for kind, members in {**found["classes"], **found["enums"]}.items()}
    for kind, methods in found["overridden"].items():
        names[kind] |= set(methods)
    return names


@pytest.mark.parametrize("version", EXPECTED)
def test_each_generation(version: str) -> None:
    assert capabilities.read(table(version)) == EXPECTED[version]


@pytest.mark.parametrize("version", EXPECTED)
def test_a_module_is_read_as_its_table_is(version: str) -> None:
    names = {kind: SimpleNamespace(**dict.fromkeys(members)) for kind, members in table(version).items()}
    assert capabilities.read(SimpleNamespace(**names)) == EXPECTED[version]


def test_control_a_name_that_goes_is_seen() -> None:
    changed = table("10.16.1.11")
    changed["NetworkDefinitionCreationFlag"].remove("STRONGLY_TYPED")
    assert not capabilities.read(changed).strongly_typed


def test_nothing_has_nothing() -> None:
    assert capabilities.read({}).hardware == ()


def test_engines_are_found_by_their_file() -> None:
    assert engines.names() == ["tensorrt"]
    with pytest.raises(UsageError, match="did you mean 'tensorrt'"):
        engines.get("tensort")
