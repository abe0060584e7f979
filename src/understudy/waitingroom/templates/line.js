/* Follows a place in the line: a stream of server-sent events, and a poll wherever that breaks. */
const SILENT_MS = 25000; // a comment comes every 15 s
const FIRST_MS = 8000; // the place itself comes at once

/* Each event of a stream, as it comes; `heard` is called for comments too. */
async function listen(ticket, signal, heard, take) {
  const answer = await fetch(`${API}queue/updates`, {
    cache: "no-store", credentials: "omit", redirect: "error", signal,
    headers: { Authorization: `Bearer ${ticket}`, Accept: "text/event-stream" },
  });
  if (!answer.ok) throw await problemOf(answer);
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const blocks = (rest + decoder.decode(value, { stream: true }).replaceAll("\r", "")).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = block.split("\n").map((row) => row.match(/^(\w+): ?(.*)$/)).filter(Boolean);
      const data = fields.filter(([, name]) => name === "data").map(([, , text]) => text).join("\n");
      if (data) take((fields.find(([, name]) => name === "event") || [])[2] || "message", JSON.parse(data));
    }
  }
}

/* One stream, until it ends, says nothing for too long, or `signal` ends it; tells whether it said anything. */
async function stream(ticket, signal, heard, take, fail) {
  const abort = new AbortController();
  const stop = () => abort.abort();
  signal.addEventListener("abort", stop);
  wake = stop; // whoever has reason to doubt the stream has it begun anew
  let watchdog = setTimeout(stop, FIRST_MS);
  let spoke = false;
  let ended = false;
  try {
    await listen(ticket, abort.signal, () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, SILENT_MS);
      heard();
    }, (event, data) => {
      if (event === "place") take(data);
      spoke ||= event === "place";
      ended ||= event === "end";
      if (event === "trouble") fail(new Problem("UNAVAILABLE")); // the gateway is there, what is behind it is not
    });
    return { spoke, ended, error: null };
  } catch (error) {
    if (error instanceof Problem && !error.passing) throw error;
    return { spoke, ended, error: error instanceof Problem ? error : new Problem("LOST") };
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", stop);
  }
}

/* Of several tabs one listens, and tells the others: a browser has few connections for one site. The one that is looked at
   takes it from the others, which may be frozen. Without locks (plain http) each listens for itself. */
const channel = window.BroadcastChannel ? new BroadcastChannel(KEPT) : { postMessage() {} };
let session = null; // who is followed: { ticket, take, fail, end, leads }
let lastHeardMs = 0;
let takeOver = () => {};
let wake = () => {};

function unfollow() {
  if (session) session.end.abort();
  session = null;
}

async function follow(ticket, take, fail) {
  if (session && session.ticket === ticket) return;
  unfollow();
  const mine = { ticket, take, fail, end: new AbortController(), leads: false };
  session = mine;
  let steal = !document.hidden;
  while (!mine.end.signal.aborted) {
    const lead = new AbortController();
    const queued = new AbortController();
    takeOver = () => { steal = true; queued.abort(); };
    mine.end.signal.addEventListener("abort", () => { lead.abort(); queued.abort(); });
    lastHeardMs = Date.now();
    const run = async () => {
      mine.leads = true;
      await listening(mine, lead.signal);
    };
    if (!navigator.locks) await run();
    else await navigator.locks.request(`${KEPT}:stream`, steal ? { steal } : { signal: queued.signal }, run).catch(() => {});
    steal = steal && !mine.leads; // whoever had it and lost it waits in line
    mine.leads = false;
    lead.abort();
  }
}

/* Follow until `signal` says that somebody else does. */
async function listening(mine, signal) {
  let failures = 0;
  let misses = 0;
  const take = (place) => {
    failures = 0;
    if (signal.aborted) return;
    channel.postMessage({ ticket: mine.ticket, place });
    mine.take(place);
  };
  const heard = () => channel.postMessage({ ticket: mine.ticket });
  const fail = (error) => {
    channel.postMessage({ ticket: mine.ticket, failed: [error.code, error.told, error.retryAfterS] });
    mine.fail(error);
  };
  while (!signal.aborted) {
    let error = null;
    try {
      const found = await stream(mine.ticket, signal, heard, take, fail);
      error = found.error;
      misses = found.spoke ? 0 : misses + 1;
      if (signal.aborted) return;
      if (error && error.retryAfterS) throw error;
      take(await call("POST", "queue/heartbeat", { token: mine.ticket }));
    } catch (refused) {
      if (signal.aborted) return;
      error = refused instanceof Problem ? refused : new Problem("LOST");
      failures += 1;
      fail(error);
    }
    const ms = failures ? backoff(failures, error) : backoff(misses, error, 5);
    await Promise.race([pause(ms), new Promise((resume) => { wake = resume; signal.addEventListener("abort", resume, { once: true }); })]);
  }
}

channel.onmessage = ({ data }) => {
  if (!session || data.ticket !== session.ticket || session.leads) return;
  lastHeardMs = Date.now();
  if (data.place) session.take(data.place);
  if (data.failed) session.fail(new Problem(...data.failed));
};
setInterval(() => { if (session && !session.leads && Date.now() - lastHeardMs > SILENT_MS + 5000) takeOver(); }, 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden && session && !session.leads) takeOver(); });
window.addEventListener("online", () => wake());
