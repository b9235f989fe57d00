"""Many short trainings, each measured when it is done: in several processes, resumable, none made twice.

A task has a folder: a run folder of `lib.gan.train` with

    job.json       what is trained (lib.gan.job)
    result.json    status, the facts that decide the result, started, seconds, device, threads, values

`status` is "running", "finished", "diverged: …" (the losses exploded: a result, too) or "failed: …" (tried again by the
next call). A task that was stopped, however, goes on from its last checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from lib.data.files import read_json, write_json
from lib.gan import TrainConfig, TrainData, TrainError, list_checkpoints, pick_device, train
from lib.gan.checkpoints import folder_name
from lib.gan.disk import DiskError
from lib.gan.job import read_job, write_job
from lib.study.config import StudyError
from lib.study.processes import in_processes
from lib.study.runs import device_name, now

RESULT = "result.json"
KEPT_FILES = ("net_G_AB.safetensors", "meta.json")
# What result.json holds, where it holds it: what is no such thing was damaged, or written by hand.
_KINDS = {
    **dict.fromkeys(("status", "profile", "device", "config_hash", "started"), str),
    **dict.fromkeys(("version", "steps", "size", "threads"), int),
    **dict.fromkeys(("seconds", "measure_seconds"), (int, float)),
    "trained": bool,
    "values": list,
    "case": dict,
}
_KINDS_OF_VALUES = {"metric": str, "value": (int, float, type(None)), "n": int, "epoch": (int, type(None))}
_NAMES = ("experiment", "variant", "seed")  # of a case


@dataclass(frozen=True)
class Task:
    """A training, or nothing where config is None, and its measuring.

    facts: JSON values that decide the result (configuration's hash, data's hashes, parent); where a folder holds
        others, it is made anew.
    measure: gives the values, dicts with metric, value and n; told the task. Picklable: it runs in another process.
    data: memory-mapped (lib.data.stack). labels: epochs whose weights `measure` needs.
    version: of the measuring code; under another one a finished task is only measured again, while weights are there.
    keep: whether the generators of `labels` stay on disk. notes: what else result.json tells.
    """

    folder: Path
    facts: dict
    measure: Callable[[Task], list[dict]]
    config: TrainConfig | None = None
    data: TrainData | None = None
    init_from: Path | None = None
    parent: dict | None = None
    labels: tuple[int, ...] = ()
    version: int = 0
    keep: bool = True
    notes: dict = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps of the whole training; 0 where there is none."""
        return len(self.config.epochs) * self.config.steps_per_epoch if self.config else 0

    def checkpoint(self, label: int) -> Path:
        """Folder of the weights of an epoch."""
        return self.folder / "checkpoints" / folder_name(label)


def read_result(folder: Path) -> dict:
    """result.json of a task's folder; {} where there is none or it is damaged."""
    try:
        found = read_json(folder / RESULT)
    except (OSError, ValueError):
        return {}
    rows = found.get("values", []) if _is_like(found, _KINDS) else [None]
    return found if all(_is_like(row, _KINDS_OF_VALUES) and {"metric", "value"} <= row.keys() for row in rows) else {}


def _is_like(found: object, kinds: dict) -> bool:
    return isinstance(found, dict) and all(isinstance(found[key], kinds[key]) for key in kinds.keys() & found.keys())


def state_of(task: Task) -> str:
    """ "finished" (diverged ones, too), "trained" (to be measured), "begun", "new", "damaged" (result.json cannot be
    read, lacks something or is another's), or "other": what lies there was made with other settings or other data, or
    lacks weights that are needed."""
    found = read_result(task.folder)
    if not found:
        damaged = (task.folder / RESULT).exists()
        return "damaged" if damaged else "other" if task.folder.exists() else "new"
    if {key: found.get(key) for key in task.facts} != json.loads(json.dumps(task.facts)):
        return "other"
    status = found.get("status", "finished")  # results of the first releases have none
    if task.notes.keys() - found.keys() or (status == "finished" and not (found.get("values") or "measured" in found)):
        return "damaged"
    if "case" in task.notes and any(found["case"].get(name) != task.notes["case"][name] for name in _NAMES):
        return "damaged"
    same_version = found.get("version", 0) == task.version
    if status.startswith("diverged") or (status == "finished" and same_version):
        return "finished"
    if task.config is None:
        return "trained"
    if not found.get("trained", status == "finished"):
        return "begun"
    return "trained" if all((task.checkpoint(k) / KEPT_FILES[0]).is_file() for k in task.labels) else "other"


def run_tasks(
    root: Path,
    tasks: Sequence[Task],
    workers: int | None = None,
    progress: bool = True,
    what: str = "trainings",
    on_done: Callable[[Task], None] | None = None,
    before: Callable[[], object] | None = None,
) -> None:
    """Do what is not finished. The outcome of each task is in its result.json, whether it worked or not.

    root: folder above all tasks; only one call at a time works in it.
    workers: processes, each with one thread on a CPU; None: one per core, one where there is a GPU; 0: this process.
    on_done: called here after each task. before: called here before the first, where there is one to do.

    Interrupted or killed, it leaves no process behind, and the next call goes on from the last checkpoints.
    Raises StudyError when another call is at work in `root`, and for a negative number of workers.
    """
    if workers is not None and workers < 0:
        raise StudyError(f"{workers} workers: expected 0 or more")
    with _alone(root):
        states = {task.folder: state_of(task) for task in tasks}
        todo = [task for task in tasks if states[task.folder] != "finished"]
        if todo and before:
            before()
        on_gpu = any(pick_device(task.config.device).type == "cuda" for task in todo if task.config)
        if workers is None:
            workers = 1 if on_gpu else _cores()
        # What is only measured counts as one step.
        weights = {t.folder: 1 if states[t.folder] == "trained" else max(1, t.steps) for t in todo}
        seen = {t.folder: _trained_steps(t) if states[t.folder] == "begun" else 0 for t in todo}
        shown = {"desc": what, "unit": "step", "mininterval": 5, "ascii": True, "disable": not progress or not todo}
        with tqdm(total=sum(weights.values()), initial=sum(seen.values()), **shown) as bar:
            done, count = [], len(todo)

            def step(task: Task, at: int) -> None:
                at = min(at, weights[task.folder])
                bar.update(at - seen[task.folder])
                seen[task.folder] = at

            def finish(task: Task) -> None:
                status = read_result(task.folder)["status"]
                done.append(status)
                bad = sum(s != "finished" for s in done)
                bar.set_postfix_str(f"{len(done)} of {count} done{f', {bad} badly' if bad else ''}", refresh=False)
                if status == "finished":
                    step(task, weights[task.folder])
                else:
                    bar.total -= weights[task.folder] - seen[task.folder]
                if on_done:
                    on_done(task)

            ready = map(_prepared, todo)  # each when its turn has come
            if workers == 0:
                for task in ready:
                    run_task(task, partial(step, task))
                    finish(task)
                return
            # Threads inside processes that fill the cores would only fight over them.
            with closing(in_processes(run_task, ready, min(workers, len(todo)), one_thread=not on_gpu)) as events:
                for task, told in events:
                    if task is None:
                        bar.refresh()
                    elif isinstance(told, int):
                        step(task, told)
                    else:
                        if told is not None:
                            _end(task, {**read_result(task.folder), "status": f"failed: {told}"})
                        finish(task)


def run_task(task: Task, on_step: Callable[[int], None]) -> None:
    """Train and measure one task in this process, whose folder is prepared; result.json tells how it went."""
    result = read_result(task.folder)
    status, values, error_text = "finished", [], None
    try:
        device = pick_device(task.config.device if task.config else "auto")
        result |= {"device": device_name(str(device)), "threads": torch.get_num_threads()}
        if task.config and not result["trained"]:
            job = read_job(task.folder)
            train(**job, run_dir=task.folder, progress=False, on_epoch=lambda label, row: on_step(row["step"]))
        if task.config:
            result["seconds"] = float(pd.read_csv(task.folder / "metrics.csv")["seconds"].sum())
        result["trained"] = True
        write_json(task.folder / RESULT, result)
        started = time.perf_counter()
        values = json.loads(json.dumps(task.measure(task)))  # what JSON cannot hold fails here
        result |= {"measure_seconds": time.perf_counter() - started}
    except Exception as error:
        diverged = _diverged(error, task.folder)
        status = f"diverged: {error}" if diverged else f"failed: {type(error).__name__}: {error}"
        error_text = traceback.format_exc()
    if not status.startswith("failed"):
        _thin(task)
    _end(task, {**result, "status": status, "values": values, "error": error_text})


def _prepared(task: Task) -> Task:
    """Make the folder ready for `run_task`: what is of another run goes, what can be gone on with stays.

    Gives the task without its pictures, which job.json names.
    """
    state, found = state_of(task), read_result(task.folder)
    if state in ("other", "damaged"):
        shutil.rmtree(task.folder)
        found = {}
    if task.config and state != "trained":
        write_job(task.folder, task.config, task.data, task.init_from, task.parent)
    result = {
        "status": "running",
        **task.facts,
        **task.notes,
        "config": task.config.to_dict() if task.config else None,
        "version": task.version,
        "started": found.get("started", now()),
        "seconds": found.get("seconds", 0.0),
        "trained": state == "trained",
        "values": [],
    }
    write_json(task.folder / RESULT, result)
    return replace(task, data=None)


def _end(task: Task, result: dict) -> None:
    write_json(task.folder / RESULT, {key: value for key, value in result.items() if value is not None})


def _trained_steps(task: Task) -> int:
    for folder in reversed(list_checkpoints(task.folder / "checkpoints")):
        with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged one, which the trainer passes over, too
            return int(read_json(folder / "meta.json")["step"])
    return 0


def _diverged(error: Exception, folder: Path) -> bool:
    """Whether a training failed by its losses or weights, not by the disk or because another works in its folder."""
    return (
        isinstance(error, TrainError)
        and not isinstance(error.__cause__, DiskError)
        and not str(error).startswith(str(folder))
    )


def _thin(task: Task) -> None:
    """Keep the generators of the measured epochs, or no weights at all."""
    if not task.keep:
        shutil.rmtree(task.folder / "checkpoints", ignore_errors=True)
    for folder in list_checkpoints(task.folder / "checkpoints"):
        if int(folder.name.removeprefix("epoch_")) not in task.labels:
            shutil.rmtree(folder)
            continue
        for path in folder.iterdir():
            if path.name not in KEPT_FILES:
                path.unlink()


@contextmanager
def _alone(root: Path):
    """Within the block no other call works in `root`. The lock goes with the process, however it ends."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StudyError(
                f"{root}: process {file.read().strip() or '(unknown)'} is at work there; wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
