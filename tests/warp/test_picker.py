# ruff: noqa: E501  (a page of HTML)
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from lib.warp import picker
from lib.warp.own import TemplateError, load_template
from lib.warp.sheet import KEY_POINTS, SIX_POINTS
from lib.warp.templates import template


@pytest.fixture
def widget(tmp_path):
    Image.fromarray(template("kn95", 256).rgba).save(tmp_path / "mask.png")
    return picker.pick_points(tmp_path / "mask.png", tmp_path / "mask.json", surface="fold")


def test_points_are_asked_for_by_name_and_saved(widget, tmp_path):
    assert widget.names == list(KEY_POINTS)
    assert len(widget.hints) == 12
    widget.points = template("kn95", 256).points.tolist()
    assert widget.preview.startswith("data:image/png;base64,")
    widget.save_clicks += 1
    assert "saved" in widget.message
    np.testing.assert_allclose(load_template(tmp_path / "mask.json").points, widget.points, atol=0.01)


def test_a_mistake_is_told_under_the_picture_and_nothing_is_written(widget, tmp_path):
    points = template("kn95", 256).points.tolist()
    points[8] = [128.0, 2.0]
    widget.points = points
    assert "below the chin" in widget.message
    assert not widget.preview
    widget.save_clicks += 1
    assert widget.message.startswith("not saved")
    assert not (tmp_path / "mask.json").exists()


def test_six_points_instead_begin_anew(widget):
    widget.points = [[1.0, 2.0]]
    widget.count = 6
    assert widget.names == list(SIX_POINTS)
    assert widget.points == []


def test_bad_calls(tmp_path):
    with pytest.raises(TemplateError, match="no such picture"):
        picker.pick_points(tmp_path / "no.png", tmp_path / "no.json")
    with pytest.raises(ValueError, match="12 or 6"):
        picker.pick_points(tmp_path / "no.png", tmp_path / "no.json", count=8)


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a Chromium (apt install chromium)")
def test_clicks_in_a_real_browser(widget, tmp_path):
    """The widget's own code on a bare page: click twelve places, drag one, undo, nudge by keyboard."""
    page = f"""<!doctype html><meta charset=utf-8><style>{widget._css}</style><div id=at style="width:600px"></div>
<script type=module>
const code = {json.dumps(str(widget._esm))};
const {{ default: app }} = await import("data:text/javascript;charset=utf-8," + encodeURIComponent(code));
const state = {json.dumps({k: getattr(widget, k) for k in ("picture", "size", "names", "hints", "points", "count", "save_clicks", "message", "preview")})};
const heard = [];
const model = {{ get: k => state[k], set: (k, v) => {{ state[k] = v; }}, save_changes: () => heard.forEach(f => f()), on: (_, f) => heard.push(f) }};
app.render({{ model, el: document.getElementById("at") }});
const svg = document.querySelector("svg"), box = document.querySelector(".pick-box");
await document.querySelector(".pick-box img").decode();
const send = (type, x, y) => {{ const r = svg.getBoundingClientRect(); svg.setPointerCapture = () => 0;
  svg.dispatchEvent(new PointerEvent(type, {{ clientX: r.left + (x + .5) / 256 * r.width, clientY: r.top + (y + .5) / 192 * r.height, pointerId: 1, bubbles: true }})); }};
const key = k => box.dispatchEvent(new KeyboardEvent("keydown", {{ key: k, bubbles: true }}));
const wanted = {json.dumps(template("kn95", 256).points.round().tolist())};
for (const [x, y] of wanted) {{ send("pointerdown", x, y); send("pointerup", x, y); }}
const all = state.points.length, enabled = !document.querySelectorAll("button")[2].disabled;
send("pointerdown", ...wanted[8]); send("pointermove", wanted[8][0] + 5, wanted[8][1]); send("pointerup", 0, 0);
const dragged = state.points[8][0] - wanted[8][0];
key("ArrowUp"); const nudged = state.points[8][1] - wanted[8][1];
key("z"); key("z");
document.title = JSON.stringify({{ all, enabled, dragged, nudged, left: state.points.length }});
document.body.setAttribute("data-done", document.title);
</script>"""
    (tmp_path / "page.html").write_text(page)
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom",
         (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    text = done.stdout.split('data-done="')[1].split('"')[0].replace("&quot;", '"')
    assert json.loads(text) == {"all": 12, "enabled": True, "dragged": 5, "nudged": -1, "left": 10}
