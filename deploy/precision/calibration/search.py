"""Which layers to leave in float32: as few as keep the accuracy, those first that lose the most."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from deploy.precision import Task
from deploy.precision.calibration import layers, ranges
from deploy.precision.calibration.layers import Layer, Part
from slipway_runtime.sessions import Feeds
from train.cli import say
from train.errors import VerificationError

#: How many images a layer's cost is measured on.
COST_IMAGES = 4
#: No more than this share of the layers is left in float32: the rest would no longer be worth it.
LIMIT = 0.75

#: What a layer's cost is, for reports.
COST = "signal-to-noise ratio in dB where the layers end, this layer alone changed; the lower, the worse"
#: A graph, or a part of one, with the nodes of these names in the other precision.
Convert = Callable[[ModelProto, Collection[str]], ModelProto]


@dataclass(frozen=True)
class Found:
    """A graph for which the gate holds.

    Attributes:
        graph: whole.
        scores: what it reaches, by metric, in percent.
        floats: the layers left in float32.
        cost: of each layer, by name; empty where nobody asked.
    """

    graph: ModelProto
    scores: dict[str, float]
    floats: tuple[Layer, ...]
    cost: dict[str, float]

    def described(self, part: Part, precision: str) -> list[dict[str, Any]]:
        """Every layer, for reports."""
        return [
            {
                "name": layer.name,
                "op": layer.op,
                "precision": "float32" if layer in self.floats else precision,
                "sqnr_db": round(self.cost[layer.name], 2) if self.cost else None,
            }
            for layer in part.layers
        ]


def until_it_holds(
    task: Task,
    part: Part,
    convert: Convert,
    *,
    judged: Convert | None = None,
    first: dict[str, float] | None = None,
    explain: bool = False,
) -> Found:
    """Change as many layers as the gate allows.

    Args:
        task: what is converted.
        part: the layers of it.
        convert: changes nodes.
        judged: gives the graph that is scored in place of the changed one.
        first: what the graph reaches with no layer left in float32, where that is known.
        explain: measure what each layer costs though all of them can be changed.

    Raises:
        VerificationError: the gate does not hold with `LIMIT` of the layers in float32.
    """
    cost: dict[str, float] = {}
    tried: dict[int, tuple[float, Found]] = {}

    def holds(floats: Sequence[Layer]) -> bool:
        left = {name for layer in floats for name in layer.nodes}
        graph = convert(task.model, part.nodes - left)
        scored = judged(task.model, part.nodes - left) if judged else graph
        scores = first if first and not floats else task.scores.of(scored)
        share = task.scores.share(scores)
        tried[len(floats)] = (share, Found(graph, scores, tuple(floats), cost))
        say(f"  {len(floats)} of {len(part.layers)} layers in float32: {share:.2f} % of float32's score")
        return share >= task.gate

    enough = holds(())
    if not enough or explain:
        say(f"  what each of {len(part.layers)} layers costs")
        cost |= costs(task.model, part, task.few_feeds(), judged or convert)
    chosen = () if enough else fewest(sorted(part.layers, key=lambda layer: cost[layer.name]), holds)
    if chosen is None:
        count = max(tried, key=lambda number: tried[number][0])
        raise VerificationError(
            f"{tried[count][0]:.2f} % of float32's score with {count} of {len(part.layers)} layers in float32, at least "
            f"{task.gate:g} % is asked for; nothing was written: try more or other images (--calibration-images, "
            "--calibration), or a lower --gate"
        )
    return tried[len(chosen)][1]


def costs(model: ModelProto, part: Part, feeds: Sequence[Feeds], convert: Convert) -> dict[str, float]:
    """What each layer costs: the signal-to-noise ratio, in dB, that it leaves when it alone changes precision.

    Signal are the tensors that leave the part, computed in float32; noise is what the change adds. Of several tensors
    the worst counts. What comes into the part from outside, such as regions cut out of maps, is float32's in both.

    Returns:
        By the layer's name. The lower, the worse.
    """
    trunk = layers.cut(model, part.nodes)
    probe = ranges.Probe(model, [value.name for value in trunk.graph.input])
    inputs = [dict(probe.read(feed)) for feed in feeds]
    wanted = _run(trunk, inputs)
    return {layer.name: _ratio(wanted, _run(convert(trunk, layer.nodes), inputs)) for layer in part.layers}


def fewest(order: Sequence[Layer], holds: Callable[[Sequence[Layer]], bool]) -> Sequence[Layer] | None:
    """The shortest beginning of `order` for which the gate holds, or None within `LIMIT`; none of it is known not to do.

    One, two, four, … until it holds, then halving back.
    """
    most = int(len(order) * LIMIT)
    low, high = 0, min(1, most)
    while high and not holds(order[:high]):
        if high == most:
            return None
        low, high = high, min(most, 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(order[:middle]) else (middle, high)
    return order[:high] or None


def _run(model: ModelProto, inputs: Sequence[Feeds]) -> list[list[NDArray[np.float32]]]:
    opened = ranges.session(model)
    return [opened.run(None, dict(feed)) for feed in inputs]


def _ratio(wanted: Sequence[Sequence[NDArray]], found: Sequence[Sequence[NDArray]]) -> float:
    """The signal-to-noise ratio in dB of the worst output, over all images."""
    worst = np.inf
    for one, other in zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True):
        signal = sum(float((a.astype(np.float64) ** 2).sum()) for a in one)
        noise = sum(float(((a - b).astype(np.float64) ** 2).sum()) for a, b in zip(one, other, strict=True))
        if signal and noise:
            worst = min(worst, 10 * np.log10(signal / noise)) if np.isfinite(noise) else -np.inf
    # No noise at all: more than float32 itself could show.
    return float(np.clip(worst, -300, 300))
