"""`python -m lib.study.site --name NAME`: a study's executed notebooks and figures as pages, in `runs/NAME/html/`.

The folder is complete: pictures of cells are in the pages, figures are files beside them, formulas are MathML, nothing
is fetched from anywhere, and it reads the same from a disk, a stick or a server. It is built beside and takes the old
one's place when it is whole.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import shutil
import sys
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import jinja2
import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from PIL import Image
from pygments.formatters import HtmlFormatter

from lib.data.files import read_json
from lib.study.config import STAGES, StudyError
from lib.study.driver import NOTEBOOKS, list_notebooks, read_status
from lib.study.outputs import tidy
from lib.study.runs import RUNS, Study, find_study

LARGEST = 40_000_000  # bytes of a whole site: what one still sends or serves without a thought
LOSSY = 85  # WebP's quality of the pages' pictures where they do not fit pixel by pixel
WIDGET = "application/vnd.jupyter.widget-view+json"
_TEMPLATE, _CSS = (Path(__file__).with_suffix(suffix) for suffix in (".html", ".css"))
_INLINE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
_TAG = re.compile(r"\\tag\{([^{}]*)\}")  # the number of an equation
# Browsers draw none of MathML's alphabets but have the letters themselves.
_ALPHABETS = {"script": "SCRIPT", "double-struck": "DOUBLE-STRUCK", "bold": "BOLD", "fraktur": "FRAKTUR"}
_LETTER = re.compile(rf'<mi mathvariant="({"|".join(_ALPHABETS)})">([A-Za-z])</mi>')


# What a notebook is in that has no executed copy of its last start, in words.
_HALF = {
    "running": "was running when this page was made (since {})",
    "interrupted": "was interrupted in its last run (begun {})",
}


@dataclass(frozen=True)
class Page:
    """One notebook as a page. mark: "", "wait" (not executed) or "bad" (failed), for its colour."""

    number: str
    title: str
    question: str  # HTML, as body
    file: str
    status: str
    mark: str
    minutes: str
    banner: str
    body: str


def mathml(latex: str, display: str = "inline") -> str:
    """A formula as MathML that a browser draws by itself; display is "inline" or "block"."""

    def letter(match: re.Match) -> str:
        case = "CAPITAL" if match[2].isupper() else "SMALL"
        name = f"{_ALPHABETS[match[1]]} {case} {match[2].upper()}"
        try:
            found = unicodedata.lookup(f"MATHEMATICAL {name}")
        except KeyError:  # a dozen, such as ℒ, were letters before the alphabets came
            found = unicodedata.lookup(name.replace("FRAKTUR", "BLACK-LETTER"))
        return f'<mi mathvariant="normal">{found}</mi>'

    return _LETTER.sub(letter, convert(latex, display=display))


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown with formulas drawn and links between notebooks that lead to their pages."""

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        tag, drawn = _TAG.search(body), mathml(_TAG.sub("", body), "block")
        return f'<span class="equation">{drawn}<span>({tag[1]})</span></span>' if tag else drawn


def markdown(source: str) -> str:
    """Markdown of a notebook as HTML."""
    return _to_pages(MarkdownWithMath(_Renderer(escape=False)).render(source))


def _to_pages(text: str) -> str:
    """HTML, of prose or of an output, whose links to notebooks lead to their pages."""
    return re.sub(r"""(<a\b[^>]*?\bhref=["']?)(?:\./)?(\d\d_\w+)\.ipynb(?=[#"'\s>])""", r"\1\2.html", text)


def smaller(png: bytes, quality: int | None = None) -> tuple[str, bytes]:
    """A picture in fewer bytes: (its type, "webp" or "png"; the file).

    quality: None keeps every pixel; 1 to 100 is that of lossy WebP. WebP holds no side above 16,383 pixels; larger
    pictures, and those that would not shrink, stay PNG.
    """
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        if max(image.size) > 16_383:
            return "png", png
        setting = {"lossless": True, "quality": 60} if quality is None else {"quality": quality}
        image.save(out, "webp", method=4, **setting)
    return ("webp", out.getvalue()) if len(out.getvalue()) < len(png) else ("png", png)


def _lighter(text: str, quality: int | None = None) -> str:
    """A page whose inlined PNGs went through `smaller`."""

    def picture(match: re.Match) -> str:
        kind, data = smaller(base64.b64decode(match[1]), quality)
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

    return _INLINE.sub(picture, text)


def _without_widgets(notebook: nbformat.NotebookNode, where: str) -> None:
    """In place: where a widget would need a kernel, its other form (a picture) or a line that says where it lives."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                live = output.data.pop(WIDGET, None)
                if live and not any(kind.startswith("image/") for kind in output.data):
                    output.data = {"text/html": f'<p class="note">Controls to move, in {where}.</p>'}
                if "image/png" in output.data:
                    output.metadata["image/png"] = {"alt": f"Picture of cell [{cell.execution_count}]"}


def _question(text: str) -> str:
    """The sentences of "The question" that ask; all of them where none does."""
    found = re.search(r"\*\*The question\.\*\*\s*(.*?)(?:\n\s*\n|$)", text, re.DOTALL)
    sentences = re.split(r"(?<=[.?!)])\s+(?=[A-Z(])", found[1]) if found else []
    return " ".join([s for s in sentences if s.endswith("?")] or sentences)


def make_page(study: Study, source: Path, status: dict) -> Page:
    """The page of one notebook: its executed copy, or its source where it has not run, with a line that says so.

    Args:
        source: the notebook in `notebooks/`. status: its entry of status.json, {} where it was never started.
    """
    copy, state = study.root / "notebooks" / source.name, status.get("status", "not executed")
    executed = copy.exists() and state not in _HALF
    notebook = nbformat.read(source, as_version=4)  # papermill begins a failed copy with a cell of its own
    first = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), "")
    notebook = tidy(nbformat.read(copy, as_version=4) if executed else notebook)
    title = re.match(r"#\s*(?:\d\d\s*·)?\s*(.*)", first)
    banner, mark = "", ""
    if not executed:
        state = state if state in _HALF else "not executed"
        told = _HALF.get(state, "has not been executed").format(status.get("start"))
        banner, mark = f"This notebook {told}: its source.", "wait"
    elif state == "failed":
        where = f" in cell [{status['cell']}]" if status.get("cell") is not None else ""
        banner, mark = f"This notebook failed{where}: {status.get('message', '')}", "bad"
    live = "a live notebook (make lab)"
    if source.stem.startswith("10_"):
        live += f" or a page of their own (make compare ARGS='--name {study.name}')"
    _without_widgets(notebook, live)
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.register_filter("markdown2html", markdown)
    return Page(
        number=source.stem[:2],
        title=title[1] if title else source.stem,
        question=markdown(_question(first)),
        file=f"{source.stem}.html",
        status=state,
        mark=mark,
        minutes=f"{status['seconds'] / 60:.1f}" if executed and "seconds" in status else "",
        banner=banner,
        body=_to_pages(exporter.from_notebook_node(notebook)[0]),
    )


def _figures(study: Study, target: Path) -> list[dict]:
    """Every figure with its caption; its files (PNG, PDF, CSV, TeX, JSON) are copied to `target`."""
    found = []
    for facts in sorted(study.figures_dir.glob("*.json")):
        files = [path for path in map(facts.with_suffix, (".png", ".pdf", ".csv", ".tex", ".json")) if path.exists()]
        target.mkdir(exist_ok=True)
        for path in files:
            shutil.copyfile(path, target / path.name)
        found.append(
            {
                "name": facts.stem,
                "caption": read_json(facts).get("caption", ""),
                "png": f"{target.name}/{facts.stem}.png" if facts.with_suffix(".png").exists() else "",
                "files": [path.name for path in files],
            }
        )
    return found


def _commits(study: Study) -> str:
    """The commits that the stages were trained with, as a rule one."""
    manifests = [study.stage_dir(stage) / "manifest.json" for stage in STAGES]
    git = [read_json(path).get("git") or {} for path in manifests if path.exists()]
    told = [f"{state['commit'][:10]}{' (changed since)' if state['dirty'] else ''}" for state in git
            if state.get("commit")]  # fmt: skip
    return ", ".join(dict.fromkeys(told)) or ("not a git checkout" if git else "")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def build(study: Study, notebooks: Path = NOTEBOOKS) -> Path:
    """Make the site of a study anew and return its folder, `html` in the run folder.

    The pictures of the pages are kept pixel by pixel. Where the site would then be above 40 MB, they are compressed
    with loss, which every page says; the figures stay as they are.

    Raises StudyError where there are no notebooks, and for a site that is above 40 MB all the same, naming its largest
    files; what was there before then stays.
    """
    sources, status = list_notebooks(notebooks), read_status(study)
    if not sources:
        raise StudyError(f"{notebooks}: no notebooks there; run from a checkout of the repository")
    target, old = study.root / "html", study.root / ".html.old"
    if old.exists() and not target.exists():  # a kill between the two renames below
        os.replace(old, target)
    with tempfile.TemporaryDirectory(prefix=".html.", suffix=".tmp", dir=study.root) as folder:
        partial = Path(folder) / "html"
        partial.mkdir()
        pages = [make_page(study, source, status.get(source.stem, {})) for source in sources]
        light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
        css = f"{_CSS.read_text()}{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}"
        common = {
            "study": study,
            "pages": pages,
            "css": f"{css}\n.highlight {{ background: none }}",
            "ended": max((entry["end"] for entry in status.values() if "end" in entry), default=""),
            "commits": _commits(study),
            "figures": _figures(study, partial / "figures"),
        }
        template = jinja2.Template(_TEMPLATE.read_text(encoding="utf-8"), autoescape=True)
        (partial / "index.html").write_text(template.render(common, title="Index", page=None), encoding="utf-8")
        for quality in (None, LOSSY):
            for page in pages:
                text = template.render(common, title=page.title, page=page, quality=quality)
                (partial / page.file).write_text(_lighter(text, quality), encoding="utf-8")
            if _size(partial) <= LARGEST:
                break
        sizes = {path: path.stat().st_size for path in partial.rglob("*") if path.is_file()}
        if (total := sum(sizes.values())) > LARGEST:
            most = sorted(sizes, key=sizes.get)[::-1][:3]
            raise StudyError(
                f"the site of {study.name} would take {total / 1e6:.0f} MB, more than {LARGEST / 1e6:.0f}; its largest "
                f"files: {', '.join(f'{p.relative_to(partial)} ({sizes[p] / 1e6:.1f} MB)' for p in most)}; "
                "draw fewer pictures there"
            )
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
        os.replace(partial, target)
        shutil.rmtree(old, ignore_errors=True)
    return target


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 with one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.site", description=__doc__)
    parser.add_argument("--name", default="smoke", help="the study (default: smoke)")
    parser.add_argument("--runs-dir", default=RUNS, help="folder of all studies (default: runs/ of the repository)")
    args = parser.parse_args(argv)
    try:
        target = build(find_study(args.name, args.runs_dir))
    except (StudyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = sum(path.is_file() for path in target.rglob("*"))
    print(f"{files} files, {_size(target) / 1e6:.1f} MB: {target / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
