// Part of the page of lib.study.widgets: the run's curves as SVG, a line for each chosen checkpoint, values under the pointer.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9"]; // colour-blind safe, with a dash each
const DASHES = ["", "6 3", "2 2", "8 3 2 3", "1 3", "10 4"];

function s(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
const short = value => (value === 0 ? "0" : Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 0.01 ? String(Number(value.toPrecision(3))) : value.toExponential(1));
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map(f => f * power).find(v => v >= value * 0.999);
}

// The top of a panel. A point far above nearly all others (a first step of training) would press the rest to the floor:
// then the axis ends a little above the value that 98 of 100 stay below, and what lies above is drawn at its edge, as ▲.
function axisTop(values) {
  const sorted = [...values].sort((a, b) => a - b), most = sorted.at(-1) ?? 1e-9, usual = sorted[Math.ceil(0.98 * sorted.length) - 1] ?? most;
  return roundUp(Math.max(usual > 0 && most > 2 * usual ? 1.2 * usual : most, 1e-9));
}

// data(): {stages, panels, fault}; chosen(): [{k, x, label}]; active(): the pane that a click moves. go(x): it moved there.
function curvePanels({ data, chosen, active, go }) {
  const node = h("div", { class: "cp-curves" });
  const W = 560, H = 190, L = 46, R = 10, T = 34, B = 20;
  let drawn = "", panels = [], reading = null;

  function panel(facts, stages, low, high) {
    const X = x => L + ((x - low) / (high - low || 1)) * (W - L - R), values = facts.lines.flatMap(line => line.points.map(p => p[1])).filter(v => v !== null && Number.isFinite(v));
    const top = axisTop(values), Y = y => H - B - (Math.min(y, top) / top) * (H - T - B), above = values.filter(y => y > top).length;
    const svg = s("svg", { viewBox: `0 0 ${W} ${H}`, tabindex: 0, role: "img", class: "cp-curve", "aria-label": `${facts.title}, ${facts.unit}; arrows read values, Enter moves the active pane there` });
    stages.forEach((stage, i) => {
      const a = X(stage.first), b = X(stage.last);
      if (i % 2) svg.append(s("rect", { x: a, y: T, width: Math.max(b - a, 0), height: H - T - B, class: "cp-band" }));
      if (b - a > 26) svg.append(s("text", { x: (a + b) / 2, y: T - 4, class: "cp-stagename", "text-anchor": "middle" }, b - a > 60 ? stage.name : stage.name.replace("stage", "").replace("pretraining", "pre")));
    });
    for (const y of [0, top / 2, top]) svg.append(s("line", { x1: L, x2: W - R, y1: Y(y), y2: Y(y), class: "cp-gridline" }), s("text", { x: L - 5, y: Y(y) + 4, "text-anchor": "end" }, short(y)));
    for (const stage of stages) if (X(stage.last) - X(stage.first) > 26) svg.append(s("text", { x: X(stage.last), y: H - 5, "text-anchor": "middle" }, String(stage.last)));
    facts.lines.forEach((line, i) => {
      let path = "", up = true;
      for (const [x, y] of line.points) {
        if (y === null || !Number.isFinite(y)) { up = true; continue; }
        path += `${up ? "M" : "L"}${X(x).toFixed(1)} ${Y(y).toFixed(1)}`;
        up = false;
      }
      const look = { stroke: COLOURS[i % COLOURS.length], "stroke-dasharray": DASHES[i % DASHES.length] };
      svg.append(s("path", { d: path, class: "cp-line", ...look }));
      for (const [x, y] of line.points) if (y > top) svg.append(s("path", { d: `M${(X(x) - 4).toFixed(1)} ${T + 7}l4 -7l4 7z`, class: "cp-above", fill: look.stroke }));
      if (line.points.length < 40) for (const [x, y] of line.points) if (Number.isFinite(y) && y <= top) svg.append(s("circle", { cx: X(x), cy: Y(y), r: 2.4, fill: look.stroke }));
    });
    const marks = s("g"), cross = s("line", { y1: T, y2: H - B, class: "cp-cross", visibility: "hidden" });
    svg.append(marks, cross);
    const legend = h("div", { class: "cp-legend" }), each = facts.lines.map((line, i) => {
      const value = h("b");
      legend.append(h("span", {}, s("svg", { viewBox: "0 0 22 6", width: 22, height: 6, "aria-hidden": "true" }, s("line", { x1: 0, x2: 22, y1: 3, y2: 3, class: "cp-line", stroke: COLOURS[i % COLOURS.length], "stroke-dasharray": DASHES[i % DASHES.length] })), `${line.name} `, value));
      return value;
    });
    const where = h("span", { class: "cp-where", role: "status" }); legend.append(where);
    const xs = [...new Set(facts.lines.flatMap(line => line.points.map(p => p[0])))].sort((a, b) => a - b);
    const xOf = event => low + ((event.clientX - svg.getBoundingClientRect().left) / svg.getBoundingClientRect().width * W - L) / (W - L - R) * (high - low);
    svg.onpointermove = event => read(clamp(xOf(event), low, high));
    svg.onpointerleave = () => read(null);
    svg.onclick = event => go(xOf(event));
    svg.onkeydown = event => {
      const i = xs.findIndex(x => x >= (reading ?? -Infinity)), at = i < 0 ? xs.length - 1 : i;
      if (event.key === "ArrowRight") read(xs[Math.min(reading === null ? 0 : at + 1, xs.length - 1)]);
      else if (event.key === "ArrowLeft") read(xs[Math.max(at - 1, 0)]);
      else if (event.key === "Enter" && reading !== null) go(reading);
      else if (event.key === "Escape") read(null);
      else return;
      event.preventDefault(); event.stopPropagation();
    };
    return {
      node: h("section", { class: "cp-panel" }, h("h4", {}, facts.title, h("small", {}, ` ${facts.unit}${above ? ` · ▲ ${above} above, up to ${short(Math.max(...values))}` : ""}`)), svg, legend),
      read(x) {
        cross.setAttribute("visibility", x === null ? "hidden" : "visible");
        if (x !== null) { cross.setAttribute("x1", X(x)); cross.setAttribute("x2", X(x)); }
        facts.lines.forEach((line, i) => {
          const real = line.points.filter(p => Number.isFinite(p[1])), near = x === null ? null : real.reduce((best, p) => (best && Math.abs(best[0] - x) <= Math.abs(p[0] - x) ? best : p), null);
          each[i].textContent = near ? short(near[1]) : "";
        });
        where.textContent = x === null ? "" : `at epoch ${Math.round(x)}`;
      },
      mark() {
        marks.replaceChildren(...chosen().flatMap(({ k, x, label }) => [
          s("line", { x1: X(x), x2: X(x), y1: T, y2: H - B, class: `cp-cursor cp-pane-${k}${k === active() ? " cp-active" : ""}`, "aria-label": `cursor ${LETTERS[k]} at ${label}` }),
          s("text", { x: Math.min(X(x) + (k % 2 ? 4 : -4), W - 12 * (k % 2)), y: T - 16, class: `cp-cursorname cp-pane-${k}`, "text-anchor": k % 2 ? "start" : "end" }, LETTERS[k])]));
      },
    };
  }
  function read(x) { reading = x; panels.forEach(p => p.read(x)); }
  function draw() {
    const told = JSON.stringify(data());
    if (told !== drawn) {
      drawn = told;
      const { stages, panels: facts, fault } = data();
      const low = Math.min(...stages.map(stage => stage.first)), high = Math.max(...stages.map(stage => stage.last));
      panels = facts.filter(f => f.lines.some(line => line.points.length)).map(f => panel(f, stages, low, high));
      node.replaceChildren(...(fault ? [h("p", { class: "cp-fault" }, `no curves: ${fault}`)] : []), ...panels.map(p => p.node));
    }
    panels.forEach(p => p.mark());
  }
  return { node, draw, mark: () => panels.forEach(p => p.mark()) };
}
