/* What a reader does with the lanes, and what stands around them: runs, filter, counts, the events as text. */

function describe() {
  const scenarios = new Map();
  for (const run of state.runs) {
    const key = run.title + run.variant;
    scenarios.set(key, [...(scenarios.get(key) ?? []), run]);
  }
  $("runs").replaceChildren(...[...scenarios.values()].map((runs) => {
    const [{ title, variant, look_for, mend }] = runs;
    const heading = element("h2", {}, title, variant && ` (${variant})`);
    const card = element("section", { class: "run" }, heading, element("p", {}, look_for));
    if (mend) card.append(element("p", { class: "mend" }, mend));
    for (const run of runs) {
      const command = run.command && element("code", {}, `$ ${run.command}`);
      card.append(element("h3", {}, run.shell), command, element("p", {}, run.finding));
    }
    return card;
  }));
}

function chips() {
  const kinds = new Map();
  for (const { event } of items) kinds.set(kindOf(event), [event, (kinds.get(kindOf(event))?.[1] ?? 0) + 1]);
  const entries = [...kinds].sort(([, [, a]], [, [, b]]) => b - a);
  $("chips").replaceChildren(...entries.map(([kind, [event, count]]) => {
    const pressed = !view.hidden.has(kind);
    const chip = element("button", { "aria-pressed": pressed }, glyph(event), ` ${event.call} ×${count}`);
    chip.onclick = () => {
      view.hidden[pressed ? "add" : "delete"](kind);
      chips();
      draw();
    };
    return chip;
  }));
  const all = element("button", {}, view.hidden.size ? "Show all" : "Hide all");
  all.onclick = () => {
    view.hidden = new Set(view.hidden.size ? [] : kinds.keys());
    chips();
    draw();
  };
  $("chips").prepend(all);
  $("filter").firstChild.textContent = view.hidden.size ? `Calls (${view.hidden.size} hidden)` : "Calls";
}

function counts() {
  const counted = state.runs.filter((run) => run.counts);
  $("counts").hidden = !counted.length;
  if (!counted.length) return;
  const table = element("table", {}, element("caption", {}, "Counts of the server"));
  const head = counted.map(named);
  table.append(element("thead", {}, line("th", "", head)));
  const body = element("tbody");
  const row = (name, of) => body.append(line("td", name, counted.map((run) => of(run.counts))));
  row("wake-ups: told that something is ready", (all) => all.wake_ups);
  row("sleeps: waited in a call to be woken", (all) => all.usage.sleeps);
  row("EAGAIN: asked, and nothing was there", (all) => all.eagain);
  row("bytes in", (all) => all.bytes_in);
  row("bytes out", (all) => all.bytes_out);
  row("bytes copied from and to the kernel", (all) => all.bytes_copied);
  row("connections", (all) => all.connections);
  row("threads, in all processes", (all) => all.usage.threads);
  row("processes", (all) => all.usage.processes);
  const calls = new Set(counted.flatMap((run) => Object.keys(run.counts.calls)));
  for (const call of calls) row(call, (all) => all.calls[call] ?? 0);
  table.append(body);
  $("counts").replaceChildren(table, element("p", { class: "note" }, state.counted));
}

function line(tag, name, values) {
  const cells = values.map((value) => element(tag, { class: "number" }, value.toLocaleString("en")));
  return element("tr", {}, element("th", { scope: "row" }, name), ...cells);
}

function log() {
  if (!$("log").open) return;
  const heads = ["time", "run", "", "call", "facts", "why", "source"].map((head) => element("th", {}, head));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)));
  for (const item of items) {
    const { event, run } = item, told = facts(item).slice(1).map(([name, value]) => `${name}=${value}`).join(" ");
    const cells = [duration(event.t_us), run.shell, glyph(event), event.call, told, event.why, event.source];
    table.append(element("tr", {}, ...cells.map((cell) => element("td", {}, cell))));
  }
  $("text").replaceChildren(table);
}

function legend() {
  const signs = Object.entries(SIGNS).map(([sign, [, words]]) => element("span", {}, glyph({ sign }), ` ${words}`));
  const rest = ["a number stands for that many events: click to zoom", "shaded: a pause of more than 10 ms, squeezed"];
  $("legend").replaceChildren(...signs, ...rest.map((words) => element("span", {}, words)));
}

function tip(mark, shown) {
  const box = $("tip");
  box.hidden = !mark;
  if (!mark) return;
  const lines = shown.slice(0, 6).flatMap((item) => {
    const call = element("span", { class: "call" }, item.event.call);
    const told = facts(item).filter(([name]) => name !== "by" && name !== "on").map(([name, value]) =>
      ["time", "flags"].includes(name) ? value : `${name} ${value}`).join("  ");
    return [element("p", {}, glyph(item.event), " ", call, " ", item.event.why), element("div", {}, told)];
  });
  if (shown.length > 6) lines.push(element("div", {}, `and ${shown.length - 6} more`));
  box.replaceChildren(...lines);
  const at = mark.getBoundingClientRect(), size = box.getBoundingClientRect();
  const below = at.bottom + 10 + size.height < innerHeight || at.top < size.height + 10;
  box.style.left = `${Math.max(8, Math.min(innerWidth - size.width - 8, at.left + at.width / 2 - size.width / 2))}px`;
  box.style.top = `${below ? at.bottom + 8 : at.top - size.height - 8}px`;
}

/** The lanes as they are on the screen, as an SVG file that needs no page. */
function drawing() {
  const own = getComputedStyle(document.documentElement);
  const names = new Set(document.querySelector("style").textContent.match(/--[a-z]+/g));
  const values = [...names].map((name) => [name, own.getPropertyValue(name)]).filter(([, value]) => value);
  const root = `svg { ${values.map(([name, value]) => `${name}: ${value};`).join(" ")} background: var(--card); }`;
  const rules = [...document.styleSheets[0].cssRules].map((rule) => rule.cssText);
  const used = rules.filter((rule) => rule.startsWith("svg ") || rule.includes("{ --tone:"));
  const svg = $("lanes").firstChild.cloneNode(true);
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  svg.setAttribute("width", picture.width);
  svg.removeAttribute("aria-hidden");
  svg.prepend(element("title", {}, state.title), element("style", {}, [root, ...used].join("\n")));
  return svg.outerHTML;
}

function save() {
  const url = URL.createObjectURL(new Blob([drawing()], { type: "image/svg+xml" }));
  element("a", { href: url, download: "lanes.svg" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** A mark was clicked: a single event is chosen, several are spread over the picture. */
function openMark(node) {
  const mark = picture.marks[node.dataset.mark];
  if (!mark) return;
  view.row = null;
  if (mark.items.length === 1 || view.to - view.from < 2e-5) {
    show(mark.items[0]);
    return;
  }
  const [from, to] = [mark.items[0], mark.items.at(-1)].map(({ event }) => placeOf(event.t_us));
  // Not further than eight times at once: what stands beside it is part of the picture.
  const half = Math.max((to - from) * 1.5, (view.to - view.from) / 8, 1e-5) / 2, middle = (from + to) / 2;
  tip(null);
  look(middle - half, middle + half);
}

function pointers(box) {
  const down = new Map();
  let moved = 0, spread = 0;
  const local = (event) => event.clientX - box.getBoundingClientRect().left;
  box.onpointerdown = (event) => {
    down.set(event.pointerId, local(event));
    moved = spread = 0;
  };
  box.onpointermove = (event) => {
    const before = down.get(event.pointerId);
    if (before === undefined) {
      const mark = event.target.closest("[data-mark]");
      tip(mark, mark ? picture.marks[mark.dataset.mark].items : []);
      return;
    }
    const now = local(event);
    down.set(event.pointerId, now);
    moved += Math.abs(now - before);
    if (moved < 4) return;
    box.setPointerCapture(event.pointerId);
    box.classList.add("dragged");
    tip(null);
    if (down.size > 1) {
      const [a, b] = [...down.values()], apart = Math.max(20, Math.abs(a - b));
      if (spread) zoom(spread / apart, (a + b) / 2);
      spread = apart;
    } else {
      const by = ((before - now) / (picture.width - picture.left - 2 * EDGE)) * (view.to - view.from);
      look(view.from + by, view.to + by);
    }
  };
  const up = (event) => {
    down.delete(event.pointerId);
    box.classList.remove("dragged");
  };
  box.onpointerup = box.onpointercancel = up;
  box.onpointerleave = () => tip(null);
  box.onclick = (event) => {
    const mark = event.target.closest("[data-mark]");
    if (moved < 4 && mark) openMark(mark);
  };
}

function controls() {
  const box = $("lanes");
  pointers(box);
  box.addEventListener("wheel", (event) => {
    const across = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.ctrlKey || event.metaKey) {
      zoom(Math.exp(event.deltaY / 300), event.clientX - box.getBoundingClientRect().left);
    } else if (Math.abs(across) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      const by = (across / picture.width) * (view.to - view.from);
      look(view.from + by, view.to + by);
    } else {
      return;
    }
    tip(null);
    event.preventDefault();
  }, { passive: false });
  box.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const zooms = { "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: () => look(0, 1) };
    const moves = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key);
    if (zooms[event.key]) zooms[event.key]();
    else if (event.key === "Escape") { tip(null); choose(null); }
    else if (moves) show(neighbour(event.key));
    else return;
    event.preventDefault();
  };
  box.onfocus = () => { if (box.matches(":focus-visible")) show(view.chosen ?? neighbour("Home")); };
  box.onblur = () => tip(null);
  $("in").onclick = () => zoom(0.5);
  $("out").onclick = () => zoom(2);
  $("fit").onclick = () => look(0, 1);
  $("squeeze").onclick = (event) => {
    view.squeeze = !view.squeeze;
    event.target.setAttribute("aria-pressed", view.squeeze);
    measure();
    look(0, 1);
  };
  $("save").onclick = save;
  $("log").ontoggle = log;
  new ResizeObserver(draw).observe(box);
  addEventListener("scroll", () => tip(null), { passive: true });
}

document.title = $("title").textContent = state.title;
$("lead").textContent = state.lead;
legend();
controls();
refresh();
