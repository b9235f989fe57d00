"""A picture's way over the workers of Dask, as a chain of small tasks.

Step one leaves its picture with the worker that did it; the crops of its faces go to a worker of step two, in full
batches with those of other pictures; the translated faces come back to the first worker, which writes the files. Only
the record returns here, so no picture crosses the network and this process stays small. A worker that dies takes
nothing along: Dask does again what it held, and the same bytes come of it.
"""

import functools
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, Future, KilledWorker, as_completed

from lib.augment.options import Options
from lib.augment.places import difference
from lib.augment.steps import Stepped, finish, rule_based, step_one
from lib.augment.tasks import AugmentError, Task
from lib.augment.translate import load_translator, translate_batch

TEND_SECONDS = 5.0


@dataclass(frozen=True)
class Job:
    """What workers are told. in_dir, out_dir: absolute. digest: SHA-256 of step two's weights, "" without. told: what
    a worker elsewhere must find as well (`describe`); None for those of this machine. source: a picture in IN."""

    in_dir: Path
    out_dir: Path
    options: Options
    digest: str
    source: str
    told: tuple[tuple[str, str], ...] | None = None


@dataclass(eq=False)
class _Picture:
    """A picture under way. `faces`: how many, None before step one is done. `places`: of each face that is in a batch,
    that batch and where in it."""

    task: Task
    stepped: Future | None = None
    crops: Future | None = None
    faces: int | None = None
    places: list[tuple[Future, int]] = field(default_factory=list)


class Flow:
    """Tasks in, records out.

    Args:
        client: Of the cluster.
        job: What the workers are told.
        step_one: Dask resources that step one needs.
        suspects: Gets the tasks that workers died of.
        tend: Called every few seconds.
    """

    def __init__(
        self, client: Client, job: Job, step_one: dict[str, int], suspects: list[Task], tend: Callable[[], None]
    ) -> None:
        self.client, self.job, self.step_one, self.suspects, self.tend = client, job, step_one, suspects, tend
        self.tended = time.monotonic()
        self.done = as_completed(loop=client.loop, with_results=True, raise_errors=False)
        self.under_way: set[_Picture] = set()
        self.awaited: dict[str, _Picture] = {}  # by the key of the future that tells how many faces, or the record
        self.waiting: list[_Picture] = []  # once for each face that is in no batch yet

    def run(self, tasks: Iterable[Task], window: int) -> Iterator[dict]:
        """The records; at most `window` pictures are under way."""
        tasks, more, batch_size = iter(tasks), True, self.job.options.batch_size
        while True:
            while more and len(self.under_way) < window:
                task = next(tasks, None)
                more = task is not None
                if more:
                    self._begin(_Picture(task))
            while len(self.waiting) >= batch_size:
                self._translate(batch_size)
            known = all(picture.faces is not None for picture in self.under_way)
            if self.waiting and known and (not more or self.done.is_empty()):  # no further face comes, or can come
                self._translate(len(self.waiting))
            if self.done.is_empty():
                return
            self._wait()
            for future, result in self.done.next_batch():
                picture = self.awaited.pop(future.key)
                if future.status == "error" and isinstance(result[1], KilledWorker):
                    self.suspects.append(picture.task)
                    self.under_way.remove(picture)
                elif future.status == "error":
                    raise result[1]
                elif future.status != "finished":
                    raise AugmentError("the scheduler is gone; start it again and give the same command to go on")
                elif picture.stepped is None:
                    self.under_way.remove(picture)
                    yield result
                else:
                    picture.faces = result
                    self.waiting += [picture] * result
                    self._end_if_whole(picture)

    def _wait(self) -> None:
        """Until something is done."""
        while not self.done.has_ready():
            time.sleep(0.005)
            if time.monotonic() - self.tended > TEND_SECONDS:
                self.tended = time.monotonic()
                self.tend()

    def _begin(self, picture: _Picture) -> None:
        self.under_way.add(picture)
        if self.job.digest:
            picture.stepped = self._submit(_step_one, picture.task, self.job)
            picture.crops = self._submit(_crops, picture.stepped, priority=2)
            self._await(picture, self._submit(len, picture.crops, priority=2))
        else:
            self._await(picture, self._submit(_rule_based, picture.task, self.job))

    def _translate(self, count: int) -> None:
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        pictures = list(dict.fromkeys(batch))
        before = {picture: len(picture.places) for picture in pictures}
        counts = [batch.count(picture) for picture in pictures]
        parts = [(before[picture], before[picture] + n) for picture, n in zip(pictures, counts)]
        fakes = self._submit(
            _translated, [p.crops for p in pictures], parts, self.job, resources={"STEP2": 1}, priority=1
        )
        for place, picture in enumerate(batch):
            picture.places.append((fakes, place))
        for picture in pictures:
            self._end_if_whole(picture)

    def _end_if_whole(self, picture: _Picture) -> None:
        if len(picture.places) == picture.faces:
            batches = list(dict.fromkeys(fakes for fakes, _ in picture.places))
            places = [(batches.index(fakes), place) for fakes, place in picture.places]
            record = self._submit(_finish, picture.stepped, batches, places, self.job, priority=3)
            picture.stepped = picture.crops = None  # Dask keeps what the record needs, and no longer
            picture.places = []
            self._await(picture, record)

    def _await(self, picture: _Picture, future: Future) -> None:
        self.awaited[future.key] = picture
        self.done.add(future)

    def _submit(self, function: Callable, *args: Any, resources: dict | None = None, priority: int = 0) -> Future:
        """Later parts go first: they free memory."""
        resources = self.step_one if resources is None else resources
        return self.client.submit(function, *args, pure=False, resources=resources, priority=priority)


def _rule_based(task: Task, job: Job) -> dict:
    _check(job)
    return rule_based(task, job.in_dir, job.out_dir, job.options)


def _step_one(task: Task, job: Job) -> Stepped:
    _check(job)
    return step_one(task, job.in_dir, job.options, job.options.size)


def _crops(stepped: Stepped) -> list[tuple[np.ndarray, int]]:
    return [(face.crop, face.noise_seed) for face in stepped.faces]


def _translated(crops: list[list], parts: list[tuple[int, int]], job: Job) -> np.ndarray:
    _check(job)
    options = job.options
    translator = load_translator(options.checkpoint, job.digest, options.device, options.batch_size)
    faces = [face for own, (start, end) in zip(crops, parts) for face in own[start:end]]
    return translate_batch(faces, translator, options.batch_size)


def _finish(stepped: Stepped, batches: list[np.ndarray], places: list[tuple[int, int]], job: Job) -> dict:
    return finish(stepped, [batches[batch][place] for batch, place in places], job.out_dir, job.options)


@functools.lru_cache(maxsize=4)
def _check(job: Job) -> None:
    """A worker that joins in the middle of a run looks round too, before its first task."""
    if job.told is not None and (told := difference(dict(job.told), job.in_dir, job.out_dir, job.options, job.source)):
        raise AugmentError(f"a worker on {socket.gethostname()}: {told}")
