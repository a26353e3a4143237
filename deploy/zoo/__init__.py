"""The model zoo: what exports exactly, tried on every model of a list, `configs/zoo.yaml`."""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from train.cli import nearest
from train.errors import UsageError

LIST = Path(__file__).parents[2] / "configs" / "zoo.yaml"
#: How a graph's shapes are: one size, or any number of images of any size.
Shape: TypeAlias = Literal["static", "dynamic"]
SHAPES: tuple[Shape, ...] = ("static", "dynamic")


def _status(text: str) -> str:
    status, _, reason = text.partition(": ")
    if status not in ("exact", "batch", "refused") or bool(reason.strip()) == (status == "exact"):
        raise ValueError("expected 'exact', 'batch: REASON' or 'refused: REASON'")
    return text


Pixels = Annotated[int, Field(ge=16, le=2048)]
Expected = Annotated[str, AfterValidator(_status)]


class Line(BaseModel):
    """One model of the list.

    Attributes:
        model: its name.
        package: the OpenMMLab package that it comes with.
        config: a path below `.mim/configs` of that package's wheel.
        size: height and width that graphs are traced at.
        sizes: others that a dynamic graph is tried at, instead of those that follow from `size`.
        static: what is expected of a graph of one size: "exact" or "refused: REASON".
        dynamic: of one for every size; "batch: REASON" where the model itself takes one size only.
        options: of the config, as MMEngine's `--cfg-options`.
        statistics: whether batch norms get the statistics of images; a few networks are chaotic then.
        note: what a reader of the table should know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str
    package: Literal["mmpretrain", "mmdet", "mmseg"]
    config: str
    size: tuple[Pixels, Pixels]
    sizes: tuple[tuple[Pixels, Pixels], ...] = ()
    static: Expected
    dynamic: Expected
    options: tuple[str, ...] = ()
    statistics: bool = True
    note: str = ""

    def __str__(self) -> str:
        return f"{self.package} {self.model}"

    def expected(self, shape: Shape) -> str:
        """ "exact", "batch" or "refused"."""
        return (self.static if shape == "static" else self.dynamic).partition(": ")[0]


def read(path: Path = LIST) -> tuple[Line, ...]:
    """The list, in its order.

    Raises:
        UsageError: it does not parse, a field that does not fit, or a model twice.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        lines = tuple(Line.model_validate(entry) for entry in content["models"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {where}: {first['msg']} (found {first['input']!r})") from None
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: expected 'models', a list: {type(error).__name__}: {error}") from None
    names = [line.model for line in lines]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{path}: twice: {', '.join(twice)}")
    return lines


def select(lines: Sequence[Line], only: str | None) -> tuple[Line, ...]:
    """The lines that a comma-separated list names: packages, models, or globs of them; all without one.

    Raises:
        UsageError: a name that is none.
    """
    if not only:
        return tuple(lines)
    chosen: set[str] = set()
    for name in filter(None, (part.strip() for part in only.split(","))):
        found = {line.model for line in lines if _named(line, name)}
        if not found:
            raise nearest(name, sorted({line.model for line in lines} | {line.package for line in lines}), "model")
        chosen |= found
    return tuple(line for line in lines if line.model in chosen)


def _named(line: Line, name: str) -> bool:
    return any(fnmatch(own.lower(), name.lower()) for own in (line.model, line.package))
