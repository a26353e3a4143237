"""Patched operations, one file each. Every rewrite computes exactly what the original does, in standard operators.

MMDeploy takes the first rewriter registered for a function and backend, and `default` loses to any specific backend:
ours are registered for `onnxruntime`, and the export checks afterwards that they ran (`assert_ran`).

A file here has:
- a function registered with MMDeploy's `FUNCTION_REWRITER`, which calls `ran(__name__)`;
- `applies(model)`: how many calls of it an export of this model must make at the least.
"""

import importlib
import pkgutil
from collections import Counter
from collections.abc import Sequence
from types import ModuleType

from torch import nn

from train.errors import VerificationError

_RAN: Counter[str] = Counter()


def ran(name: str) -> None:
    """Count one call of a rewrite."""
    _RAN[name.rsplit(".", 1)[-1]] += 1


def register() -> list[ModuleType]:
    """Import every rewrite, which registers it with MMDeploy."""
    return [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]


def reset() -> None:
    """Count from zero."""
    _RAN.clear()


def assert_ran(modules: Sequence[ModuleType], model: nn.Module) -> None:
    """Compare how often each rewrite ran since `reset` with what the model needs.

    Raises:
        VerificationError: a rewrite that the model needs did not run; the graph would be an approximation.
    """
    for module in modules:
        name = module.__name__.rsplit(".", 1)[-1]
        needed = module.applies(model)
        if _RAN[name] < needed:
            raise VerificationError(
                f"the rewrite '{name}' ran {_RAN[name]} times, the model needs {needed}: another one took its place; nothing was written"
            )
