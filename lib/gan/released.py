"""Released models: weights of a generator A→B inside the package, in parts that a plain git repository can hold.

    lib/gan/weights/registry.json    the default's name; of each model its checksum, bytes, size, what it was trained on
    lib/gan/weights/NAME/
        model.json                   network, size, parts with bytes and SHA-256, and facts of the run
        part-00001-of-00002.safetensors …        bfloat16; a tensor is never cut
        README.md                    the model card

`lib.study.release` makes such a folder out of a study. Nothing here is ever unpickled.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save

from lib.data.files import read_json, sha256, write_bytes, write_json, write_text

from .checkpoints import CheckpointError, clean, load_network
from .networks import Generator

WEIGHTS = Path(__file__).parent / "weights"
MODEL, REGISTRY, CARD, SOURCE = "model.json", "registry.json", "README.md", "net_G_AB.safetensors"
FORMAT = 1
MAX_PART_BYTES = 15 * 2**20  # hosts of git refuse or slow down on large files; the tests of this repository end at 16
_HEADER = 160  # bytes: more than safetensors writes per tensor, its name apart
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NEEDED = {"name", "network", "size_px", "parts", "sha256"}


def list_released(root: Path | None = None) -> list[dict]:
    """A dict per registered model, the default first: name, default, folder, sha256, bytes, size_px, trained_on.

    root: the folder of registry.json; None for the package's own, here and below. CheckpointError where it is damaged.
    """
    root = Path(root or WEIGHTS)
    try:
        registry = read_json(root / REGISTRY) if (root / REGISTRY).exists() else {"default": None, "models": {}}
        default, models = registry["default"], registry["models"]
        rows = [{"name": k, "default": k == default, "folder": root / k, **models[k]} for k in sorted(models)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{root / REGISTRY}: damaged ({error}); restore it from the repository") from error
    return sorted(rows, key=lambda row: not row["default"])


def default_released(root: Path | None = None) -> str | None:
    """Name of the model that is used when none is named; None where there is none."""
    return next((row["name"] for row in list_released(root) if row["default"]), None)


def find_weights(which: Path | str | None = None, root: Path | None = None) -> Path:
    """Where some weights are: a net_G_*.safetensors file, or the folder of a released model.

    which: such a file or folder, a checkpoint folder (stands for its net_G_AB), or a released model's name; None for
    the default. What is there as a path goes before a name.
    Raises CheckpointError that lists the known names where there is no such thing.
    """
    if which is not None:
        path = Path(which)
        if path.is_file() or (path / MODEL).is_file():
            return path
        if (path / SOURCE).is_file():
            return path / SOURCE
    rows = list_released(root)
    known = ", ".join(row["name"] for row in rows) or "none yet"
    entry = next((row for row in rows if (row["default"] if which is None else row["name"] == str(which))), None)
    if entry is None and which is None:
        raise CheckpointError(f"no released model is the default; name one (there are: {known})")
    if entry is None:
        path = path / SOURCE if path.is_dir() else path
        raise CheckpointError(
            f"{path}: no such checkpoint file, and no released model of that name (there are: {known})"
        )
    if read_model(entry["folder"])["sha256"] != entry["sha256"]:
        raise CheckpointError(f"{entry['folder'] / MODEL}: not the model that {REGISTRY} lists; restore both")
    return entry["folder"]


def read_model(folder: Path) -> dict:
    """model.json of a released model. CheckpointError where it is missing, damaged or of another format."""
    path = Path(folder) / MODEL
    try:
        model = read_json(path)
        if model["format"] != FORMAT:
            raise CheckpointError(f"{path}: expected format {FORMAT} of a released model, got {model['format']}")
        missing = _NEEDED - set(model)
        good = not missing and model["sha256"] == _digest(model)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({error})") from error
    if not good:
        raise CheckpointError(f"{path}: damaged ({', '.join(sorted(missing)) or 'network, size or parts changed'})")
    return model


def load_released(
    which: Path | str | None = None, device: torch.device | str = "cpu", root: Path | None = None
) -> Generator:
    """A released generator, ready to translate: computes in float32 with weights that were rounded to bfloat16.

    which: its name or its folder; None for the default. Size and SHA-256 of every part are checked.
    Raises CheckpointError that names the file found missing or damaged, or a Git-LFS pointer.
    """
    folder = find_weights(which, root)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected the name or the folder of a released model, got a file")
    model = read_model(folder)
    tensors = {}
    for part in model["parts"]:
        tensors |= load(_read_part(folder / part["file"], part))
    try:
        net = Generator.from_config(model["network"])
        net.load_state_dict(tensors)
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder / MODEL}: its parts do not fit the network it describes ({reason})") from error
    return net.to(device).eval().requires_grad_(False)


def pack_released(
    checkpoint_folder: Path,
    out_folder: Path,
    facts: Mapping,
    max_part_bytes: int = MAX_PART_BYTES,
    card: Callable[[dict], str] | None = None,
    files: Mapping[str, bytes] | None = None,
    source: str = SOURCE,
) -> dict:
    """Write a generator of a checkpoint as a released model named like `out_folder`; gives the content of model.json.

    facts: JSON-able, joined into model.json; use_px: the size to translate at, where not that of training.
    card: makes README.md out of model.json. files: further files beside it. source: which file of the checkpoint.
    Written under a temporary name and renamed: a failure leaves an older model of that name as it was.
    Raises CheckpointError for a checkpoint that is missing or damaged, a name that is none, a folder of something
    else, and a tensor larger than a part.
    """
    path, target = Path(checkpoint_folder) / source, Path(out_folder)
    if not _NAME.fullmatch(target.name):
        raise CheckpointError(f"name {target.name!r}: use letters, digits, '.', '_' and '-' (at most 64)")
    if target.exists() and not (target / MODEL).is_file():
        raise CheckpointError(f"{target}: is there and no released model; choose another name")
    try:
        meta = read_json(path.with_name("meta.json"))
        digest, size_px = sha256(path), meta["config"]["size"]
        if digest != meta["files"][source]:
            raise CheckpointError(f"{path}: damaged or truncated (its SHA-256 is not the one in meta.json)")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path.parent}: no whole checkpoint ({error!r})") from error
    net = load_network(path)
    tensors = {key: value.detach().to(torch.bfloat16).contiguous() for key, value in net.state_dict().items()}
    groups = _split(tensors, max_part_bytes)
    names = [f"part-{k:05}-of-{len(groups):05}.safetensors" for k in range(1, len(groups) + 1)]
    parts = {name: save({key: tensors[key] for key in group}) for name, group in zip(names, groups)}
    model = {"format": FORMAT, "name": target.name, "network": net.config(), "size_px": size_px, "dtype": "bfloat16"}
    model["parameters"] = sum(value.numel() for value in tensors.values())
    model["bytes"] = sum(map(len, parts.values()))
    model["source_sha256"] = digest
    model["parts"] = [
        {"file": name, "bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()} for name, part in parts.items()
    ]
    if facts.get("use_px") not in (None, size_px):
        model["use_px"] = int(facts["use_px"])
    facts = {key: value for key, value in facts.items() if key != "use_px"}
    model["sha256"] = _digest(model)
    model = model | dict(facts) | model  # in this order, and facts override nothing
    contents = {**(files or {}), **parts}
    clean(target.parent)
    temporary = target.with_name(f".tmp_{target.name}_{os.getpid()}")
    try:
        for name, content in contents.items():
            write_bytes(temporary / name, content)
        write_json(temporary / MODEL, model)
        if card:
            write_text(temporary / CARD, card(model))
        _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read_model(target)


def register_released(folder: Path, default: bool = False) -> None:
    """List a released model in the registry beside its folder, and make it the default if told to."""
    folder = Path(folder)
    models = {row["name"]: row for row in list_released(folder.parent)} | {folder.name: read_model(folder)}
    told = ("sha256", "bytes", "size_px", "trained_on")
    entries = {name: {key: models[name].get(key) for key in told} for name in sorted(models)}
    chosen = folder.name if default else default_released(folder.parent)
    write_json(folder.parent / REGISTRY, {"default": chosen, "models": entries})


def _digest(model: Mapping) -> str:
    """One checksum over all that shapes the results; facts of the run may be corrected without changing it."""
    shaping = [model["network"], model["size_px"], model["parts"], *([model["use_px"]] if "use_px" in model else [])]
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def _read_part(path: Path, part: Mapping) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: missing ({error.strerror}), though {MODEL} lists it") from error
    if content.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: a Git-LFS pointer instead of the weights; run `git lfs pull`")
    if len(content) != part["bytes"] or hashlib.sha256(content).hexdigest() != part["sha256"]:
        got = f"{part['bytes']:,} bytes expected, {len(content):,} found"
        raise CheckpointError(f"{path}: damaged or truncated ({got}; SHA-256 differs); restore it from the repository")
    return content


def _split(tensors: Mapping[str, torch.Tensor], limit: int) -> list[list[str]]:
    """Names of the tensors of each part, in their order, each part below `limit` bytes with its header."""
    groups: list[list[str]] = []
    room = 0
    for key, value in tensors.items():
        needed = value.nbytes + len(key) + _HEADER
        if needed + _HEADER > limit:
            raise CheckpointError(f"{key}: {value.nbytes:,} bytes do not fit into a part of {limit:,}")
        if needed > room:
            groups.append([])
            room = limit - _HEADER
        groups[-1].append(key)
        room -= needed
    return groups


def _swap(temporary: Path, target: Path) -> None:
    old = target.with_name(f".tmp_old_{target.name}_{os.getpid()}")
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(temporary, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
