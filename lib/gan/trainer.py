"""Train one stage of step two: the loop over steps, its records, resume.

A stage writes into its run folder:
    metrics.csv                one row per tick: means since the tick before (losses unweighted, except loss_G, the sum)
    samples.csv, samples/      see records
    checkpoints/epoch_NNNN/    see checkpoints
    fallbacks.txt              only where a damaged checkpoint was passed over: a line on each, with the time in UTC
A stage that was stopped goes on from its newest checkpoint. All randomness is seeded by what it is for (see
config.stable_seed), so on a CPU with the same number of threads the result equals that of a run never stopped, bit for
bit. Of several processes (see ranks) each computes its share of every batch and the first one writes.
"""

import fcntl
import json
import math
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from . import checkpoints
from .batches import TrainData, make_batch, resident
from .checkpoints import CheckpointError
from .config import TrainConfig, pick_device
from .disk import DiskError, writing
from .methods import Method, build
from .ranks import Ranks
from .records import SAMPLE_COLUMNS, CsvLog, snapshot

# Least-squares losses sit near 1, and above 0.25 only while one side wins: a thousand is beyond recovery.
# Not given in the paper; chosen because a diverged night should stop early.
EXPLODED = 1e3


class TrainError(RuntimeError):
    """Training cannot go on; the message names the step, the loss and the last good checkpoint."""


@dataclass(frozen=True)
class Result:
    """Where a finished stage left its files. steps: of the whole stage; trained_s: seconds this call trained."""

    run_dir: Path
    checkpoint: Path
    epoch: int
    steps: int
    trained_s: float
    already_finished: bool


def train(
    cfg: TrainConfig,
    data: TrainData,
    run_dir: Path | str,
    init_from: Path | str | None = None,
    parent: dict | None = None,
    progress: bool = True,
    on_epoch: Callable[[int, dict], None] | None = None,
) -> Result:
    """Train a stage to its end, from its start or from where it was stopped; a finished stage returns at once.

    init_from: checkpoint folder whose weights (all networks, nothing else) the stage starts from; used only when
    the stage has no checkpoint of its own yet. parent: JSON-able note kept in every meta.json on where the stage comes
    from; by default the stage, epoch and config hash of init_from. progress: show a bar.
    on_epoch(label, row): called after each epoch's checkpoint with the epoch's last metrics row (not again for epochs
    that were trained before a resume).
    On resume the configuration, the number of images and a given parent must be those of the run; that the images are
    the same ones is for the caller to know.
    Raises ValueError for data that does not fit cfg, CheckpointError for a run folder of another configuration or data
    and for an unusable init_from, TrainError where a loss is not finite or has exploded, a file cannot be written, or
    another process trains in the same folder.
    """
    data.check(cfg)
    ranks = Ranks.current()
    ranks.part(cfg.batch_size)
    with _locked(Path(run_dir), ranks):
        return _train(cfg, data, Path(run_dir), ranks, init_from, parent, progress, on_epoch)


@contextmanager
def _locked(run_dir: Path, ranks: Ranks):
    """Within the block no other process trains in run_dir. The lock goes with the process, however it ends."""
    if not ranks.first:
        yield
        return
    try:
        with writing(run_dir, needs=0):
            run_dir.mkdir(parents=True, exist_ok=True)
            file = (run_dir / ".lock").open("w")
    except DiskError as error:
        raise TrainError(str(error)) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainError(f"{run_dir}: another process trains in this folder; wait for it or stop it") from None
        yield


def _train(
    cfg: TrainConfig,
    data: TrainData,
    run_dir: Path,
    ranks: Ranks,
    init_from: Path | str | None,
    parent: dict | None,
    progress: bool,
    on_epoch: Callable[[int, dict], None] | None,
) -> Result:
    device = pick_device(cfg.device)
    steps_per_epoch = cfg.steps_in_epoch(len(data.A), len(data.B))
    total_steps = len(cfg.epochs) * steps_per_epoch
    counts = {"A": len(data.A), "B": len(data.B)}
    parent = json.loads(json.dumps(parent))  # as it will be read back, tuples as lists

    # Finished already?
    found = _newest(run_dir, total_steps, ranks)
    if found:
        _check_same(found, cfg, counts, parent)
        if ranks.first:  # a kill may have come between a checkpoint and its pruning, even the last one's
            checkpoints.prune(run_dir / "checkpoints", cfg.keep_epochs)
    step = found[1]["step"] if found else 0
    if found and step == total_steps:
        return Result(run_dir, found[0], cfg.epochs[-1], step, 0.0, already_finished=True)

    # Networks: from this stage's checkpoint, from the parent's weights, or from scratch.
    model = build(cfg, device, ranks)
    if cfg.lambda_distance > 0:
        model.prepare(cfg, data)
    if found:
        checkpoints.load_weights(model.networks, found[0])
        model.load_trainer_state(checkpoints.load_trainer(found[0], device))
        parent = found[1]["parent"]
    elif init_from is not None:
        origin = checkpoints.read_meta(Path(init_from))
        _check_method(Path(init_from), origin, cfg)
        checkpoints.load_weights(model.networks, Path(init_from))
        parent = parent or {"stage": origin["config"]["stage"]} | {k: origin[k] for k in ("epoch", "config_hash")}
    facts = {"config": cfg.to_dict(), "config_hash": cfg.hash(), "images": counts, "parent": parent}

    records = _Records(cfg, data, run_dir, ranks, facts, model.losses, good=found[0] if found else None)
    room = records.begin(step)
    if room and progress:
        print(room)
    data = resident(data, device)
    started = tick_started = time.perf_counter()
    pending: list[torch.Tensor] = []
    shown = {"desc": cfg.stage, "mininterval": 5, "ascii": True, "disable": not (progress and ranks.first)}
    with tqdm(total=total_steps, initial=step, **shown) as bar:
        for label in cfg.epochs[step // steps_per_epoch :]:
            bar.set_description(f"{cfg.stage} epoch {label}", refresh=False)

            for _ in range(steps_per_epoch):
                pending.append(model.step(make_batch(cfg, data, step, device, ranks), step))
                step += 1
                bar.update()
                if len(pending) == cfg.tick_steps or step % steps_per_epoch == 0:
                    # The only wait for the device: values of all steps of the tick at once.
                    values = ranks.mean(torch.stack(pending)).cpu().double().numpy()
                    _check_losses(values, model.losses, step, label, cfg, records.good)
                    now = time.perf_counter()
                    row = {"epoch": label, "step": step, **_means(values, model.losses), "seconds": now - tick_started}
                    records.tick(row)
                    bar.set_postfix(_shown(row), refresh=False)
                    pending, tick_started = [], now

            records.epoch(label, step, model)
            if on_epoch and ranks.first:
                on_epoch(label, row)
            tick_started = time.perf_counter()

    ranks.wait()  # the last checkpoint is on disk when any rank returns
    seconds = time.perf_counter() - started
    return Result(run_dir, records.good, cfg.epochs[-1], step, seconds, already_finished=False)


def _newest(run_dir: Path, total_steps: int, ranks: Ranks) -> tuple[Path, dict] | None:
    """The checkpoint to go on from, with its meta. The first rank cleans up before the others look."""
    root, log, found = run_dir / "checkpoints", run_dir / "fallbacks.txt", None

    def note(told: str) -> None:
        line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {told}\n"
        with writing(log, needs=len(line)), log.open("a", encoding="utf-8") as file:
            file.write(line)

    if ranks.first:
        checkpoints.clean(root)
        try:
            found = checkpoints.newest_usable(root, total_steps, note)
        except DiskError as error:
            raise TrainError(str(error)) from error
    ranks.wait()
    return found if ranks.first else checkpoints.newest_usable(root, total_steps)


class _Records:
    """What a stage writes, by its first rank alone. `good` is the newest sound checkpoint, None before the first.

    Errors of the disk become a TrainError that names the step and that checkpoint.
    """

    def __init__(
        self,
        cfg: TrainConfig,
        data: TrainData,
        run_dir: Path,
        ranks: Ranks,
        facts: dict,
        losses: tuple[str, ...],
        good: Path | None,
    ) -> None:
        self.cfg, self.data, self.run_dir, self.facts, self.good = cfg, data, run_dir, facts, good
        self.writes = ranks.first
        self.metrics = CsvLog(run_dir / "metrics.csv", ("epoch", "step", *losses, "seconds"))
        self.samples = CsvLog(run_dir / "samples.csv", SAMPLE_COLUMNS)

    def begin(self, step: int) -> str:
        """Drop rows of steps that are done again. Gives a line on the room the stage takes on disk."""
        if not self.writes:
            return ""
        with self._saving(step, "before training"):
            room = checkpoints.check_room(self.cfg, self.data, self.run_dir)
            self.metrics.cut(step)
            self.samples.cut(step)
        return room

    def tick(self, row: dict) -> None:
        """Append a row to metrics.csv."""
        if self.writes:
            with self._saving(row["step"], f"epoch {row['epoch']}"):
                self.metrics.append(row)

    def epoch(self, label: int, step: int, model: Method) -> None:
        """Sample strip and checkpoint of an epoch."""
        if not self.writes:
            return
        with self._saving(step, f"epoch {label}"):
            # Samples first: whatever is on disk after a kill, a checkpoint's epoch has its samples.
            if self.data.samples is not None and self.cfg.sample_count > 0:
                path = self.run_dir / "samples" / f"epoch_{label:04d}.png"
                measured = snapshot(model.net_G_AB, self.data, self.cfg, path)
                self.samples.append({"epoch": label, "step": step, **measured})
            root, meta = self.run_dir / "checkpoints", {"step": step, **self.facts}
            self.good = checkpoints.write_checkpoint(root, label, model.networks, model.trainer_state(), meta)
        checkpoints.prune(root, self.cfg.keep_epochs)

    @contextmanager
    def _saving(self, step: int, where: str):
        try:
            yield
        except (CheckpointError, DiskError) as error:
            raise TrainError(f"{self.cfg.stage}: step {step} ({where}): {error}; {_last_good(self.good)}") from error


def _check_same(found: tuple[Path, dict], cfg: TrainConfig, counts: dict, parent: dict | None) -> None:
    folder, meta = found
    lines = cfg.differences(TrainConfig.from_dict(meta["config"]))
    if meta["images"] != counts:
        lines.append(f"images: {counts}, not {meta['images']}")
    if parent is not None and parent != meta["parent"]:
        lines.append(f"parent: {parent}, not {meta['parent']}")
    if lines:
        raise CheckpointError(
            f"{folder} belongs to another configuration ({'; '.join(lines)}): go on with that one, "
            "use another run folder, or delete this one to start the stage anew"
        )


def _check_method(folder: Path, meta: dict, cfg: TrainConfig) -> None:
    of = TrainConfig.from_dict(meta["config"]).method
    if of != cfg.method:
        raise CheckpointError(
            f"{folder}: was trained by method {of!r}, expected {cfg.method!r}; start from one of those"
        )


def _check_losses(
    values: np.ndarray, losses: tuple[str, ...], step: int, label: int, cfg: TrainConfig, good: Path | None
) -> None:
    """values [steps, losses] of the tick that ends at `step`. TrainError at the first that has gone wrong."""
    optional = ("loss_nmc", "loss_idt_A", "loss_idt_B")  # NaN where not computed; were they broken, so is loss_G
    names = (*losses[1:], "loss_G")  # the sum last: the message names what went wrong first
    for at, row in enumerate(values):
        for name in names:
            value = row[losses.index(name)]
            broken = not math.isfinite(value) and name not in optional
            exploded = name.startswith(("loss_G_adv", "loss_D")) and value > EXPLODED
            if broken or exploded:
                raise TrainError(
                    f"{cfg.stage}: {name} is {value:g} at step {step - len(values) + at + 1} (epoch {label}); "
                    f"{_last_good(good)}; try a lower lr or lambda, or look for a broken image"
                )


def _last_good(good: Path | None) -> str:
    return f"last good checkpoint: {good or 'none in this stage'}"


def _means(values: np.ndarray, losses: tuple[str, ...]) -> dict[str, float | None]:
    return {name: None if np.isnan(column).all() else float(column.mean()) for name, column in zip(losses, values.T)}


def _shown(row: dict) -> dict[str, str]:
    shown = {"G": row["loss_G"], "D_B": row["loss_D_B"], "nmc": row["loss_nmc"]}
    for kind in ("cycle", "nce"):
        if row.get(f"loss_{kind}_A") is not None:
            shown[kind] = row[f"loss_{kind}_A"] + row[f"loss_{kind}_B"]
    return {name: f"{value:.3f}" for name, value in shown.items() if value is not None}
