"""Checkpoints: read without running anything in them, written whole or not at all."""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.config import Config
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize

from train.cli import say
from train.errors import InputError
from train.files import write_atomic

#: Of files that hold tensors and nothing else (https://huggingface.co/docs/safetensors).
SAFE = ".safetensors"


def _statistics_method(owner: object, name: str) -> Any:
    """Stand for the `getattr(HistoryBuffer, "mean")` in MMEngine's pickled logs; any other `getattr` is refused."""
    if owner is not HistoryBuffer or not isinstance(name, str) or name.startswith("_"):
        raise pickle.UnpicklingError(f"unsupported GLOBAL builtins.getattr of {owner!r}")
    return HistoryBuffer.__dict__[name]


#: What MMEngine itself stores in a checkpoint, besides tensors and plain Python values.
_MMENGINE_CLASSES = (
    HistoryBuffer,
    (_statistics_method, "builtins.getattr"),
    np.ndarray,
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
    # numpy pickles arrays and scalars through these two functions; both only build values.
    multiarray._reconstruct,
    multiarray.scalar,
)


class AtomicBackend(LocalBackend):
    """MMEngine's local files, with checkpoints that survive a crash at any moment.

    MMEngine's `CheckpointHook` removes the old checkpoint before it writes the new one in place. Here a removal waits
    until the next file is whole, and a file appears under its name only when it is on the disk.
    """

    # CheckpointHook and Runner each make a backend of their own, so what waits is kept with the class.
    _waiting: ClassVar[list[Path]] = []

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file atomically, then remove what was waiting for it."""
        write_atomic(Path(filepath), obj)
        while self._waiting:
            old = self._waiting.pop()
            if old != Path(filepath):
                old.unlink(missing_ok=True)

    def remove(self, filepath: str | Path) -> None:
        """Remove a file once the next `put` has succeeded."""
        self._waiting.append(Path(filepath))


class PlainStateHook(Hook):
    """Keep functions out of a checkpoint, so that it resumes with `weights_only=True`.

    Some schedulers (OneCycle) hold their annealing function in their state. A scheduler keeps what a loaded state lacks,
    and makes that function itself.
    """

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Drop what is callable from the schedulers' states."""
        states = checkpoint.get("param_schedulers", [])
        for group in states.values() if isinstance(states, dict) else [states]:
            for state in group:
                for key in [key for key, value in state.items() if callable(value)]:
                    del state[key]


def harden(config: Config) -> None:
    """Make a config's checkpoints crash-safe, one old one kept until the new one is whole, and the best one kept."""
    hooks = config.setdefault("default_hooks", {})
    settings = hooks.setdefault("checkpoint", dict(type="CheckpointHook", interval=1, max_keep_ckpts=1))
    settings.setdefault("save_best", "auto")
    settings["backend_args"] = dict(backend="atomic")


def register() -> None:
    """Make the `atomic` file backend known to MMEngine and allow MMEngine's own classes in checkpoints."""
    register_backend("atomic", AtomicBackend, force=True)
    torch.serialization.add_safe_globals(list(_MMENGINE_CLASSES))


def read(path: Path, *, trust: bool = False) -> dict[str, Any]:
    """Load a checkpoint on the CPU.

    Args:
        path: a `.pth` file: a state dict, or a dict with the key `state_dict`; or a `.safetensors` file.
        trust: run whatever code the file holds (`--trust-checkpoint`). Only for files you made yourself.

    Returns:
        A dict that has `state_dict`.

    Raises:
        InputError: no such file, truncated, not a checkpoint, or it holds objects other than tensors and plain values.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    try:
        if path.suffix == SAFE:
            return {"state_dict": load_file(path)}
        content = torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: refused: {_refusal(str(error))}") from None
    except (ImportError, AttributeError) as error:  # trusted
        raise InputError(
            f"{path}: it holds objects of code that is not here ({error}); ask its authors for the weights alone, a state dict"
        ) from None
    except (EOFError, RuntimeError, zipfile.BadZipFile, KeyError, ValueError, OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: truncated or not a checkpoint ({reason}); copy or download it again") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: holds {type(content).__name__}, expected a state dict")
    if "state_dict" not in content:
        content = {"state_dict": content}
    state = content["state_dict"]
    strangers = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if strangers:
        raise InputError(f"{path}: '{strangers[0]}' in the state dict is no tensor; expected a PyTorch state dict")
    return content


def load_into(model: torch.nn.Module, path: Path, *, trust: bool = False) -> None:
    """Load a checkpoint into a model, every key of both matched.

    Raises:
        InputError: see `fitting`.
    """
    model.load_state_dict(fitting(model, path, trust=trust))


def fitting(model: torch.nn.Module, path: Path, *, trust: bool = False) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint that fits a model, every key of both matched.

    Raises:
        InputError: as `read`; or keys that are missing, unexpected or of another shape (all counted, the first named;
            the others are listed before); or weights that are not finite.
    """
    state = read(path, trust=trust)["state_dict"]
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    unexpected = sorted(set(state) - set(own))
    shapes = sorted(key for key in set(own) & set(state) if own[key].shape != state[key].shape)
    problems = []
    for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
        if len(keys) > 3:
            say(f"{what}: {' '.join(keys)}")
        if keys:
            problems.append(f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})")
    if problems:
        raise InputError(
            f"{path}: does not fit the model: {'; '.join(problems)}; check that the config is this checkpoint's"
        )
    _require_finite(path, state)
    return dict(state)


def load_matching(model: torch.nn.Module, path: Path, *, trust: bool = False) -> list[str]:
    """Load what fits by name and shape from a checkpoint to fine-tune; the rest, a new head, stays as it is.

    Returns:
        The names of the model's tensors that stay as they are.

    Raises:
        InputError: as `read`; or fewer than half of the tensors outside the head fit: a checkpoint of another model; or
            weights that are not finite.
    """
    state = read(path, trust=trust)["state_dict"]
    own = model.state_dict()
    taken = {key: state[key] for key, value in own.items() if key in state and state[key].shape == value.shape}
    body = [key for key in own if "head." not in key]
    found = sum(key in taken for key in body)
    if found < len(body) / 2:
        raise InputError(
            f"{path}: only {found} of {len(body)} tensors outside the head fit this model; it is a checkpoint of another one"
        )
    _require_finite(path, taken)
    model.load_state_dict(taken, strict=False)
    return [key for key in own if key not in taken]


def save(model: torch.nn.Module, path: Path, meta: dict[str, Any]) -> None:
    """Write a model's weights with plain metadata, atomically."""
    buffer = io.BytesIO()
    torch.save({"meta": meta, "state_dict": {key: value.cpu() for key, value in model.state_dict().items()}}, buffer)
    write_atomic(path, buffer.getvalue())


def save_tensors(state: Mapping[str, torch.Tensor], path: Path) -> int:
    """Write a state dict as a safetensors file, atomically; the number of tensors, each with memory of its own."""
    write_atomic(path, serialize({key: value.detach().clone().contiguous() for key, value in state.items()}))
    return len(state)


def latest(folder: Path) -> Path | None:
    """The newest checkpoint that MMEngine can resume from in a work folder (`epoch_N.pth`, `iter_N.pth`), if any."""
    found = [path for pattern in ("epoch_*.pth", "iter_*.pth") for path in folder.glob(pattern)]
    return max(found, key=os.path.getmtime, default=None)


def _require_finite(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    bad = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise InputError(
            f"{path}: weights are not finite: {', '.join(bad[:3])}; training diverged, use an earlier checkpoint"
        )


def _refusal(message: str) -> str:
    """What an unsafe or foreign checkpoint holds, from torch's own explanation."""
    named = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", message)
    if named is None:
        return "not a PyTorch checkpoint, or a pickle that cannot be read safely; copy or download it again"
    return (
        f"it holds '{named.group(1)}', which could run code; if you made the file yourself, use --trust-checkpoint; "
        "else `make convert CHECKPOINT=… OUT=…` takes its weights in a container without a network"
    )
