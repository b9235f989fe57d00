"""A folder of photographs in, the same tree masked out: the two steps, the workers and the journal put together."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lib.augment.journal import Journal
from lib.augment.manifest import Summary, finish_run
from lib.augment.options import Options, Task, find_pictures
from lib.augment.steps import Stepped, finish, rule_based, step_one
from lib.augment.tasks import work_digest
from lib.augment.translate import load_translator, training_size, translate

WRITERS = 2  # threads that encode pictures while the generator works on the next batch


def augment_folder(in_dir: Path | str, out_dir: Path | str, options: Options) -> Summary:
    """Mask the faces of every picture under `in_dir` and write the same tree to `out_dir`.

    Outside a picture's region (`OUT/regions/…png` 0) its pixels equal the original's decoded 8-bit RGB to the bit, at
    the original size. A face's result depends on the seed, its picture and its index, on nothing else. A run that was
    stopped, in whatever way, goes on where it was when called again with the same arguments.

    Args:
        in_dir: Folder of pictures, any depth.
        out_dir: Created; empty, or of an earlier run with the same options.
        options: See `Options`.

    Returns:
        The counts. `faces_masked` is 0 where nothing succeeded; then too the tables are there and list why.

    Raises:
        AugmentError: The call cannot be carried out as given, or OUT cannot be written to any more.
    """
    in_dir, out_dir = Path(in_dir), Path(out_dir)
    by_default = options.checkpoint is None
    options = options.checked()
    tasks = find_pictures(in_dir, out_dir, options)
    size = (options.size or training_size(options.checkpoint)) if options.checkpoint else None
    options = replace(options, size=size)
    run = {"fingerprint": options.fingerprint(in_dir) | work_digest(tasks), "status": "interrupted"}
    translator = None
    if options.checkpoint and options.scheduler is None:  # before anything is begun; on a cluster, where step two is
        digest = run["fingerprint"]["checkpoint_sha256"]
        translator = load_translator(options.checkpoint, digest, options.device, options.batch_size)
    run["options"] = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(options).items()}
    started, done_now = time.perf_counter(), 0
    with Journal(out_dir, run["fingerprint"], options.force) as journal:
        gone = journal.keep_valid(in_dir, tasks, options.prune)
        todo = [task for task in tasks[: options.limit] if task.source not in journal.done]
        known = len(tasks[: options.limit]) - len(todo)
        bar = tqdm(total=known + len(todo), initial=known, unit="picture", disable=not options.progress, smoothing=0.05)
        try:
            with closing(_records(todo, in_dir, out_dir, options, translator, journal)) as records:
                for record in records:
                    journal.add(record)
                    done_now += 1
                    bar.update()
            run["status"] = "finished"
        finally:  # after Ctrl-C too the tables tell what is there
            bar.close()
            load_translator.cache_clear()
            model = _told(run["fingerprint"], by_default)
            seconds = time.perf_counter() - started
            summary = Summary(out_dir, model, pictures_gone=gone, done_now=done_now, seconds=seconds)
            finish_run(out_dir, in_dir, journal, run, summary, options)
    return summary


def _told(fingerprint: dict, by_default: bool) -> str:
    """Which masks were made, in words, for the summary."""
    if not fingerprint["checkpoint_sha256"]:
        return "none, masks drawn by rule"
    which = ", the released model used by default" if by_default else ""
    digest = fingerprint["checkpoint_sha256"][:12]
    return f"{fingerprint['checkpoint']}{which}, sha256 {digest}…, faces at {fingerprint['size']} px"


def _records(
    todo: list[Task], in_dir: Path, out_dir: Path, options: Options, translator, journal: Journal
) -> Iterator[dict]:
    """The records of all tasks, each after its files are in place, in the order of completion."""

    def begun() -> Iterator[Task]:
        for task in todo:
            journal.start(task, in_dir)
            yield task

    if todo and options.workers != 0:
        from lib.augment.cluster import Cluster  # here: takes Dask with it

        with Cluster(in_dir, out_dir, options, todo) as cluster:
            yield from cluster.records(begun())
        if cluster.lost:
            journal.sweep()
    elif translator is None:
        yield from (rule_based(task, in_dir, out_dir, options) for task in begun())
    else:
        stepped = (step_one(task, in_dir, options, options.size) for task in begun())
        yield from _finished(translate(stepped, translator, options.batch_size), out_dir, options)


def _finished(translated: Iterable[tuple[Stepped, list]], out_dir: Path, options: Options) -> Iterator[dict]:
    """Composite and encode in threads, a few pictures at most ahead of what is taken."""
    flying: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(WRITERS) as threads:
        for stepped, fakes in translated:
            flying.append(threads.submit(finish, stepped, fakes, out_dir, options))
            if len(flying) > 2 * WRITERS:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
