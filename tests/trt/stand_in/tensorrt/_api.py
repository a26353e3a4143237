"""What the chosen version of the real bindings has: nothing else may be named, nor called with other arguments.

A name that the real version has and the stand-in does not play raises NotImplementedError when it is used.
"""

import inspect
import json
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

VERSION = os.environ.get("STAND_IN_TENSORRT", "10.16.1.11")
TABLE = json.loads((Path(__file__).parents[2] / "api" / f"{VERSION}.json").read_text())
MAJOR = int(VERSION.split(".")[0])


class Enum:
    """An enumeration as pybind11 makes them: no int, but one can be asked for."""

    __members__: dict[str, "Enum"]

    def __init__(self, value: int) -> None:
        self.value = int(value)

    @property
    def name(self) -> str:
        return next(name for name, member in type(self).__members__.items() if member == self)

    def __int__(self) -> int:
        return self.value

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.value == self.value

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.value))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}: {self.value}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


def enum(name: str) -> Any:
    """The table's enumeration of that name as a class; None where the version has none."""
    members = TABLE["enums"].get(name)
    if members is None:
        return None
    made: Any = type(name.split(".")[-1], (Enum,), {})
    made.__members__ = {member: made(value) for member, value in members.items()}
    for member, value in made.__members__.items():
        setattr(made, member, value)
    return made


class _Class(type):
    """What pybind11 demands of a class that overrides one of its own: that it calls its base's `__init__`."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        made = super().__call__(*arguments, **named)
        if not cls.__module__.startswith("tensorrt.") and not vars(made).get("_initialised"):
            raise TypeError(f"{cls.__mro__[1].__name__}.__init__() must be called when overriding __init__")
        return made


class Real(metaclass=_Class):
    """Base of every class: attributes are those of the table, as pybind11's objects take no others."""

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if cls.__module__.startswith("tensorrt."):
            _restrict(cls)

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and type(self).__module__.startswith("tensorrt."):
            entry = TABLE["classes"].get(type(self).__name__, {}).get(name)
            if entry != "write":
                raise AttributeError(f"'{type(self).__name__}' of TensorRT {VERSION} has no '{name}' that can be set")
        object.__setattr__(self, name, value)


def _restrict(cls: type) -> None:
    entries = TABLE["classes"].get(cls.__name__)
    if entries is None:
        return
    for name, value in list(vars(cls).items()):
        if (name.startswith("_") and name != "__init__") or isinstance(value, type):
            continue
        if name not in entries and name != "__init__":
            delattr(cls, name)
        elif inspect.isfunction(value) and entries.get(name):
            setattr(cls, name, _checked(value, entries[name]))
    for name, entry in entries.items():
        if not hasattr(cls, name) and entry != "enum":
            setattr(cls, name, _absent(cls, name, isinstance(entry, str)))


def _checked(function: Callable, overloads: list) -> Callable:
    """The function, refusing arguments that none of the real one's overloads has."""

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if not any(len(arguments) <= len(each) and set(named) <= set(each[len(arguments) :]) for each in overloads):
            raise TypeError(f"{function.__name__}(): incompatible function arguments; the real one has {overloads}")
        return function(*arguments, **named)

    return call


def _absent(cls: type, name: str, is_property: bool) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"the stand-in of TensorRT does not play {cls.__name__}.{name}")

    return property(refuse, refuse) if is_property else refuse
