"""Experiments by name: MMEngine configs, read, overridden and checked before anything is built."""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from train import limits, tasks
from train.cli import nearest
from train.errors import InputError, UsageError
from train.experiment import CONFIGS, locate, names
from train.tasks import Palette

__all__ = [
    "CONFIGS",
    "activate",
    "bind",
    "check",
    "class_names",
    "complete",
    "datasets",
    "evaluators",
    "locate",
    "names",
    "read",
    "test_pipeline",
]


#: Keys that builders take out before they build: MMEngine's own, mmcv's of norm layers, and mmdet's DETR of its loss.
_BUILDERS_KEYS = ("type", "_scope_", "_delete_", "requires_grad", "bg_cls_weight")

#: Data sets that read whatever classes their files hold; mmdet's declares COCO's nevertheless.
_ANY_CLASSES = ("CustomDataset", "CocoDataset")


def read(path: Path, options: Sequence[str] = ()) -> Config:
    """Read a config and apply `key=value` overrides. Imports no OpenMMLab package, so it is quick.

    Args:
        path: a config file.
        options: overrides in MMEngine's `--cfg-options` form ("train_cfg.max_epochs=2").

    Raises:
        UsageError: a config that does not parse or lacks a model; overrides whose keys do not exist; numbers that are none.
    """
    try:
        config = Config.fromfile(str(path), import_custom_modules=False)
    except (SyntaxError, NameError, KeyError, TypeError, ValueError, OSError, ImportError) as error:
        raise UsageError(f"{path}: {type(error).__name__}: {error}") from None
    _inherit_model(config, path)
    overrides = _parse(options)
    problems = [problem for key in overrides if (problem := _misplaced(config, key))]
    if problems:
        raise UsageError("; ".join(problems))
    config.merge_from_dict(overrides)
    _share_overridden(config, overrides)
    if wrong := list(limits.problems(config._cfg_dict)):
        raise UsageError(f"{path}: {'; '.join(wrong)}")
    missing = [key for key in ("model", "default_scope", "test_dataloader") if key not in config]
    if missing:
        raise UsageError(
            f"{path}: no {' and no '.join(missing)}; expected an OpenMMLab config of mmpretrain, mmdet or mmseg"
        )
    return config


def activate(config: Config, path: Path) -> None:
    """Import the config's packages, make its scope the default and `check` it. To be called before building from it."""
    from mmengine.utils import import_modules_from_strings

    from train import compat

    compat.use(config.default_scope)
    custom = config.get("custom_imports")
    if custom:
        try:
            import_modules_from_strings(**custom)
        except ImportError as error:
            raise UsageError(f"{path}: custom_imports: {error}") from None
    check(config, path)


def check(config: Config, path: Path) -> None:
    """Refuse keys that nothing reads: they are typing errors that would otherwise pass in silence.

    A top-level name that is nearly one of the Runner's is a misspelling. Inside, every dict with a `type` is compared
    with the signature of the class it names, where that signature is closed (no `**kwargs`).

    Raises:
        UsageError: every unknown key with its place and the nearest known one.
    """
    from difflib import get_close_matches

    from mmengine.runner import Runner

    known = set(inspect.signature(Runner.__init__).parameters) - {"self"}
    problems = [
        f"'{key}' (did you mean '{close[0]}'?)"
        for key in config
        if key not in known and (close := get_close_matches(key, known, n=1, cutoff=0.88))
    ]
    for place, node in _typed(config._cfg_dict, ""):
        parameters = _parameters(node["type"])
        if parameters is None:
            continue
        for key in node:
            if key not in parameters and key not in _BUILDERS_KEYS:
                close = get_close_matches(key, parameters, n=1, cutoff=0.6)
                hint = f" (did you mean '{close[0]}'?)" if close else ""
                problems.append(f"'{place}{key}': {node['type']} takes no '{key}'{hint}")
    if problems:
        raise UsageError(f"{path}: unknown key {'; '.join(problems)}")


def test_pipeline(config: Config) -> list[dict[str, Any]]:
    """The transforms of the validation images, from the file's bytes to what the data preprocessor receives."""
    dataset = config.test_dataloader.dataset
    while "pipeline" not in dataset and "dataset" in dataset:
        dataset = dataset.dataset
    if "pipeline" not in dataset:
        raise UsageError("the test data set has no pipeline")
    return list(dataset.pipeline)


def datasets(config: Config) -> Iterator[tuple[str, ConfigDict]]:
    """Yield ("train" | "val" | "test", innermost data set) for each data loader, through wrappers."""
    for split in ("train", "val", "test"):
        loader = config.get(f"{split}_dataloader")
        if loader is None:
            continue
        dataset = loader.dataset
        while "dataset" in dataset:
            dataset = dataset.dataset
        yield split, dataset


def evaluators(config: Config, split: str) -> list[ConfigDict]:
    """The metrics of "val" or "test"; MMEngine takes one or several."""
    found = config.get(f"{split}_evaluator") or []
    return list(found) if isinstance(found, list | tuple) else [found]


def class_names(config: Config, prepared: Sequence[str]) -> tuple[str, ...]:
    """The names of a config's classes: those its data set class declares (ImageNet's), else those of the prepared data.

    Raises:
        UsageError: the data holds more classes than the config's data set has.
    """
    dataset = dict(datasets(config))["test"]
    if dataset.type in _ANY_CLASSES:
        return tuple(prepared)
    from mmengine.registry import DATASETS

    from train import compat

    compat.use(config.default_scope)
    with DATASETS.switch_scope_and_registry(None) as scoped:
        declared = (getattr(scoped.get(dataset.type), "METAINFO", None) or {}).get("classes", prepared)
    if len(prepared) > len(declared):
        raise UsageError(
            f"the data has {len(prepared)} classes, the config's data set '{dataset.type}' has {len(declared)}"
        )
    return tuple(declared)


def bind(config: Config, root: Path, classes: Sequence[str], palette: Palette | None = None) -> None:
    """Point a config at a prepared data set: its root, its class names, their colours and their number.

    Raises:
        InputError, UsageError: classes that the config's model cannot be trained on.
    """
    for _, dataset in datasets(config):
        dataset.data_root = str(root)
        dataset.metainfo = dict(classes=tuple(classes), **({"palette": palette} if palette else {}))
        # MMEngine replaces a sample that fails by a random other one, up to 1000 times, in silence.
        dataset.max_refetch = 0
    try:
        tasks.find(config.default_scope).bind(config, classes)
    except InputError as error:
        raise InputError(f"{root}: {error}") from None
    complete(config)


def complete(config: Config) -> None:
    """Make a config's `model` one that can be built by itself, on one device."""
    config.model.setdefault("data_preprocessor", config.get("data_preprocessor"))
    _unsynchronise(config.model)


def _unsynchronise(node: Any) -> None:
    """SyncBN on one device computes what BN does, and only BN trains on a CPU."""
    if isinstance(node, dict):
        if node.get("type") == "SyncBN":
            node["type"] = "BN"
        for value in node.values():
            _unsynchronise(value)
    elif isinstance(node, list | tuple):
        for value in node:
            _unsynchronise(value)


def _inherit_model(config: Config, path: Path) -> None:
    """Merge the config's `model` into that of the config which `model_of` names ("mmdet::yolox/yolox_tiny….py").

    mmdet ships some models only in whole training configs, which MMEngine does not merge with other bases.
    """
    shipped = config.pop("model_of", None)
    if shipped is None:
        return
    try:
        base = Config.fromstring(f"_base_ = [{shipped!r}]", ".py")
    except (OSError, ValueError, KeyError, TypeError, ImportError, AssertionError) as error:
        raise UsageError(f"{path}: model_of = {shipped!r}: {error}") from None
    merged = Config(dict(model=base.model))
    merged.merge_from_dict(dict(model=config.get("model", {})))
    config.model = merged.model


def _parse(options: Sequence[str]) -> dict[str, Any]:
    import argparse

    for option in options:
        if "=" not in option:
            raise UsageError(f"--cfg-options {option}: expected KEY=VALUE, as in train_cfg.max_epochs=2")
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    return dict(parser.parse_args(["--cfg-options", *options]).cfg_options) if options else {}


def _misplaced(config: Config, key: str) -> str | None:
    """What is wrong with an override's key, if anything: it must exist, or be one that the class named there takes."""
    node: Any = config._cfg_dict
    walked: list[str] = []
    for part in key.split("."):
        if isinstance(node, list | tuple):
            if not part.isdigit() or int(part) >= len(node):
                return f"--cfg-options {key}: '{'.'.join(walked)}' is a list of {len(node)}"
            node = node[int(part)]
        elif isinstance(node, dict):
            if part not in node:
                if "type" in node:
                    return None  # `check` compares it with the class's signature
                return str(nearest(part, list(node), f"config key in --cfg-options {key}:"))
            node = node[part]
        else:
            return f"--cfg-options {key}: '{'.'.join(walked)}' is {node!r}, not a dict"
        walked.append(part)
    return None


def _share_overridden(config: Config, overrides: dict[str, Any]) -> None:
    """`test_dataloader = val_dataloader` is a copy once read: what was overridden in one counts for the other."""
    for key, value in overrides.items():
        if key.startswith("val_dataloader."):
            twin = key.replace("val_", "test_", 1)
            if twin not in overrides:
                config.merge_from_dict({twin: value})


def _typed(node: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if isinstance(node.get("type"), str):
            yield place, node
        for key, value in node.items():
            yield from _typed(value, f"{place}{key}.")
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _typed(value, f"{place}{index}.")


def _parameters(type_name: str) -> set[str] | None:
    """The parameters of a registered class, or None where they cannot be told (unknown, or open by `**kwargs`)."""
    from mmengine import registry

    for name in ("MODELS", "DATASETS", "TRANSFORMS", "HOOKS", "METRICS", "DATA_SAMPLERS", "VISUALIZERS", "VISBACKENDS"):
        # The child registry of the default scope, as MMEngine's own builders look a name up.
        with getattr(registry, name).switch_scope_and_registry(None) as scoped:
            found = scoped.get(type_name)
        if found is None:
            continue
        # A data set passes its `**kwargs` on to the class it extends; elsewhere they may go anywhere.
        classes = inspect.getmro(found) if name == "DATASETS" and inspect.isclass(found) else (found,)
        known: set[str] = set()
        for each in classes:
            parameters = inspect.signature(each).parameters
            known |= set(parameters)
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                return known
        return None
    return None
