"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("canvas");
  const svg = canvas.querySelector("svg");
  const panel = document.getElementById("panel");
  const live = document.getElementById("live");
  const search = document.getElementById("search");
  const from = document.getElementById("from");
  const to = document.getElementById("to");
  const size = svg.viewBox.baseVal;
  const view = { x: 0, y: 0, scale: 1 };
  // Until somebody moves the picture, it is kept in sight as a whole.
  let isFitted = true;

  // Every box and bar by a key: n3 is the fourth node, s0 the first segment.
  const things = new Map();
  for (const element of svg.querySelectorAll("g[data-node], g[data-segment]")) {
    const isNode = "node" in element.dataset;
    const number = Number(isNode ? element.dataset.node : element.dataset.segment);
    const thing = isNode ? data.nodes[number] : data.segments[number];
    const key = (isNode ? "n" : "s") + number;
    things.set(key, { key, element, thing });
    element.dataset.key = key;
    element.setAttribute("tabindex", "0");
    element.setAttribute("role", "button");
    element.setAttribute("aria-label", describe(key, thing));
  }
  svg.setAttribute("role", "group");
  const wires = new Map();
  for (const it of svg.querySelectorAll(".wire, .end")) {
    // A cable is the wire of two links.
    for (const link of [it.dataset.link, it.dataset.far]) {
      if (link !== undefined) wires.set(Number(link), [...(wires.get(Number(link)) || []), it]);
    }
  }
  const linksOf = new Map([...things.keys()].map((key) => [key, []]));
  data.links.forEach((link, number) => {
    linksOf.get("n" + link.node).push(number);
    if (link.segment !== null) linksOf.get("s" + link.segment).push(number);
  });

  function describe(key, thing) {
    const links = data.links.filter((it) => "n" + it.node === key);
    const parts = links.map((it) => [it.interface || it.outer, ...it.ip, ...it.marks].join(" "));
    return [thing.title, ...parts].join(", ");
  }

  // Moving about.
  let frame = 0;
  function moved() {
    isFitted = false;
    if (frame) return;
    frame = requestAnimationFrame(() => {
      frame = 0;
      svg.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    });
  }
  function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const scale = Math.min(8, Math.max(0.05, view.scale * factor));
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    moved();
  }
  function fit() {
    const { clientWidth: w, clientHeight: h } = canvas;
    view.scale = Math.min(w / size.width, h / size.height, 1.6);
    view.x = (w - size.width * view.scale) / 2;
    view.y = (h - size.height * view.scale) / 2;
    moved();
    isFitted = true;
  }
  function show(element) {
    const box = element.getBBox();
    const inside = (at, length, low, high) => at * view.scale + low > 0 && (at + length) * view.scale + low < high;
    if (inside(box.x, box.width, view.x, canvas.clientWidth) && inside(box.y, box.height, view.y, canvas.clientHeight)) {
      return;
    }
    view.x = canvas.clientWidth / 2 - (box.x + box.width / 2) * view.scale;
    view.y = canvas.clientHeight / 2 - (box.y + box.height / 2) * view.scale;
    moved();
  }
  // Large enough to read, in the middle.
  function approach(element) {
    const box = element.getBBox();
    const { clientWidth: w, clientHeight: h } = canvas;
    view.scale = Math.max(view.scale, Math.min(1.6, w / (2 * box.width), h / (2 * box.height)));
    view.x = w / 2 - (box.x + box.width / 2) * view.scale;
    view.y = h / 2 - (box.y + box.height / 2) * view.scale;
    moved();
  }
  const pointers = new Map();
  let travelled = 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    travelled = 0;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  window.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
    travelled += Math.abs(dx) + Math.abs(dy);
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (others.length) {
      const [x, y] = others[0];
      const distance = (at) => Math.hypot(at[0] - x, at[1] - y) || 1;
      const rect = canvas.getBoundingClientRect();
      zoom(distance([event.clientX, event.clientY]) / distance(before), x - rect.left, y - rect.top);
    } else {
      view.x += dx;
      view.y += dy;
      canvas.classList.add("dragging");
      moved();
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    window.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      canvas.classList.remove("dragging");
    });
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const rect = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - rect.left, event.clientY - rect.top);
  }, { passive: false });

  // What is looked at.
  function light(keys, links) {
    svg.classList.toggle("dimmed", keys !== null);
    for (const it of svg.querySelectorAll(".lit")) it.classList.remove("lit");
    for (const key of keys || []) things.get(key).element.classList.add("lit");
    for (const link of links || []) for (const it of wires.get(link) || []) it.classList.add("lit");
  }
  function around(key) {
    const links = linksOf.get(key);
    const keys = new Set([key]);
    for (const number of links) {
      const link = data.links[number];
      keys.add("n" + link.node);
      if (link.segment === null) continue;
      keys.add("s" + link.segment);
      // A cable has one other end.
      if (!things.get("s" + link.segment).element.matches(".cable")) continue;
      for (const end of linksOf.get("s" + link.segment)) keys.add("n" + data.links[end].node);
    }
    light(keys, links);
  }
  function make(name, text, parent) {
    const element = document.createElement(name);
    element.textContent = text;
    parent.append(element);
    return element;
  }
  function facts(of, parent) {
    const list = make("dl", "", parent);
    for (const [name, values] of Object.entries(of)) {
      make("dt", name, list);
      make("dd", values.join("\n"), list);
    }
  }
  function jump(key, text, parent) {
    const button = make("button", text, make("li", "", parent));
    button.type = "button";
    button.addEventListener("click", () => select(key, true));
  }
  function detail(key) {
    const { thing } = things.get(key);
    panel.replaceChildren();
    make("h2", thing.title, panel);
    const own = { ...thing.facts };
    if (thing.place) own.place = [thing.place];
    facts(own, panel);
    if (key.startsWith("n")) {
      for (const number of linksOf.get(key)) {
        const link = data.links[number];
        make("h3", link.interface || link.outer, panel);
        facts(link.facts, panel);
        if (link.segment !== null) jump("s" + link.segment, data.segments[link.segment].title, make("ul", "", panel));
      }
    } else {
      make("h3", "Members", panel);
      const list = make("ul", "", panel);
      for (const number of linksOf.get(key)) {
        const link = data.links[number];
        const text = [data.nodes[link.node].title, link.interface || link.outer, ...link.ip].join(" ");
        jump("n" + link.node, text, list);
      }
    }
  }
  let selected = null;
  function select(key, move) {
    selected = key;
    from.value = to.value = "";
    if (key === null) {
      light(null);
      overview();
      return;
    }
    around(key);
    detail(key);
    const { element, thing } = things.get(key);
    if (move) {
      show(element);
      element.focus({ preventScroll: true });
    }
    live.textContent = `${thing.title}, ${linksOf.get(key).length} links`;
  }
  function overview() {
    panel.replaceChildren();
    make("h2", document.title, panel);
    make("p", "Choose a node or a bridge for its details. Drag to move, turn the wheel or pinch to zoom.", panel);
    make("h3", "Keys", panel);
    facts({ Tab: ["next node or bridge"], Enter: ["its details"], "← ↑ ↓ →": ["move"], "+ −": ["zoom"],
      "0": ["all of it"], "/": ["search"], Esc: ["nothing chosen"] }, panel);
  }
  svg.addEventListener("click", (event) => {
    if (travelled > 5) return;
    const group = event.target.closest("[data-key]");
    select(group ? group.dataset.key : null, false);
  });
  svg.addEventListener("pointerover", (event) => {
    if (selected || from.value || to.value || search.value || pointers.size) return;
    const group = event.target.closest("[data-key]");
    const wire = event.target.closest(".wire");
    if (group) {
      around(group.dataset.key);
      detail(group.dataset.key);
    } else if (wire) {
      const link = data.links[Number(wire.dataset.link)];
      light(["n" + link.node, "s" + link.segment], [Number(wire.dataset.link)]);
      detail("n" + link.node);
    } else {
      light(null);
    }
  });

  // Search by whatever is known of a thing.
  const known = new Map([...things].map(([key, { thing }]) => {
    const links = key.startsWith("n") ? linksOf.get(key).map((it) => data.links[it]) : [];
    return [key, JSON.stringify([thing.title, thing.facts, links.map((it) => [it.id, it.outer, it.facts])]).toLowerCase()];
  }));
  let found = [];
  let turn = -1;
  search.addEventListener("input", () => {
    const text = JSON.stringify(search.value.trim().toLowerCase()).slice(1, -1);
    selected = null;
    turn = -1;
    for (const it of svg.querySelectorAll(".hit")) it.classList.remove("hit");
    found = text ? [...known].filter(([, it]) => it.includes(text)).map(([key]) => key) : [];
    if (!text) {
      light(null);
      live.textContent = "";
      return;
    }
    light(found, []);
    for (const key of found) things.get(key).element.classList.add("hit");
    live.textContent = found.length === 1 ? "1 found" : `${found.length} found`;
    if (found.length) show(things.get(found[0]).element);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !found.length) return;
    turn = (turn + 1) % found.length;
    const key = found[turn];
    approach(things.get(key).element);
    detail(key);
    live.textContent = `${turn + 1} of ${found.length}: ${things.get(key).thing.title}`;
  });

  // The way between two nodes: breadth first over links.
  function path(start, end) {
    const came = new Map([[start, null]]);
    const open = [start];
    for (const key of open) {
      if (key === end) break;
      for (const number of linksOf.get(key)) {
        const link = data.links[number];
        if (link.segment === null) continue;
        const next = key.startsWith("n") ? "s" + link.segment : "n" + link.node;
        if (!came.has(next)) {
          came.set(next, [key, number]);
          open.push(next);
        }
      }
    }
    if (!came.has(end)) return null;
    const keys = [end];
    const links = [];
    for (let step = came.get(end); step; step = came.get(step[0])) {
      keys.unshift(step[0]);
      links.unshift(step[1]);
    }
    return { keys, links };
  }
  function showPath() {
    selected = null;
    if (!from.value || !to.value) return;
    const way = path(from.value, to.value);
    panel.replaceChildren();
    make("h2", "Path", panel);
    if (!way) {
      light([from.value, to.value], []);
      make("p", "Nothing joins the two.", panel);
      live.textContent = "no path";
      return;
    }
    light(way.keys, way.links);
    const list = make("ul", "", panel);
    for (const key of way.keys) jump(key, things.get(key).thing.title, list);
    live.textContent = "path: " + way.keys.map((key) => things.get(key).thing.title).join(", ");
  }
  for (const menu of [from, to]) {
    data.nodes.forEach((node, number) => {
      const option = make("option", node.title, menu);
      option.value = "n" + number;
    });
    menu.addEventListener("change", showPath);
  }

  // Keys.
  const step = 60;
  const keys = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": fit,
    ArrowLeft: () => { view.x += step; moved(); }, ArrowRight: () => { view.x -= step; moved(); },
    ArrowUp: () => { view.y += step; moved(); }, ArrowDown: () => { view.y -= step; moved(); },
    "/": () => search.focus(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      search.value = "";
      search.dispatchEvent(new Event("input"));
      select(null);
      return;
    }
    if (event.target.closest("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const group = event.target.closest("[data-key]");
    if (group && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      select(group.dataset.key, true);
    } else if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  svg.addEventListener("focusin", (event) => {
    const group = event.target.closest("[data-key]");
    if (group) show(group);
  });
  canvas.addEventListener("scroll", () => canvas.scrollTo(0, 0));
  document.getElementById("in").addEventListener("click", () => zoom(1.25));
  document.getElementById("out").addEventListener("click", () => zoom(0.8));
  document.getElementById("fit").addEventListener("click", fit);
  new ResizeObserver(() => isFitted && fit()).observe(canvas);
  overview();
  fit();
})();
