"""Builds plans: the graph as it is, and what was asked for beside it."""

import json
import time
from typing import Any

from stand_in_gpu import seed as device_seed

from . import _layers, _plan
from ._api import TABLE, Real
from ._basic import (
    BuilderFlag,
    Dims,
    EngineCapability,
    HardwareCompatibilityLevel,
    IHostMemory,
    Log,
    MemoryPoolType,
    ProfilingVerbosity,
    TacticSource,
    seed,
)
from ._network import INetworkDefinition

_PHASES = ("Building Engine", "Tactic Timing")
_STEPS = 4
_ON = ("TF32",)


class IOptimizationProfile(Real):
    """Shapes of inputs."""

    def __init__(self) -> None:
        self._shapes: dict[str, list[Dims]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        shapes = [Dims(min), Dims(opt), Dims(max)]
        ordered = all(0 <= low <= best <= high for low, best, high in zip(*shapes, strict=False))
        if len({len(shape) for shape in shapes}) != 1 or not ordered:
            raise ValueError(f"Shape provided for min is inconsistent with other shapes: {shapes}")
        self._shapes[input] = shapes

    def get_shape(self, input: str) -> list[Dims]:
        return self._shapes.get(input, [])


class IProgressMonitor(Real):
    """Base of what is told how far a build is."""

    def __init__(self) -> None:
        self._initialised = True

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise RuntimeError('Tried to call pure virtual function "IProgressMonitor::phase_start"')

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise RuntimeError('Tried to call pure virtual function "IProgressMonitor::step_complete"')

    def phase_finish(self, phase_name: str) -> None:
        raise RuntimeError('Tried to call pure virtual function "IProgressMonitor::phase_finish"')


class ITimingCache(Real):
    """How often a graph was built: all that the stand-in has to remember."""

    def __init__(self, entries: dict[str, Any], gpu: dict[str, str]) -> None:
        self._entries, self._gpu = entries, gpu

    def serialize(self) -> IHostMemory:
        return IHostMemory(json.dumps({"timing": self._entries, "gpu": self._gpu}).encode())

    def combine(self, input_cache: "ITimingCache", ignore_mismatch: bool) -> bool:
        self._entries |= input_cache._entries
        return True

    def reset(self) -> bool:
        self._entries.clear()
        return True


class IBuilderConfig(Real):
    """What is asked for."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._profiles: list[IOptimizationProfile] = []
        self._pools: dict[Any, int] = {MemoryPoolType.WORKSPACE: int(device_seed("STAND_IN_MEMORY"))}
        self._cache: ITimingCache | None = None
        self._values: dict[str, Any] = {
            "flags": sum(1 << int(BuilderFlag.__members__[name]) for name in _ON),
            "builder_optimization_level": 3,
            "profiling_verbosity": ProfilingVerbosity.LAYER_NAMES_ONLY,
            "hardware_compatibility_level": HardwareCompatibilityLevel.NONE,
            "progress_monitor": None,
            "avg_timing_iterations": 1,
            "max_aux_streams": -1,
            "engine_capability": EngineCapability.STANDARD,
            "tactics": sum(1 << int(source) for source in TacticSource.__members__.values()),
        }

    def set_flag(self, flag: Any) -> None:
        self._values["flags"] |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self._values["flags"] &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self._values["flags"] >> int(flag) & 1)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool] = int(pool_size)

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool, 0)

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        self._values["tactics"] = int(tactic_sources)
        return True

    def get_tactic_sources(self) -> int:
        return int(self._values["tactics"])

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        if not profile._shapes:
            self._log.error("Error Code 3: API Usage Error (the optimization profile is not valid)")
            return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    num_optimization_profiles = property(lambda self: len(self._profiles))

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache | None:
        content = bytes(serialized_timing_cache)
        try:
            found = json.loads(content) if content else {"timing": {}, "gpu": _plan.gpu()}
            return ITimingCache(found["timing"], found["gpu"])
        except (ValueError, KeyError, TypeError):
            self._log.error("Error Code 1: Serialization (the timing cache cannot be deserialized)")
            return None

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._gpu != _plan.gpu() and not ignore_mismatch:
            self._log.error("Error Code 3: API Usage Error (the timing cache was made on another device)")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache

    def _flag(self, name: str) -> bool:
        return name in BuilderFlag.__members__ and self.get_flag(BuilderFlag.__members__[name])


def _value(name: str) -> property:
    def store(self: IBuilderConfig, value: Any) -> None:
        self._values[name] = value

    return property(lambda self: self._values[name], store)


for _name in (
    "flags",
    "builder_optimization_level",
    "profiling_verbosity",
    "hardware_compatibility_level",
    "progress_monitor",
):
    if _name in TABLE["classes"]["IBuilderConfig"]:
        setattr(IBuilderConfig, _name, _value(_name))
for _name in ("avg_timing_iterations", "max_aux_streams", "engine_capability"):
    setattr(IBuilderConfig, _name, _value(_name))


class Builder(Real):
    """Makes networks, configurations and plans; without a GPU there is none."""

    def __init__(self, logger: Any) -> None:
        self._log = Log(logger)
        if not _plan.has_gpu():
            self._log.error("CUDA initialization failure with error: 35. Please check your CUDA installation.")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    logger = property(lambda self: self._log.logger)
    platform_has_fast_fp16 = property(lambda self: True)
    platform_has_fast_int8 = property(lambda self: True)
    platform_has_tf32 = property(lambda self: True)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition(int(flags))

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self._log)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        reason = self._reason(network, config)
        if reason:
            self._log.error(reason)
            return None
        if not self._work(config._values["progress_monitor"]):
            self._log.error("Error Code 10: Internal Error (the build was cancelled by its progress monitor)")
            return None
        verbosity = config._values["profiling_verbosity"]
        layers = _layers.built(
            network,
            config._flag("FP16"),
            config._flag("INT8"),
            config._flag("OBEY_PRECISION_CONSTRAINTS"),
            seed("STAND_IN_LAYERS"),
        )
        if config._cache is not None:
            config._cache._entries[str(len(config._cache._entries))] = len(layers)
        asked = {
            "strongly_typed": network._strong(),
            "flags": sorted(name for name in BuilderFlag.__members__ if config._flag(name)),
            "profiles": [
                {name: [list(shape) for shape in shapes] for name, shapes in each._shapes.items()}
                for each in config._profiles
            ],
            "version_compatible": config._flag("VERSION_COMPATIBLE"),
            "hardware": config._values["hardware_compatibility_level"].name,
            "level": config._values["builder_optimization_level"],
            "workspace": config._pools[MemoryPoolType.WORKSPACE],
            "tactics": config._values["tactics"],
            "verbosity": int(verbosity),
            "plugins": network._plugins(),
            "layers": layers,
        }
        return IHostMemory(_plan.encode(asked, network._graph.SerializeToString()))

    def _reason(self, network: INetworkDefinition, config: IBuilderConfig) -> str:
        """Why nothing can be built; empty where it can."""
        failure = seed("STAND_IN_BUILD_FAILS")
        if failure == "memory":
            return "Error Code 2: OutOfMemory (Requested size was 34359738368 bytes.)"
        if failure:
            return f"Error Code 10: Internal Error ({failure})"
        if network._graph is None or not network._outputs():
            return "Error Code 4: Internal Error (Network must have at least one output)"
        if network._strong() and any(
            config._flag(name) for name in ("FP16", "INT8", "BF16", "OBEY_PRECISION_CONSTRAINTS")
        ):
            return "Error Code 3: API Usage Error (precision flags cannot be set for a strongly typed network)"
        for index in range(network.num_inputs):
            tensor = network.get_input(index)
            if -1 in tensor._shape and not config._profiles:
                return "Error Code 4: Internal Error (Network has dynamic or shape inputs, but no optimization profile has been defined.)"
            for number, profile in enumerate(config._profiles):
                shapes = profile._shapes.get(tensor._name)
                if shapes is None and -1 in tensor._shape:
                    return f"Error Code 4: API Usage Error (input {tensor._name} has no dimensions in profile {number})"
                if shapes is not None and not all(_fits(shape, tensor._shape) for shape in shapes):
                    return (
                        f"Error Code 4: API Usage Error (profile {number} does not fit {tensor._name} {tensor._shape})"
                    )
        return ""

    def _work(self, monitor: Any) -> bool:
        """Take as long as asked, and say how far it is."""
        seconds = float(seed("STAND_IN_BUILD_SECONDS") or 0)
        for place, phase in enumerate(_PHASES):
            if monitor is not None:
                monitor.phase_start(phase, _PHASES[place - 1] if place else None, _STEPS)
        going = True
        for step in range(_STEPS):
            time.sleep(seconds / _STEPS)
            for phase in _PHASES:
                going = going and (monitor is None or bool(monitor.step_complete(phase, step)))
        for phase in reversed(_PHASES):
            if monitor is not None:
                monitor.phase_finish(phase)
        return going


def _fits(shape: Dims, of: Dims) -> bool:
    return len(shape) == len(of) and all(size == own or own == -1 for size, own in zip(shape, of, strict=True))
