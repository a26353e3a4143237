"""What a graph is prepared for."""

from dataclasses import dataclass

from deploy.engines.capabilities import Capabilities


@dataclass(frozen=True)
class Target:
    """What rewritings look at, to change only what has to be changed.

    Attributes:
        capabilities: of the TensorRT that will read the graph.
        largest: the largest shape of the input, N×C×H×W; None where it is not known.
    """

    capabilities: Capabilities
    largest: tuple[int, ...] | None = None
