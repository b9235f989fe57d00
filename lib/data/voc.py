"""Pascal VOC: an XML file per picture, `Annotations/a.xml` beside `JPEGImages/a.jpg`.

Sets of masked faces come in this format, with the classes with_mask, without_mask and mask_weared_incorrect, or face
and face_mask.

**Convention.** VOC's development kit counts pixels from 1 and includes the last: a box over the upper left pixel alone
is xmin 1, xmax 1. Many exports count from 0; a file does not tell which. The kit's convention is taken always: x is
xmin − 1, w is xmax − xmin + 1. A box of an export that counts from 0 is thus one pixel further left and up, and one
pixel larger where its xmax is exclusive; x may be −1.

Entities are not expanded: a file with a DOCTYPE is refused.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path, PurePosixPath

import pandas as pd

from lib.data.boxes import LABEL_FOLDERS, NO_BOX, BoxRows, list_files, numbers, positive_size, split_of
from lib.data.images import IMAGE_SUFFIXES, find_picture
from lib.data.table import BOX

_FLAGS = ("difficult", "truncated")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
_PICTURE_FOLDERS = ("JPEGImages", "images", "Images", "JPEGimages", "imgs", "image", "img")
_USUAL = (".jpg", ".png", ".jpeg")
_SUFFIXES = (*_USUAL, *sorted((IMAGE_SUFFIXES | {suffix.upper() for suffix in IMAGE_SUFFIXES}) - {*_USUAL}))
_NESTED = 50  # elements within one another; VOC has four
_NONE = (float("nan"),) * 4


def read_voc(root: Path | str, images: Path | str | None = None) -> pd.DataFrame:
    """A VOC set as a face table (see lib.data.boxes): every XML file under `root`, sorted, every object in its order.

    The picture of a.xml is looked for in JPEGImages, images, … beside the folder of the XML files (subfolders alike),
    beside the file, and in the root: first as a.jpg, a.png, …, as VOC's kit does, then by the file's <filename>.
    <folder> and <path> are not believed. Besides: `difficult`, `truncated` (0 or 1). `split`: by ImageSets/Main/*.txt,
    or a folder's name. A file without objects keeps a row; it, damaged files, pictures that are missing, listed again
    or named outside the root, and boxes that are empty, outside, or no four numbers carry a reason.

    Args:
        images: The pictures' root, where that is another; paths are relative to it.

    Raises:
        FileNotFoundError: no such folder, or no XML file in it.
    """
    root = Path(root)
    names = list_files(root, ".xml")
    if not names:
        raise FileNotFoundError(f"{root}: no .xml files in it; name the root folder of a VOC set")
    base = root if images is None else Path(images)
    rows, splits = BoxRows(base), _splits(root)
    for name in names:
        folders = _picture_folders(base, str(PurePosixPath(name).parent))
        stem = PurePosixPath(name).stem
        own = [stem + suffix for suffix in _SUFFIXES]
        link = {"split": splits.get(stem) or split_of(name), "label_file": name}
        try:
            annotation = parse_voc(root / name)
        except ValueError as error:
            image, _, _ = find_picture(base, folders, own)  # without its <filename> it may not be found
            rows.add(image, f"label file is damaged{str(error).removeprefix(f'{root / name}')}", None, [], **link)
            continue
        if annotation.tag != "annotation":  # another XML file that lies about
            continue
        told = (annotation.findtext("filename") or "").strip().replace("\\", "/")
        image, _, why_not = find_picture(base, folders, own)
        if why_not and told:
            image, _, why_not = find_picture(base, folders, [told])
        size = positive_size(annotation.findtext("size/width"), annotation.findtext("size/height"))
        boxes = [_box(k, item) for k, item in enumerate(annotation.findall("object"))]
        rows.add(image, why_not, size, boxes, **link)
    if not rows.rows:
        raise FileNotFoundError(f"{root}: none of its .xml files is a VOC annotation (<annotation>)")
    return rows.table(_FLAGS)


def parse_voc(path: Path | str) -> ET.Element:
    """The root element of an XML file, comments kept.

    Raises ValueError with file and line: damaged, with a DOCTYPE, or nested deeper than any annotation.
    """
    path = Path(path)
    parser = ET.XMLParser(target=_Builder(insert_comments=True))
    try:
        parser.feed(path.read_bytes())
        return parser.close()
    except ET.ParseError as error:
        words, _, place = str(error).partition(": line ")
        raise ValueError(f"{path}, line {place.partition(',')[0] or 1}: not valid XML ({words})") from None
    except (ValueError, LookupError) as error:  # LookupError: an encoding nobody knows
        raise ValueError(f"{path}, line 1: not valid XML ({error})") from None


class _Builder(ET.TreeBuilder):
    """Refuses what can make a small file large, and what no later step could walk through."""

    def __init__(self, **options):
        super().__init__(**options)
        self.depth = 0

    def doctype(self, *_) -> None:
        raise ValueError("it has a DOCTYPE, which VOC does not need; remove it")

    def start(self, tag, attributes):
        self.depth += 1
        if self.depth > _NESTED:
            raise ValueError(f"more than {_NESTED} elements within one another")
        return super().start(tag, attributes)

    def end(self, tag):
        self.depth -= 1
        return super().end(tag)


def voc_box(item: ET.Element) -> tuple[float, ...] | None:
    """(x, y, w, h) of an <object>'s <bndbox>, None where that is not four numbers."""
    corners = numbers([item.findtext(f"bndbox/{corner}") for corner in CORNERS])
    if corners is None:
        return None
    x0, y0, x1, y1 = corners
    return x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1


def _box(k: int, item: ET.Element) -> dict:
    box = voc_box(item)
    flags = {flag: int((item.findtext(flag) or "").strip() == "1") for flag in _FLAGS}
    label = (item.findtext("name") or "").strip()
    row = dict(zip(BOX, box or _NONE)) | {"label": label, "label_entry": k} | flags
    return row | {"reason": "" if box else NO_BOX}


def _picture_folders(base: Path, folder: str) -> list[str]:
    """Where the pictures of the XML files in `folder` (relative) may lie, relative to `base`."""
    parts = PurePosixPath(folder).parts
    places = []
    for k in reversed([k for k, part in enumerate(parts) if part.lower() in LABEL_FOLDERS]):
        swaps = [name for name in _PICTURE_FOLDERS if (base.joinpath(*parts[:k]) / name).is_dir()]
        places += ["/".join((*parts[:k], name, *parts[k + 1 :])) for name in swaps]
        places.append("/".join((*parts[:k], *parts[k + 1 :])) or ".")
    return list(dict.fromkeys([*places, folder, "."]))


def _splits(root: Path) -> dict[str, str]:
    """Stem → split, as ImageSets/Main tells (train.txt, val.txt, test.txt: a stem in each line)."""
    found = {}
    for place in ("ImageSets/Main", "*/ImageSets/Main", "*/*/ImageSets/Main"):
        for path in sorted(root.glob(f"{place}/*.txt")):
            if path.stem in ("train", "val", "test"):
                lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
                found |= {line.split()[0]: path.stem for line in lines if line.split()}
    return found
