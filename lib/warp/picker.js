function render({ model, el }) {
  const root = document.createElement("div"), box = document.createElement("div");
  root.className = "pick"; box.className = "pick-box"; box.tabIndex = 0;
  const image = document.createElement("img"), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const ask = document.createElement("p"), note = document.createElement("p"), shown = document.createElement("img");
  const bar = document.createElement("div");
  note.setAttribute("role", "status"); box.setAttribute("aria-label", "picture of the mask; click the key points");
  let chosen = -1, dragged = -1;
  const names = () => model.get("names"), points = () => model.get("points").map(p => [...p]);
  const store = p => { model.set("points", p); model.save_changes(); };
  const button = (text, act) => { const b = document.createElement("button"); b.textContent = text; b.onclick = act; bar.append(b); return b; };
  const undo = () => { const p = points(); p.pop(); chosen = -1; store(p); };
  button("undo (z)", undo);
  const swap = button("", () => { model.set("count", model.get("count") === 12 ? 6 : 12); model.save_changes(); });
  const save = button("save", () => { model.set("save_clicks", model.get("save_clicks") + 1); model.save_changes(); });
  const place = event => {
    const r = svg.getBoundingClientRect(), [w, h] = model.get("size");
    const at = [(event.clientX - r.left) / r.width * w - 0.5, (event.clientY - r.top) / r.height * h - 0.5];
    return at.map((v, k) => Math.round(Math.min(Math.max(v, -0.25 * [w, h][k]), 1.25 * [w, h][k]) * 10) / 10);
  };
  const near = at => {
    const reach = model.get("size")[0] / svg.getBoundingClientRect().width * 9;
    return points().findIndex(p => Math.hypot(p[0] - at[0], p[1] - at[1]) < reach);
  };
  svg.onpointerdown = event => {
    box.focus({ preventScroll: true }); event.preventDefault();
    const at = place(event), hit = near(at);
    if (hit >= 0) { dragged = chosen = hit; svg.setPointerCapture(event.pointerId); draw(); return; }
    const p = points();
    if (p.length < names().length) { p.push(at); chosen = p.length - 1; store(p); }
  };
  svg.onpointermove = event => { if (dragged >= 0) { const p = points(); p[dragged] = place(event); store(p); } };
  svg.onpointerup = () => { dragged = -1; };
  box.onkeydown = event => {
    const step = event.shiftKey ? 10 : 1;
    const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (event.key === "z") undo();
    else if (move && chosen >= 0 && chosen < points().length) { const p = points(); p[chosen][0] += move[0]; p[chosen][1] += move[1]; store(p); }
    else return;
    event.preventDefault(); event.stopPropagation();
  };
  function draw() {
    const [w, h] = model.get("size"), p = points(), r = w / 90;
    image.src = model.get("picture"); svg.setAttribute("viewBox", `-0.5 -0.5 ${w} ${h}`); svg.replaceChildren();
    p.forEach((q, k) => {
      const c = document.createElementNS(svg.namespaceURI, "circle"), t = document.createElementNS(svg.namespaceURI, "text");
      c.setAttribute("cx", q[0]); c.setAttribute("cy", q[1]); c.setAttribute("r", k === chosen ? 1.5 * r : r);
      t.setAttribute("x", q[0] + 1.6 * r); t.setAttribute("y", q[1] - r); t.setAttribute("font-size", 3 * r); t.textContent = k + 1;
      svg.append(c, t);
    });
    const next = names()[p.length];
    ask.textContent = next ? `${p.length + 1} of ${names().length}: ${next.replaceAll("_", " ")} – ${model.get("hints")[p.length]}`
                           : "all set: move what does not fit, then save";
    swap.textContent = model.get("count") === 12 ? "six points instead" : "twelve points instead";
    save.disabled = p.length < names().length;
    note.textContent = model.get("message");
    shown.src = model.get("preview"); shown.style.display = model.get("preview") ? "block" : "none";
  }
  model.on("change", draw);
  box.append(image, svg); root.append(ask, box, bar, note, shown); el.append(root); draw();
}
export default { render };
