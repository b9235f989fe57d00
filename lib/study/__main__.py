"""`python -m lib.study`: every notebook, headlessly, in order."""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

from lib.data.files import read_json
from lib.study.config import DATA_SOURCES, PROFILES, StudyError
from lib.study.processes import stoppable
from lib.warp import PRESETS


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m lib.study`."""
    p = argparse.ArgumentParser(
        prog="python -m lib.study",
        description="Run the notebooks with papermill. A second call goes on where the first stopped; "
        "for a study that exists its --name is enough.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="profiles:\n" + "\n".join(f"  {x.name:<8}{x.size}², ngf {x.ngf}: {x.note}" for x in PROFILES.values()),
    )
    p.add_argument("--profile", choices=tuple(PROFILES), help="sizes and counts (default: smoke)")
    p.add_argument("--data", choices=DATA_SOURCES, help="where faces come from (default: faceworld)")
    p.add_argument("--name", help="name of the study, its folder under runs/ (default: the profile's name)")
    p.add_argument("--seed", type=int, help="seed of everything that is drawn (default: 0)")
    p.add_argument("--runs-dir", help="folder of all studies (default: runs/ of the repository)")
    pick = p.add_argument_group("which notebooks")
    pick.add_argument("--only", nargs="+", metavar="NN", help="just these, by number or name")
    pick.add_argument("--from", dest="start", metavar="NN", help="this one and those after it")
    pick.add_argument("--force", action="store_true", help="also finished ones; stages are trained anew")
    pick.add_argument("--strict", action="store_true", help="a warning or a missing picture is a failure, for CI")
    training = p.add_argument_group(
        "how stages are trained", "given to every notebook that has such a parameter; the study remembers the last two"
    )
    training.add_argument("--device", help="auto, cpu, cuda, cuda:1 (default: auto)")
    training.add_argument("--devices", type=int, metavar="N", help="processes that share every batch, one for each GPU")
    training.add_argument("--compile", choices=("auto", "on", "off"), help="torch.compile (default: auto, on a GPU)")
    training.add_argument("--epochs", type=int, metavar="N", help="passes of each stage (default: the profile's)")
    training.add_argument("--batch-size", type=int, metavar="N", help="of all processes together (likewise)")
    p.add_argument_group("step one").add_argument(
        "--preset", choices=tuple(PRESETS), help="how the masks of set A are put on (default: study)"
    )
    folders = p.add_argument_group("--data folders")
    folders.add_argument("--a", metavar="DIR", help="full faces, the source of set A")
    folders.add_argument("--b", metavar="DIR", help="faces truly wearing masks, set B")
    folders.add_argument("--scenes-a", metavar="DIR", help="pictures of several full faces, for the pretraining")
    folders.add_argument("--scenes-b", metavar="DIR", help="pictures of several masked faces, for the pretraining")
    paper = p.add_argument_group("--data paper")
    paper.add_argument(
        "--mafa",
        metavar="DIR",
        help="MAFA (MAFA-Label-Train, train-images; and, for faces held out, MAFA-Label-Test, test-images)",
    )
    paper.add_argument("--cmfd", metavar="DIR", help="MaskedFace-Net's CMFD")
    paper.add_argument("--ffhq", metavar="DIR", help="FFHQ, the full faces of CMFD")
    paper.add_argument("--fddb", metavar="DIR", help="FDDB with its picture archive, for the pretraining")
    paper.add_argument("--selection", metavar="CSV", help="the hand-picked faces of MAFA (notebook 01)")
    paper.add_argument(
        "--stock",
        metavar="DIR",
        help="stock photographs for set B: with a crops.csv (notebook 01) its squares, else each picture whole",
    )
    photos = p.add_argument_group(
        "notebook 15: truly masked photographs to test on", "lib/data/README.md shows their folders"
    )
    photos.add_argument("--mafa-test", metavar="DIR", help="MAFA's root with MAFA-Label-Test and test-images")
    for name in ("mfr2", "mlfw"):
        help_ = f"{name.upper()}'s root folder and its pairs file"
        photos.add_argument(f"--{name}", nargs=2, metavar=("DIR", "PAIRS"), help=help_)
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns 0 when every notebook finished, 1 when one failed (or, with --strict, warned), 2 when
    nothing could start, 130 when Ctrl-C stopped it, 143 when SIGTERM did."""
    args = parser().parse_args(argv)
    return stoppable(lambda: _run(args))


def _photographs(args: argparse.Namespace, chosen: list[str]) -> dict[str, str]:
    """Parameters of notebook 15 for the sets that were named."""
    named = {"--mafa-test": [args.mafa_test] if args.mafa_test is not None else None, "--mfr2": args.mfr2}
    named = {option: paths for option, paths in (named | {"--mlfw": args.mlfw}).items() if paths}
    for option, paths in named.items():
        if not any(name.startswith("15") for name in chosen):
            raise StudyError(f"{option} is for notebook 15, which is not among those to run: --only 15")
        if absent := [path for path in paths if not path or not Path(path).exists()]:
            raise StudyError(f"{absent[0]!r}: named by {option} but not there")
    keys = {"--mafa-test": ("mafa",), "--mfr2": ("mfr2", "mfr2_pairs"), "--mlfw": ("mlfw", "mlfw_pairs")}
    return {key: str(Path(p).resolve()) for option, paths in named.items() for key, p in zip(keys[option], paths)}


def _run(args: argparse.Namespace) -> int:
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # silences a debugger's notice in every kernel
    from lib.study.driver import list_notebooks, pick, run_study, warned
    from lib.study.runs import RUNS, open_study

    keys = ("a", "b", "scenes_a", "scenes_b", "mafa", "cmfd", "ffhq", "fddb", "selection", "stock")
    training = {key: getattr(args, key) for key in ("device", "devices", "compile", "epochs", "batch_size", "preset")}
    training = {key: value for key, value in training.items() if value is not None}
    try:
        if wrong := [key for key in ("devices", "epochs", "batch_size") if training.get(key, 1) < 1]:
            raise StudyError(f"--{wrong[0].replace('_', '-')} {training[wrong[0]]}: must be 1 or more")
        if training.get("epochs", 3) < 3:
            raise StudyError(f"--epochs {training['epochs']}: stage 5 needs 3, for its checkpoints 313, 476 and 510")
        chosen = pick(list_notebooks(), args.only, args.start)  # a mistyped name must not leave a study behind
        photos = _photographs(args, [path.stem for path in chosen])
        name = args.name or args.profile or "smoke"
        path = Path(args.runs_dir or RUNS) / name / "study.json"
        known = read_json(path) if path.is_file() else {"profile": "smoke", "data": "faceworld", "seed": 0}
        study = open_study(
            name,
            args.profile or known["profile"],
            args.data or known["data"],
            known["seed"] if args.seed is None else args.seed,
            {key: getattr(args, key) for key in keys},
            args.runs_dir,
        )
        print(f"study {study.name}: profile {study.profile.name}, data {study.data}, seed {study.seed} → {study.root}")
        started = time.monotonic()
        say = partial(print, flush=True)
        outcomes = run_study(study, args.only, args.start, args.force, training | photos, say=say)
    except (StudyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = [o for o in outcomes if o.status == "failed"]
    done = sum(o.status == "finished" for o in outcomes)
    print(f"{done} run, {sum(o.status == 'skipped' for o in outcomes)} skipped, {time.monotonic() - started:.0f} s")
    warnings = warned(study, chosen)
    for notebook, lines in warnings.items():
        print(f"{notebook} warned in {', in '.join(lines)}")
    if failed:
        print(
            f"what it did up to there: {study.root / 'notebooks' / (failed[0].notebook + '.ipynb')}\n"
            "mend the cause (the message names it) and run the same command: finished notebooks are skipped"
        )
        return 1
    print(f"executed notebooks: {study.root / 'notebooks'}")
    if study.figures_dir.is_dir():
        print(f"figures: {study.figures_dir}")
    return 1 if args.strict and warnings else 0


if __name__ == "__main__":
    sys.exit(main())
