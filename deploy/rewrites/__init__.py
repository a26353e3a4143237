"""Patched operations, one file each. Every rewrite computes exactly what the original does, in standard operators.

MMDeploy takes the first rewriter registered for a function and backend, and `default` loses to any specific backend:
ours are registered for `onnxruntime`, and the export compares afterwards how often they ran with how often the
unpatched model calls the originals (`needed`, `assert_ran`).

A file here has:
- functions registered with MMDeploy's `FUNCTION_REWRITER`, each of which calls `ran(__name__)`;
- `REPLACES`: the originals, as a tuple (MMDeploy swaps what it finds in lists and dictionaries): functions and methods
  written in Python;
- `AT_LEAST = True` where the original is passed over when there is nothing for it to do, as a graph cannot;
- `OPSET` where an operator of the rewrite came with that opset, later than the config's.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, FrameType, ModuleType
from typing import Any

from torch.overrides import TorchFunctionMode

from train.errors import VerificationError

_RAN: Counter[str] = Counter()


def ran(name: str) -> None:
    """Count one call of a rewrite."""
    _RAN[_stem(name)] += 1


def register(scope: str | None = None) -> list[ModuleType]:
    """Import every rewrite of torch and mmcv, and those in the folder of an OpenMMLab package ("mmseg")."""
    names = [f"{__name__}.{found.name}" for found in pkgutil.iter_modules(__path__) if not found.ispkg]
    if scope and importlib.util.find_spec(f"{__name__}.{scope}"):
        package = importlib.import_module(f"{__name__}.{scope}")
        names += [f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(name) for name in names]


def reset() -> None:
    """Count from zero."""
    _RAN.clear()


def needed(modules: Sequence[ModuleType], run: Callable[[], object]) -> dict[str, int]:
    """How often a run of the unpatched model calls what each rewrite replaces.

    A call that the run does not make, such as an auxiliary head's, is not counted; a functional one is.

    Args:
        modules: what `register` gave.
        run: runs the model once, on what will be traced.
    """
    with _Calls() as calls:
        run()
    return {_stem(module.__name__): sum(map(calls.of, module.REPLACES)) for module in modules}


def opset(modules: Sequence[ModuleType], wanted: Mapping[str, int], least: int) -> int:
    """The lowest opset, from `least` on, that has the operators of every rewrite the model needs (see `needed`)."""
    used = [module for module in modules if wanted[_stem(module.__name__)]]
    return max([least, *(getattr(module, "OPSET", least) for module in used)])


def assert_ran(modules: Sequence[ModuleType], wanted: Mapping[str, int]) -> None:
    """Compare how often each rewrite ran since `reset` with what `needed` found.

    Raises:
        VerificationError: a rewrite ran another number of times. Fewer: something else took its place, and the graph
            would be an approximation. More: tracing unrolled what the model does once.
    """
    for module in modules:
        name = _stem(module.__name__)
        times, count = _RAN[name], wanted[name]
        if times < count or (times > count and not getattr(module, "AT_LEAST", False)):
            raise VerificationError(
                f"the rewrite '{name}' ran {times} times, the model needs {count}: another one took its place, or "
                "the model was traced more than once; nothing was written"
            )


class _Calls(TorchFunctionMode):
    """Counts the functions that run inside it: torch's own as torch reports them, all others as Python does."""

    def __init__(self) -> None:
        super().__init__()
        self._torch: Counter[Callable[..., Any]] = Counter()
        self._python: Counter[CodeType] = Counter()

    def __enter__(self) -> "_Calls":
        sys.setprofile(self._entered)
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        sys.setprofile(None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._torch[func] += 1
        return func(*args, **(kwargs or {}))

    def _entered(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self._python[frame.f_code] += 1

    def of(self, original: Callable[..., Any]) -> int:
        """How often a function was called."""
        # Inside this mode, torch enters a function of its own twice.
        return self._torch[original] if _is_torch(original) else self._python[original.__code__]


def _is_torch(function: Callable[..., Any]) -> bool:
    return function.__module__.split(".")[0] == "torch"


def _stem(name: str) -> str:
    return name.rsplit(".", 1)[-1]
