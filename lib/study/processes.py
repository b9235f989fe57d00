"""Long tasks in several processes that tell how far they are; one that dies costs its own task only.

`lib.data.workers` is for many short tasks whose results are wanted; here a task takes minutes, leaves its result on
disk, and is stopped at once by Ctrl-C instead of being waited for.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

# Libraries read these as they are loaded, so a worker must find them when it starts.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
IDLE_S = 10.0


class _Terminated(KeyboardInterrupt):
    """SIGTERM, taken as Ctrl-C is."""


def _terminate(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough; a second would cut the tidying short
    raise _Terminated


def stoppable(command: Callable[[], int]) -> int:
    """The exit status of a command that SIGTERM stops as Ctrl-C does, so that what runs in it is tidied up and no
    process is left behind: 130 after Ctrl-C, 143 after SIGTERM."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return command()
    except KeyboardInterrupt as error:
        # In one piece: a line break alone would be taken for a bar's (lib.study.outputs.Progress).
        sys.stderr.write("stopped; the same command goes on from here\n")
        return 143 if isinstance(error, _Terminated) else 130
    finally:
        signal.signal(signal.SIGTERM, before)


class Died(RuntimeError):
    """The process that held a task ended before the task did."""


def in_processes(
    function: Callable[[Any, Callable[[Any], None]], None], tasks: Iterable[Any], workers: int, one_thread: bool
) -> Iterator[tuple[Any, Any]]:
    """Do `function(task, tell)` for each task in `workers` processes (spawned: safe beside threads and CUDA).

    tasks: taken one by one, as a worker becomes free. function: picklable; all it raises ends its process.
    one_thread: per process, for processors that the workers fill.

    Yields (task, what it told) as it is told; (task, None) when it is done; (task, Died) when its process ended; and
    (None, None) after ten seconds in which nothing was told. However the generator ends, no process is left behind; nor
    is one when this process is killed.
    """
    waiting, staff = iter(tasks), []
    try:
        while True:
            while len(staff) < workers and (task := next(waiting, None)) is not None:
                staff.append(_Worker(function, one_thread))
                staff[-1].give(task)
            if not staff:
                return
            ready = wait([worker.pipe for worker in staff], IDLE_S)
            if not ready:
                yield None, None
            for worker in [worker for worker in staff if worker.pipe in ready]:
                try:
                    told = worker.pipe.recv()
                except (EOFError, OSError):
                    staff.remove(worker)
                    yield worker.task, worker.death()
                    continue
                yield worker.task, told
                if told is None:
                    if (task := next(waiting, None)) is not None:
                        worker.give(task)
                    else:
                        staff.remove(worker)
                        worker.pipe.close()  # it ends by itself
    finally:
        for worker in staff:
            worker.process.terminate()
        for worker in staff:
            worker.process.join(10)
            worker.process.kill()  # one that hangs in native code; nothing where it has ended
            worker.process.join()


class _Worker:
    """A process that does one task after the other; `task` is the one it is at."""

    def __init__(self, function: Callable, one_thread: bool) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.task, (self.pipe, theirs) = None, spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(theirs, function))
        with _environment(ONE_THREAD if one_thread else {}):
            self.process.start()
        theirs.close()

    def give(self, task: Any) -> None:
        self.task = task
        with suppress(OSError):  # it has died, as its pipe will tell
            self.pipe.send(task)

    def death(self) -> Died:
        self.process.join()
        code = self.process.exitcode
        if code < 0:
            return Died(f"its process was killed by signal {-code}" + ("; out of memory?" if code == -9 else ""))
        return Died(f"its process ended with status {code}")


def _serve(pipe: Connection, function: Callable) -> None:
    """The life of a worker: takes tasks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business, which then ends this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def follow_parent() -> None:  # none may work on after its parent was killed
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()
    with suppress(EOFError):
        while True:
            function(pipe.recv(), pipe.send)
            pipe.send(None)


@contextmanager
def _environment(values: dict[str, str]):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
