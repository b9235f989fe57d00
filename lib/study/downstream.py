"""What the data is worth: detectors and recognisers trained with and without masks, tested on truly worn ones (C7).

Every training sees the same rendered scenes or people; half of the faces of each set wear the masks it is named after:

    none                  no masks at all
    rule                  rule-based ones (step one), all of one kind and colour unless the study's preset is another
    rule, many colours    the same in the street's kinds and colours: is it more than colour that step two adds?
    two-step              the same made realistic by a generator (`lib.augment`: composited into the mask's region)
    truth                 masks truly worn, on the same faces: the ceiling, which photographs do not have
    two-step on the fly   new masks in every pass, drawn while training (`MaskTransform`, `SecondStep`)

    experiments/detector/<variant>-seed<k>/     result.json (lib.study.runner; `experiments.collect` finds it)
    experiments/recogniser/<variant>-seed<k>/   model.safetensors, training.json, training.csv, of what it was tested
                                                with bootstrap-….parquet, curve-….parquet
    experiments/mfr2/<variant>-seed<k>/         the same model on photographs (`lib.study.downstream_real`): kept until
                                                that set is named anew or the model is trained anew

A test on photographs that fails is a result of that set alone: its status says why, the rendered ones stay.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load, save
from torch import nn

from lib.augment.options import preset_of
from lib.data.faceworld import VERSION as RENDERER
from lib.data.files import read_json, sha256, write_bytes, write_json, write_table
from lib.gan.config import pick_device
from lib.gan.released import MODEL, default_released, find_weights
from lib.study.config import StudyError
from lib.study.detector import Detector, precision
from lib.study.downstream_real import SETS, Photographs, read_set
from lib.study.downstream_sets import FLY, VARIANTS, Batches, Plan, batches, people_of, plan_of, scenes_of, training_set
from lib.study.experiments import collect
from lib.study.experiments import folder_of as case_folder
from lib.study.plans import Case
from lib.study.recogniser import Recogniser, all_pairs, verification
from lib.study.runner import Task, read_result, run_tasks, state_of
from lib.study.runs import Study
from lib.study.timeline import checkpoints_of

VERSION = 1  # raise it whenever a change here or in what is trained changes a value
EXPERIMENTS = ("recogniser", "detector")
GENERATOR = Case("corners", "nmc+noise", 0)  # whose weights are step two, where an experiment has trained them
DRAWS = 500  # bootstrap samples
WEIGHTS = "model.safetensors"


def cases_of(study: Study) -> list[Case]:
    """Every case, all of one seed before the next; detectors and recognisers in turns, so that two processes do not
    wait for the same pictures."""
    seeds = range(plan_of(study).seeds)
    return [Case(name, variant, seed) for seed in seeds for variant in VARIANTS for name in EXPERIMENTS]


def fit(model: nn.Module, of_pass: Batches, passes: int, steps: int, learning_rate: float) -> pd.DataFrame:
    """Train a model with `loss(images, targets)` by AdamW, its rate rising and falling once; `steps` of each pass.

    Gives a row per pass: loss (mean), seconds (in all), data_seconds (until the batches were there).
    """
    device = next(model.parameters()).device
    adam = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, learning_rate, total_steps=passes * steps)
    rows = []
    for number in range(passes):
        model.train()
        started, waited, losses = time.perf_counter(), 0.0, []
        before = started
        for images, targets in of_pass(number):
            waited += time.perf_counter() - before
            adam.zero_grad()
            loss = model.loss(images.to(device), targets)
            loss.backward()
            adam.step()
            schedule.step()
            losses.append(loss.item())
            before = time.perf_counter()
        rows.append((np.mean(losses), time.perf_counter() - started, waited))
    return pd.DataFrame(rows, columns=["loss", "seconds", "data_seconds"])


# ------------------------------------------------------------------------------------------------------- generator
def generator_of(study: Study, seed: int = 0, given: Path | str | None = None) -> tuple[Path, str]:
    """Weights of step two, and in words which they are: those given; the experiment's full method with this seed, or
    with seed 0; the last of stage 5; a released model, trained on other pictures.

    Raises StudyError where there is none at all, and CheckpointError for given ones that are not there.
    """
    if given:
        return find_weights(given), f"as named: {given}"
    for k in dict.fromkeys((seed, 0)):
        folder = case_folder(study, replace(GENERATOR, seed=k))
        kept = sorted((folder / "checkpoints").glob("epoch_*/net_G_AB.safetensors"))
        if kept and read_result(folder).get("status") == "finished":
            return kept[-1], f"experiment {GENERATOR.variant}, seed {k}, {kept[-1].parent.name.replace('_', ' ')}"
    if found := checkpoints_of(study, "stage5"):
        return find_weights(found[max(found)]), f"the timeline's stage 5, epoch {max(found)}"
    if (name := default_released()) is None:
        raise StudyError(f"{study.root}: no weights of step two; run notebooks 04 to 09, or name a checkpoint")
    return find_weights(name), f"the released model {name}: trained on other pictures than this study's"


# ------------------------------------------------------------------------------------------------------- runs
def run(
    study: Study,
    cases: Sequence[Case] | None = None,
    checkpoint: Path | str | None = None,
    real: dict[str, Sequence[str]] | None = None,
    workers: int | None = None,
    progress: bool = True,
    device: str = "auto",
) -> pd.DataFrame:
    """Train and test the cases (None: all) that are not finished; `lib.study.runner.run_tasks` tells of workers.

    checkpoint: weights of step two; None: see `generator_of`. real: sets of truly masked photographs to test on, too:
    {"mafa": (root,), "mfr2": (root, pairs file), "mlfw": (root, pairs file)}. They are read before anything is trained;
    a set named later is only tested on, and what was measured on others stays.

    Returns the rows of all cases and sets, as `experiments.collect` has them. Raises StudyError as `read_set` does, and
    where there are no weights of step two.
    """
    cases = cases_of(study) if cases is None else list(cases)
    root, tasks = study.root / "experiments", _tasks(study, cases, checkpoint, device)
    sets = [read_set(kind, paths, plan_of(study)) for kind, paths in (real or {}).items()]
    if workers is None and pick_device(device).type == "cuda":
        workers = 1
    run_tasks(root, tasks, workers, progress, "trainings", lambda task: collect(study))
    _forget(study, {photos.kind: photos.digest for photos in sets})
    # In this process: the photographs are read once, and not sent to others.
    run_tasks(root, _tests(study, cases, sets, device), 0, progress, "tests on photographs")
    table = collect(study)
    return table[table["experiment"].isin((*EXPERIMENTS, *SETS))].reset_index(drop=True)


def overview(study: Study, checkpoint: Path | str | None = None) -> pd.DataFrame:
    """Every case: experiment, variant, seed, state (of the runner, or how it ended), minutes, the weights of step
    two."""
    rows, cases = [], cases_of(study)
    for case, task in zip(cases, _tasks(study, cases, checkpoint, "auto")):
        state, found = state_of(task), read_result(task.folder)
        told = found["status"] if found and (state == "finished" or found["status"].startswith("failed")) else state
        minutes = found.get("measure_seconds", 0) / 60 if state == "finished" else None
        rows.append((case.experiment, case.variant, case.seed, told, minutes, task.notes.get("generator", "")))
    return pd.DataFrame(rows, columns=["experiment", "variant", "seed", "state", "minutes", "step two"])


def folder_of(study: Study, case: Case, tested: str = "") -> Path:
    """Where a case's results are; tested: a set of photographs."""
    return case_folder(study, replace(case, experiment=tested or case.experiment))


def _tasks(study: Study, cases: Sequence[Case], checkpoint, device: str) -> list[Task]:
    plan, tasks = plan_of(study), []
    for case in cases:
        weights, told = generator_of(study, case.seed, checkpoint)
        facts = {"plan": asdict(plan), "seed_of_pictures": study.seed, "code": [VERSION, RENDERER]}
        notes = _notes(study, case)
        if case.variant != "none":
            facts["preset"] = preset_of(weights)
        if case.variant in ("two-step", FLY):
            facts["weights"] = sha256(weights / MODEL if weights.is_dir() else weights)
            notes["generator"] = told
        measure = partial(_measure, study, case, str(weights), device)
        tasks.append(Task(folder_of(study, case), facts, measure, notes=notes))
    return tasks


def _tests(study: Study, cases: Sequence[Case], sets: Sequence[Photographs], device: str) -> list[Task]:
    """A task for each set and each case that has been trained."""
    tasks = []
    for photos in sets:
        for case in (case for case in cases if case.experiment == SETS[photos.kind]):
            if (path := folder_of(study, case) / WEIGHTS).exists():
                facts = {"set": photos.digest, "model": sha256(path), "code": [VERSION]}
                notes = _notes(study, case) | {"case": asdict(replace(case, experiment=photos.kind))}
                measure = partial(_photographed, study, case, photos, device)
                tasks.append(Task(folder_of(study, case, photos.kind), facts, measure, notes=notes))
    return tasks


def _forget(study: Study, named: dict[str, str]) -> None:
    """Remove what was measured on photographs with models that are others now, or on other files of a named set."""
    for kind, experiment in SETS.items():
        for folder in [path.parent for path in (study.root / "experiments" / kind).glob("*/result.json")]:
            model, found = study.root / "experiments" / experiment / folder.name / WEIGHTS, read_result(folder)
            same = model.exists() and found.get("model") == sha256(model)
            if not same or found.get("set") != named.get(kind, found.get("set")):
                shutil.rmtree(folder)


def _notes(study: Study, case: Case) -> dict:
    plan = plan_of(study)
    size = plan.face_size if case.experiment == "recogniser" else plan.scene_size
    steps = _steps(plan, case) * _passes(plan, case)
    return {"case": asdict(case), "profile": study.profile.name, "steps": steps, "size": size}


def _passes(plan: Plan, case: Case) -> int:
    return plan.recogniser_passes if case.experiment == "recogniser" else plan.detector_passes


def _steps(plan: Plan, case: Case) -> int:
    recogniser = case.experiment == "recogniser"
    count = plan.people[0] * plan.pictures[0] if recogniser else plan.scenes[0]
    return -(-count // plan.batch_size[not recogniser])


def _measure(study: Study, case: Case, weights: str, device: str, task: Task) -> list[dict]:
    """Train, unless that was done, and test; in a process of its own."""
    plan, path, recogniser = plan_of(study), task.folder / WEIGHTS, case.experiment == "recogniser"
    model = load_model(study, case)
    if model is None:
        torch.manual_seed(case.seed)
        model = _new(plan, case).to(pick_device(device))
        pictures = people_of(study, "train") if recogniser else scenes_of(study, "train")
        started = time.perf_counter()
        samples, second = training_set(pictures, case.variant, case.seed, weights, device)
        made = time.perf_counter() - started
        of_pass = batches(samples, second, plan.batch_size[not recogniser], case.seed)
        told = fit(model, of_pass, _passes(plan, case), _steps(plan, case), plan.learning_rate)
        write_table(task.folder / "training.csv", told)
        passes = told[["seconds", "data_seconds"]].median()  # the first draws templates and wakes caches
        facts = {"loss": told["loss"].iloc[-1], "prepared_seconds": made}
        facts |= {f"{name}_per_pass": value for name, value in passes.items()}
        write_json(task.folder / "training.json", facts)
        write_bytes(path, save({k: v.cpu().contiguous() for k, v in model.state_dict().items()}))
    facts = read_json(task.folder / "training.json")
    rows = [_row(name, value, 1) for name, value in facts.items()]
    test = _recognised if recogniser else _detected
    return rows + test(model, study, task.folder)


def _new(plan: Plan, case: Case) -> nn.Module:
    return Recogniser(plan.people[0], plan.face_size) if case.experiment == "recogniser" else Detector(plan.scene_size)


def load_model(study: Study, case: Case) -> Recogniser | Detector | None:
    """The trained network of a case, on the CPU; None where it has not been trained."""
    path = folder_of(study, case) / WEIGHTS
    if not path.exists():
        return None
    model = _new(plan_of(study), case)
    model.load_state_dict(load(path.read_bytes()))
    return model.eval()


def _recognised(model: Recogniser, study: Study, folder: Path) -> list[dict]:
    test = people_of(study, "test")
    bare, worn, pairs = model.embed(test.bare), model.embed(test.worn), all_pairs(test.identity)
    rows = []
    # Bare against bare: what masks in training cost where nobody wears one.
    for name, prefix, second in (("faceworld", "", worn), ("bare", "bare_", bare)):
        found = verification((bare[pairs.first] * second[pairs.second]).sum(1), pairs, DRAWS)
        rows += _rows(found, len(np.unique(test.identity)), folder, name, prefix)
    return rows


def _detected(model: Detector, study: Study, folder: Path) -> list[dict]:
    test = scenes_of(study, "test")
    return _rows(precision(model.detect(test.images), test, DRAWS), len(test.images), folder, "faceworld")


def _photographed(study: Study, case: Case, photos: Photographs, device: str, task: Task) -> list[dict]:
    model, truth = load_model(study, case).to(pick_device(device)), photos.truth
    if isinstance(model, Detector):
        found = precision(model.detect(photos.images), truth, DRAWS)
    else:
        vectors = model.embed(photos.images)
        found = verification((vectors[truth.first] * vectors[truth.second]).sum(1), truth, DRAWS)
    rows = _rows(found, photos.units, task.folder, photos.kind)
    rows += [_row(name, count, photos.units) for name, count in photos.counts.items()]
    return [*rows, _row("unusable", photos.unusable, photos.of)]


def _rows(found: tuple, count: int, folder: Path, name: str, prefix: str = "") -> list[dict]:
    """Values as rows; the bootstrap samples and the curve into files, `name` of the set in theirs."""
    values, samples, curve = found
    write_table(folder / f"bootstrap-{name}.parquet", samples)
    write_table(folder / f"curve-{name}.parquet", curve.iloc[:: max(1, len(curve) // 2000)])
    return [_row(f"{prefix}{metric}", value, count) for metric, value in values.items()]


def _row(metric: str, value: float, n: int) -> dict:
    return {"epoch": None, "metric": metric, "value": float(value) if np.isfinite(value) else None, "n": int(n)}
