"""How well a graph does on the search images, next to the float graph: what the accuracy gate looks at."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

import slipway_runtime
from deploy import metrics
from deploy.precision.calibration import truth
from deploy.precision.calibration.images import SEARCH, Images
from deploy.precision.calibration.ranges import threads
from slipway_runtime.errors import VerificationError as NotFinite
from slipway_runtime.sessions.onnxruntime import OnnxRuntimeSession
from train.errors import InputError

#: Metrics that count beside a task's headline: masks may suffer where boxes do not.
_ALSO = ("segm_map_percent",)


class Scores:
    """The task's metric over the search images.

    Attributes:
        wanted: the float graph's values, by metric, in percent.
    """

    def __init__(self, bundle: Path, images: Images) -> None:
        """Measure the float graph.

        Raises:
            InputError: it scores 0, which no share can be held against; no object or label in the search images, or, without
            labels, none that it is sure of.
        """
        self._bundle, self._images = bundle, images
        self._float = slipway_runtime.load(bundle, threads=threads())
        self._scratch = TemporaryDirectory()
        truths = ((path, self._truth(path, known)) for path, known in images.search)
        self._samples = list(islice(((path, truth) for path, truth in truths if truth is not None), SEARCH))
        if not self._samples:
            raise InputError(
                f"{images.source}: the float model is sure of none of {len(images.search)} images; "
                "give it images of what it knows (--calibration)"
            )
        self.wanted = self._measure(self._float)
        for name, value in self.wanted.items():
            if value <= 0:
                raise InputError(
                    f"{bundle}: {name} is 0 on {len(images.search)} images of {images.source}; "
                    "a model that finds nothing gives no gate to hold another precision against: train it longer"
                )

    @property
    def images(self) -> int:
        """How many images are counted."""
        return len(self._samples)

    def of(self, graph: onnx.ModelProto) -> dict[str, float]:
        """A graph's values, by metric, in percent; 0 where its outputs are no finite numbers."""
        with TemporaryDirectory() as scratch:
            path = Path(scratch) / "model.onnx"
            onnx.save(graph, path)
            model = slipway_runtime.load(self._bundle, session=OnnxRuntimeSession(path, threads=threads()))
            try:
                return self._measure(model)
            except NotFinite:
                return dict.fromkeys(self.wanted, 0.0)

    def share(self, found: Mapping[str, float]) -> float:
        """The least share of the float graph's values, in percent; above 100 where the other graph does better."""
        return min(100 * found[name] / wanted for name, wanted in self.wanted.items())

    def _truth(self, path: Path, known: object) -> object:
        return known if self._images.labelled else truth.of(self._float, path, Path(self._scratch.name))

    def _measure(self, model: slipway_runtime.Model) -> dict[str, float]:
        metric = metrics.for_task(model.manifest)
        for path, target in self._samples:
            metric.update(model(path), [target])
        values = metric.compute()
        headline = next(iter(values))
        return {name: values[name] for name in (headline, *_ALSO) if name in values}
