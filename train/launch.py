"""`--processes`: start the processes that train together, by torchrun's own agent, and say how they ended."""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from train.cli import say
from train.distributed import LOST
from train.errors import BackendError, UsageError

#: Seconds that the nodes wait for each other to start.
_MEETING = 900


@dataclass(frozen=True)
class Nodes:
    """Where the processes run.

    Attributes:
        processes: how many on each machine.
        count: how many machines.
        rank: which of them this is, from 0.
        master: "HOST:PORT" of the one with rank 0, where all meet.
    """

    processes: int = 1
    count: int = 1
    rank: int | None = None
    master: str | None = None

    @property
    def total(self) -> int:
        """How many processes there are on all machines."""
        return self.processes * self.count

    def __post_init__(self) -> None:
        if self.processes < 1 or self.count < 1:
            raise UsageError(f"--processes {self.processes} --nodes {self.count}: expected 1 or more of each")
        if self.count == 1:
            if self.rank or self.master:
                raise UsageError("--node-rank and --master are for several machines; add --nodes")
            return
        if self.rank is None or self.master is None:
            raise UsageError(
                f"--nodes {self.count}: each machine needs --node-rank 0 to {self.count - 1} and --master HOST:PORT"
            )
        if not 0 <= self.rank < self.count:
            raise UsageError(f"--node-rank {self.rank}: expected 0 to {self.count - 1} with --nodes {self.count}")
        host, _, port = self.master.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise UsageError(f"--master {self.master}: expected HOST:PORT, a machine's address and a free port there")


def launch(arguments: Sequence[str], nodes: Nodes) -> int:
    """Run `python -m train ARGUMENTS` in every process of this machine, and wait for all.

    When one ends badly the others are ended too.

    Returns:
        The exit code: 0, that of the process which said what went wrong, or 4 where one ended without a word.

    Raises:
        BackendError: the machines did not meet.
    """
    os.environ["OMP_NUM_THREADS"] = str(_threads(nodes.processes))
    # Before torch is imported: its C++ side says on stderr what is no fault, and with stack traces what is said below.
    level = os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ["TORCH_CPP_LOG_LEVEL"] = "FATAL"
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    os.environ["TORCH_CPP_LOG_LEVEL"] = level
    elastic = logging.getLogger("torch.distributed.elastic")
    elastic.addHandler(logging.NullHandler())
    elastic.propagate = False  # what it would say is said below, in a line
    meeting = _meet(nodes)
    with tempfile.TemporaryDirectory(prefix="slipway-launch-") as logs:
        try:
            elastic_launch(_config(nodes, logs), sys.executable)("-m", "train", *arguments)
        except ChildFailedError as error:
            return _ended(error.failures, nodes)
        except SignalException as error:
            say(f"ended by {error.sigval.name}; --resume (RESUME=1) goes on from the last whole checkpoint")
            return 128 + error.sigval
        finally:
            del meeting
    return 0


def _meet(nodes: Nodes) -> Any:
    """Wait until all machines are there. Returns the store where they met, to be kept: torchrun's agents meet in it."""
    if nodes.master is None:
        return None
    from datetime import timedelta

    from torch.distributed import DistError, TCPStore

    host, _, port = nodes.master.rpartition(":")
    # Python's own handler of Ctrl-C would wait for C++ to come back; there is nothing to clean up yet.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return TCPStore(host, int(port), nodes.count, nodes.rank == 0, timedelta(seconds=_MEETING), multi_tenant=True)
    except DistError as error:
        reason = str(error).splitlines()[0]
        raise BackendError(
            f"--master {nodes.master}: the {nodes.count} machines did not meet there: {reason}"
        ) from None
    finally:
        signal.signal(signal.SIGINT, handler)


def _config(nodes: Nodes, logs: str) -> Any:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    alone = nodes.count == 1
    return LaunchConfig(
        min_nodes=nodes.count,
        max_nodes=nodes.count,
        nproc_per_node=nodes.processes,
        run_id="slipway",
        # One machine finds a free port; of several, the first keeps rank 0 and so its files.
        rdzv_backend="c10d" if alone else "static",
        rdzv_endpoint="localhost:0" if alone else str(nodes.master),
        rdzv_configs={"timeout": _MEETING} if alone else {"timeout": _MEETING, "rank": nodes.rank},
        local_addr="localhost" if alone else None,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
        # Ctrl-C stays KeyboardInterrupt here, and ends the processes by SIGTERM: at once, wherever they wait.
        signals_to_handle="SIGTERM,SIGHUP,SIGQUIT",
    )


def _threads(processes: int) -> int:
    """Each process' share of the threads that one would use: OMP_NUM_THREADS, or else the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(given) if given.isdigit() else len(os.sched_getaffinity(0))
    return max(1, threads // processes)


def _ended(failures: dict[int, Any], nodes: Nodes) -> int:
    """Say what ended the run unless a process has said it; return the exit code."""
    codes = [failure.exitcode for failure in failures.values()]
    said = [code for code in codes if code > 0 and code != LOST]
    if said:
        return int(said[0])
    killed = [
        f"process {rank} was ended by {failure.signal_name()}"
        for rank, failure in failures.items()
        if failure.exitcode < 0 and -failure.exitcode != signal.SIGTERM
    ]
    where = "; see the other machines' output" if nodes.count > 1 else ""
    reason = ", ".join(killed) or f"a process lost contact with another{where}"
    hint = " (SIGKILL: out of memory?)" if "SIGKILL" in reason else ""
    say(f"error: {reason}{hint}; --resume (RESUME=1) goes on from the last whole checkpoint")
    return 4
