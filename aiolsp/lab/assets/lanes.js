"use strict";
/* Draws runs (the JSON form of aiolsp/lab/model.py, and the source lines around each event) as lanes over time.

   The document is the only state but for `view`: whatever changes it calls `refresh`, and the whole picture is made
   anew. Marks that would overlap are drawn as one with their number, so a picture has a few hundred marks at most,
   whatever the number of events. Text comes from programs and their clients: it becomes text nodes only. */

const SIGNS = {
  "<": ["in", "came in"], ">": ["out", "went out"], "=": ["state", "state changed"], "x": ["close", "closed"],
  "-": ["timeout", "time-out"], "%": ["timer", "timer"], "!": ["error", "error or refusal"], "": ["bar", "span"],
};
const ROW = 28, GROUP = 34, AXIS = 30, MARK = 17, APART = 14, EDGE = 14, NARROW = 640;

const $ = (id) => document.getElementById(id);
const state = JSON.parse($("data").textContent);
const view = { from: 0, to: 1, squeeze: true, hidden: new Set(), chosen: null, row: null };
let items = [];  // one for each event: {event, run, rows: the keys of the lanes that it stands on}
let scale = { times: [0, 1], places: [0, 1] };
let picture = { rows: [], marks: [], left: 0, width: 0 };
let scheduled = false;

function element(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "line", "text", "title", "clipPath", "style"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function duration(us) {
  const size = Math.abs(us);
  if (size < 1000) return `${Math.round(us)} µs`;
  if (size < 1e6) return `${(us / 1000).toFixed(size < 1e5 ? 2 : 0)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}

const named = (run) => `${run.shell}: ${run.title}${run.variant && ` (${run.variant})`}`;
const kindOf = (event) => `${event.sign} ${event.call}`.trim();
const tone = (event) => SIGNS[event.sign]?.[0] ?? "state";
const glyph = (event) => element("span", { class: `glyph ${tone(event)}`, "aria-hidden": "true" }, event.sign || "▬");

// Time to place: linear, or each pause by the logarithm of its length

function measure() {
  const ends = items.flatMap(({ event }) => [event.t_us, event.t_us + event.duration_us]);
  const times = [...new Set([0, ...ends])].sort((a, b) => a - b);
  if (times.length < 2) times.push(times[0] + 1000);
  const places = [0];
  for (let i = 1; i < times.length; i++) {
    const pause = times[i] - times[i - 1];
    places.push(places[i - 1] + (view.squeeze ? Math.log1p(pause / 20) : pause));
  }
  scale = { times, places: places.map((place) => place / places.at(-1)) };
}

function interpolate(from, to, value) {
  let low = 0, high = from.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (from[middle] <= value) low = middle; else high = middle;
  }
  return to[low] + ((value - from[low]) / (from[high] - from[low])) * (to[high] - to[low]);
}

const timeAt = (place) => interpolate(scale.places, scale.times, place);
const placeOf = (time) => interpolate(scale.times, scale.places, time);

function x(time) {
  const room = picture.width - picture.left - 2 * EDGE;
  return picture.left + EDGE + ((placeOf(time) - view.from) / (view.to - view.from)) * room;
}

function look(from, to) {
  const width = Math.min(1, Math.max(1e-5, to - from));
  view.from = Math.min(1 - width, Math.max(0, from));
  view.to = view.from + width;
  draw();
}

function zoom(factor, px = (picture.left + picture.width) / 2) {
  const share = (px - picture.left - EDGE) / (picture.width - picture.left - 2 * EDGE);
  const anchor = view.from + Math.min(1, Math.max(0, share)) * (view.to - view.from);
  look(anchor - (anchor - view.from) * factor, anchor + (view.to - anchor) * factor);
}

// What there is to draw

function refresh() {
  items = state.runs.flatMap((run, number) => run.events.map((event) => ({
    event, run,
    rows: [...new Set([event.lane, event.connection])].filter((id) => id >= 0).map((id) => `${number} ${id}`),
  })));
  items.sort((a, b) => a.event.t_us - b.event.t_us);
  if (view.chosen) choose(items.find((item) => item.event === view.chosen.event) ?? null);
  measure();
  for (const id of ["tools", "lanes", "legend", "counts", "log"]) $(id).hidden = !items.length;
  describe();
  chips();
  counts();
  draw();
}

function layout() {
  const rows = [];
  let y = AXIS;
  state.runs.forEach((run, number) => {
    rows.push({ run, title: named(run), y, height: GROUP });
    y += GROUP;
    const place = (lane, depth) => {
      const height = picture.left ? ROW : ROW + 14;
      rows.push({ key: `${number} ${lane.id}`, lane, depth, y, height, items: [] });
      y += height;
      run.lanes.filter((other) => other.parent === lane.id).forEach((other) => place(other, depth + 1));
    };
    const roots = run.lanes.filter((lane) => lane.parent < 0), isClient = (lane) => lane.kind === "client";
    [...roots.filter(isClient), ...roots.filter((lane) => !isClient(lane))].forEach((lane) => place(lane, 0));
  });
  const byKey = new Map(rows.map((row) => [row.key, row]));
  for (const item of items) {
    if (view.hidden.has(kindOf(item.event))) continue;
    for (const key of item.rows) byKey.get(key)?.items.push(item);
  }
  picture.rows = rows;
  return y + 6;
}

function draw() {
  if (!scheduled) requestAnimationFrame(() => { scheduled = false; if (items.length) paint(); });
  scheduled = true;
}

function paint() {
  const box = $("lanes"), width = box.clientWidth;
  picture = { rows: [], marks: [], width, left: width < NARROW ? 0 : 200 };
  const height = layout();
  const shown = element("g", { "clip-path": "url(#plot)" });
  const clip = element("rect", { x: picture.left, y: 0, width: width - picture.left, height });
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
  svg.append(element("clipPath", { id: "plot" }, clip), shown);
  axis(shown, height);
  for (const row of picture.rows) row.lane ? paintLane(svg, shown, row) : paintGroup(svg, row);
  paintCursor(shown);
  box.replaceChildren(svg);
}

function axis(svg, height) {
  let free = picture.left + 2;
  const { times } = scale;
  const first = times.findIndex((time) => x(time) >= picture.left);
  for (let i = Math.max(1, first); i < times.length && x(times[i - 1]) < picture.width; i++) {
    const [a, b] = [x(times[i - 1]), x(times[i])];
    if (view.squeeze && times[i] - times[i - 1] > 10_000 && b - a > 12) {
      svg.append(element("rect", { class: "quiet", x: a + 6, y: AXIS, width: b - a - 12, height: height - AXIS }));
    }
  }
  for (const time of view.squeeze ? times : steps()) {
    const at = x(time);
    if (at < free || at > picture.width - 56) continue;
    svg.append(element("line", { class: "rule", x1: at, x2: at, y1: AXIS - 6, y2: height }));
    svg.append(element("text", { class: "small", x: at + 3, y: AXIS - 11 }, duration(time)));
    free = at + 84;
  }
}

function steps() {
  const [from, to] = [timeAt(view.from), timeAt(view.to)];
  const rough = (to - from) / Math.max(2, (picture.width - picture.left) / 110);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  return Array.from({ length: Math.floor((to - from) / step) + 2 }, (_, i) => (Math.floor(from / step) + i) * step);
}

function paintGroup(svg, row) {
  const label = element("text", { class: "group", x: 12, y: row.y + 23 }, row.title);
  svg.append(element("line", { class: "rule", x1: 0, x2: picture.width, y1: row.y + 2, y2: row.y + 2 }), label);
}

function paintLane(svg, shown, row) {
  const middle = row.y + row.height - ROW / 2;
  const name = element("text", { class: "name", x: 12 + 14 * row.depth, y: picture.left ? middle + 4 : row.y + 14 });
  const room = Math.floor(((picture.left || picture.width) - 20 - 14 * row.depth) / 6.6);
  name.append(row.lane.name.length > room ? row.lane.name.slice(0, room - 1) + "…" : row.lane.name);
  name.append(element("title", {}, row.lane.name + (row.lane.pid ? `, process ${row.lane.pid}` : "")));
  svg.append(element("g", { "data-lane": row.key }, name));
  if (!row.items.length) return;
  const ends = row.items.map(({ event }) => event.t_us + event.duration_us);
  const [begin, end] = [x(row.items[0].event.t_us), x(ends.reduce((a, b) => Math.max(a, b)))];
  const kind = row.lane.kind === "connection" ? "life" : "rule";
  shown.append(element("line", { class: kind, x1: begin, x2: end + 0.01, y1: middle, y2: middle }));
  for (const item of row.items.filter(({ event }) => event.duration_us)) paintSpan(shown, item, middle);
  for (const mark of clusters(row.items.filter(({ event }) => !event.duration_us))) paintMark(shown, mark, middle);
}

function paintSpan(svg, item, middle) {
  const begin = x(item.event.t_us), width = Math.max(4, x(item.event.t_us + item.event.duration_us) - begin);
  if (begin > picture.width || begin + width < picture.left) return;
  const chosen = item === view.chosen ? " chosen" : "";
  const bar = element("g", { class: `span${chosen}`, "data-mark": picture.marks.push({ items: [item] }) - 1 });
  bar.append(element("rect", { x: begin, y: middle - 10, width, height: 20, rx: 4 }));
  const left = Math.max(begin, picture.left) + 5;
  if (begin + width - left > item.event.call.length * 7) {
    bar.append(element("text", { class: "small", x: left, y: middle + 4 }, item.event.call));
  }
  svg.append(bar);
}

function clusters(items) {
  const found = [];
  for (const item of items) {
    const at = x(item.event.t_us);
    if (at < picture.left - MARK || at > picture.width + MARK) continue;
    const last = found.at(-1);
    if (last && at - last.x < APART) last.items.push(item); else found.push({ x: at, items: [item] });
  }
  return found;
}

function paintMark(svg, mark, middle) {
  const { event } = mark.items.find((item) => item.event.sign === "!") ?? mark.items[0];
  const many = mark.items.length > 1, label = many ? String(mark.items.length) : event.sign;
  const width = Math.max(MARK, 9 + 7 * label.length);
  const same = mark.items.every((item) => item.event.sign === event.sign) || event.sign === "!";
  const chosen = mark.items.includes(view.chosen) && "chosen";
  const names = ["mark", many && "cluster", (!many || same) && tone(event), chosen].filter(Boolean).join(" ");
  const group = element("g", { class: names, "data-mark": picture.marks.push(mark) - 1 });
  const box = { x: mark.x - width / 2, y: middle - MARK / 2, width, height: MARK, rx: many ? MARK / 2 : 4 };
  group.append(element("rect", box));
  group.append(element("text", { x: mark.x, y: middle + 4 }, label));
  svg.append(group);
}

function paintCursor(svg) {
  if (!view.chosen) return;
  const at = x(view.chosen.event.t_us);
  svg.prepend(element("line", { class: "cursor", x1: at, x2: at, y1: AXIS, y2: picture.rows.at(-1).y + ROW }));
}

// One event

function facts({ event, run }) {
  const lane = (id) => run.lanes.find((each) => each.id === id)?.name ?? "";
  const all = {
    time: duration(event.t_us), lasted: event.duration_us ? duration(event.duration_us) : "", by: lane(event.lane),
    on: lane(event.connection), descriptor: event.fd < 0 ? "" : event.fd, flags: event.flags,
    bytes: event.size < 0 ? "" : event.size.toLocaleString("en"), ...event.args,
  };
  return Object.entries(all).filter(([, value]) => value !== "" && value !== null);
}

function sentence(item) {
  const { event, run } = item;
  const words = facts(item).map(([name, value]) => `${name} ${value}`).join(", ");
  return `${run.shell}: ${event.call}, ${SIGNS[event.sign]?.[1] ?? ""}, ${words}. ${event.why}`;
}

function choose(item) {
  view.chosen = item;
  $("panel").hidden = !item;
  $("work").classList.toggle("picked", Boolean(item));
  if (item) {
    $("panel").replaceChildren(...panel(item));
    $("spoken").textContent = sentence(item);
  }
  draw();
}

function panel(item) {
  const { event, run } = item, visible = items.filter((each) => !view.hidden.has(kindOf(each.event)));
  const at = visible.indexOf(item);
  const step = (to, label, sign) => {
    const button = element("button", { "aria-label": label }, sign);
    button.disabled = !visible[to];
    button.onclick = () => show(visible[to]);
    return button;
  };
  const list = element("dl", {}, ...facts(item).flatMap(([name, value]) => [
    element("dt", {}, name), element("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value)),
  ]));
  const [before, after] = [step(at - 1, "Event before", "‹"), step(at + 1, "Event after", "›")];
  const steps = element("span", { class: "step buttons" }, before, after);
  const heading = element("h2", {}, glyph(event), " ", element("span", { class: "call" }, event.call));
  const where = element("p", {}, `${named(run)}, event ${at + 1} of ${visible.length}`);
  return [steps, heading, where, element("strong", {}, event.why), list, ...source(event.source)].filter(Boolean);
}

function source(place) {
  const [file, line] = [place.slice(0, place.lastIndexOf(":")), Number(place.slice(place.lastIndexOf(":") + 1))];
  const lines = state.sources[file];
  if (!lines) return [];
  const numbers = Array.from({ length: 19 }, (_, i) => line - 9 + i).filter((number) => number in lines);
  const indents = numbers.map((number) => lines[number].search(/\S/)).filter((indent) => indent >= 0);
  const depth = Math.min(...indents);
  const code = element("pre", { tabindex: "0", "aria-label": `Lines of ${file}` }, ...numbers.map((number) => {
    const marked = number === line ? { class: "here" } : {};
    return element("span", marked, element("i", {}, String(number)), lines[number].slice(depth));
  }));
  return [element("code", {}, `${file}, line ${line}`), code];
}

/** Choose *item* and move it into view. */
function show(item) {
  if (!item) return;
  choose(item);
  const place = placeOf(item.event.t_us), width = view.to - view.from;
  if (place < view.from || place > view.to) look(place - width / 2, place + width / 2);
  paint();
  tip($("lanes").querySelector(".chosen"), [item]);
}

function neighbour(key) {
  const rows = picture.rows.filter((row) => row.items?.length), { chosen } = view;
  const own = rows.filter((each) => each.items.includes(chosen));
  const row = own.find((each) => each.key === view.row) ?? own[0] ?? rows[0];
  if (!row) return null;
  if (!chosen) { view.row = row.key; return row.items[0]; }
  const at = row.items.indexOf(chosen), step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (step) return row.items[at + step];
  if (key === "Home") return row.items[0];
  if (key === "End") return row.items.at(-1);
  const other = rows[rows.indexOf(row) + (key === "ArrowUp" ? -1 : 1)];
  if (!other) return null;
  view.row = other.key;
  const far = (item) => Math.abs(item.event.t_us - chosen.event.t_us);
  return other.items.reduce((best, item) => (far(item) < far(best) ? item : best));
}
