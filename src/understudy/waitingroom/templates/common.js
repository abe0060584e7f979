const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));
/* Where the gateway is, also when a proxy gives it a folder of its own. */
const ROOT = location.pathname.replace(/(wait\/[^/]*\/?)?$/, "");
const API = `${ROOT}api/v1/`;
const ANSWER_WITHIN_MS = 8000;

/* Written only when it changes: a screen reader should not repeat it. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/* What the gateway refused, with its code; LOST where nobody answered, or nothing that we can read. */
class Problem extends Error {
  constructor(code, told = {}, retryAfterS = 0) {
    super(told.detail || code);
    this.code = code;
    this.told = told;
    this.items = Array.isArray(told.items) ? told.items.map(String) : [];
    this.retryAfterS = retryAfterS;
  }

  get passing() {
    return ["LOST", "UNAVAILABLE", "TOO_MANY_REQUESTS"].includes(this.code);
  }
}

async function problemOf(answer) {
  const told = await answer.json().catch(() => ({}));
  const after = Number(answer.headers.get("retry-after")) || 0;
  const code = typeof told.code === "string" ? told.code : { 429: "TOO_MANY_REQUESTS", 503: "UNAVAILABLE" }[answer.status];
  return new Problem(code || (answer.status >= 500 ? "LOST" : `HTTP_${answer.status}`), told, Math.min(after, 300));
}

/* The answer to one request. Nothing secret is ever in the address: logs and histories keep those. */
async function call(method, path, { token = "", body, headers = {}, within = ANSWER_WITHIN_MS } = {}) {
  const abort = new AbortController();
  const late = setTimeout(() => abort.abort(), within);
  try {
    const answer = await fetch(API + path, {
      method, cache: "no-store", credentials: "omit", redirect: "error", signal: abort.signal,
      headers: {
        ...(token && { Authorization: `Bearer ${token}` }), ...(body && { "Content-Type": "application/json" }), ...headers,
      },
      body: body && JSON.stringify(body),
    });
    if (!answer.ok) throw await problemOf(answer);
    return answer.status === 204 ? {} : await answer.json();
  } catch (error) {
    throw error instanceof Problem ? error : new Problem("LOST");
  } finally {
    clearTimeout(late);
  }
}

/* How long to wait before another try: longer each time, never all at once, and as long as we were asked to. */
function backoff(failures, error, most = 15) {
  const grown = Math.min(most, 2 ** Math.min(failures, 6) / 2) * (0.6 + 0.8 * Math.random());
  return 1000 * Math.max(grown, ((error && error.retryAfterS) || 0) * (1 + 0.3 * Math.random()));
}

function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID(); // there only over https and on this machine
  return [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
}

function clock(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  const rest = String(left % 60).padStart(2, "0");
  return left >= 3600 ? `${Math.floor(left / 3600)}:${String(Math.floor(left / 60) % 60).padStart(2, "0")}:${rest}` : `${Math.floor(left / 60)}:${rest}`;
}

/* A question with the answers of a dialog element; true where it was confirmed. */
function confirmed(title, text, yes, no) {
  const dialog = byId("question");
  byId("question-title").textContent = title;
  byId("question-text").textContent = text;
  byId("question-yes").textContent = yes;
  byId("question-no").textContent = no;
  dialog.returnValue = "";
  dialog.showModal();
  byId("question-no").focus();
  return new Promise((answer) => dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true }));
}

for (const word of ["yes", "no"]) byId(`question-${word}`).addEventListener("click", () => byId("question").close(word));
