/* One browser, one ticket: it is kept here, and so is the key of the request for it, before that is made. */
const EVENT = decodeURIComponent(location.pathname.replace(/\/$/, "").split("/").pop());
const KEPT = `understudy-wait:${EVENT}`;
let memory = "{}"; // for browsers that keep nothing
let keeps = true;

function kept() {
  try {
    return JSON.parse((keeps && localStorage.getItem(KEPT)) || memory);
  } catch {
    return JSON.parse(memory);
  }
}

function keep(changes) {
  const all = JSON.stringify({ ...kept(), ...changes });
  memory = all;
  try {
    localStorage.setItem(KEPT, all);
  } catch {
    keeps = false;
  }
}

function forget() {
  memory = "{}";
  try {
    localStorage.removeItem(KEPT);
  } catch {
    keeps = false;
  }
}

/* Two tabs do this one after the other. Without locks (plain http) the later writer of a key is followed. */
async function alone(act) {
  if (navigator.locks) return navigator.locks.request(`${KEPT}:join`, act);
  if (!kept().key) {
    keep({ key: newKey() });
    await pause(150);
  }
  return act();
}

/* The ticket of this browser: the one it has, else a new one, which is the same however often it is asked for. */
async function joined() {
  return alone(async () => {
    if (kept().ticket) return kept();
    if (!kept().key) keep({ key: newKey() });
    const { key } = kept();
    try {
      const answer = await call("POST", "queue/join", { body: { event_id: EVENT }, headers: { "Idempotency-Key": key } });
      if (kept().key === key) keep({ ticket: answer.ticket, began: answer.position, held: {}, bought: [] });
      return kept();
    } catch (error) {
      // somebody else's request had this key: it is none of ours, and gave no ticket of ours
      if (error.code === "IDEMPOTENCY_CONFLICT" && kept().key === key && !kept().ticket) keep({ key: "" });
      throw error;
    }
  });
}
