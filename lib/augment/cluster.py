"""The run on workers of Dask: processes of this machine, or whatever a scheduler elsewhere has.

What they do is in `lib.augment.flow`. Dask's resources say who does what: step two goes to the workers that offer
`STEP2` (where nobody does, to one on this machine), step one to those that offer `STEP1` (where nobody does, to all).
Processes started here do both on a CPU, and step one alone beside a GPU.
"""

import contextlib
import logging
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import dask
from distributed import Client, LocalCluster, Nanny, Worker
from distributed.utils import silence_logging_cmgr
from tqdm import tqdm

from lib.augment.flow import Flow, Job
from lib.augment.options import AugmentError, Options, Task
from lib.augment.places import describe
from lib.augment.steps import empty, fail
from lib.augment.translate import load_translator

CRASHED = "the worker died on this picture, again and again (a crash in native code, or out of memory)"
PATIENCE = 10  # s, for a scheduler to answer
STARTS = 3  # times that workers of this machine are started before it is given up
SETTINGS = {  # of the cluster that is started here
    # A task that two workers died of is tried again alone; where two more die of it, it is given up.
    "distributed.scheduler.allowed-failures": 1,
    "distributed.deploy.lost-worker-timeout": "30s",  # a busy machine needs long to start a process
    "distributed.admin.tick.limit": "1h",  # reading a large picture holds the interpreter: no reason to warn
    "distributed.worker.profile.enabled": False,  # its samples of an hour are some 300 MB a worker
}
NO_INTERRUPT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"  # Ctrl-C is this process's business


class Cluster:
    """Workers for the pictures of one run, as a context manager; see `records`.

    Args:
        in_dir: IN.
        out_dir: OUT, with its journal begun.
        options: With `workers` filled in, or `scheduler`; for step two with `checkpoint` and `size`.
        tasks: The pictures to do, at least one.

    Raises:
        AugmentError: The scheduler does not answer, or its workers cannot do the job.
    """

    def __init__(self, in_dir: Path, out_dir: Path, options: Options, tasks: list[Task]) -> None:
        self.options, self.count = options, len(tasks)
        digest = options.fingerprint(in_dir)["checkpoint_sha256"]
        folders = Path(os.path.abspath(in_dir)), Path(os.path.abspath(out_dir))
        self.job = Job(*folders, options, digest, tasks[0].source)
        self.two_steps = options.checkpoint is not None
        self.alone = False  # a cluster elsewhere has no worker now
        self.lost = False  # at the end: a worker died, and may have left a temporary file behind

    def __enter__(self) -> "Cluster":
        with contextlib.ExitStack() as stack:
            try:
                self._start(stack.enter_context)
            except (OSError, TimeoutError) as error:
                what, hint = self.options.scheduler, "is the scheduler running, and can it be reached from here?"
                if what is None:
                    what, hint = "workers of this machine", "--workers 0 does without"
                raise AugmentError(f"{what}: no connection ({' '.join(str(error).split())}); {hint}") from None
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError, TimeoutError):  # a scheduler that is gone
            self.lost = not self.before <= set(self._workers())
        if self.lost and self.options.progress:
            tqdm.write("a worker was lost on the way; what it held was done again", file=sys.stderr)
        self._stack.close()

    def _start(self, keep: Callable) -> None:
        keep(_environment())
        keep(dask.config.set(SETTINGS))
        keep(silence_logging_cmgr(logging.CRITICAL))  # a scheduler that is gone is told in one line, below
        self.local = keep(self._processes()) if self.options.scheduler is None else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions that differ are told below
            self.client = keep(Client(self.local or self.options.scheduler, timeout=PATIENCE, set_as_default=False))
        if self.options.dashboard and self.options.progress:
            tqdm.write(f"dashboard: {self.client.dashboard_link}", file=sys.stderr)
        if self.options.scheduler:
            self._look_round()
        if self.two_steps:
            keep(self._shared_out())
        self.before = set(self._workers())

    def _processes(self) -> LocalCluster:
        """One process of one thread per worker, listening on this machine only. One that dies while it starts ends all
        of them: then they are started again."""
        for _ in range(STARTS):
            try:
                return LocalCluster(
                    n_workers=min(self.options.workers, self.count),
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    scheduler_kwargs={"dashboard": self.options.dashboard},
                    resources={"STEP1": 1} | ({"STEP2": 1} if self._on_cpu() else {}),
                    memory_limit=0,  # none: the window bounds what is held, one large picture is no reason to kill
                    preload=[NO_INTERRUPT],
                    silence_logs=logging.CRITICAL,  # what goes wrong for good comes back as an exception or a crash
                )
            except RuntimeError as error:
                said = " ".join(str(error).split())
        raise AugmentError(
            f"the workers of this machine died while they started, {STARTS} times over ({said}); is there enough "
            "memory? Fewer --workers need less, --workers 0 does without"
        )

    def _on_cpu(self) -> bool:
        """Whether the workers of this machine do step two themselves: one process per core beats one with all cores. A
        GPU is one, and belongs to the worker in this process."""
        if not self.two_steps:
            return False
        from lib.gan.config import pick_device

        return pick_device(self.options.device).type == "cpu"

    def _workers(self) -> dict[str, dict]:
        return self.client.scheduler_info(n_workers=-1)["workers"]

    def _look_round(self) -> None:
        """Have every worker of the user's cluster look whether it finds what this process finds."""
        while not self._workers():
            tqdm.write(f"{self.options.scheduler}: waiting for its first worker", file=sys.stderr)
            with contextlib.suppress(TimeoutError):
                self.client.wait_for_workers(1, timeout=60)
        here = ".".join(platform.python_version_tuple()[:2])
        for worker, versions in self.client.get_versions()["workers"].items():
            there = versions["host"]["python"]
            if not there.startswith(f"{here}."):  # it could not even read the function below
                raise AugmentError(f"{worker}: Python {there} there, {here} here; use the same on both")
        job = self.job
        told = describe(job.in_dir, job.out_dir, job.options, job.source)
        self.job = replace(job, told=tuple(told.items()))
        plain = told, str(job.in_dir), str(job.out_dir), asdict(job.options), job.source
        for worker, answer in self.client.run(_by_value("look"), *plain, on_error="return").items():
            if answer and not isinstance(answer, OSError):  # such a worker is lost already
                raise AugmentError(f"{worker}: {answer}")

    @contextlib.contextmanager
    def _shared_out(self) -> Iterator[None]:
        """See that somebody does step two."""
        if any("STEP2" in worker["resources"] for worker in self._workers().values()):
            yield
            return
        local = self.options.scheduler is None
        if local:
            load_translator(self.options.checkpoint, self.job.digest, self.options.device, self.options.batch_size)
        own = self.client.sync(_worker_here, self.client.scheduler.address, local)
        try:
            if not local:
                self._meet(own.worker_address)
            yield
        finally:
            with contextlib.suppress(OSError, TimeoutError):
                self.client.sync(own.close)

    def _meet(self, own: str) -> None:
        """Crops come to a worker on this machine from all others, faces go back: over connections of their own."""
        others = [address for address in self._workers() if address != own]
        host, port = own.rpartition("/")[2].rsplit(":", 1)
        answers = self.client.run(_by_value("reach"), host, int(port), workers=others, on_error="return")
        for worker, answer in answers.items():
            if answer:
                raise AugmentError(
                    f"{worker}: cannot reach this machine ({own}), which would do step two: {answer}; start a worker "
                    "with --resources STEP2=1 there"
                )

    def records(self, tasks: Iterable[Task]) -> Iterator[dict]:
        """The record of each task, after its files are in place, in the order of completion.

        Raises AugmentError where the output cannot be written, step two fails, or the scheduler is gone.
        """
        workers = self._workers().values()
        window = 2 * sum(worker["nthreads"] for worker in workers)
        if self.two_steps:
            window += 2 * self.options.batch_size * sum("STEP2" in worker["resources"] for worker in workers)
        # Where nobody offers STEP1 everybody does step one.
        step_one = {"STEP1": 1} if any("STEP1" in worker["resources"] for worker in workers) else {}
        suspects: list[Task] = []
        yield from Flow(self.client, self.job, step_one, suspects, self._tend).run(tasks, window)
        for task in suspects:  # one at a time, so that no task answers for another
            guilty: list[Task] = []
            yield from Flow(self.client, self.job, step_one, guilty, self._tend).run([task], 1)
            if guilty:
                stepped = empty(task)
                fail(stepped.record, "crash", CRASHED)
                yield stepped.record

    def _tend(self) -> None:
        """Dask starts a process that died again, but gives up one that died while it started: have it made anew."""
        if self.local is not None:
            self.local.scale(len(self.local.worker_spec))
            return
        alone = not self._workers()
        if alone and not self.alone:
            tqdm.write(f"{self.options.scheduler}: has no worker now, waiting for one", file=sys.stderr)
        self.alone = alone


def _by_value(name: str) -> Callable:
    """A function that Dask sends as code: a worker may lack this package."""

    def look(told, in_dir, out_dir, options, source):
        try:
            from pathlib import Path

            from lib.augment.options import Options
            from lib.augment.places import difference

            return difference(told, Path(in_dir), Path(out_dir), Options(**options), source)
        except (ImportError, TypeError) as error:
            return f"lacks this package, or has another version of it ({error}); install the same there"

    def reach(host, port):
        import socket

        try:
            socket.create_connection((host, port), 5).close()
        except OSError as error:
            return str(error)
        return ""

    return {"look": look, "reach": reach}[name]


async def _worker_here(scheduler: str, local: bool) -> Worker | Nanny:
    """A worker for step two on this machine: in a thread of this process, whose network is here already. Among workers
    elsewhere it may be given step one too, which may crash: then in a process, with as many threads as this one."""
    options = {"nthreads": 1, "resources": {"STEP2": 1}, "memory_limit": 0, "dashboard": False}
    if local:
        return await Worker(scheduler, host="127.0.0.1", **options)
    import torch

    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(torch.get_num_threads()))
    return await Nanny(scheduler, env=threads, preload=[NO_INTERRUPT], silence_logs=logging.CRITICAL, **options)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Dask sets variables for its workers in this process: undo that."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
