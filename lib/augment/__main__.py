"""`python -m lib.augment IN OUT`: see `--help`."""

import argparse
import sys
from pathlib import Path

from lib.augment.options import AugmentError, Options
from lib.data.detection import FORMATS
from lib.warp import PRESETS, TEMPLATES
from lib.warp.geometry import WEAR_TYPES
from lib.warp.looks import TEXTURES

DESCRIPTION = """\
Put face masks on every photograph of a folder, on a recognition set or on labelled scenes. Step one draws a mask onto
each face by rule (--rule-only stops there); step two lets a generator turn the drawn mask into a realistic one and
takes back only the mask's pixels. The generator is the released model that is the default, unless --checkpoint names
another or one that you trained. The released model makes white or pale masks, whatever
--masks asks for.

Written to OUT:
  images/…png     the same tree, the same sizes. PNG, because outside the mask every pixel equals the original, and a
                  JPEG could not keep that promise. photo.jpg becomes photo.png; where two pictures of a folder share
                  that name, both keep their suffix: photo.jpg.png, photo.webp.png
  regions/…png    8-bit, how much each pixel was changed: 0 = untouched, equal to the original's 8-bit RGB as decoded
  tensors/…       with --tensors: NAME.safetensors, a boolean tensor "non_mask" [H, W], True where the region is 0
                  (lib.warp.load_non_mask reads it)
  manifest.csv    (and .parquet) a row per face and variant: files and their hashes, box, the drawn mask with all its
                  parameters, seeds, checkpoint, notes
  landmarks.csv   the 68 points of each face
  failures.csv    every picture and face that got no mask, and why
  report.html     counts, reasons, faces before and after, misses; one file, opens without a network
  run.json        options, versions, counts
  pairs/          with --pairs: pairs.csv, and texts in the style of the source
  labels/FORMAT/  with --labels: the labels, faces with a mask as class face_mask, with the mask's box and region;
                  labels/yolo is a set that can be trained on as it is
"""

EPILOG = """\
Stopped, by Ctrl-C or a power cut? Give the same command again: what is done is not done again.
A face's result depends on the seed, its picture, the picture's path in IN and the face's number alone: not on other
pictures or on the number of workers.

exit status: 0 something was masked, 1 nothing was, 2 the command cannot be carried out as given

examples
  a folder of photographs
    python -m lib.augment photos masked
    python -m lib.augment photos try --rule-only --limit 20 --seed 7
    python -m lib.augment photos masked --checkpoint runs/laptop/stage5/checkpoints/epoch_0313
    python -m lib.augment photos masked --rule-only --masks 'surgical_blue=5, cloth#334455@0.8/stripes@0.5=2'
    python -m lib.augment photos masked --rule-only --wear 'Mask=3, Mask_Chin=1' --tensors
  a recognition set, a folder for each person: two masks for each picture, beside the untouched one, and test pairs
    python -m lib.augment lfw lfw_masked --per-image 2 --originals --pairs pairs.txt
  labelled scenes: half of the faces masked, labels written as they were and as COCO
    python -m lib.augment VOC/JPEGImages masked --labels VOC --share 0.5 --write coco
    python -m lib.augment WIDER WIDER_masked --labels WIDER --share '0.3, 64px=0.8, 30deg=0.2' --min-face 32
  the same again, from what was written down
    python -m lib.augment photos again --replay masked/manifest.parquet
"""


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m lib.augment`."""
    default = Options()
    p = argparse.ArgumentParser(
        prog="python -m lib.augment",
        usage="%(prog)s IN OUT [--rule-only | --checkpoint WEIGHTS] [--labels PATH | --pairs FILE] [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("in_dir", metavar="IN", type=Path, help="folder of photographs, any depth; never written to")
    p.add_argument("out_dir", metavar="OUT", type=Path, help="folder for results: new, empty or of the same command")
    which = p.add_argument_group("which mask (neither: the default released model)")
    which.add_argument("--rule-only", action="store_true", help="the mask drawn by rule; needs no training")
    which.add_argument(
        "--checkpoint",
        type=Path,
        metavar="WEIGHTS",
        help="net_G_AB.safetensors of your training or the folder it is in, or the name or folder of a released model "
        "(they are in lib/gan/weights, a card beside each)",
    )
    rule = p.add_argument_group("step one, the mask put on by rule")
    rule.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="how: ours (draped over the head, lit like the face), or a family's way (default: ours with --rule-only, "
        "otherwise what the generator was trained on)",
    )
    rule.add_argument(
        "--masks",
        metavar="MIX",
        help="which and how often: NAME[#COLOUR[@SHARE]][/TEXTURE[@SHARE]][=WEIGHT], …; COLOUR is rrggbb or a name of "
        f"CSS, TEXTURE {', '.join(TEXTURES)} or a picture file, SHARE (0 to 1) how much of it the cloth takes, WEIGHT "
        "how often it comes, e.g. 'surgical_blue=5, cloth#navy@0.8/dots=2, n95#333333' (default: the preset's). NAME "
        f"is one of {', '.join(TEMPLATES)}, or a .json file of your own (python -m lib.warp.own)",
    )
    rule.add_argument(
        "--wear",
        metavar="WAYS",
        default=default.wear,
        help=f"how worn: {', '.join(WEAR_TYPES)} (right; with the chin, the nose, nose and mouth out), imfd (the last "
        "three in MaskedFace-Net's shares), or several with weights: 'Mask=3, Mask_Chin=1' (default: %(default)s)",
    )
    faces = p.add_argument_group("which faces")
    faces.add_argument("--largest-only", action="store_true", help="mask only the largest face of a picture")
    faces.add_argument("--copy-missed", action="store_true", help="also write pictures without any masked face")
    faces.add_argument(
        "--share",
        metavar="X",
        default=default.share,
        help="how many of them get a mask, drawn for each face by the seed; after commas other shares by size and "
        "pose: '0.3, 64px=0.8, 30deg=0.2' are 0.3, but 0.8 from 64 px on and 0.2 of heads turned by 30° and more; the "
        "last that fits counts (default: %(default)s)",
    )
    faces.add_argument("--min-face", type=int, metavar="PX", help="none on smaller boxes (default: 24 with --labels)")
    faces.add_argument("--max-face", type=int, metavar="PX", help="none on larger ones; their shorter side counts")
    faces.add_argument(
        "--max-yaw",
        type=float,
        metavar="DEG",
        help="none on heads turned further (default: preset's), as their landmarks tell; beyond some 40° dlib's tell "
        "too little of a turn",
    )
    faces.add_argument("--limit", type=int, metavar="N", help="only the first N pictures, in the order of their names")
    faces.add_argument(
        "--upsample",
        type=int,
        metavar="N",
        default=default.upsample,
        help="how often the picture is doubled before faces are looked for (default: %(default)s)",
    )
    faces.add_argument(
        "--detect-side",
        type=int,
        metavar="PX",
        default=default.detect_side,
        help="but never beyond this length (default: %(default)s). Faces of 80 px there are found: raise it for small "
        "faces in large pictures, at a price in time",
    )
    faces.add_argument(
        "--min-score",
        type=float,
        metavar="X",
        default=default.min_score,
        help="a fainter detection counts only in a picture without a surer one; true faces mostly score above 1 "
        "(default: %(default)s)",
    )
    faces.add_argument(
        "--thorough",
        action="store_true",
        help="let all detectors look at every picture, for groups in which some faces are small or turned: finds more, "
        "not all; about a second more at 256², six at 2000 px",
    )
    faces.add_argument(
        "--landmarks",
        metavar="SOURCE",
        default=default.landmarks,
        help="where faces are from: dlib, FFHQ's .json, or a landmark table (.csv, .parquet) of the pictures in IN, "
        "such as the landmarks.csv of an earlier OUT or of python -m lib.warp.faces (default: %(default)s)",
    )
    faces.add_argument(
        "--landmark-cache",
        type=Path,
        metavar="FOLDER",
        help="keep what dlib finds there by each file's hash: further runs need not look again (default: none)",
    )
    people = p.add_argument_group("recognition sets")
    people.add_argument(
        "--per-image",
        type=int,
        metavar="K",
        default=default.per_image,
        help="variants of each picture, with different masks: Ann_0001.jpg becomes Ann_1001.png, Ann_2001.png, … in "
        "folders called Ann, any other photo.jpg photo_mask1.png, … (default: %(default)s, which keeps the name)",
    )
    people.add_argument(
        "--originals",
        action="store_true",
        help="also write each untouched picture, as PNG, under its own name; masked ones then take the names of "
        "variants, and a recogniser can be trained on OUT/images alone",
    )
    people.add_argument(
        "--identity",
        type=int,
        metavar="LEVEL",
        default=default.identity,
        help="which folder on a picture's path tells who is on it, for the manifest and the count in the report: 1 the "
        "first in IN, -1 the one that holds the picture, -2 the one above that (default: %(default)s, right for "
        "Ann/Ann_0001.jpg and train/n000002/0001.jpg; with folders within a person's, as Ann/0/1.jpg, give 1)",
    )
    people.add_argument(
        "--pairs",
        type=Path,
        metavar="FILE",
        help="pairs of pictures (LFW, MFR2, MLFW) to extend: the second masked, and both; see pairs/ in OUT",
    )
    scenes = p.add_argument_group("labelled scenes")
    scenes.add_argument(
        "--labels",
        type=Path,
        metavar="PATH",
        help="their label files: the set's root folder, or a COCO file, data.yaml, or list. Faces are looked for in "
        "their boxes; all pictures that labels tell of are written",
    )
    scenes.add_argument("--labels-format", metavar="FORMAT", help=f"{', '.join(FORMATS)} (default: told by the names)")
    scenes.add_argument("--write", metavar="FORMATS", help="write labels in these formats too, e.g. coco,yolo")
    step = p.add_argument_group("without --rule-only")
    step.add_argument(
        "--margin",
        type=float,
        metavar="SHARE",
        default=default.margin,
        help="soft border around the drawn mask that may change too, in face widths (default: %(default)s)",
    )
    step.add_argument(
        "--crop-scale",
        type=float,
        metavar="X",
        default=default.crop_scale,
        help="side of the translated square in face extents; match your training pictures (default: %(default)s)",
    )
    step.add_argument("--size", type=int, metavar="PX", help="size the generator sees (default: as it was trained)")
    step.add_argument("--batch-size", type=int, metavar="N", default=default.batch_size, help="default: %(default)s")
    step.add_argument("--device", default=default.device, help="auto, cpu, cuda, cuda:1, … (default: %(default)s)")
    run = p.add_argument_group("the run")
    run.add_argument("--seed", type=int, default=default.seed, help="default: %(default)s; same seed, same bytes")
    run.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one per core, at most 4; 0: none, for debugging)"
    )
    run.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster whose workers do it instead, e.g. tcp://host:8786; they must see IN and OUT under the "
        "same paths. Workers started with --resources STEP2=1 do step two",
    )
    run.add_argument("--tensors", action="store_true", help="also write the non-mask tensor of each picture")
    run.add_argument("--no-dashboard", dest="dashboard", action="store_false", help="do not serve Dask's dashboard")
    run.add_argument(
        "--prune",
        action="store_true",
        help="remove the files and rows of pictures that an earlier run had done and that are no longer in IN",
    )
    run.add_argument(
        "--force", action="store_true", help="remove the files an earlier run wrote to OUT, no others, and start afresh"
    )
    run.add_argument(
        "--replay",
        type=Path,
        metavar="MANIFEST",
        help="make a run again from its manifest and the landmarks.csv beside it; refused where a picture of IN has "
        "changed since. Give --labels, --pairs or --tensors again to have those written",
    )
    run.add_argument("--quiet", dest="progress", action="store_false", help="no progress bar")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; gives the exit status."""
    args = vars(parser().parse_args(argv))
    in_dir, out_dir = args.pop("in_dir"), args.pop("out_dir")
    try:
        options = Options(**args)
        options.checked()
        from lib.augment.pipeline import augment_folder  # after the checks: it takes torch with it

        summary = augment_folder(in_dir, out_dir, options)
    except AugmentError as error:
        print(f"lib.augment: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lib.augment: stopped; give the same command again to go on (so far: {out_dir})", file=sys.stderr)
        return 130
    if not summary.faces_masked:
        left = f"--share {options.share} chose none of {summary.faces_left}" if summary.faces_left else ""
        reasons = [left] * bool(left) + [f"{kind} {count}" for kind, count in sorted(summary.failures.items())]
        told = f"no face was masked ({', '.join(reasons)})"
        print(f"lib.augment: {told}; see {out_dir / 'failures.csv'}", file=sys.stderr)
        return 1
    print(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
