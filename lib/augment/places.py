"""Whether two machines find the same things: the code and packages that shape the bytes, the folders, the weights."""

import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lib.augment.journal import NAME
from lib.augment.options import Options

PACKAGES = ("dask", "distributed", "numpy", "scipy", "pillow", "dlib-bin", "opencv-python-headless", "torch")


def describe(in_dir: Path, out_dir: Path, options: Options, source: str) -> dict[str, str]:
    """What is found here, in words, by the name of each thing. out_dir: with its journal begun. source: a picture in
    IN. What cannot be found is told too, nothing raises."""
    return {
        **{name: _version(name) for name in PACKAGES},
        "the code of this package": _code(),
        str(in_dir / source): _told(lambda: f"{(in_dir / source).stat().st_size} bytes"),
        str(out_dir / NAME): _told(lambda: _first_line(out_dir / NAME)),
        str(out_dir): "writable" if os.access(out_dir, os.W_OK) else "not writable",
        "what the options name": _told(lambda: _options(in_dir, options)),
    }


def difference(told: dict[str, str], in_dir: Path, out_dir: Path, options: Options, source: str) -> str:
    """The first thing that is found otherwise here than `told` by another machine, in words; "" for none."""
    found = describe(in_dir, out_dir, options, source)
    for name, value in told.items():
        if found.get(name) != value:
            return (
                f"{name}: {found.get(name)} there, {value} here; every worker needs the same packages, and IN, OUT and "
                "the files that options name under the same paths"
            )
    return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _code() -> str:
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.readline()).hexdigest()[:12]


def _options(in_dir: Path, options: Options) -> str:
    options.warp_config()
    named = {name: value for name, value in options.fingerprint(in_dir).items() if name != "input"}
    return hashlib.sha256(repr(named).encode()).hexdigest()[:12]


def _told(look) -> str:
    try:
        return look()
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
