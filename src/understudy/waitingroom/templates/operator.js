const SECRET = "understudy-waitingroom-secret";
const EVERY_MS = 1000;
const sales = new Map();
let round = 0; // answers to older questions are not shown
let answeredMs = 0;

const secret = () => sessionStorage.getItem(SECRET) || "";
const ask = (method, path, body) => call(method, path, { token: secret(), body });

function tell(word, text, tone = "unknown", type = "") {
  byId("status").hidden = !word;
  byId("status").className = `verdict ${tone}`;
  say(byId("status-word"), word);
  say(byId("status-text"), text);
  byId("status-type").hidden = !type;
  say(byId("status-type"), type);
}

function askSecret(wrong) {
  byId("desk").hidden = true;
  byId("forget").hidden = true;
  byId("secret-section").hidden = false;
  if (wrong) tell("Wrong secret", "The gateway does not know that secret. It is what the gateway was started with.", "failed");
  else tell("", "");
  byId("secret").focus();
}

/* An error in words, with what to do. */
function inWords(error) {
  const { code, told } = error;
  if (code === "LOST") return "The gateway does not answer. What you asked for may have been done: look at the state before you ask again.";
  const items = error.items.length ? ` ${error.items.join("; ")}.` : "";
  const why = told.why ? `${told.why[0].toUpperCase()}${told.why.slice(1)}.` : `The gateway answered ${code}.`;
  return `${why}${items} ${told.try || ""}`.trim();
}

function away(error) {
  if (error.code === "UNAUTHORISED") {
    const had = Boolean(secret());
    sessionStorage.removeItem(SECRET);
    askSecret(had);
    return true;
  }
  if (error.code === "NO_SECRET") {
    byId("desk").hidden = true;
    byId("secret-section").hidden = true;
    byId("forget").hidden = true;
    tell("Administration is off", "This gateway was started without a secret, so nobody can administrate it. Stop it, and start it with one:",
      "unknown", "WAITINGROOM_SECRET=$(openssl rand -base64 24) understudy waitingroom");
    return true;
  }
  say(byId("age"), answeredMs ? `The numbers below are ${Math.round((Date.now() - answeredMs) / 1000)} s old.` : "");
  byId("desk").classList.add("stale");
  if (error.code === "LOST") tell("The gateway does not answer", "This page tries again by itself.", "failed");
  else if (error.code === "UNAVAILABLE") tell("The server behind the gateway does not answer", "Nobody is admitted as long as this lasts; everybody keeps their place.", "failed");
  else tell("That did not work", inWords(error), "failed");
  return false;
}

function showEvents(events) {
  const nowMs = Date.now();
  answeredMs = nowMs;
  tell("", "");
  say(byId("age"), "");
  byId("desk").classList.remove("stale");
  byId("secret-section").hidden = true;
  byId("desk").hidden = false;
  byId("forget").hidden = false;
  const ids = new Set(events.map((one) => one.event_id));
  for (const [id, sale] of sales) {
    if (!ids.has(id)) {
      sale.box.remove();
      sales.delete(id);
    }
  }
  for (const event of events) {
    if (!sales.has(event.event_id)) sales.set(event.event_id, new Sale(byId("events"), event.event_id, act));
    sales.get(event.event_id).show(event, nowMs);
  }
  byId("no-events").hidden = events.length > 0;
}

async function look() {
  const mine = ++round;
  let failures = 0;
  while (mine === round) {
    const began = Date.now();
    let error = null;
    try {
      const { events } = await ask("GET", "events");
      if (mine !== round) return;
      failures = 0;
      showEvents(events);
    } catch (refused) {
      if (mine !== round) return;
      error = refused instanceof Problem ? refused : new Problem("LOST");
      failures += 1;
      if (away(error)) return;
    }
    await pause(failures ? backoff(failures, error, 5) : Math.max(100, EVERY_MS - (Date.now() - began)));
  }
}

const QUESTIONS = {
  close: (id) => [`Close ${id}?`, "Nobody more can join or be let in. Who waits keeps their place in case you open it again.", "Close it"],
  delete: (id) => [`Delete ${id}?`, `Everything of ${id} is deleted: the line, the holds, and which seats were sold. There is no way back.`, `Delete ${id}`],
};

async function act(sale, action, body, then) {
  const { id } = sale;
  const path = `events/${encodeURIComponent(id)}`;
  if (QUESTIONS[action] && !await confirmed(...QUESTIONS[action](id), "Cancel")) return;
  sale.tell("");
  for (const button of sale.actions.children) button.disabled = true;
  try {
    if (action === "configure") await ask("PATCH", path, body);
    else if (action === "delete") await ask("DELETE", path);
    else await ask("POST", `${path}/${action}`);
    if (then) then();
  } catch (error) {
    if (!["UNAUTHORISED", "NO_SECRET"].includes(error.code) || !away(error)) sale.tell(inWords(error));
  } finally {
    for (const button of sale.actions.children) button.disabled = false;
    if (secret()) look();
  }
}

/* A number, or names: `A-1..A-20, B-7`. Throws what is wrong with it. */
function seatsOf(text) {
  if (/^\s*\d+\s*$/.test(text)) return Number(text);
  const names = [];
  for (const part of text.split(/[\s,;]+/).filter(Boolean)) {
    const range = part.match(/^(.*?)(\d+)\.\.(.*?)(\d+)$/);
    if (!range) names.push(part);
    else {
      const [, before, first, again, last] = range;
      if ((again && again !== before) || Number(last) < Number(first) || Number(last) - Number(first) >= 100000) {
        throw new Error(`${part} is no range. Write it as in A-1..A-20.`);
      }
      for (let at = Number(first); at <= Number(last); at += 1) names.push(`${before}${at}`);
    }
  }
  if (!names.length) throw new Error("Say how many seats there are, or name them.");
  return names;
}

function createProblem(text) {
  byId("create-problem").hidden = !text;
  say(byId("create-problem"), text);
}

function openForm(shown) {
  byId("create").hidden = !shown;
  byId("new").hidden = shown;
  createProblem("");
  if (shown) byId("name").focus();
}

const createInputs = settingFields(byId("create-settings"));
byId("new").addEventListener("click", () => openForm(true));
byId("create-cancel").addEventListener("click", () => openForm(false));
byId("create").addEventListener("submit", async (event) => {
  event.preventDefault();
  createProblem("");
  const id = byId("name").value;
  try {
    const seats = seatsOf(byId("seats").value);
    await ask("POST", "events", { event_id: id, seats, rate_per_s: Number(byId("rate").value), ...numbersOf(createInputs) });
    if (byId("at-once").checked) await ask("POST", `events/${encodeURIComponent(id)}/open`);
    openForm(false);
    byId("name").value = "";
    look();
  } catch (error) {
    createProblem(error instanceof Problem ? inWords(error) : error.message);
  }
});
byId("secret-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(SECRET, byId("secret").value.trim());
  byId("secret").value = "";
  look();
});
byId("forget").addEventListener("click", () => {
  sessionStorage.removeItem(SECRET);
  round += 1;
  sales.clear();
  byId("events").replaceChildren();
  askSecret(false);
});
look();
