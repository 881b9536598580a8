/* The page of `lab web`: its list of labs, and what a running one sends (aiolsp/lab/live.py). */

let running = null;

function say(text, failed = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", failed);
}

function listLabs() {
  $("labs").hidden = false;
  $("labs").replaceChildren(...state.labs.map((lab) => {
    const buttons = element("div", { class: "buttons" });
    for (const broken of lab.broken ? [false, true] : [false]) {
      const attributes = { "data-lab": lab.name, "data-broken": broken };
      const button = element("button", attributes, broken ? "Run it broken" : "Run");
      button.onclick = () => run(lab, broken);
      buttons.append(button);
    }
    const name = element("h2", {}, lab.name, " ", element("small", {}, `${lab.mechanism}, p. ${lab.book}`));
    return element("section", { class: "lab" }, name, element("p", {}, lab.look_for), buttons);
  }));
}

async function run(lab, broken) {
  running?.abort();
  const mine = running = new AbortController();
  Object.assign(state, { runs: [], sources: {} });
  choose(null);
  refresh();
  look(0, 1);
  say(`${lab.name} is starting`);
  $("status").scrollIntoView();
  try {
    const body = new URLSearchParams(broken ? { lab: lab.name, broken: "" } : { lab: lab.name });
    const answer = await fetch("cgi-bin/lab", { method: "POST", body, signal: mine.signal });
    if (answer.status === 503) throw new Error("as many labs run as may; try again when one has ended");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    await receive(answer.body);
    if (!$("status").classList.contains("error")) say(`${lab.name} has ended`);
  } catch (error) {
    if (!mine.signal.aborted) say(`${lab.name}: ${error.message}`, true);
  }
}

/** Read server-sent events (HTML section 9.2.6, `data` fields only) until the stream ends. */
async function receive(stream) {
  let rest = "";
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const messages = (rest + piece.value).split("\n\n");
    rest = messages.pop();
    for (const message of messages) take(JSON.parse(message.slice("data: ".length)));
    refresh();
  }
}

function take(message) {
  for (const [file, lines] of Object.entries(message.sources ?? {})) {
    state.sources[file] = { ...state.sources[file], ...lines };
  }
  const last = state.runs.at(-1);
  if (message.type === "begin") {
    state.runs.push(message.run);
    say(`${message.run.title}: ${message.run.shell}`);
  } else if (message.type === "more") {
    last.lanes.push(...message.lanes);
    last.events.push(...message.events);
  } else if (message.type === "end") {
    state.runs[state.runs.length - 1] = message.run;
  } else {
    say(message.why, true);
  }
}

listLabs();
