"""Sets A and B of a study, prepared once as files: full faces, rule-based images with their non-mask tensors, masked
faces with the stages they pass into, multi-face scenes, and a held-out part that is never trained on.

    data/B/pool.csv      every face before the filters, with the step that removed it
    data/B/faces.csv     one row per picture: stage1, stage2, stage3 (is in that stage's set), split
    data/B/images/       size × size
    data/A/faces.csv     one row per full face: split
    data/A/full/  data/A/rule/  (each rule-based PNG with its .safetensors tensor beside it)
    data/scenes_A/  data/scenes_B/
    data/failures.csv    what could not be used, and why

The three sources of pictures (face world, folders, the paper's sets) differ only in `lib.study.sources`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.curation import make_selection
from lib.data.files import read_json, sha256, write_json, write_table
from lib.data.images import read_image, resize
from lib.data.prepare import crop_box
from lib.data.stack import ImageStack, pack, pack_tensors
from lib.gan import TrainData
from lib.study import sources
from lib.study.config import Stage, StudyError
from lib.study.ranking import ranked
from lib.study.runs import Study, now
from lib.warp import load_non_mask, non_mask_path


def pool_B(study: Study, progress: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every face set B is chosen from, and the funnel that chooses; at once if the hand-picking is the same as before.

    Returns:
        The pool: `stage1` … `stage3` say what each face passes, `removed_by` which step took it out (empty: none). And
        the funnel's counts: step, kept, removed, why.
    """
    folder, picked = study.data_dir / "B", _picked(study)
    if not (folder / "pool.json").exists() or read_json(folder / "pool.json") != picked:
        pool, funnel = sources.collect_B(study, progress)
        write_table(folder / "pool.csv", pool)
        write_table(folder / "funnel.csv", funnel)
        write_json(folder / "pool.json", picked)
    return _read_faces(folder / "pool.csv"), pd.read_csv(folder / "funnel.csv", keep_default_na=False)


def prepare_B(study: Study, progress: bool = True) -> pd.DataFrame:
    """Set B at the study's size: the faces of the pool that pass stage 1 or 3; at once if that was done before.

    A new or changed hand-picking (`sources.selection_file`) has the set made anew.

    Raises:
        StudyError: nothing is left after the filters, or nobody has hand-picked MAFA's faces yet.
    """
    folder, picked = study.data_dir / "B", _picked(study)
    if is_done(folder) and read_json(folder / "done.json").get("picked") == picked:
        return _read_faces(folder / "faces.csv")
    pool, _ = pool_B(study, progress)
    if study.data == "paper" and picked["selection"] is None:
        raise StudyError(
            f"{int(pool['stage2'].sum())} faces of MAFA pass the filters of stage 2 and wait for hand-picking: pick "
            f"them in notebook 01, write {folder / 'selection.csv'} (image, face, decision: accept or reject; "
            f"candidates are the rows of {folder / 'pool.csv'} with stage2 true, `image` is their column original) or "
            "name one with --selection; then run the same command"
        )
    table = pd.concat([pool[pool["stage1"] | pool["stage3"]], sources.held_out_B(study)], ignore_index=True)
    table = _write_pictures(study, table, folder / "images", "set B", progress)
    if not table["stage3"].any():
        raise StudyError(f"{study.name}: no picture is left in set B after the filters; see {folder / 'funnel.csv'}")
    _held_out(table, "masked faces that pass all filters for set B")
    write_table(folder / "faces.csv", table)
    finish(folder, pictures=len(table), picked=picked)
    return _read_faces(folder / "faces.csv")


def _read_faces(path: Path) -> pd.DataFrame:
    """A table of faces as it was written: text stays text, an identity called 007 too."""
    text = {"removed_by": str, "reason": str, "identity": str}
    table = pd.read_csv(path, dtype=text)
    return table.fillna({name: "" for name in text if name in table})


def _picked(study: Study) -> dict[str, str | None]:
    """The hand-picking and the drawn squares that set B rests on, by their hashes."""
    files = {"selection": sources.selection_file(study), "crops": sources.crops_file(study)}
    return {name: sha256(path) if path else None for name, path in files.items()}


def pool_pictures(study: Study, rows: pd.DataFrame) -> list[np.ndarray | None]:
    """The pictures of some rows of the pool, read from their sources: uint8 [S, S, 3] each, at the study's size.

    None stands for one that cannot be read (`display.grid` leaves its cell empty).
    """

    def read(row) -> np.ndarray | None:
        try:
            return resize(pool_crop(row), study.profile.size)
        except ValueError:
            return None

    return [read(row) for row in rows.itertuples()]


def pool_crop(row) -> np.ndarray:
    """A face of the pool as its source shows it: uint8 [H, W, 3], its box where it has one, else the whole picture.

    row: of `table.itertuples()`. Raises ValueError where it cannot be read, or its `reason` speaks against it: a name
    that leads out of the data set is not followed.
    """
    if isinstance(reason := getattr(row, "reason", ""), str) and reason:
        raise ValueError(f"{row.source}: {reason}")
    pixels, crop = read_image(Path(row.source)).pixels, getattr(row, "crop", False)
    return crop_box(pixels, row.x, row.y, row.w, row.h) if pd.notna(crop) and crop else pixels


def candidates_B(study: Study, progress: bool = True) -> pd.DataFrame:
    """The faces that wait for hand-picking: those of the pool that pass stage 2, named as a selection names them, with
    the columns of `lib.study.ranking` and its `score`."""
    pool, _ = pool_B(study, progress)
    waiting = pool[pool["stage2"]]
    if "original" in waiting:
        waiting = waiting.assign(image=waiting["original"])
    return ranked(waiting.reset_index(drop=True), pool_crop, study.data_dir / "B" / "ranking.csv", progress=progress)


def known_picking(study: Study, pool: pd.DataFrame) -> pd.DataFrame:
    """The picking that stage 3 of a pool stands for, as a selection (`lib.data.curation`): a row per face of stage 2.

    In the face world, where pose and mask are known, a rejection says what spoke against the face first.
    """
    seen = pool[pool["stage2"]].reset_index(drop=True)
    picked, reason = seen["stage3"], np.full(len(seen), "", object)
    if study.data == "faceworld":
        tilted = [seen["pitch"].abs() > sources.PICK_PITCH, seen["roll"].abs() > sources.PICK_ROLL]
        against = [~picked & fault for fault in (*tilted, seen["mask_kind"] != "surgical", ~seen["light"].astype(bool))]
        reason = np.select(against, ["pitch", "roll", "another kind of mask", "dark mask"], "")
    named = seen["original"] if "original" in seen else seen["image"]
    decision = np.where(picked, "accept", "reject")
    columns = {"image": named, "face": seen["face"], "decision": decision, "reason": reason}
    return make_selection(pd.DataFrame(columns).assign(by=study.data, time=now()))


def straddlers(*tables: pd.DataFrame) -> list[str]:
    """Who is in more than one split of some prepared sets; a picture of nobody known is a person of its own."""
    named = [t.assign(image=f"{k}, " + t["image"]) for k, t in enumerate(tables)]  # two sets may share a picture's name
    every = pd.concat([t[["image", "identity", "split"]] for t in named], ignore_index=True)
    splits = every["split"].groupby(sources.identities_of(every)).nunique()
    return splits.index[splits > 1].tolist()


def prepare_A(study: Study, progress: bool = True) -> pd.DataFrame:
    """Choose the full faces of set A, down-sampled by seed to the size of B (paper §3), and write them.

    Faces in which no landmarks were found are listed in failures.csv. Needs set B for its size.
    """
    folder = study.data_dir / "A"
    if is_done(folder):
        return _read_faces(folder / "faces.csv")
    table_B = prepare_B(study, progress)
    wanted = int((table_B["split"] == "train").sum())
    table = sources.collect_A(study, wanted, progress, table_B)
    table = _write_pictures(study, table, folder / "full", "set A", progress)
    _held_out(table, "full faces for set A")
    for extra in ("truth", "region"):  # known in the face world only, for the held-out faces
        if f"{extra}_source" in table:
            known = table[table["split"] == "test"].drop(columns="source").rename(columns={f"{extra}_source": "source"})
            _write_pictures(study, known, folder / extra, f"set A, {extra}", progress)
    write_table(folder / "faces.csv", table)
    finish(folder, pictures=len(table))
    return _read_faces(folder / "faces.csv")


def prepare_scenes(study: Study, progress: bool = True) -> dict[str, int]:
    """Multi-face pictures for the pretraining (paper §4.3: FDDB → MAFA). Returns the number of pictures per set."""
    counts = {}
    for side in "AB":
        folder = study.data_dir / f"scenes_{side}"
        if not is_done(folder):
            table = sources.collect_scenes(study, side, progress)
            table = _write_pictures(study, table, folder / "images", f"scenes {side}", progress)
            finish(folder, pictures=len(table))
        counts[side] = read_json(folder / "done.json")["pictures"]
    return counts


@dataclass(frozen=True)
class TestSet:
    """Held-out faces, uint8 [N, S, S, 3] each; `truth` and `region` are known in the face world only."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    names: list[str]
    full: np.ndarray
    rule: np.ndarray
    non_mask: np.ndarray  # bool [N, S, S]
    truth: np.ndarray | None  # the same faces truly wearing a mask
    region: np.ndarray | None  # bool [N, S, S]: the true mask with its straps
    B: np.ndarray  # held-out masked faces [M, S, S, 3]

    def take(self, picks) -> TestSet:
        """The faces at these indices, as far as there are so many; B stays whole."""
        picks = [k for k in picks if k < len(self.names)]
        chosen = {k: getattr(self, k)[picks] for k in ("full", "rule", "non_mask")}
        chosen |= {k: None if getattr(self, k) is None else getattr(self, k)[picks] for k in ("truth", "region")}
        return replace(self, names=[self.names[k] for k in picks], **chosen)


def load_test_set(study: Study) -> TestSet:
    """Read the held-out part. Raises StudyError when step one has not run yet."""
    folder = study.data_dir / "A"
    if not is_done(folder / "rule"):
        raise StudyError(
            f"{folder / 'rule'}: set A has no rule-based images yet; run notebook 02_rule_based_warping first"
        )
    table = pd.read_csv(folder / "rule" / "faces.csv").query("split == 'test'")
    table_B = pd.read_csv(study.data_dir / "B" / "faces.csv").query("split == 'test'")
    names = table["image"].tolist()
    read = lambda where, images: np.stack([read_image(where / name).pixels for name in images])  # noqa: E731
    known = study.data == "faceworld"
    region = read(folder / "region", names)[..., 0] > 127 if known else None
    return TestSet(
        names,
        read(folder / "full", names),
        read(folder / "rule", names),
        np.stack([load_non_mask(non_mask_path(folder / "rule" / name)) for name in names]),
        read(folder / "truth", names) if known else None,
        region,
        read(study.data_dir / "B" / "images", table_B["image"]),
    )


def train_rows(study: Study, set_B: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of sets A and B that a stage with this set B trains on. Set A is cut to the size of B.

    Raises StudyError when the sets have not been prepared.
    """
    _require(study.data_dir / "B", "01_data_filtering")
    _require(study.data_dir / "A" / "rule", "02_rule_based_warping")
    table_B = pd.read_csv(study.data_dir / "B" / "faces.csv")
    table_A = pd.read_csv(study.data_dir / "A" / "rule" / "faces.csv")
    chosen_B = table_B[table_B[set_B] & (table_B["split"] == "train")]
    return table_A[table_A["split"] == "train"].head(len(chosen_B)), chosen_B


def train_data(
    study: Study,
    stage: Stage,
    sample_count: int,
    without: tuple[Collection[str], Collection[str]] = ((), ()),
    bare: bool = False,
) -> tuple[TrainData, dict]:
    """The two stacks a stage trains on, its non-mask tensors and fixed samples; and facts for the manifest.

    Stacks are memory-mapped files under data/stacks, packed once. Set A is cut to the size of B by its (seeded) order,
    then the pictures named in `without`, (of A, of B), are left out: such stacks have names of their own.
    bare: the same faces of set A, and samples, as they were before step one, and no non-mask tensors but the samples',
    which say where a change is none of the mask's.

    Raises StudyError when the sets have not been prepared.
    """
    stacks = study.data_dir / "stacks"
    size = study.profile.size
    if stage.set_A == "scenes":
        for side in "AB":
            _require(study.data_dir / f"scenes_{side}", "04_pretraining_multiface")
        paths = {s: sorted((study.data_dir / f"scenes_{s}" / "images").glob("*.png")) for s in "AB"}
        a, b = (_sound(pack(paths[s], size, stacks / f"scenes_{s}", False)) for s in "AB")
        return TrainData(a.images, b.images, samples=a.images[:sample_count]), _facts(a, b)
    chosen_A, chosen_B = train_rows(study, stage.set_B)
    chosen_A, chosen_B = (t[~t["image"].isin(names)] for t, names in zip((chosen_A, chosen_B), without))
    table_A = pd.read_csv(study.data_dir / "A" / "rule" / "faces.csv")
    held_out = table_A[table_A["split"] == "test"].head(sample_count)
    part = stage.set_B
    if any(without):
        part += "_" + hashlib.sha256(json.dumps([sorted(names) for names in without]).encode()).hexdigest()[:8]
    rule = study.data_dir / "A" / "rule"
    faces, kind = (study.data_dir / "A" / "full", "full_") if bare else (rule, "")
    images_B = study.data_dir / "B" / "images"
    a = _sound(pack([faces / name for name in chosen_A["image"]], size, stacks / f"A_{kind}{part}", False))
    b = _sound(pack([images_B / name for name in chosen_B["image"]], size, stacks / f"B_{part}", False))
    samples = _sound(pack([faces / name for name in held_out["image"]], size, stacks / f"{kind}samples", False))
    tensors = [
        _sound(pack_tensors([non_mask_path(p) for p in paths], size, stacks / name, load_non_mask, False)).images
        for paths, name in (
            ([rule / name for name in chosen_A["image"]], f"non_mask_{part}"),
            ([rule / name for name in held_out["image"]], "non_mask_samples"),
        )
    ]
    return TrainData(a.images, b.images, None if bare else tensors[0], samples.images, tensors[1]), _facts(a, b)


def _sound(stack: ImageStack) -> ImageStack:
    if stack.failures:
        path, reason = stack.failures[0]
        raise StudyError(
            f"{path}: prepared but no longer readable ({reason}); delete that set's folder and prepare it again"
        )
    return stack


def _facts(a: ImageStack, b: ImageStack) -> dict:
    return {"A": len(a), "B": len(b), "hash_A": a.sha256, "hash_B": b.sha256}


def _write_pictures(study: Study, table: pd.DataFrame, folder: Path, what: str, progress: bool) -> pd.DataFrame:
    """Write each row's picture (`sources.write_pictures`); drop unreadable ones."""
    written = sources.write_pictures(study, table, folder, what, progress)
    if not written.any():
        raise StudyError(
            f"{what}: none of {len(table)} pictures can be read; reasons in {study.data_dir / 'failures.csv'}"
        )
    return table[written].reset_index(drop=True)


def _held_out(table: pd.DataFrame, what: str) -> None:
    if not (table["split"] == "test").any():
        raise StudyError(
            f"too few {what}: {len(table)}; a fifth is held out, so at least five are needed, of five people (who are "
            "not all trained on in the other set)"
        )


def is_done(folder: Path) -> bool:
    """Whether a set's folder was finished."""
    return (folder / "done.json").exists()


def finish(folder: Path, **facts) -> None:
    """Mark a set's folder as finished, with facts about it."""
    write_json(folder / "done.json", facts)


def _require(folder: Path, notebook: str) -> None:
    if not is_done(folder):
        raise StudyError(f"{folder}: not prepared yet; run notebook {notebook} first")
