"""The experiments behind the claims: a grid of cases → run folders → one tidy table.

    experiments/<experiment>/<variant>-seed<k>/   a run folder with result.json (lib.study.runner)
    experiments/results.parquet, results.csv      every finished case (`collect`)

Which cases there are is in lib.study.plans, what is measured in lib.study.evidence. On the command line:

    python -m lib.study.experiments --name laptop
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pandas as pd

from lib.data.files import write_table
from lib.gan import TrainConfig, pick_device
from lib.study.config import DATA_SOURCES, PROFILES, STAGES, StudyError
from lib.study.datasets import train_data, train_rows
from lib.study.outputs import Progress
from lib.study.plans import REFERENCE, Case, case_config, cases_of
from lib.study.processes import stoppable
from lib.study.runner import Task, read_result, run_tasks, state_of
from lib.study.runs import Study, find_study, open_study

__all__ = ["Case", "cases_of", "collect", "overview", "reserved", "run_cases"]

Measure = Callable[[Study, "Path | str", int], list[dict]]  # study, checkpoint folder or a reference's name, seed
COLUMNS = ["experiment", "variant", "seed", "epoch", "metric", "value", "n", "status", "profile", "device", "steps",
           "size", "config_hash"]  # fmt: skip


def reserved(study: Study) -> tuple[list[str], list[str]]:
    """Pictures of sets A and B that no experiment trains on, for the critic to learn from: every third of stage 3's.

    Raises StudyError when the sets have not been prepared.
    """
    return tuple(table["image"].tolist()[2::3] for table in train_rows(study, "stage3"))


def run_cases(
    study: Study,
    cases: Sequence[Case],
    workers: int | None = None,
    progress: bool = True,
    measure: Measure | None = None,
    device: str = "auto",
) -> pd.DataFrame:
    """Train and measure the cases that are not finished; see `lib.study.runner.run_tasks` for workers.

    measure: instead of `lib.study.evidence.measure_run`; with an attribute VERSION where its results change.

    Returns:
        The rows of these cases, as `collect` has them.

    Raises:
        StudyError: sets that have not been prepared, or another process at work on this study's experiments.
    """
    tasks, before = _tasks(study, cases, measure, device), None
    if measure is None:
        from lib.study import evidence

        before = partial(evidence.prepare, study)  # once for all processes
    run_tasks(_root(study), tasks, workers, progress, "experiments", on_done=lambda task: collect(study), before=before)
    return _tidy(study, {(case.experiment, case.variant, case.seed) for case in cases})


def collect(study: Study) -> pd.DataFrame:
    """Every finished case, one row per measure: `COLUMNS`; also written to results.parquet and results.csv.

    The value is NaN, once for each measure of its experiment, where a case diverged or failed. References have no seed
    and no epoch.
    """
    table = _tidy(study)
    for suffix in ("parquet", "csv"):
        write_table(_root(study) / f"results.{suffix}", table)
    return table


def overview(study: Study, cases: Sequence[Case], measure: Measure | None = None) -> pd.DataFrame:
    """The cases with their state: experiment, variant, seed, state, minutes (known, or as those of its kind took)."""
    rows = []
    for case, task in zip(cases, _tasks(study, cases, measure)):
        found, state = read_result(task.folder), state_of(task)
        status = found.get("status", "")
        minutes = (found.get("seconds", 0) + found.get("measure_seconds", 0)) / 60 if state == "finished" else None
        failed = status.startswith("failed") and state not in ("other", "damaged")
        told = status if state == "finished" or failed else STATES[state]
        rows.append([case.experiment, case.variant, case.seed, told, minutes, state == "finished"])
    table = pd.DataFrame(rows, columns=["experiment", "variant", "seed", "state", "minutes", "finished"])
    known = table["minutes"].astype(float)
    trains = table["experiment"] != REFERENCE
    for like in (table["experiment"], trains):  # times of the same experiment, else of any training
        known = known.fillna(known.groupby(like).transform("mean"))
    return table.assign(minutes=known)


STATES = {
    "new": "to do",
    "begun": "begun",
    "trained": "to be measured",
    "other": "to do anew: made with other settings or data",
    "damaged": "to do anew: its result.json is damaged",
}


def _root(study: Study) -> Path:
    return study.root / "experiments"


def folder_of(study: Study, case: Case) -> Path:
    """The run folder of a case."""
    return _root(study) / case.experiment / case.folder_name


def _tasks(study: Study, cases: Sequence[Case], measure: Measure | None, device: str = "auto") -> list[Task]:
    if measure is None:
        from lib.study import evidence

        version = evidence.VERSION
    else:
        version = getattr(measure, "VERSION", 0)
    tasks, stacks = [], {}
    for case in cases:
        sets = (case.set_A, case.set_B)
        if sets not in stacks:
            stacks[sets] = _data(study, *sets)
        data, facts = stacks[sets]
        folder = folder_of(study, case)
        notes = {"case": asdict(case), "profile": study.profile.name, "size": study.profile.size, "steps": 0}
        task = Task(folder, {"data": facts}, partial(_measure, study, case, measure), version=version, notes=notes)
        if case.experiment != REFERENCE:
            config: TrainConfig = case_config(study, case, device)
            task = replace(
                task,
                facts={"config_hash": config.hash(), "data": facts},
                config=config,
                data=data,
                labels=config.keep_epochs,
            )
            task = replace(task, notes=notes | {"steps": task.steps})
        tasks.append(task)
    return tasks


def _data(study: Study, set_A: str, set_B: str) -> tuple:
    """What a case trains on: stage 3's set A whatever the set B, so that filters differ in B alone."""
    (of_3, _), (of_this, _) = train_rows(study, "stage3"), train_rows(study, set_B)
    others = set(of_this["image"]) - set(of_3["image"])
    names_A, names_B = reserved(study)
    without = ([*names_A, *others], names_B)
    stage = replace(STAGES["stage5"], set_B=set_B)
    return train_data(study, stage, study.profile.sample_count, without, bare=set_A == "full")


def _measure(study: Study, case: Case, measure: Measure | None, task: Task) -> list[dict]:
    """The values of a case at each of its epochs."""
    if own := measure is None:
        from lib.study import evidence

        measure = partial(evidence.measure_run, bare=True) if case.set_A == "full" else evidence.measure_run
    sources = {label: task.checkpoint(label) for label in task.labels} if task.config else {None: case.variant}
    rows = [{"epoch": at, **row} for at, source in sources.items() for row in measure(study, source, case.seed)]
    if own and task.config:
        last = evidence.redrawn(study, task.folder)
        if (case.experiment, case.variant) == ("corners", "nmc"):
            last += evidence.forced_noise(study, sources[task.labels[-1]])
        rows += [{"epoch": task.labels[-1], **row} for row in last]
    return [
        row | {"value": None if math.isnan(row["value"]) else float(row["value"]), "n": int(row["n"])} for row in rows
    ]


def _tidy(study: Study, wanted: set | None = None) -> pd.DataFrame:
    rows, broken = [], []
    for path in sorted(_root(study).glob("*/*/result.json")):
        found = read_result(path.parent)
        if found.get("status", "running") == "running" or not _is_of(path.parent, case := found.get("case", {})):
            continue
        if wanted is not None and (case["experiment"], case["variant"], case["seed"]) not in wanted:
            continue
        facts = {"experiment": case["experiment"], "variant": case["variant"]}
        facts["seed"] = None if case["experiment"] == REFERENCE else case["seed"]
        facts |= {key: found.get(key, "") for key in COLUMNS if key not in (*facts, "epoch", "metric", "value", "n")}
        if found["status"] != "finished":
            broken.append(facts)
            continue
        rows += [{**facts, **row} for row in found.get("values", [])]
    for facts in broken:
        seen = {(r["epoch"], r["metric"]) for r in rows if r["experiment"] == facts["experiment"]} or {(None, "")}
        nothing = {**facts, "value": None, "n": 0}
        rows += [{**nothing, "epoch": epoch, "metric": metric} for epoch, metric in sorted(seen, key=str)]
    whole = dict.fromkeys(("seed", "epoch", "n", "steps", "size"), "Int64")
    return pd.DataFrame(rows, columns=COLUMNS).astype(whole | {"value": float})


def _is_of(folder: Path, case: dict) -> bool:
    """Whether a folder is the case's own: not a copy of it, and no damaged one."""
    names = [case.get(name) for name in ("experiment", "variant", "seed")]
    if [type(name) for name in names] != [str, str, int]:
        return False
    return (folder.parent.name, folder.name) == (names[0], Case(*names).folder_name)


def study_name(text: str) -> str:
    """An argparse type: the name of a study, which is not empty (that would be the folder of all studies)."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a study's name is not empty")
    return text


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m lib.study.experiments`."""
    p = argparse.ArgumentParser(
        prog="python -m lib.study.experiments",
        description="Train and measure the experiments of a study whose notebooks 01 and 02 have run. A second call "
        "goes on where the first stopped.",
    )
    p.add_argument(
        "--name",
        type=study_name,
        help="name of the study, its folder under runs/ (default: the profile's name, or smoke)",
    )
    p.add_argument("--profile", choices=tuple(PROFILES), help="the study's, to be checked; so are the next two")
    p.add_argument("--data", choices=DATA_SOURCES)
    p.add_argument("--seed", type=int)
    p.add_argument("--runs-dir", help="folder of all studies (default: runs/ of the repository)")
    p.add_argument(
        "--only",
        metavar="NAME,NAME",
        help="these experiments: corners, filters, noise, reference "
        "(what the claims rest on: the default), future, generators",
    )
    told = "processes of one thread each; 0: none beside this one (default: one per core, on a GPU one)"
    p.add_argument("--workers", type=int, metavar="N", help=told)
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    p.add_argument("--list", action="store_true", help="show the cases, their state and time, and train nothing")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns 0 when every case finished or diverged, 1 when one failed, 2 when nothing could start,
    130 when Ctrl-C stopped it, 143 when SIGTERM did."""
    args = parser().parse_args(argv)
    try:
        with redirect_stderr(Progress(sys.stderr)):  # a line a minute where there is no terminal
            return stoppable(lambda: _run(args))
    except (StudyError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace) -> int:
    study = find_study(args.name or args.profile or "smoke", args.runs_dir)
    seed = study.seed if args.seed is None else args.seed
    open_study(study.name, args.profile or study.profile.name, args.data or study.data, seed, runs_dir=args.runs_dir)
    if (args.workers or 0) < 0:  # told before anything else is, and with --list, too
        raise StudyError(f"--workers {args.workers}: expected 0 or more")
    pick_device(args.device)
    cases = cases_of(study, None if args.only is None else [name.strip() for name in args.only.split(",")])
    table = overview(study, cases)
    left = table[~table["finished"]]
    about = f", about {left['minutes'].sum():.0f} minutes of one process" if left["minutes"].notna().any() else ""
    print(f"study {study.name}: {len(table)} cases, {len(left)} to do{about} → {_root(study)}", flush=True)
    if args.list:
        print(table.drop(columns="finished").to_string(index=False, na_rep="?", float_format="{:.1f}".format))
        return 0
    run_cases(study, cases, args.workers, device=args.device)
    table = overview(study, cases)
    bad = table[table["state"] != "finished"]
    if len(bad):
        print(bad.drop(columns=["minutes", "finished"]).to_string(index=False))
    print(f"{len(table) - len(bad)} of {len(table)} cases finished; {_root(study) / 'results.csv'}")
    return 1 if (~table["finished"]).any() else 0


if __name__ == "__main__":
    sys.exit(main())
