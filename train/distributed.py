"""Several processes that train one model: each on its share of every batch, the first one speaking and writing for all.

torchrun (PyTorch's "elastic launch") starts them and tells each its place in environment variables; `train.launch` does
so for `--processes`. Outside such a run every function here does what one process does.
"""

import contextlib
import copy
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from train.errors import BackendError, UsageError

#: The exit code of a process that ends because another one did (sysexits.h: EX_TEMPFAIL). Nobody reads its message.
LOST = 75

#: The others wait for the first one as long as it downloads and prepares data, and as long as it computes metrics.
_PREPARATION = timedelta(days=1)
_STEP = timedelta(hours=1)
#: Seconds that a process waits to be ended before it ends by itself.
_PATIENCE = 10.0

Result = TypeVar("Result")

#: gloo's group of all processes, for small Python objects; None outside a run of several.
_group: Any = None


def is_member() -> bool:
    """Whether torchrun started this process, as one of several."""
    return "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def size() -> int:
    """The number of processes that train together; 1 outside a run of several."""
    return 1 if _group is None else _group.size()


def is_first() -> bool:
    """Whether this is the process that prints, prepares data and writes files."""
    return _group is None or _group.rank() == 0


@contextlib.contextmanager
def joined(device: str) -> Iterator[bool]:
    """Be one of the run's processes inside the block, and yield whether this is the first one.

    An exception is passed on by the process that failed first, so that it is said once. The others, and those that only
    lost contact with it, end in silence with the exit code `LOST`.

    Args:
        device: "cpu", "cuda" or "auto". Gradients travel by NCCL between GPUs, by gloo between CPUs.

    Raises:
        BackendError: more processes on this machine than it has GPUs.
    """
    if not is_member():
        yield True
        return
    from torch import distributed

    speak = _mute(int(os.environ["RANK"]))
    store = None
    try:
        store, rank, count = next(distributed.rendezvous("env://"))
        _connect(store, rank, count, device)
        yield rank == 0
        distributed.destroy_process_group()
    except Exception as error:
        if _lost_contact(error):
            from torch.distributed.elastic.multiprocessing.errors import get_error_handler

            get_error_handler().record_exception(error)  # torchrun's way to tell what it ended with
            _give_way()
        if not _failed_first(store):
            _give_way()
        speak()
        raise
    if rank == 0:
        speak()


def _give_way() -> NoReturn:
    """End in silence, after the process that speaks: torchrun ends all when it sees one's end, and tells the first it sees."""
    time.sleep(_PATIENCE)  # torchrun's SIGTERM comes sooner
    raise SystemExit(LOST) from None


def in_turn(function: Callable[[], Result]) -> Result:
    """Call a function in the first process, then in the first of every other machine, then in all others.

    What the first one writes the others find: on the same disk at once, on another machine's written by its first.
    """
    if _group is None:
        return function()
    from torch import distributed

    turn = 0 if is_first() else 1 if os.environ["LOCAL_RANK"] == "0" else 2
    for _ in range(turn):
        distributed.barrier(_group)
    result = function()
    for _ in range(3 - turn):
        distributed.barrier(_group)
    return result


def from_first(function: Callable[[], Result]) -> Result:
    """Call a function in the first process alone, and return its (picklable) result in all."""
    if _group is None:
        return function()
    from torch import distributed

    box = [function() if is_first() else None]
    distributed.broadcast_object_list(box, src=0, group=_group)
    return box[0]  # type: ignore[return-value]


def share(config: Any) -> Any:
    """A config as each process needs it: its share of every training batch, its gradients averaged with the others'.

    All shares together are the batches of one process, so the schedule and the learning rate stay what they are.

    Raises:
        UsageError: a batch that cannot be shared evenly, or synchronised batch statistics on a CPU.
    """
    if _group is None:
        return config
    from torch import distributed

    shared = copy.deepcopy(config)
    check_batch(config)
    _batches(shared).batch_size //= size()
    shared.launcher = "pytorch"
    wrapper = {"broadcast_buffers": False, "find_unused_parameters": config.get("find_unused_parameters", False)}
    wrapper.update(config.get("model_wrapper_cfg") or {})
    if distributed.get_backend() == "gloo":
        wrapper["device_ids"] = None  # MMEngine would name a GPU
        if config.get("sync_bn"):
            raise UsageError(f"sync_bn = '{config.sync_bn}': torch joins batch statistics on GPUs only; leave it out")
    shared.model_wrapper_cfg = wrapper
    return shared


def check_batch(config: Any) -> None:
    """Refuse a config whose training batch the processes cannot share evenly.

    Raises:
        UsageError: the batch, and one that could be shared.
    """
    if _group is None:
        return
    batch = _batches(config).batch_size
    if batch % size():
        raise UsageError(
            f"{size()} processes cannot share a batch of {batch} images evenly; choose a number of processes that divides "
            f"it, or --cfg-options train_dataloader.batch_size={-(-batch // size()) * size()}"
        )


def _batches(config: Any) -> Any:
    """The part of a config that says how large a training batch is; a batch sampler may say so itself."""
    loader = config.train_dataloader
    return loader if "batch_size" in loader else loader.batch_sampler


def average_statistics(model: Any) -> None:
    """Give every process the mean of all processes' running batch statistics, each gathered from its own images."""
    if _group is None:
        return
    from mmengine.dist import all_reduce_params
    from torch.nn.modules.batchnorm import _BatchNorm

    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    running = [value for layer in layers for value in (layer.running_mean, layer.running_var) if value is not None]
    if running:
        all_reduce_params(running, op="mean")


def explain(error: Exception) -> UsageError | None:
    """What a user can mend about an error that only a share of the batch, or shared gradients, bring."""
    message = str(error)
    if _group is None:
        return None
    if "Expected more than 1 value per channel" in message:
        return UsageError(
            f"each of {size()} processes has too few images for batch normalisation; use fewer, or a larger "
            "--cfg-options train_dataloader.batch_size"
        )
    if "find_unused_parameters" in message:
        return UsageError(
            "parts of this model take no part in its loss; several processes then need find_unused_parameters = True "
            "in the config"
        )
    return None


def _connect(store: Any, rank: int, count: int, device: str) -> None:
    import torch
    from torch import distributed

    global _group
    here = int(os.environ["LOCAL_RANK"])
    place = None
    if device != "cpu" and torch.cuda.is_available():
        processes, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if processes > gpus:
            raise BackendError(f"{processes} processes for {gpus} CUDA devices here: each needs one; or use DEVICE=cpu")
        place = torch.device("cuda", here)
        torch.cuda.set_device(place)
    distributed.init_process_group(
        "nccl" if place else "gloo", store=store, rank=rank, world_size=count, timeout=_STEP, device_id=place
    )
    _group = distributed.new_group(backend="gloo", timeout=_PREPARATION)
    # MMEngine warns where it has to choose; PyTorch has read both already.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", os.environ["OMP_NUM_THREADS"])


def _mute(rank: int) -> Callable[[], None]:
    """Close the terminal to all but the first process, also for C++; the first one's stdout goes to stderr.

    Returns:
        What opens it again.
    """
    out, err = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere if rank else 2, 1)
    if rank:
        os.dup2(nowhere, 2)

    def speak() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(out, 1)
        os.dup2(err, 2)

    return speak


def _lost_contact(error: Exception) -> bool:
    """Whether an error only says that another process is gone; gloo has no class of its own for that."""
    from torch import distributed

    of_gloo = isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    return of_gloo or isinstance(error, distributed.DistError)


def _failed_first(store: Any) -> bool:
    """Whether this process is the first of all that failed; the store with torchrun's agent counts them."""
    from torch import distributed

    try:
        return store is None or store.add("slipway/failed", 1) == 1
    except distributed.DistError:
        return True
