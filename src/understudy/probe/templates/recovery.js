let running = null;

function begin() {
  byId("recovery-run").hidden = false;
  byId("verdict").hidden = true;
  byId("recovery-start").disabled = true;
  byId("recovery-stop").hidden = false;
  byId("recovery-progress").value = 0;
  for (const id of ["tries-long", "tries-fresh"]) byId(id).replaceChildren();
  say("recovery-note", "Started.");
}

function takeTry(line) {
  const long = line.client === "long-lived";
  const item = put(byId(long ? "tries-long" : "tries-fresh"), "li", line.ok ? "" : "×", !line.ok && "bad");
  item.title = `try ${line.try} at ${line.elapsed_s.toFixed(1)} s: ${line.ok ? ms(line.latency_ms) : line.why}`;
  item.setAttribute("aria-label", item.title);
  if (long) say("recovery-note", line.ok ? `Try ${line.try} worked.` : `Try ${line.try} failed: ${line.why}`);
}

function showVerdict(line) {
  const seen = byId("verdict");
  seen.className = `verdict ${line.word}`;
  seen.hidden = false;
  byId("verdict-word").textContent = line.word[0].toUpperCase() + line.word.slice(1);
  byId("verdict-text").textContent = line.sentence;
  byId("verdict-reasons").replaceChildren();
  const life = (name, one) => `${name}: ${one.succeeded} of ${one.operations} operations since the first failure worked`;
  const told = [...line.reasons];
  if (line.outage_s !== null) told.push(life("Long-lived client", line.long_lived), life("Fresh clients", line.fresh));
  if (line.lost) told.push(`${line.lost} acknowledged writes are gone.`);
  for (const [name, count] of Object.entries(line.errors)) told.push(`${name}: ${count === 1 ? "once" : `${count} times`}`);
  for (const text of told) put(byId("verdict-reasons"), "li", text);
  tell(line.at, `Recovery test: ${line.word}. ${line.sentence}`, line.word === "failed");
}

async function runRecovery() {
  const duration = Number(byId("duration").value);
  const path = `/redis/failover-recovery?duration=${duration}&interval=${byId("interval").value}`;
  const began = Date.now();
  const ticking = setInterval(() => { byId("recovery-progress").value = Math.min(1, (Date.now() - began) / 1000 / duration); }, 250);
  running = new AbortController();
  begin();
  try {
    await lines(path, (line) => {
      if (line.type === "observation") takeTry(line);
      else if (line.type === "verdict") showVerdict(line);
    }, running.signal);
    say("recovery-note", byId("verdict").hidden ? "The probe ended before the test did." : "Done.");
  } catch (problem) {
    say("recovery-note", problem.name === "AbortError" ? "Stopped; no verdict." : problem.message);
  } finally {
    clearInterval(ticking);
    byId("recovery-progress").value = 1;
    byId("recovery-start").disabled = false;
    byId("recovery-stop").hidden = true;
  }
}
