import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import slipway_runtime
from slipway_runtime import manifest as m
from slipway_runtime.errors import BundleError, ImageError, SessionError, UsageError, VerificationError
from slipway_runtime.image import decode
from slipway_runtime.sessions import Bound, Feeds
from slipway_runtime.tasks.classification import Result

Colours = dict[str, Path]
Shape = tuple[int | str, ...]
BundleMaker = Callable[..., Path]


def best(results: list[slipway_runtime.Result]) -> list[str]:
    assert all(isinstance(result, Result) for result in results)
    return [result.names[0] for result in results]  # type: ignore[attr-defined]


def scores(results: list[slipway_runtime.Result]) -> NDArray:
    return np.stack([result.scores for result in results])  # type: ignore[attr-defined]


def test_every_kind_of_image_gives_the_same_result(bundle: Path, colours: Colours) -> None:
    model = slipway_runtime.load(bundle)
    path = colours["red"]
    array = decode(path)
    expected = scores(model(path))
    sources: list[Any] = [str(path), path.read_bytes(), array, [path], (array,), iter([path]), array[None]]
    for image in sources:
        results = model(image)
        assert best(results) == ["red"]
        np.testing.assert_array_equal(scores(results), expected)


def test_a_result_holds_the_best_classes_in_order(bundle: Path, colours: Colours) -> None:
    (result,) = slipway_runtime.load(str(bundle))(colours["green"])
    assert isinstance(result, Result)
    assert result.labels.dtype == np.int64
    assert result.scores.dtype == np.float32
    assert result.labels.tolist() == [1, 3]
    assert result.names == ("green", "grey")
    assert 1 > result.scores[0] > result.scores[1] > 0
    assert json.loads(json.dumps(result.to_dict())) == {
        "task": "classification",
        "top": [
            {"label": 1, "name": "green", "score": float(result.scores[0])},
            {"label": 3, "name": "grey", "score": float(result.scores[1])},
        ],
    }
    assert result.line() == f"green ({result.scores[0]:.3f})  grey ({result.scores[1]:.3f})"


def test_of_equal_scores_the_lower_label_comes_first(make_bundle: BundleMaker, colours: Colours) -> None:
    weight = np.array([[1, 5, 1, 5]] * 3, np.float32)
    bundle = make_bundle(weight=weight, postprocess=m.ClassificationOutput(topk=9))
    (result,) = slipway_runtime.load(bundle)(colours["grey"])
    assert isinstance(result, Result)
    assert result.labels.tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 4, 100])
def test_batches_change_nothing(bundle: Path, colours: Colours, batch_size: int | None) -> None:
    model = slipway_runtime.load(bundle)
    results = model(colours.values(), batch_size)
    assert best(results) == list(colours)
    np.testing.assert_allclose(scores(results), scores([model(path)[0] for path in colours.values()]), rtol=1e-6)


def test_no_images_give_no_results(bundle: Path) -> None:
    assert slipway_runtime.load(bundle)([]) == []


def test_images_of_different_sizes_share_no_batch(make_bundle: BundleMaker, colours: Colours) -> None:
    bundle = make_bundle(preprocess=(m.Decode(), m.Normalize(mean=(127.5,), std=(127.5,), reverse_channels=True)))
    model = slipway_runtime.load(bundle)
    images = [np.full((size, 5, 3), (255, 0, 0), np.uint8) for size in (4, 4, 6, 4)]
    assert best(model(images, batch_size=4)) == ["blue"] * 4
    with pytest.raises(UsageError, match="got 2 images of shapes"):
        model.feeds([model.preprocess(image).array for image in images[1:3]])


def test_a_fixed_batch_is_filled_up(make_bundle: BundleMaker, colours: Colours) -> None:
    model = slipway_runtime.load(make_bundle(shape=(3, 3, 16, 16)))
    assert model.batch_size() == 3
    results = model(colours.values())
    assert best(results) == list(colours)
    assert model.feeds([model.preprocess(colours["red"]).array])["image"].shape == (3, 3, 16, 16)
    with pytest.raises(UsageError, match="this graph takes 3"):
        model(colours.values(), batch_size=1)
    with pytest.raises(UsageError, match="got 4 images"):
        model.feeds([model.preprocess(path).array for path in colours.values()])


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_has_an_image_at_least(bundle: Path, batch_size: int) -> None:
    with pytest.raises(UsageError, match="this graph takes 1 or more"):
        slipway_runtime.load(bundle)([], batch_size)


def test_the_stages_one_by_one_are_the_whole(bundle: Path, colours: Colours) -> None:
    model = slipway_runtime.load(bundle)
    images = [model.decode(path) for path in colours.values()]
    prepared = [model.preprocess(image) for image in images]
    assert [(one.original, one.content) for one in prepared] == [((9, 7), (16, 16))] * 4
    feeds = model.feeds([array for one in prepared for array in model.inputs(one)])
    assert feeds["image"].shape == (4, 3, 16, 16)
    assert feeds["image"].flags.c_contiguous
    expected = scores(model(images, batch_size=4))
    np.testing.assert_array_equal(scores(model.predict(prepared, 4)), expected)
    np.testing.assert_array_equal(model.session.run(feeds)["scores"].max(axis=1), expected[:, 0])


def test_a_bare_graph_carries_its_manifest(bundle: Path, colours: Colours, tmp_path: Path) -> None:
    whole = slipway_runtime.load(bundle)
    bare = slipway_runtime.load((bundle / m.GRAPH_NAME).rename(tmp_path / "alone.onnx"))
    assert bare.manifest == whole.manifest.model_copy(update={"files": {}})
    np.testing.assert_array_equal(scores(bare(colours.values())), scores(whole(colours.values())))


def test_a_graph_without_a_manifest_is_refused(bundle: Path) -> None:
    graph = bundle / m.GRAPH_NAME
    graph.write_bytes(graph.read_bytes().replace(m.METADATA_KEY.encode(), b"another.manifest"))
    with pytest.raises(BundleError, match=r"no 'slipway\.manifest' in its metadata"):
        slipway_runtime.load(graph)


def test_an_altered_graph_is_refused_unless_told_otherwise(bundle: Path) -> None:
    slipway_runtime.load(bundle)
    graph = bundle / m.GRAPH_NAME
    content = graph.read_bytes()
    graph.write_bytes(content.replace(b"tiny", b"tyny"))
    with pytest.raises(BundleError, match="content was altered"):
        slipway_runtime.load(bundle)
    slipway_runtime.load(bundle, verify=False)


def test_external_data_is_hashed_too(bundle: Path) -> None:
    raw = json.loads((bundle / m.FILE_NAME).read_text())
    raw["files"]["model.onnx.data"] = "0" * 64
    (bundle / m.FILE_NAME).write_text(json.dumps(raw))
    (bundle / "model.onnx.data").write_bytes(b"weights")
    with pytest.raises(BundleError, match=r"model\.onnx\.data: content was altered"):
        slipway_runtime.load(bundle)


def test_a_manifest_that_names_no_graph_is_refused(bundle: Path) -> None:
    raw = json.loads((bundle / m.FILE_NAME).read_text())
    raw["files"] = {"parity.json": "0" * 64}
    (bundle / m.FILE_NAME).write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=r"names no 'model\.onnx'"):
        slipway_runtime.load(bundle)


class Doubled(slipway_runtime.Session):
    """A session that stands for the benchmark's PyTorch one: the same contract, another engine."""

    name = "doubled"
    device = "cpu"

    def __init__(self, inner: slipway_runtime.Session) -> None:
        super().__init__(inner.inputs, inner.outputs)
        self.inner = inner

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        return {name: output * 2 for name, output in self.inner.run(feeds).items()}

    def _bind(self, feeds: Feeds) -> Bound:
        return self.inner.bind(feeds)


class Shaped(Doubled):
    """A session that says its shapes are others."""

    def __init__(self, inner: slipway_runtime.Session, inputs: Shape, outputs: Shape) -> None:
        super().__init__(inner)
        self.inputs = (m.TensorSpec(name="image", dtype="float32", shape=inputs),)
        self.outputs = (m.TensorSpec(name="scores", dtype="float32", shape=outputs),)


FLEXIBLE = ("batch", 3, "height", "width")


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ((1, 3, "height", "width"), ("batch", 4)),
        (("batch", 3, 16, 16), ("batch", 4)),
        (("batch", 1, "height", "width"), ("batch", 4)),
        (FLEXIBLE, ("batch", 5)),
        (FLEXIBLE, ("batch", 4, 1)),
    ],
)
def test_a_graph_that_is_not_the_manifests_is_refused(bundle: Path, inputs: Shape, outputs: Shape) -> None:
    model = slipway_runtime.load(bundle)
    with pytest.raises(BundleError, match=r"the manifest's (in|out)puts are"):
        slipway_runtime.Model(model.manifest, Shaped(model.session, inputs, outputs))


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(("n", 3, "h", "w"), ("n", 4)), (FLEXIBLE, (1, 4)), (FLEXIBLE, ("batch", "classes"))],
)
def test_symbols_may_have_other_names_and_outputs_be_inferred(bundle: Path, inputs: Shape, outputs: Shape) -> None:
    model = slipway_runtime.load(bundle)
    slipway_runtime.Model(model.manifest, Shaped(model.session, inputs, outputs))


@pytest.mark.parametrize("file", ["", m.GRAPH_NAME])
def test_a_session_can_be_given(bundle: Path, colours: Colours, file: str) -> None:
    plain = slipway_runtime.load(bundle)
    given = slipway_runtime.load(bundle / file, session=Doubled(plain.session))
    np.testing.assert_array_equal(scores(given(colours["red"])), 2 * scores(plain(colours["red"])))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_refused(make_bundle: BundleMaker, colours: Colours, value: float) -> None:
    weight = np.ones((3, 4), np.float32)
    weight[0, 2] = value
    model = slipway_runtime.load(make_bundle(weight=weight))
    with pytest.raises(VerificationError, match="output 'scores' has values that are no finite numbers") as error:
        model(colours["red"])
    assert error.value.exit_code == 5


class Fading(Doubled):
    """A session whose last row is no number."""

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        outputs = self.inner.run(feeds)
        outputs["scores"][-1] = np.nan
        return outputs


def test_what_fills_a_fixed_batch_up_is_not_looked_at(make_bundle: BundleMaker, colours: Colours) -> None:
    model = slipway_runtime.load(make_bundle(shape=(2, 3, 16, 16)))
    fading = slipway_runtime.Model(model.manifest, Fading(model.session))
    assert best(fading(colours["grey"])) == ["grey"]
    with pytest.raises(VerificationError):
        fading([colours["grey"], colours["red"]])


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("float32", (0.1, -70000.0, 2.5), (np.float32(0.1), -70000.0, 2.5)),
        ("float16", (2049.0, 2051.0, -70000.0), (2048.0, 2052.0, -np.inf)),
        ("uint8", (0.5, 1.5, 2.5, 254.5, 255.5, 1e9, -0.5, -1e9), (0, 2, 2, 254, 255, 255, 0, 0)),
        ("int8", (0.5, -1.5, 126.5, 127.5, 1e9, -128.5, -1e9), (0, -2, 126, 127, 127, -128, -128)),
    ],
)
def test_images_are_rounded_to_the_graphs_data_type(
    bundle: Path, dtype: str, values: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    model = slipway_runtime.load(bundle)
    spec = model.manifest.inputs[0].model_copy(update={"dtype": dtype})
    session = Doubled(model.session)
    session.inputs = (spec,)
    typed = slipway_runtime.Model(model.manifest.model_copy(update={"inputs": (spec,)}), session)
    fed = typed.feeds([np.array(values, np.float32).reshape(1, 1, -1)])["image"]
    assert fed.dtype == dtype
    assert fed.ravel().tolist() == np.array(expected, dtype).tolist()


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool"])
def test_images_are_never_of_other_data_types(bundle: Path, colours: Colours, dtype: str) -> None:
    model = slipway_runtime.load(bundle)
    spec = model.manifest.inputs[0].model_copy(update={"dtype": dtype})
    session = Doubled(model.session)
    session.inputs = (spec,)
    typed = slipway_runtime.Model(model.manifest.model_copy(update={"inputs": (spec,)}), session)
    with pytest.raises(SessionError, match=f"input 'image' is float32, expected {dtype}"):
        typed(colours["red"])


def test_errors_name_the_image(bundle: Path, tmp_path: Path) -> None:
    model = slipway_runtime.load(bundle)
    with pytest.raises(ImageError, match=r"missing\.png"):
        model([tmp_path / "missing.png"])
    with pytest.raises(BundleError, match="nowhere"):
        slipway_runtime.load(tmp_path / "nowhere")
    with pytest.raises(SessionError, match="CUDAExecutionProvider"):
        slipway_runtime.load(bundle, device="cuda")


def test_a_drawing_is_a_marked_copy(bundle: Path) -> None:
    model = slipway_runtime.load(bundle)
    image = np.full((120, 160, 3), (0, 0, 200), np.uint8)
    before = image.copy()
    drawn = model(image)[0].draw(image)
    np.testing.assert_array_equal(image, before)
    assert drawn.shape == image.shape
    changed = np.argwhere((drawn != image).any(axis=2))
    assert len(changed) > 50
    assert changed.max(axis=0)[0] < 40  # in the upper part
    assert model(np.zeros((1, 1, 3), np.uint8))[0].draw(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)
