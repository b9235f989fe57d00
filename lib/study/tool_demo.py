"""What notebook 14 has `lib.augment` mask, and how it shows what came of it: rendered people and scenes laid out as
public data sets are, label files drawn on their pictures, a check of every pixel that was to stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from PIL import Image

from lib.data.files import write_json, write_text
from lib.data.images import image_size, read_image
from lib.study.display import PALETTE
from lib.warp.landmarks import read_landmarks, write_landmarks


def write_people(rendered: Path, root: Path) -> tuple[Path, Path]:
    """A recognition set laid out like LFW, a folder for each person: `Person_01/Person_01_0001.jpg`.

    Args:
        rendered: A set of kind "A" as `lib.data.faceworld.render_set` leaves it.
        root: Created.

    Returns two files beside `root`: pairs.txt in LFW's format (each person's first two pictures, and one of each of two
    people), and landmarks.csv, the 68 points of every picture.
    """
    table = pd.read_csv(rendered / "faces.csv")
    place = {}
    for k, (_, own) in enumerate(table.groupby("identity")["image"], 1):
        for n, picture in enumerate(own, 1):
            place[picture] = f"Person_{k:02d}/Person_{k:02d}_{n:04d}.jpg"
            (root / place[picture]).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(read_image(rendered / picture).pixels).save(root / place[picture], quality=95)
    points = read_landmarks(rendered / "landmarks.csv")
    landmarks, pairs = root.parent / "landmarks.csv", root.parent / "pairs.txt"
    write_landmarks(landmarks, points.assign(image=points["image"].map(place)))
    names = sorted({name.split("/")[0] for name in place.values()})
    lines = [f"{name}\t1\t2" for name in names]
    lines += [f"{one}\t1\t{other}\t2" for one, other in zip(names, names[1:] + names[:1])]
    text = "".join(f"{line}\n" for line in (len(names), *lines))
    return write_text(pairs, text), landmarks


def write_scenes(rendered: Path, root: Path) -> Path:
    """Scenes with a box for each face as a COCO set: images/ and annotations/instances.json; gives `root`.

    rendered: a set of kind "scenes_A" as `lib.data.faceworld.render_set` leaves it. root: created.
    """
    table = pd.read_csv(rendered / "faces.csv")
    shutil.copytree(rendered / "scenes", root / "images", dirs_exist_ok=True)
    numbers = {image: k for k, image in enumerate(table["image"].unique(), 1)}
    images = []
    for image, number in numbers.items():
        width, height = image_size(rendered / image)
        name = image.removeprefix("scenes/")
        images.append({"id": number, "file_name": name, "width": width, "height": height})
    faces = []
    for k, row in enumerate(table.itertuples(), 1):
        box = {"bbox": [row.x, row.y, row.w, row.h], "area": round(row.w * row.h, 2), "iscrowd": 0}
        faces.append({"id": k, "image_id": numbers[row.image], "category_id": 1, **box})
    content = {"images": images, "annotations": faces, "categories": [{"id": 1, "name": "face"}]}
    write_json(root / "annotations" / "instances.json", content)
    return root


def tree(root: Path, shown: int = 4) -> str:
    """Files and folders below, indented; of each folder's files the first `shown`, and how many more there are."""
    lines = []

    def walk(folder: Path, indent: str) -> None:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        files = [path for path in entries if path.is_file()]
        for path in (path for path in entries if path.is_dir()):
            lines.append(f"{indent}{path.name}/")
            walk(path, indent + "  ")
        lines.extend(f"{indent}{path.name}" for path in files[:shown])
        if len(files) > shown:
            lines.append(f"{indent}… {len(files) - shown} more")

    walk(root, "")
    return "\n".join(lines)


def labelled(
    pictures: dict[str, Path], tables: dict[str, pd.DataFrame], shown: Sequence[str], cell: float = 2.3
) -> Figure:
    """Pictures with the boxes of their labels drawn in, a row for each of several versions of them.

    Args:
        pictures: title of the row → the folder of its pictures.
        tables: title of the row → its labels, as `lib.data.detection.read_detection` gives them.
        shown: the pictures, relative to each of the folders; a column for each.
        cell: edge of a picture, inches.
    """
    classes = sorted({label for table in tables.values() for label in table["label"]})
    colours = dict(zip(classes, sns.color_palette(PALETTE, max(len(classes), 1))))
    size = (cell * len(shown) + 0.8, cell * len(pictures) + 0.1)
    fig, axes = plt.subplots(len(pictures), len(shown), figsize=size, squeeze=False, layout="compressed")
    for row, (title, folder) in zip(axes, pictures.items(), strict=True):
        for ax, name in zip(row, shown, strict=True):
            _picture(ax, read_image(folder / name).pixels)
            for face in tables[title][tables[title]["image"] == name].itertuples():
                outline(ax, (face.x, face.y, face.w, face.h), colours[face.label], face.label)
        row[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
    plt.close(fig)
    return fig


def outline(ax: Axes, box: Sequence[float], colour, label: str = "", dashed: bool = False) -> None:
    """Draw a box (x, y, w, h; px, pixel edges counted from 0) with its label inside its upper edge."""
    x, y, w, h = box
    look = {"fill": False, "ec": colour, "lw": 1.6, "ls": "--" if dashed else "-"}
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, **look))  # a picture's first pixel is drawn from −0.5 to 0.5
    if label:
        at, back = (max(x, 0) + 1, max(y, 0) + 1), {"boxstyle": "square,pad=0.15", "fc": colour, "ec": "none"}
        ax.text(*at, label, fontsize=7, color="white", va="top", bbox=back)


def mask_views(pixels: np.ndarray, face: Sequence[float], mask: Sequence[float], region: np.ndarray, ring: np.ndarray):
    """One mask's labels as a Figure: both boxes on the picture, the region, the polygon around it.

    Args:
        pixels: uint8 [H, W, 3].
        face, mask: the boxes of the face and of its mask, (x, y, w, h) px.
        region: [H, W], more than 0 inside.
        ring: [N, 2], the polygon's corners, px, pixel edges counted from 0.
    """
    colours = sns.color_palette(PALETTE)
    fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.4), layout="compressed")
    shown = {"box of the face, of the mask": pixels, "region": region > 0, f"polygon, {len(ring)} corners": pixels}
    for ax, (title, picture) in zip(axes, shown.items()):
        _picture(ax, picture)
        ax.set_title(title)
    outline(axes[0], face, colours[0], "face_mask")
    outline(axes[0], mask, colours[1], dashed=True)
    axes[2].add_patch(Polygon(np.asarray(ring) - 0.5, fill=False, ec=colours[1], lw=1.3))
    margin = 0.15 * max(mask[2:])
    axes[2].set(
        xlim=(mask[0] - margin, mask[0] + mask[2] + margin), ylim=(mask[1] + mask[3] + margin, mask[1] - margin)
    )
    plt.close(fig)
    return fig


def kept(in_dir: Path, out_dir: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """What a run changed, picture by picture, counted on the files themselves.

    Args:
        in_dir, out_dir: IN and OUT of the run.
        manifest: its manifest.

    Returns a row for each picture written: `picture`, `pixels outside` its regions, how many of them are `changed
    outside`, and `changed inside`.
    """
    rows = []
    for output, row in manifest[manifest["output"].fillna("") != ""].groupby("output").first().iterrows():
        before, after = read_image(in_dir / row["source"]).pixels, read_image(out_dir / output).pixels
        outside, changed = np.asarray(Image.open(out_dir / row["region"])) == 0, (before != after).any(2)
        rows.append(
            (output.removeprefix("images/"), outside.sum(), (changed & outside).sum(), (changed & ~outside).sum())
        )
    return pd.DataFrame(rows, columns=["picture", "pixels outside", "changed outside", "changed inside"])


def _picture(ax: Axes, pixels: np.ndarray) -> None:
    ax.imshow(pixels, cmap="gray", interpolation="auto")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
