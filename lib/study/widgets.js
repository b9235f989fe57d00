// The page of lib.study.widgets, joined with widgets_views.js and widgets_curves.js. Python holds what is chosen and the
// pictures; the page asks by messages and draws what the model says.
//
// To find things (roles and labels, stable):
//   region "checkpoint comparison" · combobox "run" · textbox "your name" · status .cp-note · progressbar "pictures computed"
//   slider "checkpoint A" … "checkpoint D" (aria-valuetext "stage5 · 313") · button "set A to 313" · "add a checkpoint" · "remove checkpoint C"
//   listbox "faces" with options · slider "noise seed", "σ layer 2", "σ layer 3" · checkbox "same noise for all", "full face", "truth" …
//   radio "pictures", "difference", "attention" · combobox "difference to", "attention map", and "brightest at" of either
//   radio "side by side", "swipe", "blink", "zoom" · slider "divider" · button "pause" / "play" · slider "magnification"
//   figure "pane A: stage5 · 313" (aria-busy while another is computed; img alt = all its words) · button "mark stage5 · 313 as pick"
//   group "mark as pick": radio "first pick", "second pick" · textbox "remark" · button "save the pick" · listitem .cp-pick · .cp-near (the message, again)
//   .cp-curve (img, per panel) · .cp-cursor.cp-pane-0 … · button "compute the missing numbers"
//   button "vote blind" · button "left is better", "right is better", "cannot tell" · button "reveal" · "leave" · status .cp-verdict
const PLACES = ["first", "second"], NAME = "checkpoint comparison: your name"; // all that the browser keeps

function render({ model, el }) {
  const get = name => model.get(name), ask = (what, fields = {}) => model.send({ do: what, ...fields });
  const uid = `cp${Math.random().toString(36).slice(2, 8)}`;
  let active = 0, wanted = {}, waiting = false, marking = null, over = false;

  // ------------------------------------------------------------------------------------------ asking
  function choose(fields) { // what moves on is sent at most every 60 ms; the last value is always sent
    Object.assign(wanted, fields);
    if (!waiting) flush();
  }
  function flush() {
    ask("choose", wanted);
    wanted = {}; waiting = true;
    setTimeout(() => { waiting = false; if (!over && Object.keys(wanted).length) flush(); }, 60);
  }
  const chosen = () => wanted.chosen ?? get("chosen"), byLabel = label => get("choices").find(c => c.label === label);
  const setPane = (k, label) => { active = k; choose({ chosen: chosen().map((old, i) => (i === k ? label : old)) }); drawPanes(); };
  // A control under the hand is not pushed back by an answer to what it said a moment ago.
  function hold(control) { control.held = Date.now() + 600; setTimeout(() => { if (!over) draw(); }, 650); }
  const free = control => !(control.held > Date.now());
  const put = (control, value) => { if (free(control) && control.value !== String(value)) control.value = value; };
  const fillSelect = (list, pairs, value) => { if (free(list)) options(list, pairs, value); };
  const tick = (box, value) => { if (free(box)) box.checked = value; };

  // ------------------------------------------------------------------------------------------ controls
  const button = (text, act, attributes = {}) => h("button", { type: "button", onclick: act, ...attributes }, text);
  const labelled = (text, ...nodes) => h("label", {}, h("span", {}, text), ...nodes);
  const select = (label, act) => h("select", { "aria-label": label, onchange: event => { hold(event.target); act(event.target.value); } });
  const check = (label, act) => h("input", { type: "checkbox", "aria-label": label, onchange: event => { hold(event.target); act(event.target.checked); } });
  function range(label, low, high, step, act) {
    const text = h("output"), input = h("input", { type: "range", min: low, max: high, step, "aria-label": label });
    input.oninput = () => { hold(input); text.textContent = input.value; act(Number(input.value)); };
    return { input, text, node: labelled(label, input, text), set(value) { input.max = Math.max(high, value); put(input, value); text.textContent = input.value; } };
  }
  function radios(name, values, act, words = {}) {
    const inputs = values.map(value => h("input", { type: "radio", name: `${uid}-${name}`, value, "aria-label": value, onchange: () => { inputs.forEach(hold); act(value); } }));
    return { node: h("div", { class: "cp-segments", role: "radiogroup", "aria-label": name }, ...inputs.map(input => h("label", {}, input, h("span", { "aria-hidden": "true" }, words[input.value] ?? input.value)))),
      set(value, force) { inputs.forEach(input => { if (force || free(input)) input.checked = input.value === value; }); } };
  }
  const root = h("div", { class: "compare", role: "region", "aria-label": "checkpoint comparison", "data-lm-suppress-shortcuts": "true" });
  // A notebook takes keys from whatever is no text field (arrows, a, b, x, d d); the attribute keeps only outer commands away.
  root.addEventListener("keydown", event => { if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); });
  const run = select("run", value => { note.textContent = `opening ${value} …`; choose({ run: value }); }), refused = h("details", { class: "cp-refused" });
  const who = h("input", { type: "text", "aria-label": "your name", placeholder: "for picks and votes", maxlength: 80, onchange: () => { try { localStorage.setItem(NAME, who.value.trim()); } catch { /* a browser that keeps nothing */ } } }), note = h("p", { class: "cp-note", role: "status" });
  const fill = h("span"), bar = h("div", { class: "cp-bar", role: "progressbar", "aria-label": "pictures computed", "aria-valuemin": 0 }, fill);
  const rows = h("div", { class: "cp-rows" }), add = button("+ add a checkpoint", () => { active = chosen().length; choose({ chosen: [...chosen(), get("choices").at(-1).label] }); }, { "aria-label": "add a checkpoint" });
  const seed = range("noise seed", 0, 50, 1, value => choose({ seed: value }));
  const sigma = [2, 3].map((layer, i) => range(`σ layer ${layer}`, 0, 4, 0.1, value => choose({ sigma: (wanted.sigma ?? get("sigma")).map((old, j) => (i === j ? value : old)) })));
  const same = check("same noise for all", value => choose({ same_noise: value })), noiseNote = h("span", { class: "cp-hint" });
  const strip = h("div", { class: "cp-faces", role: "listbox", tabindex: 0, "aria-label": "faces" });
  const show = radios("show", ["pictures", "difference", "attention"], value => choose({ show: value })), view = radios("view", ["side by side", "swipe", "blink", "zoom"], value => choose({ view: value }));
  const against = select("difference to", value => choose({ against: Number(value) })), brightest = select("brightest at", value => choose({ brightest: Number(value) })), attention = select("attention map", value => choose({ attention: value }));
  const white = select("brightest at", value => choose({ attention_at: Number(value) })), levels = (all, now) => [...new Set([...all, now])].map(v => [v, v === 1 ? "the full range" : `${v} of the range`]);
  const extras = { pictures: [], difference: [labelled("to", against), labelled("brightest at", brightest)], attention: [labelled("map", attention), labelled("brightest at", white)] }, extra = h("span", { class: "cp-extra" });
  const beside = [["rule", "rule-based input"], ["full", "full face"], ["truth", "truth"]].map(([kind, text]) => {
    const box = check(text, on => { const now = new Set(wanted.beside ?? get("beside")); on ? now.add(kind) : now.delete(kind); choose({ beside: [...now] }); });
    return { kind, box, node: h("label", {}, box, h("span", {}, text)) };
  });

  // ------------------------------------------------------------------------------------------ panes
  let paneRows = [];
  function paneRow(k) {
    const name = h("output", { class: "cp-name" }), presets = h("span", { class: "cp-presets" }), remove = button("×", () => { active = 0; choose({ chosen: chosen().filter((_, i) => i !== k) }); }, { "aria-label": `remove checkpoint ${LETTERS[k]}`, class: "cp-small" });
    const slider = h("input", { type: "range", min: 0, step: 1, "aria-label": `checkpoint ${LETTERS[k]}` });
    slider.oninput = () => { hold(slider); setPane(k, get("choices")[slider.value].label); };
    const node = h("div", { class: "cp-row" }, h("span", { class: `cp-letter cp-pane-${k}` }, LETTERS[k]), slider, name, presets, remove);
    for (const event of ["pointerdown", "focusin"]) node.addEventListener(event, () => { if (active !== k) { active = k; drawPanes(); } });
    return { node, draw() {
      const label = chosen()[k], list = get("choices"), at = list.findIndex(c => c.label === label), picks = get("picks");
      slider.max = Math.max(list.length - 1, 1);
      put(slider, at);
      slider.setAttribute("aria-valuetext", label); name.textContent = label;
      node.classList.toggle("cp-active", k === active);
      remove.disabled = chosen().length < 3;
      const epochs = [...new Set([...(get("state").presets ?? []), ...picks.map(p => p.epoch)])].map(epoch => list.find(c => c.stage === "stage5" && c.epoch === epoch)).filter(Boolean);
      const stars = c => picks.map((p, i) => (p.epoch === c.epoch ? "★" + (i + 1) : "")).join("");
      const told = JSON.stringify([epochs, epochs.map(stars)]);
      if (told === presets.told) return;
      presets.told = told;
      presets.replaceChildren(...epochs.map(c => button(`${c.epoch} ${stars(c)}`.trim(), () => setPane(k, c.label), { class: "cp-small", "aria-label": `set ${LETTERS[k]} to ${c.epoch}`, title: stars(c) ? "★1 and ★2 are the present picks" : "a pick of the paper" })));
    } };
  }
  function drawPanes() {
    const count = chosen().length;
    active = Math.min(active, count - 1);
    while (paneRows.length > count) paneRows.pop().node.remove();
    while (paneRows.length < count) { paneRows.push(paneRow(paneRows.length)); rows.append(paneRows.at(-1).node); }
    paneRows.forEach(row => row.draw());
    add.disabled = count >= 4;
    const noisy = chosen().map((label, k) => (byLabel(label)?.noise ? LETTERS[k] : "")).filter(Boolean);
    noiseNote.textContent = noisy.length ? `seed and σ act on ${noisy.join(", ")}: trained with noise${noisy.length < count ? "; not on the others" : ""}` : "none of these checkpoints was trained with noise: seed and σ change nothing";
    curves.mark();
  }

  // ------------------------------------------------------------------------------------------ faces
  let faceNames = "";
  function drawFaces() {
    const names = JSON.stringify(get("faces").map(face => face.name));
    if (names !== faceNames) {
      faceNames = names;
      strip.replaceChildren(...get("faces").map((face, k) => h("div", { class: "cp-face", role: "option", id: `${uid}-f${k}`, "aria-label": `face ${k + 1}, ${face.name}`, onclick: () => setFace(k) }, h("img", { src: face.src, alt: "", draggable: "false" }))));
    }
    markFace(wanted.face ?? get("face"));
  }
  function markFace(k) {
    [...strip.children].forEach((node, i) => node.setAttribute("aria-selected", String(i === k)));
    strip.setAttribute("aria-activedescendant", strip.children[k]?.id ?? "");
  }
  function setFace(k) {
    k = clamp(k, 0, get("faces").length - 1);
    markFace(k);
    const node = strip.children[k]; // within the strip only: the page must not jump
    if (node.offsetTop < strip.scrollTop || node.offsetTop + node.offsetHeight > strip.scrollTop + strip.clientHeight) strip.scrollTop = node.offsetTop - 4;
    choose({ face: k });
  }
  strip.onkeydown = event => {
    const across = Math.max(1, Math.floor(strip.clientWidth / ((strip.children[0]?.offsetWidth ?? 60) + 4))), now = wanted.face ?? get("face");
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -1e6, End: 1e6 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault(); event.stopPropagation();
    setFace(now + step);
  };

  // ------------------------------------------------------------------------------------------ pictures, marking, curves
  const isPickable = label => byLabel(label)?.stage === "stage5";
  const tiles = () => [...get("references").map(tile => ({ tile, k: -1, coming: "" })), ...get("chosen").map((_, k) => ({ tile: get(`pane_${k + 1}`), k, coming: get("coming")[k] ?? "" }))];
  const stage = pictureStage({ tiles, view: () => get("view"), small: () => get("facts").size <= 128, mark: openMark, stage5: isPickable });
  const place = radios("which pick", ["first pick", "second pick"], () => {}, { "first pick": "first pick (Figure 6)", "second pick": "second pick (Figure 7)" }), remark = h("input", { type: "text", "aria-label": "remark", maxlength: 300, placeholder: "why this one" });
  const formTold = h("span", { class: "cp-fault cp-near" }), pickTold = h("p", { class: "cp-near" }); // beside what was pressed: the note is far above
  const save = button("save the pick", () => ask("mark", { label: marking, place: form.querySelector(":checked")?.value === "second pick" ? 2 : 1, by: who.value, remark: remark.value })), marked = h("strong");
  const form = h("div", { class: "cp-form", role: "group", "aria-label": "mark as pick" }, marked, place.node, labelled("remark", remark), save, button("cancel", closeMark), formTold);
  form.hidden = true;
  function openMark(label) {
    const epoch = byLabel(label).epoch, [one, two] = get("picks").map(p => p.epoch);
    marking = label;
    marked.textContent = `${label} becomes the`;
    place.set(Math.abs(epoch - one) <= Math.abs(epoch - two) ? "first pick" : "second pick", true);
    form.hidden = false;
    remark.focus({ preventScroll: true });
  }
  function closeMark() { marking = null; form.hidden = true; remark.value = ""; formTold.textContent = ""; }
  form.onkeydown = event => { if (event.key === "Escape") closeMark(); if (event.key === "Enter" && event.target === remark) save.click(); };
  const picks = h("ul", { class: "cp-picks", "aria-label": "present picks" });
  function drawPicks() {
    picks.replaceChildren(...get("picks").map((p, i) => h("li", { class: "cp-pick", "aria-label": `${PLACES[i]} pick` }, h("b", {}, `★${i + 1} stage5 · ${p.epoch}`),
      ` ${PLACES[i]} pick, Figure ${6 + i}, by ${p.by || "nobody named"}${p.at ? `, ${p.at.slice(0, 10)}` : ""}${p.remark ? `: ${p.remark}` : ""}${p.kept ? "" : " (this run kept no such checkpoint)"}`)));
  }
  const curves = curvePanels({ data: () => get("curves"), active: () => active,
    chosen: () => chosen().map((label, k) => ({ k, label, x: byLabel(label)?.x ?? 0 })),
    go: x => { const list = get("choices"); if (list.length) setPane(active, list.reduce((best, c) => (Math.abs(c.x - x) < Math.abs(best.x - x) ? c : best)).label); } });
  const count = button("compute the missing numbers", () => ask("count")), countNote = h("span", { class: "cp-hint" });

  // ------------------------------------------------------------------------------------------ voting blindly
  const begin = button("vote blind", () => { closeMark(); ask("blind", { on: true, by: who.value }); }), beginNote = h("span", { class: "cp-hint" });
  const shownBallot = () => get("ballot").number !== undefined;
  const vote = what => { const b = get("ballot"); if (b.left && b.number !== voted) { voted = b.number; ask("vote", { number: b.number, vote: what }); booth.focus({ preventScroll: true }); } };
  let voted = -1;
  const sides = ["left", "right"].map(side => h("img", { alt: `${side} picture`, draggable: "false", onclick: () => vote(side) })), given = h("img", { alt: "the input of both", draggable: "false" });
  const voteButton = (side, text, key) => { const node = button(text, () => vote(side)); node.append(h("kbd", {}, key)); return node; };
  const asked = h("p"), verdict = h("div", { class: "cp-verdict", role: "status" });
  const choices = h("div", { class: "cp-tools" }, voteButton("left", "left is better", "←"), voteButton("tie", "cannot tell", "↓"), voteButton("right", "right is better", "→"), h("span", { class: "cp-grow" }),
    button("reveal", () => ask("reveal")), button("leave", () => ask("blind", { on: false })));
  const booth = h("section", { class: "cp-booth", tabindex: 0, "aria-label": "blind vote" }, asked,
    h("div", { class: "cp-sides" }, h("figure", {}, h("figcaption", {}, "left"), sides[0]), h("figure", { class: "cp-given" }, h("figcaption", {}, "the input"), given), h("figure", {}, h("figcaption", {}, "right"), sides[1])), choices, verdict);
  booth.onkeydown = event => {
    const what = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" }[event.key];
    if (!what || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault(); event.stopPropagation();
    vote(what);
  };
  const percent = value => `${Math.round(100 * value)} %`;
  function drawBooth() {
    const b = get("ballot"), r = b.result ?? {};
    if (!shownBallot()) return;
    asked.replaceChildren(h("b", {}, `ballot ${b.number}`), ` of ${b.by}, ${b.cast} cast. ${b.fault || (b.left ? "Which is better? Which checkpoint stands where was drawn anew for this ballot." : "computing both pictures …")}`);
    [b.left, b.right, b.input].forEach((src, i) => { const img = [...sides, given][i]; src ? img.setAttribute("src", src) : img.removeAttribute("src"); });
    choices.querySelectorAll("button").forEach((node, i) => { if (i < 3) node.disabled = !b.left; });
    verdict.replaceChildren(...(r.votes === undefined ? [h("span", { class: "cp-hint" }, `${b.pair.join(" against ")}; the result shows when you ask for it (reveal). Who looks often and stops when it suits decides too often.`)]
      : r.votes === 0 ? ["nobody has voted on these two yet"]
      : [h("b", {}, r.verdict), h("span", {}, r.pair.map((name, i) => `${name}: ${r.wins[i]}`).join(" · ") + ` · cannot tell: ${r.ties} · ${r.people} ${r.people === 1 ? "person" : "people"}`),
        h("span", {}, r.share === null ? "only ties so far" : `share of ${r.pair[0]} among the others: ${percent(r.share)}, ${r.interval} interval ${percent(r.low)} to ${percent(r.high)} (95 %)`)]));
  }

  // ------------------------------------------------------------------------------------------ drawing
  const ordinary = h("div", { class: "cp-ordinary" },
    h("div", { class: "cp-top" }, h("section", { class: "cp-choose" }, rows, h("div", { class: "cp-tools" }, add)),
      h("section", { class: "cp-noise" }, seed.node, ...sigma.map(x => x.node), h("label", {}, same, h("span", {}, "same noise for all (off: a seed each)")), noiseNote)),
    strip, h("div", { class: "cp-tools cp-how" }, show.node, extra, view.node, h("span", { class: "cp-grow" }), h("span", { class: "cp-beside" }, ...beside.map(b => b.node))), stage.node, form,
    h("section", { class: "cp-decisions" }, picks, pickTold, h("div", { class: "cp-tools" }, begin, beginNote)),
    curves.node, h("div", { class: "cp-tools" }, count, countNote));
  root.append(h("header", {}, labelled("run", run), note, h("span", { class: "cp-grow" }), labelled("your name", who)), refused, bar, ordinary, booth);

  let lastTick = 0;
  function drawProgress() {
    const b = get("ballot"), of = shownBallot() ? 1 : get("chosen").length, done = shownBallot() ? Number(Boolean(b.left || b.fault)) : of - get("coming").filter(Boolean).length;
    bar.setAttribute("aria-valuemax", of); bar.setAttribute("aria-valuenow", done);
    bar.classList.toggle("cp-idle", done >= of);
    fill.style.transitionDuration = done >= of ? "0s" : `${get("state").seconds || 2}s`; // creeps towards the next one
    fill.style.width = `${(100 * Math.min(of, done + (done < of ? 0.9 : 0))) / of}%`;
  }
  function draw() {
    const s = get("state"), runs = get("runs").length ? get("runs") : [{ name: get("run"), why: "" }], cannot = runs.filter(r => r.why);
    root.setAttribute("aria-busy", String(get("coming").some(Boolean)));
    fillSelect(run, runs.map(r => [r.name, r.why ? `${r.name} (cannot be shown)` : r.name, Boolean(r.why)]), get("run"));
    put(run, get("run"));
    refused.hidden = !cannot.length;
    refused.replaceChildren(h("summary", {}, `${cannot.length} ${cannot.length === 1 ? "run" : "runs"} cannot be shown`), ...cannot.map(r => h("p", {}, h("b", {}, r.name), ` ${r.why}`)));
    if (s.tick !== lastTick) {
      const message = s.message ?? "", refused = message.startsWith("not done");
      if (message.startsWith("marked")) closeMark();
      note.textContent = message;
      formTold.textContent = form.hidden ? "" : message; pickTold.textContent = form.hidden ? message : "";
      pickTold.classList.toggle("cp-fault", refused);
      if (refused && message.includes("your name") && !who.value.trim()) who.focus();
      if (!who.value && s.by) who.value = s.by;
      lastTick = s.tick;
    }
    drawProgress();
    ordinary.hidden = shownBallot(); booth.hidden = !shownBallot();
    if (shownBallot()) { stage.clear(); drawBooth(); if (!booth.was) booth.focus({ preventScroll: true }); booth.was = true; return; }
    booth.was = false; voted = -1;
    [...sides, given].forEach(img => img.removeAttribute("src"));
    drawPanes(); drawFaces(); drawPicks();
    seed.set(get("seed")); sigma.forEach((x, i) => x.set(get("sigma")[i])); tick(same, get("same_noise"));
    show.set(get("show")); view.set(get("view"));
    beside.forEach(b => { tick(b.box, get("beside").includes(b.kind)); b.node.hidden = b.kind === "truth" && !get("facts").truth; });
    const letters = get("chosen").map((label, k) => [k, `${LETTERS[k]}, ${label}`]);
    fillSelect(against, [[-1, "the input"], ...letters], get("against"));
    fillSelect(brightest, levels([0.5, 0.2, 0.1, 0.05], get("brightest")), get("brightest"));
    fillSelect(white, levels([1, 0.5, 0.2, 0.1, 0.05], get("attention_at")), get("attention_at"));
    fillSelect(attention, [["tenth", "tenth: what keeps the input"], ["others", "sum of the nine others"], ...Array.from({ length: 10 }, (_, k) => [String(k + 1), `map ${k + 1}`]), ["all", "all ten"]], get("attention"));
    put(against, get("against")); put(brightest, get("brightest")); put(attention, get("attention")); put(white, get("attention_at"));
    if (extra.shows !== get("show")) { extra.shows = get("show"); extra.replaceChildren(...extras[get("show")]); }
    begin.disabled = get("chosen")[0] === get("chosen")[1];
    beginNote.textContent = begin.disabled ? "A and B are the same checkpoint" : "on A and B: names hidden, sides shuffled, face and noise drawn anew for every vote";
    stage.draw(); curves.draw();
    const facts = get("facts");
    count.disabled = facts.busy || facts.kept >= facts.of;
    countNote.textContent = facts.busy ? `computing numbers per checkpoint: ${facts.kept} of ${facts.of}` : `numbers per checkpoint (diversity, distances): ${facts.kept} of ${facts.of} checkpoints`;
  }
  let due = false;
  const soon = () => { if (!due) { due = true; queueMicrotask(() => { due = false; if (!over) draw(); }); } };
  model.on("change", soon);
  el.append(root);
  draw();
  try { who.value ||= localStorage.getItem(NAME) ?? ""; } catch { /* as above */ }
  ask("refresh");
  return () => { over = true; stage.end(); model.off("change", soon); };
}
export default { render };
