// The page of lib.study.crop_stock. Python holds the squares and the file; here is the one that is being drawn.
const FIELDS = [["credit", "author", "Jane Doe"], ["source", "source (address)", "https://…"], ["licence", "licence", "CC BY 4.0"]];
const HELP = [["drag", "draw a square, move one, resize by its corners"], ["← → ↑ ↓", "move by 1 px (Shift: 10)"], ["+ · −", "larger, smaller"], ["c", "a square in the middle"],
  ["s", "select the next square"], ["Delete", "remove it"], ["d", "ask the detector"], ["1 … 9", "take a proposal"], ["z", "undo"], ["n · p", "next, previous picture"]];
const SVG = "http://www.w3.org/2000/svg";

function h(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) name.startsWith("on") ? (node[name] = value) : node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function render({ model, el }) {
  const ask = (what, fields = {}) => model.send({ do: what, ...fields });
  const state = () => model.get("state"), size = () => model.get("picture").size;
  let squares = [], chosen = 0, drag = null, nudged = 0;

  const root = h("div", { class: "curate stock", "data-lm-suppress-shortcuts": "true" });
  const bar = h("div", { class: "cu-bar", role: "progressbar", "aria-valuemin": 0, "aria-label": "pictures with crops" });
  const told = h("p", { class: "cu-told" }), note = h("p", { class: "cu-note", role: "status" });
  const svg = h("svg:svg", { "aria-hidden": "true" }), image = h("img", { alt: "", draggable: "false" });
  const box = h("div", { class: "st-box", tabindex: 0, role: "application" }, image, svg);
  const preview = h("canvas", { width: 256, height: 256, role: "img", "aria-label": "the crop" }), list = h("div", { class: "st-list", role: "group", "aria-label": "crops of this picture" });
  const focus = () => box.focus({ preventScroll: true });
  const button = (text, act, key = "", label = "") =>
    h("button", { type: "button", onclick: () => { act(); focus(); }, ...(label ? { "aria-label": label } : {}) }, text, ...(key ? [h("kbd", {}, key)] : []));

  // ------------------------------------------------------------------------------------------ squares
  const clamp = (v, low, high) => Math.min(Math.max(v, low), Math.max(low, high));
  function fit([crop, x, y, side]) {
    const [w, hgt] = size(), s = Math.round(clamp(side, state().smallest, Math.min(w, hgt)));
    return [crop, Math.round(clamp(x, 0, w - s)), Math.round(clamp(y, 0, hgt - s)), s];
  }
  function store() {
    clearTimeout(nudged); nudged = 0;
    ask("put", { squares });
  }
  const storeSoon = () => { clearTimeout(nudged); nudged = setTimeout(store, 400); };  // a held key is one change
  const settle = () => { if (nudged) store(); };
  function add(x, y, side) {
    settle();
    squares = [...squares, fit([-1, x, y, side])];
    chosen = squares.length - 1;
    store(); draw();
  }
  function change(next, soon) { squares = squares.map((s, k) => (k === chosen ? fit(next) : s)); draw(); soon && storeSoon(); }
  function take(k) { const p = model.get("proposals")[k]; if (p) add(...p); }
  function remove() { if (!squares[chosen]) return; settle(); squares = squares.filter((_, k) => k !== chosen); chosen = Math.max(0, chosen - 1); store(); draw(); }
  function middle() { const [w, hgt] = size(), s = Math.min(w, hgt) / 3; add((w - s) / 2, (hgt - s) / 2, s); }
  const go = by => { settle(); ask("go", { index: state().index + by }); };
  const undo = () => { settle(); ask("undo"); };

  // ------------------------------------------------------------------------------------------ mouse
  const at = event => { const r = svg.getBoundingClientRect(), [w, hgt] = size(); return [(event.clientX - r.left) / r.width * w, (event.clientY - r.top) / r.height * hgt]; };
  const reach = () => 9 * size()[0] / svg.getBoundingClientRect().width;
  const corners = ([, x, y, s]) => [[x, y], [x + s, y], [x + s, y + s], [x, y + s]];
  svg.onpointerdown = event => {
    if (event.button || model.get("picture").fault) return;
    event.preventDefault(); focus(); settle();
    const [x, y] = at(event), inside = ([, a, b, s]) => x >= a && x <= a + s && y >= b && y <= b + s;
    const corner = squares[chosen] ? corners(squares[chosen]).findIndex(([a, b]) => Math.hypot(a - x, b - y) < reach()) : -1;
    const hit = squares[chosen] && inside(squares[chosen]) ? chosen : squares.findIndex(inside);
    const offer = model.get("proposals").findIndex(p => inside([0, ...p]));
    if (corner >= 0) drag = { how: "size", fixed: corners(squares[chosen])[(corner + 2) % 4] };
    else if (hit >= 0) { chosen = hit; drag = { how: "move", from: [x, y], was: squares[hit] }; }
    else if (offer >= 0) { take(offer); return; }
    else drag = { how: "new", fixed: [x, y], keep: squares };
    svg.setPointerCapture(event.pointerId);
    draw();
  };
  svg.onpointermove = event => {
    if (!drag) return;
    const [x, y] = at(event), [w, hgt] = size();
    if (drag.how === "move") return change([drag.was[0], drag.was[1] + x - drag.from[0], drag.was[2] + y - drag.from[1], drag.was[3]]);
    const [fx, fy] = drag.fixed, right = x >= fx, down = y >= fy;
    const side = clamp(Math.max(Math.abs(x - fx), Math.abs(y - fy)), state().smallest, Math.min(right ? w - fx : fx, down ? hgt - fy : fy));
    const next = [right ? fx : fx - side, down ? fy : fy - side, side];
    if (drag.how === "new") {
      if (Math.hypot(x - fx, y - fy) < reach()) return;
      squares = [...drag.keep, [-1, 0, 0, 0]]; chosen = drag.keep.length; drag.drawn = true;
    }
    change([squares[chosen][0], ...next]);
  };
  svg.onpointerup = () => {
    if (drag && (drag.how !== "new" || drag.drawn) && JSON.stringify(squares) !== JSON.stringify(model.get("squares"))) store();
    drag = null; draw();
  };
  svg.onpointercancel = () => { drag = null; read(); };

  // ------------------------------------------------------------------------------------------ keyboard
  root.onkeydown = event => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // a notebook has the same keys
    const key = event.key, typing = event.target.closest("input");
    if (typing) { if (key === "Enter" || key === "Escape") focus(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target.closest("button, summary") && (key === "Enter" || key === " "))) return;
    const s = squares[chosen], step = event.shiftKey ? 10 : 1, grow = Math.max(2, 2 * Math.round(s ? s[3] * 0.02 : 0));
    const by = { ArrowLeft: [-step, 0, 0], ArrowRight: [step, 0, 0], ArrowUp: [0, -step, 0], ArrowDown: [0, step, 0],
      "+": [-grow / 2, -grow / 2, grow], "=": [-grow / 2, -grow / 2, grow], "-": [grow / 2, grow / 2, -grow] }[key];
    if (by && s) change([s[0], s[1] + by[0], s[2] + by[1], s[3] + by[2]], true);
    else if (key === "c") middle();
    else if (key === "s" && squares.length) { chosen = (chosen + 1) % squares.length; draw(); }
    else if (key === "Delete" || key === "Backspace") remove();
    else if (key === "d") { settle(); note.textContent = "looking for faces …"; ask("propose"); }
    else if (/^[1-9]$/.test(key)) take(key - 1);
    else if (key === "z") undo();
    else if (key === "n" || key === "PageDown") go(1);
    else if (key === "p" || key === "PageUp") go(-1);
    else return;
    event.preventDefault();
  };

  // ------------------------------------------------------------------------------------------ drawing
  const inputs = FIELDS.map(([name, label, example]) => {
    const input = h("input", { type: "text", placeholder: example, maxlength: 500, id: `st-${name}-${Math.random().toString(36).slice(2)}` });
    input.onchange = () => { settle(); ask("note", { [name]: input.value }); };
    return [name, input, h("label", { for: input.id }, label)];
  });
  function draw() {
    const [w, hgt] = size(), r = reach() || 8;
    svg.setAttribute("viewBox", `0 0 ${w} ${hgt}`);
    const rect = ([x, y, s], kind, text) => {
      const label = h("svg:text", { x: x + 0.7 * r, y: y + 2.2 * r, "font-size": 1.8 * r, class: kind });
      label.textContent = text;
      return [h("svg:rect", { x, y, width: s, height: s, class: `${kind} st-halo` }), h("svg:rect", { x, y, width: s, height: s, class: kind }), label];
    };
    svg.replaceChildren(...model.get("proposals").flatMap((p, k) => rect(p, "st-offer", `${k + 1}?`)),
      ...squares.flatMap((s, k) => rect(s.slice(1), k === chosen ? "st-on" : "st-off", s[0] < 0 ? "new" : `crop ${s[0]}`)),
      ...(squares[chosen] ? corners(squares[chosen]).map(([x, y]) => h("svg:circle", { cx: x, cy: y, r: 0.65 * r })) : []));
    const s = squares[chosen], pen = preview.getContext("2d");
    pen.clearRect(0, 0, 256, 256);
    if (s && image.complete && image.naturalWidth) { const f = image.naturalWidth / w; pen.drawImage(image, s[1] * f, s[2] * f, s[3] * f, s[3] * f, 0, 0, 256, 256); }
    list.replaceChildren(...squares.map((q, k) => {
      const b = button(`${q[0] < 0 ? "new" : `crop ${q[0]}`}: ${q[3]} px at ${q[1]}, ${q[2]}`, () => { chosen = k; draw(); });
      b.setAttribute("aria-pressed", k === chosen);
      return b;
    }));
    box.setAttribute("aria-label", `${model.get("picture").name}, ${squares.length} crops${s ? `; selected: ${s[3]} pixels at ${s[1]}, ${s[2]}` : ""}`);
    erase.disabled = !s;
  }
  function read() {
    if (drag || nudged) return;
    squares = model.get("squares").map(s => [...s]);
    chosen = clamp(chosen, 0, squares.length - 1);
    draw();
  }
  function drawPicture() {
    const picture = model.get("picture");
    chosen = 0;
    box.style.setProperty("--ratio", `${picture.size[0]} / ${picture.size[1]}`); box.style.setProperty("--wide", picture.size[0] / picture.size[1]);
    picture.src ? (image.src = picture.src) : image.removeAttribute("src");
    read();
  }
  image.onload = draw;
  function drawState() {
    const s = state(), fields = model.get("fields"), picture = model.get("picture");
    bar.setAttribute("aria-valuemax", s.count); bar.setAttribute("aria-valuenow", s.done);
    bar.replaceChildren(h("span", { class: "cu-accept", style: `width:${100 * s.done / s.count}%` }));
    told.replaceChildren(h("strong", {}, `${s.crops} crop${s.crops === 1 ? "" : "s"} from ${s.done} of ${s.count} pictures`),
      ...(s.lacking ? [h("span", { class: "cu-count cu-reject" }, `⚠ ${s.lacking} without full credit`)] : []), h("span", { class: "cu-file" }, `${s.file}${s.by ? ` · by ${s.by}` : ""}`));
    name.textContent = picture.fault ? `${picture.name}: ${picture.fault}` : `${picture.name} · ${picture.size.join(" × ")} px`;
    place.textContent = `picture ${s.index + 1} of ${s.count}`;
    for (const [field, input, label] of inputs) {
      if (document.activeElement !== input) input.value = fields[field];
      const lacks = squares.length > 0 && !fields[field];
      input.classList.toggle("st-lacks", lacks); input.setAttribute("aria-invalid", lacks); label.classList.toggle("st-lacks", lacks);
    }
    back.disabled = !s.index; next.disabled = s.index + 1 >= s.count; undoing.disabled = !s.steps && !nudged; out.disabled = !s.crops;
    note.textContent = s.message;
  }

  const name = h("strong", { class: "st-name" }), place = h("span", { class: "cu-place", "aria-live": "polite" });
  const back = button("‹", () => go(-1), "p", "previous picture"), next = button("›", () => go(1), "n", "next picture");
  const undoing = button("undo", undo, "z"), erase = button("remove", remove, "Del"), out = button("export the crops", () => { settle(); ask("export"); });
  root.append(h("header", {}, bar, told),
    h("div", { class: "cu-tools" }, button("find faces", () => { note.textContent = "looking for faces …"; ask("propose"); }, "d"), button("new square", middle, "c"), erase, undoing, note, h("span", { class: "cu-nav" }, back, place, next)),
    h("div", { class: "cu-main" }, h("div", { class: "st-stage" }, box, name),
      h("aside", {}, preview, list, ...inputs.flatMap(([, input, label]) => [h("div", { class: "st-field" }, label, input)]), button("as credited last", () => ask("copy_note")), out)),
    h("details", {}, h("summary", {}, "keys"), h("div", { class: "cu-help" }, ...HELP.map(([k, v]) => h("span", {}, h("kbd", {}, k), v)))));
  el.append(root);
  const heard = [["change:picture", drawPicture], ["change:squares", read], ["change:proposals", draw], ["change:state", () => { read(); drawState(); }]];
  heard.forEach(([event, act]) => model.on(event, act));
  drawPicture(); drawState();
  const watch = new ResizeObserver(draw); watch.observe(box);
  return () => { settle(); watch.disconnect(); heard.forEach(([event, act]) => model.off(event, act)); };
}
export default { render };
