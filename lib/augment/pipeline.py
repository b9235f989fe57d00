"""A folder of photographs in, the same tree masked out: the two steps, the workers and the journal put together."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lib.augment.journal import Journal
from lib.augment.manifest import Summary, write_tables
from lib.augment.options import AugmentError, Options, Task, find_pictures
from lib.augment.steps import Stepped, empty, fail, finish, rule_based, step_one
from lib.augment.translate import training_size, translate
from lib.data.workers import Pool, WorkerCrashed

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
    tasks = find_pictures(in_dir, out_dir)
    translator = _load(options) if options.checkpoint else None
    size = (options.size or training_size(options.checkpoint)) if options.checkpoint else None
    options = replace(options, size=size)
    run = {"fingerprint": options.fingerprint(in_dir), "status": "interrupted"}
    run["options"] = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(options).items()}
    started, done_now = time.perf_counter(), 0
    with Journal(out_dir, run["fingerprint"], options.force) as journal:
        journal.keep_valid(in_dir, tasks)
        todo = [task for task in tasks[: options.limit] if task.source not in journal.done]
        known = len(tasks[: options.limit]) - len(todo)
        bar = tqdm(total=known + len(todo), initial=known, unit="picture", disable=not options.progress, smoothing=0.05)
        try:
            for record in _records(todo, in_dir, out_dir, options, translator, journal):
                journal.add(record)
                done_now += 1
                bar.update()
            run["status"] = "finished"
        finally:  # after Ctrl-C too the tables tell what is there
            bar.close()
            model = _told(run["fingerprint"], by_default)
            summary = Summary(out_dir, model, done_now=done_now, seconds=time.perf_counter() - started)
            write_tables(out_dir, journal.read(), run, summary)
    return summary


def _load(options: Options):
    from lib.gan.checkpoints import CheckpointError  # here, because the rule-based step alone needs no network
    from lib.gan.infer import Translator

    try:
        return Translator(options.checkpoint, options.device, options.batch_size)
    except (CheckpointError, RuntimeError) as error:
        raise AugmentError(" ".join(str(error).split())) from None


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
            journal.start(task)
            yield task

    if translator is None:
        work = partial(rule_based, in_dir=in_dir, out_dir=out_dir, options=options)
        with Pool(work, min(options.workers, len(todo))) as pool:
            for task, result in pool.run(begun()):
                yield _crashed(task, result).record if isinstance(result, WorkerCrashed) else result
        return

    work = partial(step_one, in_dir=in_dir, options=options, size=options.size)
    with Pool(work, min(options.workers, len(todo))) as pool:
        stepped = (_crashed(t, r) if isinstance(r, WorkerCrashed) else r for t, r in pool.run(begun()))
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


def _crashed(task: Task, crash: WorkerCrashed) -> Stepped:
    stepped = empty(task)
    fail(stepped.record, "crash", str(crash))
    return stepped
