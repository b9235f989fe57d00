"""Worker processes that may die: tasks in, results out, nothing lost, never more in flight than fits in memory.

Native code (the detector, an image decoder) can crash a process, and the kernel kills one that takes too much memory.
`concurrent.futures` then declares the whole pool broken and cannot say who did it. Here every task that was in flight
is tried again alone in a fresh pool: one that breaks it again is the culprit, and only that one is given up.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any


class WorkerCrashed(RuntimeError):
    """The process that held this task died twice."""


# One thread per worker: the pictures are done in parallel, threads inside each would only fight over the cores.
# Libraries read these as they are loaded, so they must be set before a worker starts.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business
    parent = multiprocessing.parent_process()

    def follow_parent() -> None:  # a worker whose parent was killed would wait for tasks for ever
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()


class Pool:
    """`workers` processes (started by *spawn*: safe beside threads and CUDA) that run `function(task)`.

    `run(tasks)` yields (task, result) in the order of completion; the result is a WorkerCrashed where the task's
    process died twice. Exceptions of `function` are raised. With 0 workers everything happens in this process.
    """

    def __init__(self, function: Callable[[Any], Any], workers: int, backlog: int = 2) -> None:
        if workers < 0:
            raise ValueError(f"workers: expected 0 or more, got {workers}")
        self.function, self.workers = function, workers
        self.window = workers * backlog
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Pool":
        self.environment = {name: os.environ.get(name) for name in _ONE_THREAD}
        if self.workers:
            os.environ.update(_ONE_THREAD)  # too late to matter in this process
        return self

    def __exit__(self, *_) -> None:
        for name, value in self.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        self._stop()

    def run(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Feed the tasks through; at most `workers × backlog` are taken from the iterable ahead of the results."""
        if self.workers == 0:
            yield from ((task, self.function(task)) for task in tasks)
            return
        tasks, flying = iter(tasks), {}
        while True:
            suspects = []
            try:
                while len(flying) < self.window and (task := next(tasks, self)) is not self:
                    suspects = [task]
                    flying[self._submit(task)] = task
                    suspects = []
                if not flying:
                    return
                done, _ = wait(flying, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    yield flying.pop(future), result
            except BrokenProcessPool:
                suspects += flying.values()
                flying = {}
                self._stop()
                for task in suspects:
                    yield task, self._alone(task)

    def _alone(self, task: Any) -> Any:
        try:
            return self._submit(task).result()
        except BrokenProcessPool:
            self._stop()
            return WorkerCrashed("the worker died on this picture, twice (a crash in native code, or out of memory)")

    def _submit(self, task: Any):
        if self.pool is None:
            spawn = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(self.workers, mp_context=spawn, initializer=_start_worker)
        return self.pool.submit(self.function, task)

    def _stop(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)  # what has begun is finished, what has not is dropped
            self.pool = None
