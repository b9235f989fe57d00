"""Checkpoints of a stage: weights as safetensors, everything else as JSON, written whole or not at all.

    checkpoints/epoch_0313/
        net_G_AB.safetensors  net_G_BA…  net_D_A…  net_D_B…   each with its config: one file can be loaded alone; of
                                                               other methods than the paper's (see methods) their own
        trainer.safetensors                                    optimisers and image pools; only in the newest two
        meta.json                                              format, config, epoch, step, parent, SHA-256 of each file
                                                               and of meta.json's own content

net_G_AB turns A into B; net_D_B judges images of domain B (the published code calls that one D_A). Nothing here is
ever unpickled. A folder is written under a temporary name, flushed to disk and renamed.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lib.data.files import read_json, sha256, write_json

from .batches import TrainData
from .config import TrainConfig
from .disk import DiskError, free_bytes, human, writing
from .method_parts import IdentityNet, PatchProjection, PlainGenerator, RegionNet
from .methods import METHODS
from .networks import AVERAGE, Discriminator, Generator
from .records import strip_bytes

FORMAT = 1
NETWORKS = {"net_G_AB": Generator, "net_G_BA": Generator, "net_D_A": Discriminator, "net_D_B": Discriminator}
KINDS = {
    kind.__name__: kind for kind in (Generator, Discriminator, PlainGenerator, PatchProjection, RegionNet, IdentityNet)
}
TRAINER = "trainer.safetensors"
WITH_TRAINER = 2  # the newest, and one to fall back to
_HEADER = 110  # bytes that a tensor's entry takes in a safetensors file, its name included, within a tenth or so


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or of another kind; the message names the file and what to do."""


class FormatError(CheckpointError):
    """A checkpoint of another version of this package: sound perhaps, so never passed over and removed."""


def folder_name(epoch: int) -> str:
    """313 → "epoch_0313"."""
    return f"epoch_{epoch:04d}"


def list_checkpoints(root: Path) -> list[Path]:
    """The checkpoint folders under `root` (a run's checkpoints/), oldest first, whether sound or not."""
    return sorted(filter(Path.is_dir, _named(root)), key=lambda folder: int(folder.name.removeprefix("epoch_")))


def _named(root: Path) -> list[Path]:
    return [path for path in Path(root).glob("epoch_*") if path.name.removeprefix("epoch_").isdecimal()]


def write_checkpoint(
    root: Path, epoch: int, networks: dict[str, torch.nn.Module], trainer: dict[str, torch.Tensor], meta: dict
) -> Path:
    """Write checkpoints/epoch_NNNN and give its path; an older folder of that name is replaced.

    networks: by the names in `NETWORKS`. trainer: flat tensors. meta: JSON-able; format, epoch and hashes are added.
    Raises CheckpointError, before anything is written, where a weight is not finite, and DiskError where there is no
    room; what was written by then is removed, and the checkpoints before are as they were.
    """
    for name, net in networks.items():
        bad = [key for key, value in net.state_dict().items() if not torch.isfinite(value).all()]
        if bad:
            raise CheckpointError(f"{name}: {bad[0]} holds values that are not finite; nothing was saved")
    root, target = Path(root), Path(root) / folder_name(epoch)
    temporary = root / f".tmp_{target.name}_{os.getpid()}"
    tensors = [*trainer.values(), *(value for net in networks.values() for value in net.state_dict().values())]
    with writing(target, needs=sum(value.nbytes for value in tensors)):
        clean(root)
        try:
            temporary.mkdir(parents=True)
            for name, net in networks.items():
                # One key: safetensors writes several in random order, and equal runs shall give equal files.
                note = json.dumps({"format": FORMAT, "kind": type(net).__name__, "config": net.config()})
                save_file(_portable(net.state_dict()), temporary / f"{name}.safetensors", metadata={"network": note})
            save_file(_portable(trainer), temporary / TRAINER)
            files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
            meta = {"format": FORMAT, "epoch": epoch, **meta, "files": files}
            write_json(temporary / "meta.json", {**meta, "sha256": _digest(meta)})
            readable = temporary.stat().st_mode & 0o666  # safetensors would leave its files to their owner alone
            for path in temporary.iterdir():
                path.chmod(readable)
            for path in (*temporary.iterdir(), temporary):
                _flush(path)
            if target.exists():
                os.replace(target, root / f".tmp_old_{target.name}_{os.getpid()}")
            os.replace(temporary, target)
            _flush(root)
        finally:
            clean(root)
    return target


def clean(root: Path) -> None:
    """Remove what an interrupted write left behind."""
    for leftover in Path(root).glob(".tmp_*"):
        shutil.rmtree(leftover, ignore_errors=True)


def prune(root: Path, keep_epochs: tuple[int, ...]) -> None:
    """Keep weights of keep_epochs and of the newest two, and the trainer's state of the newest two only."""
    kept = {folder_name(epoch) for epoch in keep_epochs}
    for folder in list_checkpoints(root)[:-WITH_TRAINER]:
        if folder.name in kept:
            (folder / TRAINER).unlink(missing_ok=True)
        else:
            # Renamed first: a kill during the removal must not leave a checkpoint that looks damaged.
            doomed = folder.with_name(f".tmp_{folder.name}")
            os.replace(folder, doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def size_estimate(cfg: TrainConfig, data: TrainData) -> dict[str, int]:
    """Bytes that a stage takes on disk, known before it starts.

    weights, trainer: of the last checkpoint. samples: the strips of all epochs. at_end: all that stays, to about 2 %
    (metrics and metas, a few kB, are left out). at_most: at_end and the checkpoint that lies there beside the newest
    two until it is pruned. A checkpoint's pools hold what its own number of steps has put there.
    """
    with torch.device("meta"):  # shapes only, no memory
        networks = METHODS[cfg.method].make(cfg)
    all_sizes = {name: [parameter.numel() for parameter in net.parameters()] for name, net in networks.items()}
    weights = sum(4 * sum(sizes) + _HEADER * len(sizes) for sizes in all_sizes.values())
    idle = ("net_G_BA", "net_D_A") if cfg.one_sided else ()
    sizes = [size for name, of in all_sizes.items() if name not in idle for size in of]
    if cfg.average:
        weights += 4 * sum(all_sizes["net_G_AB"]) + _HEADER * len(all_sizes["net_G_AB"])
    optimisers = 4 * (2 * sum(sizes) + len(sizes)) + 3 * _HEADER * len(sizes)
    seen = cfg.batch_size * cfg.steps_in_epoch(len(data.A), len(data.B))  # fakes an epoch makes for either pool
    stored = [min(cfg.pool_size, seen * passes) for passes in range(1, len(cfg.epochs) + 1)]
    pools = 1 if cfg.one_sided else METHODS[cfg.method].pools
    trainers = [optimisers + 4 * pools * count * 3 * cfg.size**2 for count in stored]
    samples = len(cfg.epochs) * strip_bytes(data, cfg)
    at_end = len({*cfg.keep_epochs, *cfg.epochs[-WITH_TRAINER:]}) * weights + sum(trainers[-WITH_TRAINER:]) + samples
    before = slice(-WITH_TRAINER - 1, -WITH_TRAINER)  # one epoch, or none where all are the newest
    at_most = at_end + sum(trainers[before]) + len({*cfg.epochs[before]} - {*cfg.keep_epochs}) * weights
    return {"weights": weights, "trainer": trainers[-1], "samples": samples, "at_end": at_end, "at_most": at_most}


def check_room(cfg: TrainConfig, data: TrainData, run_dir: Path) -> str:
    """A line on what the stage takes and what is free. Raises DiskError where that is not enough for what is left."""
    sizes = size_estimate(cfg, data)
    there = sum(path.stat().st_size for where in ("checkpoints/*/*", "samples/*") for path in Path(run_dir).glob(where))
    free = free_bytes(run_dir)
    text = {name: human(size) for name, size in sizes.items()}
    written = f", of it {human(there)} already written" if there else ""
    if sizes["at_most"] - there > free:
        raise DiskError(
            f"{run_dir}: the stage takes up to {text['at_most']} on disk{written}, but only {human(free)} are free: "
            "make room, use a folder on another disk, or keep fewer epochs (keep_epochs)"
        )
    return (
        f"{cfg.stage}: about {text['at_end']} on disk at its end, {text['at_most']} at most (weights {text['weights']} "
        f"a checkpoint, trainer state {text['trainer']}, samples {text['samples']}){written}; {human(free)} free"
    )


def read_meta(folder: Path, with_trainer: bool = False) -> dict:
    """meta.json of a checkpoint whose files are all there and unchanged.

    with_trainer: the trainer's state must be there too (to resume, not to translate).
    Raises CheckpointError that names the first file found missing or damaged.
    """
    folder = Path(folder)
    try:
        meta = read_json(folder / "meta.json")
        files, version = meta["files"], meta["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / 'meta.json'}: missing or damaged ({error})") from error
    # Before the format, whose digit may be what is damaged. The first releases wrote no digest.
    if meta.pop("sha256", None) not in (None, _digest(meta)):
        raise CheckpointError(f"{folder / 'meta.json'}: damaged (its content does not have the SHA-256 it names)")
    if version != FORMAT:
        raise FormatError(
            f"{folder / 'meta.json'}: expected checkpoint format {FORMAT}, got {version}; "
            "use the version of this package that wrote it, or move the folder away"
        )
    for name, expected in files.items():
        if name == TRAINER and not with_trainer:
            continue
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: missing, though meta.json lists it")
        if sha256(path) != expected:
            raise CheckpointError(f"{path}: damaged or truncated (its SHA-256 is not the one in meta.json)")
    return meta


def newest_usable(
    root: Path, last_step: int, on_refused: Callable[[str], None] | None = None
) -> tuple[Path, dict] | None:
    """The newest checkpoint that training can go on from, and its meta; None where there is none.

    last_step: the stage's last. A checkpoint there needs no trainer's state: nothing is left to train.
    Damaged ones are passed over with a warning that names the file, and removed: the work since the one before is
    done again. on_refused(the warning's text) is called for each before it is removed. Raises CheckpointError where
    sound weights are left but none with a trainer's state (starting anew would overwrite them, which is for a person
    to decide), for a checkpoint of another format, and for a file in the place of a checkpoint's folder.
    """
    for path in _named(root):
        if not path.is_dir():
            raise CheckpointError(f"{path}: expected a checkpoint's folder, got a file; move it away")
    refused, weights_only = [], None
    folders = list_checkpoints(root)
    for before, folder in reversed(list(zip([None, *folders], folders))):
        try:
            meta = read_meta(folder)
            weights_only = weights_only or folder
            if meta["step"] != last_step:
                read_meta(folder, with_trainer=True)
            break
        except FormatError:
            raise
        except CheckpointError as error:
            back_to = before.name if before else "the start of the stage"
            told = f"checkpoint refused, falling back to {back_to}: {error}"
            warnings.warn(told, stacklevel=2)
            refused.append((folder, told))
    else:
        if weights_only:
            raise CheckpointError(
                f"{root}: holds weights ({weights_only.name}) but no checkpoint that training can go on from; "
                "move the folder away to train the stage anew, or give the weights as init_from of another run"
            )
        folder = None
    for damaged, told in refused:
        if on_refused:
            on_refused(told)
        shutil.rmtree(damaged)
    return (folder, meta) if folder else None


def load_network(path: Path, device: torch.device | str = "cpu") -> torch.nn.Module:
    """Build the network that a net_*.safetensors file describes and load its weights.

    Raises CheckpointError for a missing or damaged file, or one that this package did not write.
    """
    note, tensors = _read(path, device)
    if "network" not in note:
        raise CheckpointError(f"{path}: no network description in its metadata; expected a net_*.safetensors file")
    note = json.loads(note["network"])
    if note["format"] != FORMAT:
        raise CheckpointError(f"{path}: expected checkpoint format {FORMAT}, got {note['format']}")
    if note["kind"] not in KINDS:
        raise CheckpointError(f"{path}: expected {', '.join(KINDS)}, got a {note['kind']}; another version wrote it")
    net = KINDS[note["kind"]].from_config(note["config"])
    _assign(net, tensors, path)
    return net.to(device)


def load_weights(networks: dict[str, torch.nn.Module], folder: Path) -> None:
    """Copy all networks' weights out of a checkpoint into networks that are already built.

    A mean that the checkpoint does not have starts at its net_G_AB.
    Raises CheckpointError where the checkpoint is damaged or was trained with networks of another size.
    """
    read_meta(folder)
    for name, net in networks.items():
        path = Path(folder) / f"{name}.safetensors"
        if name == AVERAGE and not path.exists():
            path = Path(folder) / "net_G_AB.safetensors"
        _assign(net, _read(path, "cpu")[1], path)


def load_trainer(folder: Path, device: torch.device | str) -> dict[str, torch.Tensor]:
    """The trainer's tensors of a checkpoint, by name."""
    return _read(Path(folder) / TRAINER, device)[1]


def _read(path: Path, device: torch.device | str) -> tuple[dict, dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({error})") from error


def _assign(net: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    expected = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in tensors.items()}
    if got != expected:
        key = next(k for k in sorted({*expected, *got}) if expected.get(k) != got.get(k))
        raise CheckpointError(
            f"{path}: its weights do not fit this network ({key}: expected {expected.get(key)}, got {got.get(key)}); "
            f"use the ngf, ndf, n_blocks and upsampling that it was trained with"
        )
    net.load_state_dict(tensors)


def _portable(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.detach().cpu().contiguous() for key, value in tensors.items()}


def _digest(meta: dict) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
