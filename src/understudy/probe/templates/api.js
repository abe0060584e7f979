class Refused extends Error {}

async function ask(path, signal) {
  const token = sessionStorage.getItem("understudy-probe-token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, signal, cache: "no-store" });
  if (answer.status === 401) {
    byId("token-section").hidden = false;
    if (token) byId("token-note").textContent = "The probe does not know that token.";
    throw new Refused("The probe asks for its token.");
  }
  return answer;
}

async function data(path) {
  const answer = await ask(path);
  const found = await answer.json();
  if (answer.headers.get("content-type").startsWith("application/problem")) {
    throw new Error(`${found.why}. ${found.try}`);
  }
  return found;
}

/* Each JSON line of a stream, as it comes. */
async function lines(path, take, signal) {
  const answer = await ask(path, signal);
  if (!answer.ok) {
    const problem = await answer.json();
    throw new Error(`${problem.why}. ${problem.try}`);
  }
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n");
    rest = whole.pop();
    for (const line of whole) if (line) take(JSON.parse(line));
  }
}

const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));
const ms = (value) => (value >= 100 ? `${Math.round(value)} ms` : `${value.toFixed(value >= 10 ? 1 : 2)} ms`);
const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false });
