"""Errors of a full disk that say which file, how much it needs and how much is free."""

import errno
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskError(OSError):
    """A file that could not be written, or too little room for what is to come; the message names the place."""


@contextmanager
def writing(path: Path, needs: int):
    """Within the block, a failed write of `path` (about `needs` bytes) becomes a DiskError that says why."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        code = _code(error)
        reason = os.strerror(code) if code else str(error)
        if code in NO_ROOM:
            reason += f" (needs about {human(needs)}, {human(free_bytes(path))} free); make room and run again"
        raise DiskError(f"{path}: {reason}") from error


def free_bytes(path: Path) -> int:
    """Bytes free for `path`, which need not exist yet. A quota is not seen."""
    path = Path(path).absolute()
    return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free


def human(count: int) -> str:
    """1_234_567 → "1.2 MB"; units are powers of ten, as disks are sold."""
    scale, unit = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if count >= pair[0]), (1e3, "kB"))
    return f"{count / scale:.1f} {unit}"


def _code(error: OSError | SafetensorError) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"os error (\d+)", str(error))  # safetensors hands the system's error on as text only
    return int(found[1]) if found else None
