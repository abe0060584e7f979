const SAMPLE_MS = 2000;
const SAMPLES = 60;
const samples = [];
let errors = 0;

/* Announced only when it changes: a screen reader should not repeat it every two seconds. */
function say(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function showStatus(word, tone, text) {
  say("status-word", word);
  say("status-text", text);
  byId("status").className = `verdict ${tone}`;
  document.title = `${word} – Probe`;
}

function showLatency(id, ping) {
  say(id, ping.connected ? ms(ping.latency_ms) : "no answer");
  byId(id).toggleAttribute("data-bad", !ping.connected);
}

function showSample(found) {
  const why = [found.why, found.hint].filter(Boolean).join(". ");
  if (found.connected) showStatus("Connected", "passed", found.said);
  else if (found.stuck) showStatus("Stuck", "failed", `${found.said} ${why}`);
  else showStatus("Down", "failed", `${found.said} ${why}`);
  showLatency("latency", found);
  showLatency("fresh-latency", found.fresh);
  errors += !found.connected + !found.fresh.connected;
  byId("errors").textContent = errors;
  byId("errors").toggleAttribute("data-bad", errors > 0);
  samples.push({ at: Date.now(), long: found.latency_ms, fresh: found.fresh.latency_ms });
  while (samples.length > SAMPLES + 1) samples.shift();
  drawLatency();
}

function drawLatency() {
  const svg = byId("latency-chart");
  svg.replaceChildren();
  const now = Date.now();
  const span = SAMPLE_MS * SAMPLES;
  const known = samples.flatMap((one) => [one.long, one.fresh]).filter((one) => one !== null);
  const top = Math.max(1, ...known) * 1.15;
  const x = (at) => (600 - (600 * (now - at)) / span).toFixed(1);
  const y = (value) => (118 - (114 * value) / top).toFixed(1);
  for (const [name, field] of [["new", "fresh"], ["long", "long"]]) {
    let path = "";
    let drawing = false;
    for (const one of samples) {
      if (one[field] === null) draw(svg, "path", { class: "bad", d: name === "long" ? `M${x(one.at)} 2V58` : `M${x(one.at)} 62V118` });
      else path += `${drawing ? "L" : "M"}${x(one.at)} ${y(one[field])}h.1`;
      drawing = one[field] !== null;
    }
    draw(svg, "path", { class: name, d: path });
  }
  byId("latency-top").textContent = known.length ? `top: ${ms(top)}` : "";
  const lost = samples.filter((one) => one.long === null).length;
  say("latency-note", lost ? `The long-lived client got no answer ${lost === 1 ? "once" : `${lost} times`} in these two minutes.` : "");
}

async function watchStatus() {
  for (;;) {
    try {
      showSample(await data("/redis/status"));
      if (byId("mode").textContent.startsWith("–") || byId("mode").textContent.startsWith("auto")) await showMode();
    } catch (problem) {
      showStatus(problem instanceof Refused ? "Token wanted" : "No probe", "unknown", problem.message);
      if (problem instanceof Refused) return;
    }
    await pause(SAMPLE_MS);
  }
}

async function showMode() {
  const found = await data("/redis/connection-mode");
  const kind = found.client === "defaults" ? "redis-py's own settings" : "the recommended settings";
  byId("mode").textContent = `${found.mode}, ${kind}: ${found.risk} risk`;
  byId("risk-word").textContent = found.risk;
  const short = (found.why[0] || "").split(/[:,]/)[0];
  byId("risk-why").replaceChildren(short && `${short}: `);
  put(byId("risk-why"), "a", "why, and what to do").href = "#mode-title";
  byId("risk").toggleAttribute("data-bad", found.risk === "high");
  byId("target").textContent = `Probing ${found.servers.join(", ")}.`;
  for (const [id, texts] of [["mode-why", found.why], ["mode-do", found.what_to_do]]) {
    byId(id).replaceChildren();
    for (const text of texts) put(byId(id), "li", text);
  }
}
