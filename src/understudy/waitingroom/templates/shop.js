/* Who is inside: which seats there are, which are held for how long, and what was confirmed. */
const SEATS_EVERY_MS = 3000;
const shop = { token: "", endsMs: 0, map: null, mapMs: 0, chosen: new Set(), busy: false, again: null, error: "", most: 0 };

const held = () => kept().held || {}; // seat -> { untilMs, sinceMs }
const bought = () => kept().bought || [];
const mine = () => Object.keys(held()).sort(byNumber);

function seatState(name) {
  if (bought().includes(name)) return "bought";
  if (Object.hasOwn(held(), name)) return "mine";
  const state = shop.map.seats[name];
  if (state === "AVAILABLE") return shop.chosen.has(name) ? "chosen" : "available";
  return state === "SOLD" ? "sold" : "taken";
}

function problem(text) {
  shop.error = text;
  byId("problem").hidden = !text;
  say(byId("problem"), text);
}

/* The map as the gateway tells it; what is ours we know better, until it had the time to learn of it. */
function takeMap(found, askedMs) {
  shop.map = { total: Number(found.total), remaining: Number(found.remaining), seats: found.seats };
  shop.mapMs = askedMs;
  const still = Object.entries(held()).filter(([name, one]) => found.seats[name] === "HELD" || askedMs - one.sinceMs < 3000);
  if (still.length < mine().length) keep({ held: Object.fromEntries(still) });
  const lost = [...shop.chosen].filter((name) => found.seats[name] !== "AVAILABLE" && !Object.hasOwn(held(), name));
  for (const name of lost) shop.chosen.delete(name);
  if (lost.length) problem(words.problem.SEAT_UNAVAILABLE(lost.join(", ")));
  drawMap(Object.keys(found.seats));
  showShop();
}

async function watchSeats(token) {
  let failures = 0;
  while (shop.token === token) {
    const askedMs = Date.now();
    let error = null;
    try {
      const found = await call("GET", `seats?event_id=${encodeURIComponent(EVENT)}`);
      if (shop.token !== token) return;
      failures = 0;
      model.trouble = "";
      takeMap(found, askedMs);
    } catch (refused) {
      if (shop.token !== token) return;
      error = refused;
      failures += 1;
      model.trouble = error.code === "TOO_MANY_REQUESTS" ? "busy" : "inside";
      if (error.code === "NO_EVENT") over("ended");
    }
    show();
    const ms = failures ? backoff(failures, error, 8) : SEATS_EVERY_MS * (document.hidden ? 5 : 1) * (0.8 + 0.4 * Math.random());
    await Promise.race([pause(ms), new Promise((resume) => { wake = resume; })]);
  }
}

/* One request, repeated under the same key until there is an answer: it is done once, however often it is sent. */
async function act(what, seats) {
  if (shop.busy || !seats.length) return;
  const again = shop.again && shop.again.what === what && shop.again.seats.join() === seats.join();
  shop.again = again ? shop.again : { what, seats, key: newKey() };
  shop.busy = true;
  problem("");
  showShop();
  try {
    done(what, seats, await repeated(what, seats, shop.again.key));
    shop.again = null;
  } catch (error) {
    if (!error.passing) shop.again = null;
    refused(what, seats, error);
  } finally {
    shop.busy = false;
    showShop();
    wake();
  }
}

async function repeated(what, seats, key) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await call("POST", `seats/${what}`, { token: shop.token, body: { seats }, headers: { "Idempotency-Key": key } });
    } catch (error) {
      if (!error.passing || tries === 4) throw error;
      await pause(backoff(tries, error, 4));
    }
  }
}

function done(what, seats, answer) {
  const now = Date.now();
  const left = { ...held() };
  for (const name of seats) {
    delete left[name];
    if (what === "hold") left[name] = { untilMs: now + 1000 * answer.expires_in_s, sinceMs: now };
    if (shop.map) shop.map.seats[name] = { hold: "HELD", release: "AVAILABLE", confirm: "SOLD" }[what];
  }
  keep(what === "confirm" ? { held: left, bought: [...new Set([...bought(), ...seats])] } : { held: left });
  if (shop.map && Number.isFinite(answer.remaining)) shop.map.remaining = answer.remaining;
  for (const name of seats) shop.chosen.delete(name);
  const list = seats.join(", ");
  if (what === "hold") say(byId("heard"), words.holdHeard(list, clock(answer.expires_in_s)));
  else say(byId("heard"), what === "confirm" ? words.boughtHeard(list) : words.releasedHeard);
  if (what === "confirm") {
    showShop();
    byId("bought").scrollIntoView({ block: "nearest" });
  }
}

function refused(what, seats, error) {
  if (["UNAUTHORISED", "NOT_INSIDE"].includes(error.code)) {
    over("ended");
    return;
  }
  const named = error.items.length ? error.items.filter((name) => seats.includes(name)) : seats;
  if (error.code === "TOO_MANY_SEATS") shop.most = Number(error.items[0]) || 0;
  if (["SEAT_UNAVAILABLE", "NO_SEAT"].includes(error.code)) for (const name of named) shop.chosen.delete(name);
  if (error.code === "NOT_HOLDER") keep({ held: Object.fromEntries(Object.entries(held()).filter(([name]) => !named.includes(name))) });
  problem(what === "release" && error.code === "NOT_HOLDER" ? "" : explain(error));
}

/* Holds whose time is over are nobody's any more. */
function endHolds(now) {
  const all = Object.entries(held());
  const still = all.filter(([, one]) => one.untilMs > now);
  if (still.length === all.length) return;
  const before = shop.busy && shop.again && shop.again.what === "confirm"; // its answer is on its way and says more
  if (before) return;
  keep({ held: Object.fromEntries(still) });
  problem(words.holdOver);
  showShop();
  wake();
}

function showShop() {
  const seats = mine();
  const chosen = [...shop.chosen].sort(byNumber);
  byId("held-line").hidden = !seats.length;
  byId("chosen-line").hidden = !chosen.length;
  byId("none-line").hidden = seats.length > 0 || chosen.length > 0 || Boolean(shop.error);
  say(byId("held-seats"), seats.join(", "));
  say(byId("chosen-seats"), chosen.join(", "));
  say(byId("hold"), shop.busy ? words.working : words.hold(chosen.length));
  say(byId("confirm"), shop.busy ? words.working : words.confirm(seats.length));
  for (const id of ["hold", "confirm", "release", "clear"]) byId(id).disabled = shop.busy;
  byId("bought").hidden = !bought().length;
  listSeats(byId("bought-seats"), bought());
  const none = shop.map !== null && shop.map.remaining === 0 && !seats.length && !chosen.length;
  byId("pick").hidden = none;
  byId("bar").hidden = none && !shop.error;
  if (!shop.map) return;
  say(byId("left"), words.left(shop.map.remaining, shop.map.total));
  paint(seatState);
}

function listSeats(list, seats) {
  if (list.dataset.seats === seats.join()) return;
  list.dataset.seats = seats.join();
  list.replaceChildren();
  for (const name of [...seats].sort(byNumber)) put(list, "li", name);
}

function many(step) {
  const most = shop.most || 8;
  const now = Math.min(most, Math.max(1, Number(byId("many").textContent) + step));
  say(byId("many"), String(now));
}

byId("fewer").addEventListener("click", () => many(-1));
byId("more").addEventListener("click", () => many(1));
byId("pick").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!shop.map) return;
  many(0);
  const count = Number(byId("many").textContent);
  const found = adjacent(count, (name) => ["available", "chosen"].includes(seatState(name)));
  shop.chosen = new Set(found);
  problem(found.length ? "" : words.noneTogether(count));
  showShop();
  if (found.length) cells.get(found[0]).scrollIntoView({ block: "center" });
});
byId("map").addEventListener("click", (event) => {
  const cell = event.target.closest(".seat");
  if (!cell || shop.busy) return;
  focusSeat(cell);
  const name = cell.dataset.seat;
  if (cell.dataset.state === "available") shop.chosen.add(name);
  else if (!shop.chosen.delete(name)) return;
  problem("");
  showShop();
});
byId("hold").addEventListener("click", () => act("hold", [...shop.chosen].sort(byNumber)));
byId("confirm").addEventListener("click", () => act("confirm", mine()));
byId("release").addEventListener("click", () => act("release", mine()));
byId("clear").addEventListener("click", () => {
  shop.chosen.clear();
  problem("");
  showShop();
});
