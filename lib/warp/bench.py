"""How fast step one is on one core: `python -m lib.warp.bench`.

Everything runs in turns in one process, one thread each, so that a slow moment of the machine hits all alike. The
yardstick is the loop anyone would write with OpenCV: fit a homography to twelve points, warp the mask's picture over
the whole photograph, blend. Faces come from the face world, so nothing has to be downloaded.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from lib.data.faceworld import render
from lib.data.files import write_json
from lib.warp import PRESETS, DlibLandmarks, WarpParams, apply_warp, apply_warps, sample_warp_params, template
from lib.warp.geometry import mask_points

BATCH = 16


def faces(count: int, size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Bare faces uint8 [size, size, 3] with up to 30° of yaw, and their landmarks float32 [N, 68, 2] px; larger
    ones than 256 px are enlarged."""
    drawn = min(size, 256)
    out = render(range(count), range(count), size=drawn, what=("full",), supersample=1)
    pictures = (out.full.permute(0, 2, 3, 1) * 255).round_().clamp_(0, 255).byte().numpy()
    scale = size / drawn
    landmarks = (out.landmarks.numpy() + 0.5) * scale - 0.5
    return [
        cv2.resize(p, (size, size), interpolation=cv2.INTER_CUBIC) if scale != 1 else p for p in pictures
    ], landmarks


def plain_loop(pictures: list[np.ndarray], landmarks: np.ndarray, brightness: bool = False) -> list[np.ndarray]:
    """The yardstick: homography, warp over the whole picture, blend by alpha; with brightness, also one gain from the
    picture's mean, as MaskTheFace has it."""
    mask = template("surgical_blue")
    out = []
    for picture, points in zip(pictures, landmarks):
        matrix, _ = cv2.findHomography(mask.points, mask_points(points).astype(np.float32))
        height, width = picture.shape[:2]
        warped = cv2.warpPerspective(mask.rgba, matrix, (width, height), flags=cv2.INTER_LINEAR)
        colour, alpha = warped[..., :3].astype(np.float32), warped[..., 3:].astype(np.float32) / 255
        if brightness:
            own = cv2.cvtColor(mask.rgba[..., :3], cv2.COLOR_RGB2HSV)[..., 2].mean()
            colour *= 1 + (cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 2].mean() - own) / 255
        mixed = picture * (1 - alpha) + colour * alpha
        out.append(np.clip(mixed, 0, 255).astype(np.uint8))
    return out


def _bare_dlib(detector: DlibLandmarks, pictures: list[np.ndarray]) -> None:
    """dlib's own two calls on the picture as the library enlarges it, and nothing else."""
    hog, predictor, _ = detector._models
    for picture in pictures:
        side = max(picture.shape[:2])
        scale = min(max(2.0**detector.upsample, 320 / side), detector.max_side / side)
        if scale != 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        for box in hog.run(picture, 0, 0.0)[0]:
            predictor(picture, box)


def _ours(pictures: list[np.ndarray], landmarks: np.ndarray, name: str, mixed: bool = False) -> None:
    params = [WarpParams(style=PRESETS[name].style)] * len(pictures)
    if mixed:
        params = [sample_warp_params(np.random.default_rng(k), PRESETS[name]) for k in range(len(pictures))]
    for start in range(0, len(pictures), BATCH):
        part = pictures[start : start + BATCH]
        apply_warps(part, [(k, landmarks[start + k], params[start + k]) for k in range(len(part))])


def measure(size: int, count: int = 32, rounds: int = 7, detect: bool = True) -> list[dict]:
    """Time everything in turns. Rows: what, size, ms (median per face), low and high quartile, ratio (median over
    rounds of the time against the row's yardstick in the same round)."""
    pictures, landmarks = faces(count, size)
    detector = DlibLandmarks()
    few = pictures[: max(1, count // 4)]
    tasks = {
        "plain OpenCV loop": (lambda: plain_loop(pictures, landmarks), count, "plain OpenCV loop"),
        "the same, with brightness": (lambda: plain_loop(pictures, landmarks, True), count, "plain OpenCV loop"),
        **{
            f"preset {name}": (lambda name=name: _ours(pictures, landmarks, name), count, "plain OpenCV loop")
            for name in PRESETS
        },
        "preset ours, its own mix": (lambda: _ours(pictures, landmarks, "ours", True), count, "plain OpenCV loop"),
        "preset ours, one face a call": (
            lambda: [apply_warp(p, points) for p, points in zip(pictures, landmarks)], count, "plain OpenCV loop"
        ),
    }  # fmt: skip
    if detect:
        tasks["dlib, bare calls"] = (lambda: _bare_dlib(detector, few), len(few), "dlib, bare calls")
        tasks["detection and landmarks"] = (lambda: [detector.find(p) for p in few], len(few), "dlib, bare calls")
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):  # the first warms up
        for name, (task, faces_done, _) in tasks.items():
            started = time.perf_counter()
            task()
            if turn:
                times[name].append((time.perf_counter() - started) / faces_done * 1000)
    rows = []
    for name, (_, _, yardstick) in tasks.items():
        low, middle, high = np.percentile(times[name], [25, 50, 75])
        ratio = np.median(np.array(times[name]) / np.array(times[yardstick]))
        rows.append({"what": name, "size": size, "ms": middle, "low": low, "high": high, "ratio": ratio})
    return rows


def main(argv: list[str] | None = None) -> int:
    """The command; gives the exit status."""
    p = argparse.ArgumentParser(prog="python -m lib.warp.bench", description="Time step one on one core.")
    p.add_argument("--size", type=int, nargs="+", default=[256, 1024], help="px (default: 256 1024)")
    p.add_argument("--faces", type=int, default=32, help="default: %(default)s")
    p.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    p.add_argument("--no-detect", action="store_true", help="leave detection out")
    p.add_argument("--json", type=Path, help="also write the numbers to this file")
    args = p.parse_args(argv)
    if min(args.size) < 64 or args.faces < 1 or args.rounds < 1:
        print("lib.warp.bench: --size must be at least 64, --faces and --rounds at least 1", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    for size in args.size:
        count = args.faces if size <= 512 else max(4, args.faces // 4)
        rows += measure(size, count, args.rounds, not args.no_detect)
    print(f"{'':32}{'size':>6}{'ms a face':>11}{'quartiles':>17}{'a second':>10}{'ratio':>8}")
    for row in rows:
        spread = f"{row['low']:.2f}–{row['high']:.2f}"
        line = f"{row['what']:32}{row['size']:>6}{row['ms']:>11.2f}{spread:>17}{1000 / row['ms']:>10.0f}"
        print(f"{line}{row['ratio']:>8.2f}")
    print("one thread; ratio: against the plain OpenCV loop, or bare dlib, in the same round")
    if args.json:
        facts = {"machine": platform.platform(), "torch": torch.__version__, "opencv": cv2.__version__, "batch": BATCH}
        write_json(args.json, facts | {"faces": args.faces, "rounds": args.rounds, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
