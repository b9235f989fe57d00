"""Where the pictures of a study come from: the face world, folders of the user, or the paper's data sets.

Each collector returns a table with one row per picture and these columns: `image` (name it gets in the study),
`source` (file it is read from), `split` ("train" or "test"), `identity`; set B also `stage1`, `stage2`, `stage3`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data import curation, faceworld, filters
from lib.data.fddb import pictures as fddb_pictures
from lib.data.ffhq import read_ffhq
from lib.data.files import NOT_OPENED, sha256
from lib.data.folder import read_folder
from lib.data.images import ImageError, list_images, read_image
from lib.data.mafa import read_mafa
from lib.data.maskedface_net import read_maskedface_net
from lib.data.prepare import prepare_pictures, unreadable
from lib.study.config import StudyError
from lib.study.crops import read_crops
from lib.study.manifest import people, read_manifest, with_manifest
from lib.study.runs import Study, add_failure, add_failures, progress_bar
from lib.warp import landmarks_array, landmarks_table, read_landmarks, write_landmarks
from lib.warp.faces import find_in, open_cache
from lib.warp.sources import open_source

# Identities: those of A and B never overlap (lib.data.faceworld keeps A below and B above a million), nor do parts.
FIRST_TRAIN_A, FIRST_TEST_A = 0, 400_000
FIRST_WIDE_B, FIRST_TIDY_B = 1_000_000, 1_200_000
# CMFD "mostly restricted pitch and roll rotations" (paper §4.3); the half ranges in degrees are ours.
CMFD_POSE = {"yaw": 25.0, "pitch": 5.0, "roll": 4.0}
WIDE_POSE = {"yaw": 60.0, "pitch": 15.0, "roll": 15.0}
# A hand-picker of the face world keeps light surgical masks without visible pitch or roll; limits in degrees, ours.
PICK_PITCH, PICK_ROLL = 7.0, 6.0
NO_TEST_PART = "of MAFA's test part labels or pictures are not there: held-out faces are taken out of set B"
REFERENCE_SIZE = 256  # the paper's picture size: its limit of 60 px is scaled to the study's size in the face world


# ------------------------------------------------------------------------------------------------------- set B
def collect_B(study: Study, progress: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The whole pool of set B with `stage1` … `stage3` and `removed_by` marked, and the funnel's counts."""
    collect = {"faceworld": _faceworld_B, "folders": _folder_B, "paper": _paper_B}[study.data]
    table, funnel = collect(study, progress)
    if study.data == "paper" and len(held_out_B(study)):
        return table.assign(split="train"), funnel
    table = _hold_out(table, "stage3", study, first=_people_A(study))
    if study.data == "paper" and (held := table["split"] == "test").any():
        left = [f"{int((table[stage] & ~held).sum()):,}" for stage in ("stage1", "stage2", "stage3")]
        why = f"{NO_TEST_PART}; {', '.join(left[:2])} and {left[2]} are left to train on"
        kept, removed = (int((table["stage3"] & part).sum()) for part in (~held, held))
        row = {"step": "held out of set B", "kept": kept, "removed": removed, "why": why}
        funnel = pd.concat([funnel, pd.DataFrame([row])], ignore_index=True)
    return table, funnel


def held_out_B(study: Study) -> pd.DataFrame:
    """Masked faces that are held out beside set B, so that its training sets are the paper's to the image: data source
    `paper`, `count_test` faces of MAFA's test part that pass the filters of stage 2, drawn by seed. They are not
    hand-picked, and belong to no stage.

    Without that part, and for other data sources, there are none: then `collect_B` holds out a part of the set itself.
    """
    if study.data != "paper":
        return pd.DataFrame()
    try:
        table = _mafa(study, "test")
    except FileNotFoundError:
        return pd.DataFrame()
    table, _ = filters.funnel(table[filters.usable(table)], filters.paper_steps())
    table = table[table["stage2"]]
    drawn = table.sample(min(study.profile.count_test, len(table)), random_state=study.seed).sort_index()
    return drawn.assign(stage1=False, stage2=False, stage3=False, removed_by="", split="test")


def _picked(mask: pd.Series) -> dict[str, list]:
    """The last step of the funnel: the hand-picking, as a boolean per row."""
    why = "MAFA knows no pitch or roll, its labels err, veils count as simple: the eye decides (§3, §4.3)"
    return {"stage3": [filters.Step("hand-picked", lambda table: mask, why)]}


def _select(study: Study, table: pd.DataFrame, steps: dict[str, list], path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The funnel whose last step is the selection in a file; accepted faces that do not get through it are counted."""
    selection = curation.read_selection(path)
    named = table.assign(image=table["original"])  # a selection names pictures as they are called in their own folder
    picked = curation.accepted(named, selection)
    table, funnel = filters.funnel(table, steps | _picked(picked))
    failing = named[picked & ~table["stage2"]]
    lost = {"are not in the table": curation.strangers(named, selection),
            "fail stage 1 or 2": list(zip(failing["image"], failing["face"]))}  # fmt: skip
    if any(lost.values()):
        counts = " and ".join(f"{len(faces):,} {what}" for what, faces in lost.items() if faces)
        funnel.loc[funnel.index[-1], "why"] = f"of the accepted faces {counts}: see failures.csv"
        first = "; ".join(f"the first that {what}: {f[0][0]}, face {f[0][1]}" for what, f in lost.items() if f)
        add_failure(study, "hand-picking", str(path), f"of the accepted faces {counts}; {first}")
    return table, funnel


def _faceworld_B(study: Study, progress: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    p, parts = study.profile, []
    pools = {
        "wide": faceworld.SetSpec("B", p.wide_B, p.size, study.seed, FIRST_WIDE_B, heterogeneity=0.35, **WIDE_POSE),
        "tidy": faceworld.SetSpec("B", p.tidy_B, p.size, study.seed, FIRST_TIDY_B, heterogeneity=0.12, **CMFD_POSE,
                                  light_share=0.9),
    }  # fmt: skip
    for pool, spec in pools.items():
        folder = faceworld.render_set(spec, study.cache_dir, progress)
        table = _by_name(pd.read_csv(folder / "faces.csv"))
        table["source"] = [str(folder / "masked" / name) for name in table["image"]]
        table["region_source"] = [str(folder / "region" / name) for name in table["image"]]
        table["image"] = table["original"] = [f"{pool}_{name}" for name in table["image"]]
        parts.append(table.assign(pool=pool))
    table = pd.concat(parts, ignore_index=True)
    # The face world knows pose and mask; this stands for the eye of the person who picked the paper's 1,597.
    picked = (table["pitch"].abs() <= PICK_PITCH) & (table["roll"].abs() <= PICK_ROLL)
    picked &= (table["mask_kind"] == "surgical") & table["light"].astype(bool)
    steps = filters.paper_steps(filters.MINIMUM_PX * p.size / REFERENCE_SIZE)
    return filters.funnel(table, steps | _picked(picked))


def _folder_B(study: Study, progress: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    root = study.source("b")
    table = _named(root, with_manifest(study, root, read_folder(root)))
    readable = write_pictures(study, table, study.data_dir / "B" / "images", "set B", progress)
    steps: dict[str, list] = {"stage1": [filters.Step("readable pictures", lambda t: readable)], "stage2": []}
    if "yaw_estimate" in table:  # the folder's manifest tells how far the head is turned
        front = filters.paper_steps()["stage2"][0]
        within = lambda t: t["yaw_estimate"].abs() <= 30  # noqa: E731
        steps["stage2"] = [front._replace(name="front facing (|yaw| ≤ 30°)", passes=within)]
    if selection := selection_file(study):
        return _select(study, table, steps, selection)
    if "tier" in table and (table["tier"] == "strict").any():
        picked = table["tier"] == "strict"
    else:
        picked = pd.Series(True, table.index)
    return filters.funnel(table, steps | _picked(picked))


def _paper_B(study: Study, progress: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = _mafa(study, "train")
    filters.check_counts(table)
    steps = filters.paper_steps()
    steps["stage1"].insert(0, filters.Step("usable", filters.usable, "the picture is there and the box is one"))
    if selection := selection_file(study):
        table, funnel = _select(study, table, steps, selection)
    else:
        table, funnel = filters.funnel(table, steps)
        table, why = table.assign(stage3=False), f"{int(table['stage2'].sum()):,} faces wait for the eye (§3, §4.3)"
        row = {"step": "stage3: not yet picked by hand", "kept": 0, "removed": 0, "why": why}
        funnel = pd.concat([funnel, pd.DataFrame([row])], ignore_index=True)
    if study.roots.get("stock"):
        stock = _stock(study).assign(stage1=False, stage2=False, stage3=True, removed_by="")
        table = pd.concat([table, stock], ignore_index=True)
        row = {"step": "stage3: + crops of stock photographs", "kept": int(table["stage3"].sum()), "removed": 0}
        row["why"] = "the picked set is small (§3)"
        funnel = pd.concat([funnel, pd.DataFrame([row])], ignore_index=True)
    return table, funnel


def _mafa(study: Study, split: str) -> pd.DataFrame:
    root = study.source("mafa")
    table = read_mafa(root, split)
    table["source"] = [str(root / name) for name in table["image"]]
    table["crop"], table["original"] = True, table["image"]
    table["image"] = [f"{Path(n).stem}_{f}.png" for n, f in zip(table["image"], table["face"])]
    table["identity"] = [Path(n).stem for n in table["source"]]  # faces of one picture stay on one side of the split
    return table


def _stock(study: Study) -> pd.DataFrame:
    """The crops of stock photographs: squares drawn in notebook 01 or beside the pictures, else each whole picture."""
    root = study.source("stock")
    if (drawn := crops_file(study)) is None:
        table = _named(root, read_folder(root)).assign(crop=False)
        return table.assign(image="stock_" + table["image"])
    table = read_crops(drawn)
    table["source"], table["original"] = [str(root / name) for name in table["image"]], table["image"]
    table["identity"] = table["image"]  # faces of one picture stay on one side of the split
    table["image"] = [f"stock_{k:06d}_{Path(n).stem}.png" for k, n in enumerate(table["original"])]
    return table[["image", "original", "source", "identity", "x", "y", "w", "h"]].assign(face=table["crop"], crop=True)


def crops_file(study: Study) -> Path | None:
    """The squares drawn on stock photographs: data/B/crops.csv, or crops.csv beside the photographs; None for none."""
    if study.data != "paper" or not study.roots.get("stock"):
        return None
    places = (study.data_dir / "B" / "crops.csv", study.source("stock") / "crops.csv")
    return next((path for path in places if path.is_file()), None)


def picking_file(study: Study) -> Path:
    """Where notebook 01 writes the hand-picking: into the file that counts (`selection_file`), or a new one in the
    study. The face world picks by what it knows; there it is for practice and counts for nothing."""
    if study.data == "faceworld":
        return study.data_dir / "B" / "practice.csv"
    return selection_file(study) or study.data_dir / "B" / "selection.csv"


# ------------------------------------------------------------------------------------------------------- set A
def collect_A(study: Study, wanted: int, progress: bool, table_B: pd.DataFrame | None = None) -> pd.DataFrame:
    """Full faces for set A: at most `wanted` to train on (the size of B, paper §3) and a held-out part.

    table_B: of `collect_B`; who is held out there is in A, too, and who is trained on there is not held out in A.
    """
    collect = {"faceworld": _faceworld_A, "folders": _folder_A, "paper": _paper_A}[study.data]
    return collect(study, min(wanted, study.profile.count_A), progress, table_B)


def _faceworld_A(study: Study, wanted: int, progress: bool, _) -> pd.DataFrame:
    p, tables = study.profile, []
    for split, count in (("train", wanted), ("test", p.count_test)):
        first = FIRST_TRAIN_A if split == "train" else FIRST_TEST_A
        spec = faceworld.SetSpec("A", count, p.size, study.seed, first, **CMFD_POSE)
        folder = faceworld.render_set(spec, study.cache_dir, progress)
        table = _by_name(pd.read_csv(folder / "faces.csv"))
        table["source"] = [str(folder / "full" / name) for name in table["image"]]
        if split == "test":
            table["truth_source"] = [str(folder / "masked" / name) for name in table["image"]]
            table["region_source"] = [str(folder / "region" / name) for name in table["image"]]
        landmarks = _by_name(read_landmarks(folder / "landmarks.csv"))
        landmarks["image"] = [f"{split}_{name}" for name in landmarks["image"]]
        table["image"] = [f"{split}_{name}" for name in table["image"]]
        tables.append((table.assign(split=split), landmarks))
    write_landmarks(study.data_dir / "A" / "landmarks.csv", pd.concat([t[1] for t in tables], ignore_index=True))
    return pd.concat([t[0] for t in tables], ignore_index=True)


def _folder_A(study: Study, wanted: int, progress: bool, table_B: pd.DataFrame | None) -> pd.DataFrame:
    root, size = study.source("a"), study.profile.size
    table = _named(root, with_manifest(study, root, read_folder(root)))
    order = np.random.default_rng([study.seed, 1]).permutation(len(table))
    table = table.iloc[order]
    trained, held = (set(), set()) if table_B is None else (people(table_B, split) for split in ("train", "test"))
    of_held = table["identity"].isin(held)  # who is held out in B comes first; what is too much of them stays out
    table = pd.concat([table[of_held].head(study.profile.count_test), table[~of_held]], ignore_index=True)
    need, kept, found = wanted + study.profile.count_test, [], []
    given = root / "landmarks.csv"  # as lib.warp.faces and the face world write it
    source = open_source(given if given.is_file() else "dlib", root)
    cache = open_cache(study.cache_dir / "landmarks", source)
    for row in progress_bar(table, "landmarks", progress):
        if len(kept) == need:
            break
        try:
            pixels = read_image(Path(row.source)).pixels
            faces = find_in(pixels, source, row.original, cache, sha256(row.source))
        except ImageError as error:
            add_failure(study, "landmarks", row.source, error.reason)
            continue
        except ValueError as error:  # landmarks that were given, but not for this picture
            add_failure(study, "landmarks", row.source, str(error))
            continue
        if not faces:
            add_failure(study, "landmarks", row.source, source.nothing)
            continue
        scale = size / np.array([pixels.shape[1], pixels.shape[0]], np.float32)
        found.append((faces[0].landmarks + 0.5) * scale - 0.5)  # pixel centres are at integers
        kept.append(row.Index)
    if not kept:
        raise StudyError(f"{root}: no face was found in any of its {len(table)} pictures; reasons in failures.csv")
    table = table.loc[kept].reset_index(drop=True)
    write_landmarks(
        study.data_dir / "A" / "landmarks.csv", landmarks_table((n, 0, p) for n, p in zip(table["image"], found))
    )
    return _hold_out(table, None, study, held, trained, held)


def _paper_A(study: Study, wanted: int, progress: bool, _) -> pd.DataFrame:
    cmfd, ffhq = study.source("cmfd"), study.source("ffhq")
    masked = read_maskedface_net(cmfd, "CMFD").query("reason == ''")
    full = read_ffhq(ffhq).query("reason == ''").set_index("identity")["image"]
    both = masked[masked["identity"].isin(full.index)]
    if both.empty:
        raise StudyError(f"{cmfd}: none of its {len(masked)} images has its full face of the same id in {ffhq}")
    table = both.sample(frac=1, random_state=study.seed).reset_index(drop=True)
    table["rule_source"] = [str(cmfd / name) for name in table["image"]]
    table["source"] = [str(ffhq / full[identity]) for identity in table["identity"]]
    table["image"] = [f"{Path(name).stem}.png" for name in table["image"]]
    need, end, readable = wanted + study.profile.count_test, 0, pd.Series(False, table.index)
    while (lacking := need - int(readable.sum())) and end < len(table):  # others come for those that cannot be read
        part = table.iloc[end : end + lacking]
        there = write_pictures(study, part, study.data_dir / "A" / "full", "set A", progress)
        damaged = unreadable(
            part["rule_source"], study.data_dir / "A" / "decoded.jsonl", progress=progress, what="CMFD"
        )
        add_failures(study, "set A, masked", damaged.items())
        readable[part.index], end = there & ~part["rule_source"].isin(damaged), end + len(part)
    return _hold_out(table[readable].reset_index(drop=True), None, study)


def landmarks_of(study: Study) -> dict[str, np.ndarray]:
    """Landmarks of set A in pixels of the prepared pictures: image name → float32 [68, 2]."""
    landmarks = read_landmarks(study.data_dir / "A" / "landmarks.csv")
    return dict(zip(landmarks["image"], landmarks_array(landmarks)))


# ------------------------------------------------------------------------------------------------------ scenes
def collect_scenes(study: Study, side: str, progress: bool) -> pd.DataFrame:
    """Multi-face pictures of one side ("A" full, "B" masked) for the pretraining (paper §4.3)."""
    p = study.profile
    if study.data == "faceworld":
        spec = faceworld.SetSpec(f"scenes_{side}", p.count_scenes, p.size, study.seed)
        folder = faceworld.render_set(spec, study.cache_dir, progress)
        files = sorted((folder / "scenes").glob("*.png"))
    elif study.data == "folders":
        key = f"scenes_{side.lower()}"
        # Without multi-face pictures the single faces serve: the stage then only warms the weights up.
        files = list_images(study.source(key if study.roots.get(key) else side.lower()))
    else:
        # "From each of FDDB and MAFA, about 25,000 images" (paper §4.3): MAFA's training set has 25,876.
        root = study.source("fddb" if side == "A" else "mafa")
        if side == "A":
            files = fddb_pictures(root)
        else:
            table = read_mafa(root, "train")
            files = [root / name for name in table.loc[~table["reason"].isin(NOT_OPENED), "image"].unique()]
    if not files:
        raise StudyError(f"no multi-face pictures for set {side} of the pretraining")
    order = np.random.default_rng([study.seed, 2]).permutation(len(files))[: p.count_scenes]
    chosen = [files[k] for k in sorted(order)]
    return pd.DataFrame({"image": [f"{k:06d}.png" for k in range(len(chosen))], "source": [str(f) for f in chosen]})


# ------------------------------------------------------------------------------------------------------ helpers
def write_pictures(study: Study, table: pd.DataFrame, folder: Path, what: str, progress: bool) -> pd.Series:
    """Write each row's picture (its crop, where it has a box to crop) at the study's size; failures are listed.

    Returns a boolean per row: whether its picture is there.
    """
    reasons = prepare_pictures(table, folder, study.profile.size, progress=progress, what=what)
    failed = reasons[reasons != ""]
    add_failures(study, what, zip(table.loc[failed.index, "source"], failed))
    return reasons == ""


def _by_name(table: pd.DataFrame) -> pd.DataFrame:
    """Cut the folder off the names of a rendered set: the same name stands for full, masked and region picture."""
    return table.assign(image=[Path(name).name for name in table["image"]])


def selection_file(study: Study) -> Path | None:
    """The hand-picking of this study: the file the user named, data/B/selection.csv, or one beside the pictures.

    None where there is none, and in the face world, which picks by its known pose and masks.
    """
    if study.data == "faceworld":
        return None
    if study.roots.get("selection"):
        return study.source("selection")
    places = [study.data_dir / "B" / "selection.csv"]
    if study.data == "folders":
        places.append(study.source("b") / "selection.csv")
    return next((path for path in places if path.exists()), None)


def _named(root: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Give each picture of a folder the name it has in the study (unique, flat), its source and its `original` name."""
    table["original"] = table["image"]
    table["source"] = [str(root / name) for name in table["image"]]
    table["image"] = [f"{k:06d}_{Path(name).stem}.png" for k, name in enumerate(table["image"])]
    return table


def _people_A(study: Study) -> set[str]:
    """Whom a manifest names in the user's folder of full faces."""
    if study.data != "folders" or not (path := study.source("a") / "manifest.csv").exists():
        return set()
    return people(read_manifest(path))


def _hold_out(
    table: pd.DataFrame,
    among: str | None,
    study: Study,
    first: Collection[str] = (),
    never: Collection[str] = (),
    always: Collection[str] = (),
) -> pd.DataFrame:
    """Mark a held-out part by identity: `count_test` rows, at most a fifth, out of those where `among` is True.

    Who is in `first` is chosen before others, who is in `never` not at all; who is in `always` is held out in any case.
    """
    eligible = table[table[among]] if among else table
    count = min(study.profile.count_test, len(eligible) // 5)
    identities = identities_of(eligible)
    order = np.random.default_rng([study.seed, 3]).permutation(identities.unique())
    order = sorted((who for who in order if who not in never), key=lambda who: who not in first)
    sizes = identities.value_counts()[order].cumsum()
    chosen = set(sizes.index[sizes <= count]) | set(always)
    return table.assign(split=np.where(identities_of(table).isin(chosen), "test", "train"))


def identities_of(table: pd.DataFrame) -> pd.Series:
    """Who each picture shows, as text; a picture of nobody known counts as a person of its own."""
    known = table["identity"].fillna("").astype(str)
    return known.where(known != "", table["image"])
