// The page of lib.study.pick_faces. Python holds the state and the file; here are the cursor and the selection.
const MARK = { accept: "✓", reject: "✗", unsure: "?" };
const PAST = { accept: "accepted", reject: "rejected", unsure: "unsure" };
const KEYS = { a: "accept", r: "reject", u: "unsure" };
const HELP = [["← → ↑ ↓", "move"], ["a · r · u", "accept, reject, unsure"], ["1 … 9", "reject for that reason"], ["t", "a reason in words"],
  ["space", "accept ⇄ reject"], ["z", "undo"], ["n · p", "next, previous page"], ["Shift + ← → ↑ ↓", "select several"],
  ["Shift + a", "accept what is undecided on this page"], ["click, drag, Shift/Ctrl + click", "select by mouse"]];

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) name.startsWith("on") ? (node[name] = value) : node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function render({ model, el }) {
  const ask = (what, fields = {}) => model.send({ do: what, ...fields });
  const state = () => model.get("state"), tiles = () => model.get("tiles"), marks = () => model.get("marks");
  let cursor = 0, anchor = 0, chosen = new Set(), pending = new Map(), dragged = -1, shownRow = -1, timer = 0, tileWidth = 112;

  const root = h("div", { class: "curate", "data-lm-suppress-shortcuts": "true" });
  const bar = h("div", { class: "cu-bar", role: "progressbar", "aria-valuemin": 0, "aria-label": "faces decided" });
  const told = h("p", { class: "cu-told" }), note = h("p", { class: "cu-note", role: "status" });
  const grid = h("div", { class: "cu-grid", role: "listbox", tabindex: 0, "aria-multiselectable": "true", "aria-label": "candidate faces" });
  const large = h("img", { class: "cu-large", alt: "" }), facts = h("div", { class: "cu-facts" });
  const button = (text, act, key = "", kind = "") =>
    h("button", { type: "button", class: kind, onclick: () => { act(); grid.focus({ preventScroll: true }); } }, text, ...(key ? [h("kbd", {}, key)] : []));
  const choice = (label, pick) => h("select", { "aria-label": label, onchange: event => { pick(event.target.value); grid.focus({ preventScroll: true }); } });

  // ------------------------------------------------------------------------------------------ deciding
  const targets = () => (chosen.size ? [...chosen].sort((x, y) => x - y) : tiles().length ? [cursor] : []);
  function decide(decision, reason = "", at = targets()) {
    if (!at.length) return;
    at.forEach(k => pending.set(k, decision || "reject"));
    ask("decide", { rows: at.map(k => tiles()[k].row), decision, reason });
    const last = at[at.length - 1];
    chosen.clear();
    cursor = anchor = Math.min(last + 1, tiles().length - 1);
    drawMarks();
    if (last + 1 >= tiles().length) note.textContent = "end of the page: n turns it";
  }
  const undecided = () => tiles().map((_, k) => k).filter(k => !marks()[k]?.decision && !pending.has(k));
  const toggle = () => decide(marks()[targets()[0]]?.decision === "accept" ? "reject" : "accept");
  const turn = by => ask("turn", { page: Math.max(0, state().page + by) });
  const words = h("input", { type: "text", placeholder: "another reason …", "aria-label": "a reason in words", maxlength: 200 });
  words.onkeydown = event => {
    if (event.key === "Enter" && words.value.trim()) { decide("", words.value.trim()); words.value = ""; }
    if (event.key === "Enter" || event.key === "Escape") grid.focus({ preventScroll: true });
  };

  // ------------------------------------------------------------------------------------------ cursor and selection
  const columns = () => getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const range = (from, to) => new Set(Array.from({ length: Math.abs(to - from) + 1 }, (_, k) => Math.min(from, to) + k));
  function move(to, extend) {
    cursor = Math.min(Math.max(to, 0), tiles().length - 1);
    if (extend) chosen = range(anchor, cursor); else { chosen.clear(); anchor = cursor; }
    drawMarks();
    grid.children[cursor]?.scrollIntoView?.({ block: "nearest" });
  }
  root.onkeydown = event => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // a notebook has the same keys
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, widget = event.target.closest("button, select, input, summary");
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === words) return;
    if (widget && (["Enter", " ", "Tab"].includes(event.key) || key.startsWith("Arrow") || widget.tagName === "SELECT")) return;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() }[key];
    if (step) move(cursor + step, event.shiftKey);
    else if (key === "Home" || key === "End") move(key === "Home" ? 0 : tiles().length - 1, event.shiftKey);
    else if (key === "a" && event.shiftKey) decide("accept", "", undecided());
    else if (KEYS[key]) decide(KEYS[key]);
    else if (/^[1-9]$/.test(key) && state().reasons[key - 1]) decide("", state().reasons[key - 1]);
    else if (key === " ") toggle();
    else if (key === "z") ask("undo");
    else if (key === "n" || key === "PageDown") turn(1);
    else if (key === "p" || key === "PageUp") turn(-1);
    else if (key === "t") words.focus();
    else if (key === "Escape") move(cursor);
    else return;
    event.preventDefault();
  };
  grid.onpointerdown = event => {
    const k = [...grid.children].indexOf(event.target.closest(".cu-tile"));
    if (k < 0 || event.button) return;
    event.preventDefault();
    grid.focus({ preventScroll: true });
    if (event.shiftKey) return move(k, true);
    if (event.ctrlKey || event.metaKey) {
      if (!chosen.size) chosen.add(cursor);
      chosen.has(k) ? chosen.delete(k) : chosen.add(k);
      cursor = anchor = k;
      return drawMarks();
    }
    dragged = k;
    move(k);
  };
  grid.onpointerover = event => {
    const k = [...grid.children].indexOf(event.target.closest(".cu-tile"));
    if (k < 0) return;
    if (!(event.buttons & 1)) dragged = -1;
    if (dragged >= 0 && k !== cursor) { anchor = dragged; move(k, true); }
    else look(k, 250);
  };
  grid.onpointerleave = () => look(cursor, 150);
  grid.onpointerup = () => { dragged = -1; };
  grid.onfocus = grid.onblur = () => root.classList.toggle("cu-active", document.activeElement === grid || grid.getRootNode().activeElement === grid);

  // ------------------------------------------------------------------------------------------ the crop beside the grid
  function look(k, delay = 60) {
    const tile = tiles()[k];
    clearTimeout(timer);
    if (!tile) { large.removeAttribute("src"); facts.replaceChildren(); return; }
    timer = setTimeout(() => {
      drawFacts(k);
      if (tile.row === shownRow) return;
      shownRow = tile.row;
      large.src = tile.src;
      ask("enlarge", { row: tile.row });
    }, delay);
  }
  function drawFacts(k) {
    const tile = tiles()[k], mark = marks()[k] ?? {};
    const said = mark.decision ? `${MARK[mark.decision]} ${PAST[mark.decision]}${mark.reason ? `: ${mark.reason}` : ""}${mark.by ? ` (${mark.by})` : ""}` : "undecided";
    facts.replaceChildren(
      h("strong", {}, tile.name), h("span", { class: `cu-said cu-${mark.decision || "open"}` }, said),
      ...(mark.others ?? []).map(other => h("span", { class: "cu-other" }, other)), ...(tile.fault ? [h("span", { class: "cu-other" }, tile.fault)] : []),
      h("div", { class: "cu-values" }, ...[["pixels", tile.size.join(" × ")], ...tile.facts].map(([name, value]) => h("span", {}, h("small", {}, name), value))));
  }

  // ------------------------------------------------------------------------------------------ drawing
  const rows = () => tiles().map(tile => tile.row).join();
  let drawn = null; // the rows that the grid shows
  function drawTiles() {
    drawn = rows();
    chosen.clear(); pending.clear(); cursor = anchor = 0; shownRow = -1;
    grid.replaceChildren(...tiles().map((tile, k) => h("div", { class: "cu-tile", role: "option", id: `cu-${model.cid ?? "m"}-${k}` },
      tile.src ? h("img", { src: tile.src, alt: "", draggable: "false" }) : h("span", { class: "cu-fault" }, tile.fault),
      h("span", { class: "cu-mark", "aria-hidden": "true" }), h("span", { class: "cu-why", "aria-hidden": "true" }))));
    drawMarks();
  }
  function drawMarks() {
    if (drawn !== rows()) { drawTiles(); return; } // marks and state may be told of before the tiles they belong to
    [...grid.children].forEach((node, k) => {
      const mark = marks()[k] ?? {}, decision = pending.get(k) ?? mark.decision;
      node.className = `cu-tile ${decision ? `cu-${decision}` : "cu-open"}${pending.has(k) ? " cu-pending" : ""}${k === cursor ? " cu-cursor" : ""}${mark.differ ? " cu-differ" : ""}`;
      node.setAttribute("aria-selected", chosen.has(k));
      node.setAttribute("aria-label", `${tiles()[k].name}, ${PAST[decision] ?? "undecided"}${mark.reason ? `, ${mark.reason}` : ""}${mark.differ ? ", people disagree" : ""}`);
      node.querySelector(".cu-mark").textContent = MARK[decision] ?? "";
      node.querySelector(".cu-why").textContent = pending.has(k) ? "" : mark.reason ?? "";
    });
    grid.setAttribute("aria-activedescendant", grid.children[cursor]?.id ?? "");
    decideNames.textContent = chosen.size > 1 ? `${chosen.size} faces selected` : "the face in the frame";
    look(cursor);
  }
  const number = n => n.toLocaleString("en");
  function options(select, pairs, value) {
    select.replaceChildren(...pairs.map(([v, text]) => h("option", { value: v, ...(String(v) === String(value) ? { selected: "" } : {}) }, text)));
  }
  function drawState() {
    const s = state(), c = s.counts, done = c.all - c.undecided;
    if (drawn !== rows()) drawTiles();
    pending.clear();
    bar.setAttribute("aria-valuemax", c.all); bar.setAttribute("aria-valuenow", done);
    bar.replaceChildren(...["accept", "unsure", "reject"].map(d => h("span", { class: `cu-${d}`, style: `width:${(100 * c[d]) / c.all}%` })));
    const left = s.minutes_left < 0 ? "" : s.minutes_left < 90 ? ` · about ${s.minutes_left} min left` : ` · about ${Math.round(s.minutes_left / 60)} h left`;
    told.replaceChildren(h("strong", {}, `${number(done)} of ${number(c.all)} decided`),
      ...["accept", "reject", "unsure"].map(d => h("span", { class: `cu-count cu-${d}` }, `${MARK[d]} ${number(c[d])} ${PAST[d]}`)),
      ...(c.disagreeing ? [h("span", { class: "cu-count" }, `≠ ${number(c.disagreeing)} disagreeing`)] : []),
      h("span", {}, s.rate ? `${s.rate < 10 ? s.rate : Math.round(s.rate)} a minute${left}` : ""), h("span", { class: "cu-file" }, `${s.file}${s.by ? ` · by ${s.by}` : ""}`));
    options(filter, s.filters.map(f => [f, `${PAST[f] ?? f} (${number(c[f])})`]), s.filter);
    options(sort, [["", "table's order"], ...s.columns.map(x => [x, ["yaw", "pitch", "roll"].includes(x) ? `|${x}|` : x])], s.sort);
    direction.textContent = s.descending ? "↓ high first" : "↑ low first"; direction.disabled = !s.sort;
    options(size, [...new Set([20, 40, 80, 120, s.size])].sort((x, y) => x - y).map(n => [n, `${n} a page`]), s.size);
    place.textContent = s.listed ? `page ${number(s.page + 1)} of ${number(s.pages)}` : "nothing to show: choose another filter";
    back.disabled = !s.page; undo.disabled = !s.steps; note.textContent = s.message;
    const at = tiles().findIndex(tile => tile.row === s.back_to);
    if (at >= 0) { cursor = anchor = at; chosen.clear(); }
    if (reasons.children.length !== s.reasons.length)
      reasons.replaceChildren(...s.reasons.map((text, k) => button(text, () => decide("", text), k < 9 ? `${k + 1}` : "")));
    drawMarks();
  }

  const list = (fields = {}) => ask("choose", { filter: state().filter, sort: state().sort, descending: state().descending, ...fields });
  const filter = choice("show", v => list({ filter: v })), sort = choice("sort by", v => list({ sort: v, descending: !["yaw", "pitch", "roll"].includes(v) }));
  const direction = button("", () => list({ descending: !state().descending })), size = choice("faces on a page", v => ask("resize", { size: Number(v) }));
  const zoom = choice("size of a face", v => { tileWidth = v; grid.style.setProperty("--tile", `${v}px`); });
  options(zoom, [[80, "small"], [112, "medium"], [168, "large"]], tileWidth);
  const place = h("span", { class: "cu-place", "aria-live": "polite" }), back = button("‹", () => turn(-1), "p"), undo = button("undo", () => ask("undo"), "z");
  const reasons = h("div", { class: "cu-reasons", role: "group", "aria-label": "reject for a reason" }), decideNames = h("p", { class: "cu-who" });
  const rest = button("accept the undecided ones on this page", () => decide("accept", "", undecided()), "Shift a");
  const labelled = (text, ...nodes) => h("label", {}, h("span", {}, text), ...nodes);
  back.setAttribute("aria-label", "previous page");
  const next = button("›", () => turn(1), "n"); next.setAttribute("aria-label", "next page");

  root.append(
    h("header", {}, bar, told),
    h("div", { class: "cu-tools" }, labelled("show", filter), labelled("sort by", sort), direction, labelled("", size), labelled("", zoom), note, h("span", { class: "cu-nav" }, back, place, next)),
    h("div", { class: "cu-main" }, grid, h("aside", {}, large, facts, decideNames,
      h("div", { class: "cu-decide" }, ...Object.entries(KEYS).map(([key, d]) => button(`${MARK[d]} ${d}`, () => decide(d), key, `cu-${d}`))), reasons, words, h("div", { class: "cu-decide" }, undo), rest)),
    h("details", {}, h("summary", {}, "keys"), h("div", { class: "cu-help" }, ...HELP.map(([k, v]) => h("span", {}, h("kbd", {}, k), v)))));
  el.append(root);
  const enlarged = () => { const z = model.get("zoom"); if (z.row === shownRow && z.src) large.src = z.src; };
  const heard = [["change:tiles", drawTiles], ["change:marks", drawMarks], ["change:state", drawState], ["change:zoom", enlarged]];
  heard.forEach(([event, act]) => model.on(event, act));
  drawTiles(); drawState();
  return () => { clearTimeout(timer); heard.forEach(([event, act]) => model.off(event, act)); };
}
export default { render };
