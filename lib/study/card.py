"""The model card of a released model, made from its model.json alone."""

from __future__ import annotations

import math

from lib.gan.released import MODEL

ALWAYS = (
    "It was trained at {size} × {size} px and is used at {use} × {use} px; other sizes were not looked at.",
    "It expects a face that already wears the rule-based mask of `lib.warp`; bare faces were no part of its task.",
    "The network alone may change any pixel. `lib.augment` takes only the mask's pixels from it.",
    "One run with one seed: how much another run would differ is not known.",
)
LICENCE = {  # by the study's data source
    "faceworld": "Learnt from rendered pictures alone; no photograph of a person took part.",
    "folders": "For research. The weights were learnt from photographs of real people that research repositories "
    "gathered from the web, and those keep their owners' terms: the licence of this repository's code does not extend "
    "to the weights. The masks of set A were placed with dlib's 68-point model, which was trained on iBUG 300-W; that "
    "data set excludes commercial use.",
    "paper": "For research. The weights were learnt from MAFA, MaskedFace-Net (made from FFHQ, CC BY-NC-SA) and FDDB, "
    "photographs of real people under their owners' terms: the licence of this repository's code does not extend to "
    "the weights.",
}
STAGE_COLUMNS = {
    "stage": "stage",
    "epochs": "epochs, as the paper counts",
    "passes": "passes",
    "steps": "steps",
    "batch_size": "batch",
    "lambda_cycle": "λ",
    "lambda_nmc": "NMC",
    "noise": "noise σ",
    "images": "pictures A / B",
    "seconds": "time",
}


def render_card(model: dict) -> str:
    """README.md of a released model.

    Args:
        model: model.json with the facts of `lib.study.release`: trained_on, note, run, timeline, measured, limits,
            licence, figure; and, where it was looked for, failures (`lib.study.failures.Failures.facts`).
    """
    name, size, net, run = model["name"], model["size_px"], model["network"], model["run"]
    use, mean = model.get("use_px", size), model.get("average", 0.0)
    noise = ", ".join(f"{s:g}" for s in net["noise"]["sigma"])
    rows = model["timeline"]
    seconds = [row["seconds"] for row in rows]
    spent = "an unknown time" if None in seconds else duration(sum(seconds))
    numbers = _measured(model["measured"])
    code = f"{run['commit'] or 'of an unknown commit'}{' (changed since)' if run['dirty'] else ''}"
    figure = model.get("figure")
    return "\n".join(
        [
            f"# {name}",
            "",
            "A generator that turns a mask drawn onto a face by rule into one that looks worn: step two of *Two-Step "
            "Data Augmentation for Masked Face Detection and Recognition: Turning Fake Masks to Real* "
            "([arXiv:2512.15774](https://arxiv.org/abs/2512.15774)). "
            f"AttentionGAN-v2, direction A→B, trained at {size} × {size} px.",
            "",
            *([model["note"], ""] if model.get("note") else []),
            *([f"![{figure['caption']}]({figure['file']})", "", figure["caption"], ""] if figure else []),
            "## Use",
            "",
            f"    python -m lib.augment PHOTOGRAPHS MASKED --checkpoint {name}",
            "",
            "    from lib.gan import Translator",
            f'    result = Translator("{name}").translate(rule_based, seeds=range(len(rule_based)))',
            f"    result.images, result.attention  # of uint8 [N, {use}, {use}, 3] RGB; attention: 1 = drawn anew",
            "",
            "## Trained on",
            "",
            model["trained_on"],
            "",
            "## How",
            "",
            f"Study `{run['study']}`, profile `{run['profile']}`, data source `{run['data']}`, seed {run['seed']}: "
            f"{run['stage']}, epoch {run['epoch']}, after {rows[-1]['steps']:,} steps of that stage and "
            f"{sum(row['steps'] for row in rows):,} in all. The stage itself was {run['status']}.",
            "",
            *_table(STAGE_COLUMNS.values(), [_stage_row(row) for row in rows]),
            "",
            f"- Network: ngf {net['ngf']}, {net['n_blocks']} residual blocks, {net['n_content']} contents, "
            f"upsampling {net.get('upsampling', 'transposed')}, noise σ {noise} ({net['noise']['shape']}, "
            f"{net['noise']['place']}); {model['parameters']:,} parameters.",
            f"- Training: {size} px, precision {run['precision']}, on {'; '.join(run['devices'])}; "
            f"{spent} of training steps in all, checkpoints and samples not counted.",
            f"- Made with {', '.join(f'{k} {v}' for k, v in run['versions'].items())}; code {code}; configuration "
            f"{run['config_hash']}.",
            *([f"- The weights are the running mean of the generator's, decay {mean:g}."] if mean else []),
            f"- Weights: {model['bytes']:,} bytes in {len(model['parts'])} part(s), bfloat16, computed with in "
            f"float32; SHA-256 of network and parts {model['sha256']}.",
            "",
            "## Measured",
            "",
            *(_table(("what", "value"), numbers) if numbers else ["Nothing was measured."]),
            "",
            *([*_failures(model["failures"]), ""] if model.get("failures") else []),
            "## Limits",
            "",
            *(f"- {limit}" for limit in (*(text.format(size=size, use=use) for text in ALWAYS), *model["limits"])),
            "",
            "## Licence",
            "",
            model["licence"],
            "",
            "## Cite",
            "",
            "The paper above, and this repository (`CITATION.cff`).",
            "",
            f"*Made by `python -m lib.study.release` from [{MODEL}]({MODEL}), which has every number.*",
            "",
        ]
    )


FACES = {  # by data source
    "faceworld": "rendered faces of the face world, {size} px, which it was not trained on",
    "folders": "held-out photographs, {size} px",
    "paper": "held-out faces of the paper's sets, {size} px",
}


def _failures(found: dict) -> list[str]:
    """The section "Where it fails"; numbers and verdicts come from the facts alone."""
    numbers = ("faces", "seen past", "failed", "failed from", "median", "worst")
    against = any("worse than input" in row for row in found["measures"])
    rows = []
    for row in found["measures"]:
        cells = [row["what"], *(digits(row[key]) for key in numbers)]
        if against and row.get("worse than input") is not None:
            share = row["worse than input"] / row["faces"]
            cells += [digits(row["input"]), f"{share:.0%} ({row['low']:.0%} to {row['high']:.0%})"]
        rows.append(cells + ["–"] * (2 * against + 1 + len(numbers) - len(cells)))
    head = ("what", *numbers, *(("input's median", "worse than its input") if against else ()))
    worse = [
        f"- {row['trait']} {row['kind']}: {row['what']}. On average worse than {row['place']:.0%} of all faces, "
        f"p {row['p']:.2g}. {row['failed']} of {row['faces']} failed, {row['rate']:.0%} (95 % interval "
        f"{row['low']:.0%} to {row['high']:.0%}), of all others {row['rest']:.0%}."
        for row in found["found"]
    ]
    what, share = FACES[found["data"]].format(size=found["size_px"]), f"{found['share']:.0%}"
    return [
        "## Where it fails",
        "",
        f"Looked at: {found['faces']:,} {what} (study `{found['study']}`). A face counts as failed by a measure when "
        f"it is as bad as the worst {share} of these faces and past the value from which on one could see the fault. "
        f"The worst {share} are relative, so how many failed says little; whether they are more of some kinds of face "
        "than of the others says something.",
        "",
        *_table(head, rows),
        "",
        f"{'Kinds of face that do worse than all others' if worse else 'No kind of face was found to do worse'}, by "
        f"{', '.join(found['kinds'])}: {found['tests']:,} comparisons, together at most {found['alpha']:.0%} chance "
        "of any false finding (permutations, max-T). To be found, a third of the faces would have to be worse than "
        f"{found['place_needed']:.0%} of all, on average{':' if worse else '.'}",
        "",
        *([*worse, ""] if worse else []),
        *([f"Too few faces to say anything: {', '.join(found['untested'])}.", ""] if found["untested"] else []),
        "What is not in this list of kinds was not looked for.",
    ]


def _measured(values: dict) -> list[tuple[str, str]]:
    """Rows of names and numbers: first what stands alone, then each group under a row with its name."""
    rows = [(key, digits(value, key)) for key, value in values.items() if not isinstance(value, dict)]
    for key, group in values.items():
        if isinstance(group, dict):
            rows += [(f"**{key}**", ""), *((name, digits(value, name)) for name, value in flatten(group))]
    return rows


def flatten(values: dict, before: str = "") -> list[tuple[str, object]]:
    """Nested dicts as rows: {"a": {"b": 1}} → [("a · b", 1)]."""
    rows = []
    for key, value in values.items():
        rows += flatten(value, f"{before}{key} · ") if isinstance(value, dict) else [(before + str(key), value)]
    return rows


def duration(seconds: float | None) -> str:
    """5025 → "1 h 24 min"; below two minutes in seconds; "time not known" for None."""
    if seconds is None:
        return "time not known"
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _table(head, rows) -> list[str]:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [lines[0], f"|{'---|' * len(cells[0])}", *lines[1:]]


def _stage_row(row: dict) -> list[str]:
    noise = "–" if not any(row["noise"]) else ", ".join(f"{s:g}" for s in row["noise"])
    first, last = row["epochs"]
    shown = {
        "epochs": f"{first}–{last}" if first != last else str(last),
        "passes": f"{row['passes']:,}",
        "steps": f"{row['steps']:,}",
        "lambda_cycle": f"{row['lambda_cycle']:g}",
        "lambda_nmc": f"{row['lambda_nmc']:g}" if row["lambda_nmc"] else "–",
        "noise": noise,
        "images": f"{row['images']['A']:,} / {row['images']['B']:,}",
        "seconds": duration(row["seconds"]),
    }
    return [shown.get(key, row[key]) for key in STAGE_COLUMNS]


def digits(value: object, name: str = "") -> str:
    """A number with four digits; what they would round to 1 as its distance from it: "1 − 2e-10". Lists: two values
    are a range, or two quantities where their name has a slash."""
    if isinstance(value, float):
        text = f"{value:.4g}" if math.isfinite(value) else "–"
        return f"1 − {1 - value:.2g}" if text == "1" and value < 1 else text
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        between = ", " if len(value) != 2 else " / " if "/" in name else " to "
        return between.join(map(digits, value))
    return "–" if value is None else str(value)
