"""Cells of the zoo: a rewrite that is wrong is caught, and some models of each kind hold."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmdeploy.core import FUNCTION_REWRITER

from deploy import rewrites, zoo
from deploy.rewrites import adaptive_pool
from deploy.zoo import cell, compare, run
from train.errors import InputError, UsageError

#: PSPNet, its network an eighth as wide.
NARROW = (
    "model.backbone.stem_channels=8",
    "model.backbone.base_channels=8",
    "model.decode_head.in_channels=64",
    "model.decode_head.channels=16",
    "model.auxiliary_head.in_channels=32",
)
POOLING = "torch.nn.functional.adaptive_avg_pool2d"
#: What `make test-all` tries, of every kind of model: minutes on two cores.
SUBSET = "MobileNetV3,Swin,ATSS,YOLOv3,Cascade Mask R-CNN,DETR,SOLOv2,PSPNet,ISANet,SegFormer"


@pytest.fixture
def narrow() -> zoo.Line:
    (line,) = zoo.select(zoo.read(), "PSPNet")
    return line.model_copy(update={"options": NARROW})


@pytest.mark.slow
def test_mmdeploys_pooling_is_caught(narrow: zoo.Line, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = cell.run(narrow, "static")
    assert (sound["status"], sound["sizes"]) == ("exact", [[96, 128]])
    records = FUNCTION_REWRITER._registry._rewrite_records
    theirs = [each for each in records[POOLING] if each["_object"].__module__ != adaptive_pool.__name__]
    assert len(theirs) == len(records[POOLING]) - 1
    monkeypatch.setitem(records, POOLING, theirs)
    refused = cell.run(narrow, "static")
    assert refused["status"] == "refused"
    assert "the rewrite 'adaptive_pool' ran 0 times" in refused["reason"]
    # Numbers alone show it, too.
    monkeypatch.setattr(rewrites, "assert_ran", lambda modules, wanted: None)
    wrong = cell.run(narrow, "static")
    assert wrong["status"] == "wrong"
    assert "'output': max |Δ|" in wrong["reason"]
    assert wrong["predictions"] > 1000 * sound["predictions"]


class Refusing:
    """A reference that takes one size."""

    config = SimpleNamespace(model={})

    def predict(self, images: Any) -> dict[str, Any]:
        if images.shape[3] != 64:
            raise InputError("the model refuses it")
        return {}


def test_a_model_that_takes_one_size_has_a_batch_alone() -> None:
    reference: Any = Refusing()
    assert compare.plan(reference, "dynamic", (64, 64)) == ("batch", [(64, 64)], "the model refuses it")
    assert compare.plan(reference, "static", (64, 64)) == ("static", [(64, 64)], "")
    with pytest.raises(UsageError, match="only 2 of the sizes"):
        compare.plan(reference, "dynamic", (64, 64), ((96, 64), (64, 96)))
    others = ((96, 64), (80, 64))
    assert compare.plan(reference, "dynamic", (64, 64), others) == ("dynamic", [(64, 64), *others], "")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_some_models_of_each_kind_are_as_the_list_says(tmp_path: Path) -> None:
    cells = run.cells(zoo.select(zoo.read(), SUBSET))
    assert len(cells) == 20
    assert run.differing(run.run(cells, run.Store(tmp_path), jobs=2)) == []
