"""What a stage leaves behind for people: metrics.csv, samples.csv and a sample strip per epoch."""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib.data.files import write_png, write_text

from .batches import TrainData, to_float
from .config import TrainConfig, stable_seed
from .disk import writing
from .networks import Generator, Parts

SAMPLE_COLUMNS = ("epoch", "step", "outside_change", "inside_change")


@dataclass
class CsvLog:
    """A table that only grows, one flushed row at a time; after a kill it is cut back to the checkpoint."""

    path: Path
    columns: tuple[str, ...]

    def append(self, row: dict) -> None:
        """Add a row (a value per column; None is written empty) and flush it to disk. Raises DiskError."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self.path.exists():
            writer.writerow(self.columns)
        writer.writerow([_cell(row[column]) for column in self.columns])
        with writing(self.path, needs=text.tell()), self.path.open("a", newline="", encoding="utf-8") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())

    def cut(self, step: int) -> None:
        """Drop the rows of steps after `step`, and whatever a kill left half written. Raises DiskError."""
        _clean(self.path)
        # A last row without its newline is half written, even where it parses.
        whole = self.path.read_text(encoding="utf-8").rpartition("\n")[0] if self.path.exists() else ""
        if step == 0 or not whole:
            self.path.unlink(missing_ok=True)
            return
        header, *rows = csv.reader(io.StringIO(whole))
        at = header.index("step")
        kept = [row for row in rows if len(row) == len(header) and int(row[at]) <= step]
        with writing(self.path, needs=len(whole)):
            write_text(self.path, "".join(",".join(row) + "\n" for row in (header, *kept)))


def _clean(path: Path) -> None:
    """Remove what killed writes of this file left behind."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink()


def _cell(value: object) -> object:
    # Nine digits bring every float32 back exactly.
    return f"{value:.9g}" if isinstance(value, float) else "" if value is None else value


@torch.no_grad()
def translate_samples(net_G_AB: Generator, samples: torch.Tensor, cfg: TrainConfig) -> Parts:
    """Translate float [K, 3, S, S] with noise that is the same for every epoch, so that snapshots can be compared."""
    streams = [torch.Generator().manual_seed(stable_seed(cfg.seed, "samples", i)) for i in range(len(samples))]
    starts = range(0, len(samples), cfg.batch_size)
    slices = [slice(start, start + cfg.batch_size) for start in starts]
    results = [net_G_AB(samples[part], streams[part], return_parts=True) for part in slices]
    return Parts(*(torch.cat(parts) for parts in zip(*results)))


def snapshot(net_G_AB: Generator, data: TrainData, cfg: TrainConfig, path: Path) -> dict[str, float | None]:
    """Write the sample strip of an epoch and measure it.

    The strip has one column per sample; rows from the top: input, output, attention of the input (white = kept).
    Gives outside_change and inside_change: mean |output − input| in [0, 1] over the samples' non-mask and mask pixels
    (None without samples_non_mask), the measure of how far a face is redrawn (paper §4.2, Figure 5).
    """
    count = min(cfg.sample_count, len(data.samples))
    inputs = to_float(torch.as_tensor(np.array(data.samples[:count]))).to(next(net_G_AB.parameters()).device)
    result = translate_samples(net_G_AB, inputs, cfg)
    kept = result.attention[:, -1:].expand(-1, 3, -1, -1) * 2 - 1
    picture = strip([inputs, result.output, kept])
    _clean(path)
    with writing(path, needs=picture.nbytes):
        write_png(path, picture)
    if data.samples_non_mask is None:
        return {"outside_change": None, "inside_change": None}
    change = (result.output - inputs).abs().mean(dim=1, keepdim=True).cpu() / 2
    outside = torch.as_tensor(np.array(data.samples_non_mask[:count])).bool()
    return {
        "outside_change": change[outside].mean().item() if outside.any() else None,
        "inside_change": change[~outside].mean().item() if (~outside).any() else None,
    }


def strip_bytes(data: TrainData, cfg: TrainConfig) -> int:
    """About the bytes of one epoch's strip, known before training: the inputs stand for output and attention."""
    if data.samples is None or cfg.sample_count == 0:
        return 0
    inputs = to_float(torch.as_tensor(np.array(data.samples[: cfg.sample_count])))
    grey = inputs.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    buffer = io.BytesIO()
    Image.fromarray(strip([inputs, inputs, grey])).save(buffer, "PNG")
    return buffer.tell()


def strip(rows: list[torch.Tensor], gap_px: int = 2) -> np.ndarray:
    """Rows of float [K, 3, S, S] in [−1, 1] → one uint8 [H, W, 3] picture with white gaps between the tiles."""
    count, size = rows[0].shape[0], rows[0].shape[-1]
    pitch = size + gap_px
    canvas = np.full((len(rows) * pitch - gap_px, count * pitch - gap_px, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        pixels = ((row.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        for c, tile in enumerate(pixels):
            canvas[r * pitch : r * pitch + size, c * pitch : c * pitch + size] = tile
    return canvas
