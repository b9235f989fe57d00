"""The site shows what ran and what did not, holds all it needs, and is there whole or as it was before."""

import base64
import html
import io
import re
import shutil

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from lib.data.files import read_json, write_json
from lib.study import site
from lib.study.config import StudyError
from lib.study.driver import list_notebooks
from lib.study.site import build, main, markdown, mathml, smaller
from tests.study import live

FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$\n]+)\$", re.DOTALL)


def png(value=0):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Three notebooks that lead to one another."""
    where = tmp_path / "notebooks"
    where.mkdir()
    for k, name in enumerate(("00_first", "01_second", "02_third")):
        asked = f"**The question.** We know this (§{k}). Does *it* work? (No more.)"
        text = f"# {k:02d} · Step {k}\n\nSome words. {asked}\n\nThen."
        cells = [
            new_markdown_cell(text),
            new_code_cell("print(1 < 2)"),
            new_markdown_cell("see [second](01_second.ipynb#There), $A_{10}$ and $$\\mathcal L = \\frac{1}{2}$$"),
        ]
        nbformat.write(new_notebook(cells=cells), where / f"{name}.ipynb")
    return where


@pytest.fixture
def study(empty, folder):
    """The first notebook has run, the second has failed, the third was never started; one figure."""
    bar = "\rset B:   0%|          | 0/84 [00:00<?, ?it/s]\rset B: 100%|##########| 84/84 [00:00<00:00, 830.36it/s]\n"
    widget = {site.WIDGET: {"model_id": "x"}, "text/plain": "VBox()"}
    outputs = [
        new_output("stream", name="stderr", text=bar),
        new_output("stream", name="stdout", text="\x1b[31mred\x1b[0m <b>\n"),
        new_output("display_data", data={"image/png": base64.b64encode(png()).decode(), "text/plain": "Figure"}),
        new_output("display_data", data=widget),
        new_output("display_data", data={"text/markdown": "*A* $\\sigma$"}),
        new_output(
            "display_data", data={"text/html": '<table><tr><td><a class="x" href="02_third.ipynb">02</a></table>'}
        ),
    ]
    (empty.root / "notebooks").mkdir()
    for name in ("00_first", "01_second"):
        notebook = nbformat.read(folder / f"{name}.ipynb", 4)
        notebook.cells[1].outputs, notebook.cells[1].execution_count = outputs, 2
        if name == "01_second":  # as papermill marks a failure
            notebook.cells.insert(0, new_markdown_cell('<span style="color:red">An Exception was encountered</span>'))
        nbformat.write(notebook, empty.root / "notebooks" / f"{name}.ipynb")
    status = {
        "00_first": {"status": "finished", "end": "2026-01-01T00:00:00+00:00", "seconds": 90},
        "01_second": {
            "status": "failed",
            "end": "2026-01-02T00:00:00+00:00",
            "seconds": 6,
            "cell": 2,
            "message": "a<b",
        },
    }
    write_json(empty.root / "status.json", status)
    write_json(empty.figures_dir / "figure_1.json", {"figure": "figure_1", "caption": "Faces <all>."})
    (empty.figures_dir / "figure_1.png").write_bytes(png(99))
    (empty.figures_dir / "figure_1.pdf").write_bytes(b"%PDF-1.4")
    return empty


def texts(target):
    return {path.stem: path.read_text(encoding="utf-8") for path in target.glob("*.html")}


def test_pages_say_what_ran_and_what_did_not(study, folder):
    pages = texts(build(study, folder))
    assert pages.keys() == {"index", "00_first", "01_second", "02_third"}
    banners = {name: re.findall(r'class="banner.*?>(.*?)</p>', text) for name, text in pages.items()}
    assert banners == {
        "index": [],
        "00_first": [],
        "01_second": ["This notebook failed in cell [2]: a&lt;b"],
        "02_third": ["This notebook has not been executed: its source."],
    }
    rows = re.findall(r"<tr><td><a href=\"(.*?)\">(.*?)</a></td><td>(.*?)</td>.*?>(.*?)</td>.*?>(.*?)</td></tr>",
                      pages["index"].replace("\n", ""))  # fmt: skip
    question = "<p>Does <em>it</em> work?</p>"
    assert rows == [
        ("00_first.html", "00 Step 0", question, "finished", "1.5"),
        ("01_second.html", "01 Step 1", question, "failed", "0.1"),
        ("02_third.html", "02 Step 2", question, "not executed", ""),
    ]
    assert "2026-01-02" in pages["index"]
    assert "Faces &lt;all&gt;." in pages["index"]
    assert '<img src="figures/figure_1.png"' in pages["index"]
    assert (study.root / "html" / "figures" / "figure_1.png").read_bytes() == png(99)
    assert "data:image" not in pages["index"], "a figure is a file, not inlined a second time"


def test_outputs_are_shown_decently(study, folder):
    text = texts(build(study, folder))["00_first"]
    assert "it/s" not in text
    assert "\x1b" not in text
    assert 'class="ansi-red-fg">red</span> &lt;b&gt;' in text
    assert "VBox" not in text
    assert "make lab" in text
    assert "data:image/webp;base64," in text
    assert "<em>A</em> <math" in text


def test_every_link_leads_somewhere_and_nothing_comes_from_elsewhere(study, folder):
    target = build(study, folder)
    for name, text in texts(target).items():
        for link in re.findall(r'(?:href|src)="([^"]*)"', text):
            if link.startswith("data:"):
                continue
            file, _, _ = link.partition("#")
            assert not re.match(r"\w+:|//", link), f"{name} fetches {link}"
            assert not file or (target / file).exists(), f"{name}: {link} leads nowhere"
        assert not re.search(r"@import|url\(|<script|<iframe|<link(?! rel=\"icon\")", text), name
    assert 'href="01_second.html#There"' in texts(target)["00_first"]
    assert 'href="02_third.html"' in re.search(r"<table.*?</table>", texts(target)["00_first"], re.DOTALL)[0]


def test_every_link_of_the_notebooks_leads_to_a_file_of_the_site(empty):
    target = build(empty)
    for name, text in texts(target).items():
        shown = re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)  # code may write links of its own
        for link in re.findall(r'(?:href|src)="([^"#]+)', shown):
            assert re.match(r"data:|https?:|mailto:", link) or (target / link).exists(), f"{name}: {link}"


def test_a_site_that_cannot_be_made_leaves_the_one_before(study, folder, monkeypatch, capsys):
    before = texts(build(study, folder))
    (folder / "02_third.ipynb").write_text("{")
    with pytest.raises(Exception, match="JSON"):
        build(study, folder)
    (folder / "02_third.ipynb").unlink()
    monkeypatch.setattr(site, "LARGEST", 20_000)
    monkeypatch.setattr(site, "list_notebooks", lambda _: list_notebooks(folder))
    assert main(["--name", study.name, "--runs-dir", str(study.root.parent)]) == 2
    assert re.search(r"more than 0; its largest files: 0\d_\w+\.html \(0\.\d MB\), ", capsys.readouterr().err)
    assert texts(study.root / "html") == before
    monkeypatch.undo()
    assert "02_third" not in texts(build(study, folder))
    assert [path.name for path in study.root.glob(".html*")] == []


def test_a_kill_between_the_renames_is_mended(study, folder, monkeypatch):
    before = texts(build(study, folder))
    (study.root / "html").rename(study.root / ".html.old")
    monkeypatch.setattr(site, "make_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(study, folder)
    assert texts(study.root / "html") == before


def noise(size=96):
    """A picture that hardly shrinks, as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def test_a_smaller_picture_is_the_same_pixel_by_pixel_unless_a_quality_is_asked_for():
    drawn = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([drawn, drawn[::-1], drawn.T // 2, np.full_like(drawn, 255)])).save(buffer, "png")
    kind, data = smaller(buffer.getvalue())
    assert kind == "webp"
    assert len(data) < len(buffer.getvalue())
    seen, before = (np.asarray(Image.open(io.BytesIO(x)).convert("RGBA")) for x in (data, buffer.getvalue()))
    assert np.array_equal(seen, before)
    assert len(smaller(noise(), 85)[1]) < len(smaller(noise())[1]) / 1.5
    wide = io.BytesIO()
    Image.new("L", (16_384, 1)).save(wide, "png")
    assert smaller(wide.getvalue()) == ("png", wide.getvalue())


def test_a_site_that_would_be_too_large_has_its_pictures_compressed_and_says_so(study, folder, monkeypatch):
    path = study.root / "notebooks" / "00_first.ipynb"
    notebook = nbformat.read(path, 4)
    picture = {"image/png": base64.b64encode(noise(200)).decode()}
    notebook.cells[1].outputs.append(new_output("display_data", data=picture))
    nbformat.write(notebook, path)
    whole = build(study, folder)
    assert "compressed with loss" not in texts(whole)["00_first"]
    monkeypatch.setattr(site, "LARGEST", sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) - 1)
    assert "compressed with loss (WebP, quality 85)" in texts(build(study, folder))["00_first"]


def test_where_a_widget_was_the_page_says_how_to_get_it(study, folder):
    for where in (folder, study.root / "notebooks"):
        (where / "00_first.ipynb").rename(where / "10_first.ipynb")
    status = read_json(study.root / "status.json")
    write_json(study.root / "status.json", status | {"10_first": status["00_first"]})
    pages = texts(build(study, folder))
    assert f"(make lab) or a page of their own (make compare ARGS='--name {study.name}')" in pages["10_first"]
    assert "make compare" not in pages["01_second"]


def test_an_interrupted_notebook_is_shown_as_its_source(study, folder):
    status = read_json(study.root / "status.json")
    status["00_first"] = {"status": "interrupted", "start": "2026-01-03", "end": "2026-01-04T00:00:00+00:00"}
    write_json(study.root / "status.json", status)
    page = texts(build(study, folder))["00_first"]
    assert "This notebook was interrupted in its last run (begun 2026-01-03): its source." in page
    assert "data:image/webp" not in page


def test_the_number_of_an_equation_stands_beside_it():
    text = markdown("$$x = 1. \\tag{3}$$")
    assert re.search(r"</math><span>\(3\)</span>", text)
    assert "(3)" not in re.search(r"<math.*</math>", text)[0]
    assert "equation" not in markdown("$$x$$")


def test_no_notebooks_no_site(study, tmp_path):
    with pytest.raises(StudyError, match="no notebooks there"):
        build(study, tmp_path / "nowhere")


def test_formulas_are_mathml_with_letters_that_browsers_draw():
    made = html.unescape(mathml(r"\mathcal L + \mathbb E\big[x\big] \in \mathbb R^2"))
    assert "ℒ" in made
    assert "𝔼" in made
    assert "ℝ" in made
    assert 'display="block"' in mathml("x", "block")
    assert "<math" not in markdown("`$x$` and 3 $")


@pytest.mark.parametrize("path", list_notebooks(), ids=lambda path: path.stem)
def test_every_formula_of_the_notebooks_is_understood(path):
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown" and "$" in cell.source:
            shown = re.findall(r"<math.*?</math>", markdown(cell.source), re.DOTALL)
            assert len(shown) == len(FORMULA.findall(re.sub(r"`[^`]*`", "", cell.source))), cell.source
            assert not re.search(r'\\|mathvariant="(?!normal)', "".join(shown)), cell.source


def test_a_browser_shows_it_from_the_disk_without_a_network(browser, study, folder, tmp_path):
    target = shutil.move(build(study, folder), tmp_path / "moved")
    with live.opened(browser, "site", tmp_path) as (page, look):
        page.goto((target / "index.html").as_uri())
        look("index")
        page.get_by_role("link", name="01 Step 1").click()
        assert page.locator("nav .here").inner_text() == "01"
        assert page.locator("math[display=block] mfrac").bounding_box()["height"] > 15
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        look("page")
        page.get_by_role("link", name="02", exact=True).first.click()
        assert "not been executed" in page.locator(".banner").inner_text()
