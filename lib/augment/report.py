"""`OUT/report.html`: what a run came to, in one file that needs nothing else.

The same run gives the same file. Pictures are small JPEGs inside it, chosen by the run's seed.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from lib.data.files import write_text
from lib.data.images import ImageError, read_image

if TYPE_CHECKING:
    from lib.augment.manifest import Summary

SHOWN, MISSES = 16, 24  # faces on the contact sheet, misses with a picture
REASONS = 4  # of a kind
BOX_COLOUR = (255, 190, 40)
TILE_PX = 160
ROOM = 2.2  # side of a tile, in longer sides of the face's box
_NAME = 60  # characters of a file's name
_STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --dim: #5d6873; --line: #d9dee3; --page: #fbfbfa; --bar: #4b7da6 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --dim: #9aa5af; --line: #363d44; --page: #16191c; --bar: #6d9cc2 } }
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
p, figcaption { color: var(--dim) } p { margin: .3rem 0 .8rem }
table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 600; color: var(--dim) }
td, th { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; width: 6rem }
td.bar { width: 40% } td.bar i { display: block; height: .7rem; margin-top: .4rem; background: var(--bar);
  border-radius: 2px }
.tiles { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; width: min-content; min-width: 120px }
figure > div { display: flex; gap: 2px } img { width: 120px; height: 120px; object-fit: contain; display: block;
  background: var(--line); border-radius: 3px } figcaption { font-size: .75rem; overflow-wrap: anywhere;
  padding-top: .2rem }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(
    out_dir: Path, in_dir: Path, manifest: pd.DataFrame, failures: pd.DataFrame, summary: Summary, seed: int
) -> Path:
    """Write the report; its numbers are those of the manifest and failures given."""
    masked = manifest[manifest["status"] == "masked"]
    rng = np.random.default_rng([seed, 7])
    shown = masked.iloc[np.sort(rng.permutation(len(masked))[:SHOWN])]
    missed = failures.iloc[np.sort(rng.permutation(len(failures))[:MISSES])]
    listed = manifest[manifest["source"].isin(missed["file"])]
    where = {(row.source, row.face): (row.x, row.y, row.w, row.h) for row in listed.itertuples()}
    boxed = summary.faces_labelled is not None  # scenes: whose mask it is must be seen
    parts = [
        f"<h1>Masks on {escape(Path(in_dir).name)}</h1>",
        f"<p>Model: {escape(summary.model)}</p>" * bool(summary.model),
        *(f"<p>Note: {escape(note)}.</p>" for note in summary.notes),
        _table(("", "n"), _counts(manifest, failures, summary)),
        _section("Faces without a mask, and why", _reasons(manifest, failures)),
        _section("Which masks", _bars(masked)),
        _section(
            f"Before and after: {len(shown)} of {len(masked)} masks, drawn by lot",
            _pairs(shown, in_dir, out_dir, boxed),
        ),
        _section(f"Missed: {len(missed)} of {len(failures)}", _missed(missed, where, in_dir, boxed)),
    ]
    body = "\n".join(part for part in parts if part)
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    head += f'<meta name="viewport" content="width=device-width"><title>Masks</title><style>{_STYLE}</style>'
    page = f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
    return write_text(out_dir / "report.html", page)


def _counts(manifest: pd.DataFrame, failures: pd.DataFrame, summary: Summary) -> list[tuple[str, int]]:
    faces = manifest[manifest["face"] >= 0].drop_duplicates(["source", "face"])
    masked = manifest[manifest["status"] == "masked"]
    counts = [
        ("pictures looked at", summary.pictures),
        ("pictures with a masked face", masked["source"].nunique()),
        ("faces found or labelled", len(faces)),
        ("faces masked", len(masked.drop_duplicates(["source", "face"]))),
        ("masks, over all variants", len(masked)),
        ("pictures and faces missed", len(failures)),
    ]
    people = faces.loc[faces["identity"] != "", "identity"].nunique()
    counts += [("identities, by the folders' names (--identity)", people)]
    return [(name, count) for name, count in counts if count or not name.startswith("identities")] + [
        (f"pairs, {kind}", count) for kind, count in summary.pairs.items()
    ]


def _reasons(manifest: pd.DataFrame, failures: pd.DataFrame) -> str:
    rows = []
    for kind, count in Counter(failures["kind"]).most_common():
        rows.append((kind, _told(failures.loc[failures["kind"] == kind, "reason"]), count))
    left = manifest[(manifest["kind"] == "not chosen") & (manifest["variant"] == 1)]
    if len(left):
        rows.append(("not chosen", _told(left["reason"]), len(left)))
    return _table(("kind", "reasons (how often)", "n"), rows) if rows else ""


def _told(reasons: pd.Series) -> str:
    """The reasons of a kind, the most frequent first; of those that differ in numbers alone the first."""
    alike = reasons.groupby(reasons.str.replace(r"\d+(\.\d+)?", "0", regex=True), sort=False).agg(["first", "size"])
    alike = alike.sort_values("size", ascending=False, kind="stable")
    told = [f"{first} ({count})" if len(alike) > 1 else first for first, count in alike.head(REASONS).values]
    return "; ".join(told) + (f"; and {len(alike) - REASONS} more" if len(alike) > REASONS else "")


def _bars(masked: pd.DataFrame) -> str:
    looks = masked[["template", "colour", "texture"]].astype(str)
    names = [f"{Path(t).name}{f' {c}' if c else ''}{f' / {Path(x).name}' if x else ''}" for t, c, x in looks.values]
    names = [f"{name}, {wear}" if wear != "Mask" else name for name, wear in zip(names, masked["wear"])]
    counted = Counter(names).most_common(20)
    if not counted:
        return ""
    most, lines = counted[0][1], []
    for name, count in counted:
        bar = f'<td class="bar"><i style="width:{100 * count / most:.1f}%"></i></td>'
        lines.append(f'<tr><td>{escape(name)}</td>{bar}<td class="n">{count}</td></tr>')
    return f"<table>{''.join(lines)}</table>"


def _pairs(rows: pd.DataFrame, in_dir: Path, out_dir: Path, boxed: bool) -> str:
    figures = []
    for row in rows.itertuples():
        box = (row.x, row.y, row.w, row.h)
        before, after = (_tile(path, box, boxed) for path in (in_dir / row.source, out_dir / row.output))
        words = f"{row.source}, face {row.face}" + ("" if before else f"; {_gone(in_dir / row.source)}")
        figures.append(_figure(filter(None, (before, after)), words))
    return f'<div class="tiles">{"".join(figures)}</div>' * bool(figures)


def _missed(rows: pd.DataFrame, where: dict, in_dir: Path, boxed: bool) -> str:
    figures = []
    for row in rows.itertuples():
        tile = _tile(in_dir / row.file, where.get((row.file, row.face)), boxed)
        face = "" if row.face < 0 else f", face {row.face}"
        figures.append(_figure(filter(None, [tile]), f"{row.file}{face}: {row.reason}"))
    return f'<div class="tiles">{"".join(figures)}</div>' * bool(figures)


def _gone(path: Path) -> str:
    return "the original cannot be read any more" if path.is_file() else "the original is no longer in IN"


def _figure(tiles: Iterable[str], words: str) -> str:
    images = "".join(f'<img alt="" src="data:image/jpeg;base64,{tile}">' for tile in tiles)
    words = words if len(words) <= 2 * _NAME else f"{words[:_NAME]} … {words[-_NAME:]}"
    return f"<figure><div>{images}</div><figcaption>{escape(words)}</figcaption></figure>"


def _tile(path: Path, box: tuple | None, boxed: bool) -> str:
    """A picture, or what is around a box in it, as a small JPEG in base64; "" where it cannot be read. boxed: with the
    box drawn in."""
    try:
        pixels = read_image(path).pixels
    except (ImageError, ValueError, OSError):
        return ""
    low, known = np.zeros(2, int), box is not None and not any(pd.isna(edge) for edge in box) and min(box[2:]) > 0
    if known:
        x, y, w, h = map(float, box)
        reach = ROOM / 2 * max(w, h)
        near = np.clip(np.floor((x + w / 2 - reach, y + h / 2 - reach)), 0, pixels.shape[1::-1]).astype(int)
        high = np.clip(np.ceil((x + w / 2 + reach, y + h / 2 + reach)), 0, pixels.shape[1::-1]).astype(int)
        if (high > near).all():
            pixels, low = pixels[near[1] : high[1], near[0] : high[0]], near
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
    if known and boxed:
        scale = image.width / pixels.shape[1]
        edges = np.clip(np.array([x - low[0], y - low[1], x + w - low[0], y + h - low[1]]) * scale, -9, TILE_PX + 9)
        ImageDraw.Draw(image).rectangle(edges.round().tolist(), outline=BOX_COLOUR, width=2)
    image.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _table(heads: tuple[str, ...], rows: Iterable[tuple]) -> str:
    def cells(values: Iterable, tag: str) -> Iterator[str]:
        for value in values:
            number = ' class="n"' if isinstance(value, int | np.integer) or value == "n" else ""
            yield f"<{tag}{number}>{escape(str(value))}</{tag}>"

    lines = [f"<tr>{''.join(cells(row, 'td'))}</tr>" for row in rows]
    head = f"<tr>{''.join(cells(heads, 'th'))}</tr>" if heads[0] else ""
    return f"<table>{head}{''.join(lines)}</table>"


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}" if content else ""
