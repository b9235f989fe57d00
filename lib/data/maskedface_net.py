"""MaskedFace-Net (CMFD, IMFD), the source of the paper's set A: FFHQ's faces with a mask warped on.

`CMFD/41000/41192_Mask.jpg`: a five-digit FFHQ id, folders of a thousand (flat copies exist). The suffix names what the
mask covers. There are no boxes and no mask regions: the region is the difference from FFHQ's face of the same id.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from lib.data.ffhq import ID
from lib.data.ffhq import PUBLISHED as FFHQ
from lib.data.images import list_images
from lib.data.table import make_table

PUBLISHED = {"CMFD": 67_049, "IMFD": 66_734}
WEAR_TYPES = {  # suffix → what stays uncovered
    "Mask": "nothing: worn correctly",
    "Mask_Mouth_Chin": "nose",
    "Mask_Nose_Mouth": "chin",
    "Mask_Chin": "nose and mouth",
}
_NAME = re.compile(rf"({ID})_(Mask(?:_[A-Z][a-z]+)*)")


def read_maskedface_net(root: Path | str, kind: str = "CMFD") -> pd.DataFrame:
    """The pictures of CMFD or IMFD as a face table with `identity` (the FFHQ id) and `wear_type` (the suffix).

    `root` is the folder called `kind` or the one that holds it. Names that follow another pattern keep a reason, and so
    do ids beyond FFHQ's, wear types that do not belong to `kind` and second copies of a picture.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: unknown kind, or no picture.
    """
    if kind not in PUBLISHED:
        raise ValueError(f"kind: expected 'CMFD' or 'IMFD', got {kind!r}")
    root = Path(root)
    folder = root / kind if (root / kind).is_dir() else root
    paths = list_images(folder)
    if not paths:
        raise ValueError(f"{folder}: no pictures in it; name the folder that holds {kind}")
    rows, seen = [], set()
    for path in paths:
        match = _NAME.fullmatch(path.stem)
        wear = match[2] if match else ""
        reason = "" if wear in WEAR_TYPES else f"name is not like 41192_Mask{path.suffix}"
        if not reason and (wear == "Mask") != (kind == "CMFD"):
            reason = f"{wear} does not belong into {kind}"
        if not reason and int(match[1]) >= FFHQ["images"]:
            reason = f"FFHQ has no face {match[1]}"
        if not reason and path.stem in seen:
            reason = f"second picture named {path.stem}"
        seen.add(path.stem)
        identity = match[1] if match else ""
        rows.append(
            {"image": path.relative_to(root).as_posix(), "identity": identity, "wear_type": wear, "reason": reason}
        )
    return make_table(rows)
