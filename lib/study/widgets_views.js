// Part of the page of lib.study.widgets (joined with widgets_curves.js and widgets.js): the pictures, side by side,
// swiped, blinking, or under a linked lens. All of it happens here, without asking Python.
const LETTERS = "ABCD";

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) name.startsWith("on") ? (node[name] = value) : node.setAttribute(name, value);
  node.append(...children);
  return node;
}
function options(select, pairs, value) {
  const told = JSON.stringify([pairs, value]); // made anew only where something changed: an open list would close
  if (select.told === told) return;
  select.told = told;
  select.replaceChildren(...pairs.map(([v, text, off]) => h("option", { value: v, ...(String(v) === String(value) ? { selected: "" } : {}), ...(off ? { disabled: "" } : {}) }, text)));
}
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// One picture with the words that belong to it. `act(label)` is what "mark as pick" does; none without it.
function tileNode(act) {
  const name = h("strong"), letter = h("span", { class: "cp-letter" }), img = h("img", { alt: "", draggable: "false" }), lens = h("div", { class: "cp-lens", "aria-hidden": "true" });
  const box = h("div", { class: "cp-box" }, img, lens), words = h("div", { class: "cp-words" });
  const pick = act ? h("button", { type: "button", class: "cp-small" }, "★ mark as pick") : "";
  const node = h("figure", { class: "cp-tile" }, h("figcaption", {}, letter, name), box, words, pick);
  let seen = "";
  return { node, box, img, lens, draw(tile, k, coming, stage5) {
    const told = JSON.stringify([tile, k, coming, stage5]);
    if (told === seen) return;
    seen = told;
    const title = tile.label ?? tile.name ?? "", late = coming ? `computing ${coming} …` : "";
    letter.textContent = k >= 0 ? LETTERS[k] : ""; letter.className = k >= 0 ? `cp-letter cp-pane-${k}` : "";
    name.textContent = title || (coming ? "…" : "");
    node.setAttribute("aria-label", k >= 0 ? `pane ${LETTERS[k]}: ${title}` : title); // the picture's own name, not the coming one's
    node.setAttribute("aria-busy", String(Boolean(coming)));
    tile.src ? img.setAttribute("src", tile.src) : img.removeAttribute("src");
    img.alt = [title, tile.what, tile.caption, tile.noise].filter(Boolean).join(", ");
    words.replaceChildren(...(tile.fault ? [h("span", { class: "cp-fault", role: "alert" }, tile.fault)] : []),
      ...[tile.what, tile.caption, tile.noise].filter(Boolean).map(text => h("span", {}, text)), ...(late ? [h("span", { class: "cp-late" }, late)] : []));
    if (pick) {
      pick.onclick = () => act(title);
      pick.disabled = !tile.src || !stage5(title) || Boolean(coming);
      pick.title = stage5(title) ? "" : "the picks are of stage 5, with NMC and noise (§5)";
      pick.setAttribute("aria-label", `mark ${title} as pick`);
    }
  } };
}

// The stage where the pictures stand. tiles(): what is shown, [{tile, k (pane or −1), coming}]. Gives {node, draw, end}.
function pictureStage({ tiles, view, small, mark, stage5 }) {
  const node = h("div", { class: "cp-stage", tabindex: 0, role: "group", "aria-label": "pictures" });
  const tools = h("div", { class: "cp-tools cp-viewtools" }), whole = h("div", {}, tools, node);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let mode = "", nodes = [], timer = 0, playing = !still, at = 0, rate = 2, split = 50, sides = [0, 1], factor = 4, point = [0.5, 0.6], looking = false;
  const titled = entry => `${entry.k >= 0 ? LETTERS[entry.k] + " · " : ""}${entry.tile.label ?? entry.tile.name ?? "…"}`;

  // ---------------------------------------------------------------------------------------- side by side, zoom
  function drawTiles(list) {
    while (nodes.length > list.length) nodes.pop().node.remove();
    list.forEach((entry, i) => {
      const wanted = entry.k >= 0; // panes can be marked, references cannot
      if (nodes[i] && nodes[i].pane !== wanted) nodes.splice(i).forEach(old => old.node.remove());
      if (!nodes[i]) {
        nodes[i] = { ...tileNode(wanted ? mark : null), pane: wanted };
        node.append(nodes[i].node);
      }
      nodes[i].draw(entry.tile, entry.k, entry.coming, stage5);
    });
    node.style.setProperty("--count", Math.max(list.length, 1));
    drawLens();
  }
  function drawLens() {
    const on = mode === "zoom" && looking;
    nodes.forEach(({ box, img, lens }) => {
      lens.style.display = on && img.getAttribute("src") ? "block" : "none";
      if (!on || !img.getAttribute("src")) return;
      const wide = box.clientWidth, high = box.clientHeight, size = Math.min(wide, high) * 0.5, [x, y] = point;
      Object.assign(lens.style, { width: `${size}px`, height: `${size}px`, left: `${clamp(x * wide - size / 2, 0, wide - size)}px`, top: `${clamp(y * high - size / 2, 0, high - size)}px`,
        backgroundImage: `url("${img.src}")`, backgroundSize: `${wide * factor}px ${high * factor}px`,
        backgroundPosition: `${-(x * wide * factor - size / 2)}px ${-(y * high * factor - size / 2)}px` });
    });
    factorText.textContent = `× ${factor}`; factorRange.value = factor;
  }
  const factorText = h("output"), factorRange = h("input", { type: "range", min: 2, max: 16, step: 1, "aria-label": "magnification" });
  factorRange.oninput = () => { factor = Number(factorRange.value); looking = true; drawLens(); };
  node.onpointermove = event => {
    const box = event.target.closest(".cp-box");
    if (mode === "swipe" && event.buttons & 1 && box) return slide(event, box);
    if (mode !== "zoom") return;
    looking = Boolean(box) || (looking && document.activeElement === node);
    if (box) { const r = box.getBoundingClientRect(); point = [clamp((event.clientX - r.left) / r.width, 0, 1), clamp((event.clientY - r.top) / r.height, 0, 1)]; }
    drawLens();
  };
  node.onpointerleave = () => { if (document.activeElement !== node) { looking = false; drawLens(); } };
  node.addEventListener("wheel", event => {
    if (mode !== "zoom" || !event.target.closest(".cp-box")) return;
    event.preventDefault();
    factor = clamp(factor + (event.deltaY < 0 ? 1 : -1), 2, 16);
    drawLens();
  }, { passive: false });

  // ---------------------------------------------------------------------------------------- swipe
  const under = h("img", { alt: "", draggable: "false" }), over = h("img", { alt: "", draggable: "false" }), divider = h("div", { class: "cp-divider", role: "slider", tabindex: 0, "aria-label": "divider", "aria-valuemin": 0, "aria-valuemax": 100 });
  const swipeBox = h("div", { class: "cp-box cp-big" }, under, over, divider), swipeWords = h("div", { class: "cp-both" }), swipe = h("div", { class: "cp-one" }, swipeBox, swipeWords);
  const sideChoice = [0, 1].map(side => h("select", { "aria-label": ["left picture", "right picture"][side], onchange: event => { sides[side] = Number(event.target.value); draw(); } }));
  const entryWords = (entry, side) => h("div", { class: "cp-words", "aria-busy": String(Boolean(entry.coming)) }, h("strong", {}, `${side} ${titled(entry)}`),
    ...[entry.tile.what, entry.tile.caption, entry.tile.noise, entry.tile.fault, entry.coming ? `computing ${entry.coming} …` : ""].filter(Boolean).map(text => h("span", {}, text)));
  const source = (img, entry) => { entry.tile.src ? img.setAttribute("src", entry.tile.src) : img.removeAttribute("src"); img.alt = titled(entry); img.classList.toggle("cp-dim", Boolean(entry.coming)); };
  function drawSwipe(list) {
    const panes = list.map((entry, i) => [entry, i]).filter(([entry]) => entry.k >= 0).map(([, i]) => i);
    if (sides.some(side => side >= list.length) || !swipe.chosen) sides = [panes[0], panes[1] ?? panes[0]];
    swipe.chosen = true;
    sideChoice.forEach((select, side) => options(select, list.map((entry, i) => [i, titled(entry)]), sides[side]));
    source(over, list[sides[0]]); source(under, list[sides[1]]);
    swipeWords.replaceChildren(entryWords(list[sides[0]], "◧"), entryWords(list[sides[1]], "◨"));
    over.style.clipPath = `inset(0 ${100 - split}% 0 0)`;
    divider.style.left = `${split}%`; divider.setAttribute("aria-valuenow", Math.round(split)); divider.setAttribute("aria-valuetext", `${Math.round(split)} % of the left picture`);
  }
  function slide(event, box) {
    const r = box.getBoundingClientRect();
    split = clamp((100 * (event.clientX - r.left)) / r.width, 0, 100);
    drawSwipe(tiles());
  }
  swipeBox.onpointerdown = event => { event.preventDefault(); swipeBox.setPointerCapture(event.pointerId); divider.focus({ preventScroll: true }); slide(event, swipeBox); };

  // ---------------------------------------------------------------------------------------- blink
  const blinkImg = h("img", { alt: "", draggable: "false" }), blinkWords = h("div", { class: "cp-both", "aria-live": "off" }), blink = h("div", { class: "cp-one" }, h("div", { class: "cp-box cp-big" }, blinkImg), blinkWords);
  const play = h("button", { type: "button", onclick: () => setPlaying(!playing) }), rateText = h("output");
  const rateRange = h("input", { type: "range", min: 0.5, max: 8, step: 0.5, "aria-label": "pictures per second", oninput: event => { rate = Number(event.target.value); drawBlink(tiles()); tick(); } });
  const withInput = h("input", { type: "checkbox", "aria-label": "blink the input, too", onchange: () => drawBlink(tiles()) });
  const blinking = list => list.filter(entry => entry.k >= 0 || withInput.checked);
  function setPlaying(on) { playing = on; drawBlink(tiles()); tick(); }
  function tick() {
    clearInterval(timer);
    if (mode === "blink" && playing) timer = setInterval(() => { at += 1; drawBlink(tiles()); }, 1000 / rate);
  }
  function drawBlink(list) {
    const shown = blinking(list), entry = shown[at % shown.length];
    source(blinkImg, entry);
    blinkWords.replaceChildren(entryWords(entry, `${(at % shown.length) + 1} of ${shown.length}:`));
    play.textContent = playing ? "pause" : "play"; play.append(h("kbd", {}, "space"));
    play.setAttribute("aria-pressed", String(playing)); rateText.textContent = `${rate} a second`; rateRange.value = rate;
  }

  node.onkeydown = event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button, select, input")) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key], far = event.shiftKey ? 10 : 2;
    if (mode === "swipe" && step && step[0]) { split = clamp(split + step[0] * far, 0, 100); drawSwipe(tiles()); }
    else if (mode === "swipe" && (event.key === "Home" || event.key === "End")) { split = event.key === "Home" ? 0 : 100; drawSwipe(tiles()); }
    else if (mode === "blink" && event.key === " ") setPlaying(!playing);
    else if (mode === "blink" && step && step[0]) { const n = blinking(tiles()).length; playing = false; at = (at + step[0] + n) % n; drawBlink(tiles()); tick(); }
    else if (mode === "zoom" && step) { looking = true; point = point.map((v, i) => clamp(v + step[i] * far * 0.01, 0, 1)); drawLens(); }
    else if (mode === "zoom" && "+=-".includes(event.key)) { looking = true; factor = clamp(factor + (event.key === "-" ? -1 : 1), 2, 16); drawLens(); }
    else if (mode === "zoom" && event.key === "Escape") { looking = false; drawLens(); }
    else return;
    event.preventDefault(); event.stopPropagation();
  };

  const labelled = (text, ...inner) => h("label", {}, h("span", {}, text), ...inner);
  function draw() {
    const list = tiles();
    whole.classList.toggle("cp-pixels", small());
    if (!list.some(entry => entry.k >= 0)) { clearInterval(timer); return; }
    if (mode !== view()) {
      mode = view();
      nodes = []; looking = false;
      node.className = `cp-stage cp-${mode.replaceAll(" ", "-")}`;
      node.replaceChildren(...({ swipe: [swipe], blink: [blink] }[mode] ?? []));
      tools.replaceChildren(...({
        swipe: [labelled("left", sideChoice[0]), labelled("right", sideChoice[1]), h("span", { class: "cp-hint" }, "drag the divider, or ← →")],
        blink: [play, labelled("", rateRange, rateText), labelled("the input, too", withInput), h("span", { class: "cp-hint" }, still ? "begins paused, as your system asks for reduced motion; ← → step" : "space pauses, ← → step")],
        zoom: [labelled("magnification", factorRange, factorText), h("span", { class: "cp-hint" }, "point at a picture: the same place in all; wheel or + − for the factor, arrows move the lens")],
      }[mode] ?? []));
    }
    mode === "swipe" ? drawSwipe(list) : mode === "blink" ? drawBlink(list) : drawTiles(list);
    tick();
  }
  function clear() { // who votes blindly finds no picture with a name to hold against it
    clearInterval(timer);
    [under, over, blinkImg].forEach(img => img.removeAttribute("src"));
    node.replaceChildren(); swipeWords.replaceChildren(); blinkWords.replaceChildren();
    mode = ""; nodes = [];
  }
  return { node: whole, draw, clear, end: () => clearInterval(timer) };
}
