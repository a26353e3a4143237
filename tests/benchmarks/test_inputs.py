"""What is timed: the same images for every process, different ones in a batch, tensors of one shape."""

from pathlib import Path

import pytest
from colour_bench import write_segmenter

from benchmarks.inputs import choose
from slipway_runtime import Model, load
from slipway_runtime.manifest import Window
from train import tasks
from train.errors import InputError
from train.experiment import Experiment


def _model(experiment: Experiment) -> tuple[Model, list[Path]]:
    model = load(experiment.bundle)
    samples = tasks.named(model.manifest.task).samples(Path(experiment.read().data["root"]), "val")
    return model, [path for path, _ in samples]


def test_batches_are_different_images_and_the_same_every_time(colours: Experiment) -> None:
    model, paths = _model(colours)
    inputs = choose(model.manifest, paths, count=3, batch=3, seed=0)
    assert [len(batch) for batch in inputs.encoded] == [3, 3, 3]
    assert len({image for batch in inputs.encoded for image in batch}) == len(paths) == 9
    assert inputs.image_sizes == inputs.tensor_sizes == [(8, 8)]
    prepared = [[model.preprocess(image).array for image in batch] for batch in inputs.encoded]
    assert str(prepared) == str(inputs.tensors), "every boundary has the same images"
    assert inputs.encoded_paths == inputs.tensor_paths
    assert [[path.read_bytes() for path in batch] for batch in inputs.encoded_paths] == inputs.encoded
    assert inputs.encoded == choose(model.manifest, paths, count=3, batch=3, seed=0).encoded
    assert inputs.encoded != choose(model.manifest, paths, count=3, batch=3, seed=1).encoded


def test_fewer_images_than_asked_for_come_round_again(colours: Experiment) -> None:
    model, paths = _model(colours)
    inputs = choose(model.manifest, paths, count=4, batch=4, seed=0)
    assert [len(batch) for batch in (*inputs.encoded, *inputs.tensors)] == [4] * 8
    assert len({array.tobytes() for array in inputs.tensors[0]}) == 4, "in one batch they are different"
    with pytest.raises(InputError, match="validation set is empty"):
        choose(model.manifest, [], count=1, batch=1, seed=0)


def test_images_of_several_sizes(pixels: Experiment) -> None:
    model, paths = _model(pixels)
    one = choose(model.manifest, paths, count=8, batch=1, seed=0)
    assert one.image_sizes == one.tensor_sizes == [(7, 9), (9, 9), (10, 9), (8, 12), (9, 12), (12, 9)]
    three = choose(model.manifest, paths, count=2, batch=3, seed=0)
    assert [len(batch) for batch in three.encoded] == [3, 3]
    assert len(three.image_sizes) > 1
    assert three.tensor_sizes == [(12, 9)], "the one size that three images have"
    assert [{array.shape for array in batch} for batch in three.tensors] == [{(3, 12, 9)}] * 2
    assert [[model.preprocess(path).array.tobytes() for path in batch] for batch in three.tensor_paths] == [
        [array.tobytes() for array in batch] for batch in three.tensors
    ]
    four = choose(model.manifest, paths, count=2, batch=4, seed=0)
    assert (four.tensors, four.tensor_sizes) == ([], [])
    assert [len(batch) for batch in four.encoded] == [4, 4]


def test_of_a_sliding_model_tensors_are_windows(pixels: Experiment) -> None:
    write_segmenter(pixels, window=Window(height=6, width=6, stride_height=4, stride_width=4))
    model, paths = _model(pixels)
    inputs = choose(model.manifest, paths, count=2, batch=4, seed=0)
    assert [len(batch) for batch in inputs.tensors] == [4, 4]
    assert inputs.tensor_sizes == [(6, 6)]
    assert len(inputs.image_sizes) > 1
