/* What is shown is a function of this: the place as it was last told, what is wrong, and where somebody is inside. */
const model = { place: null, enterByMs: 0, trouble: "", message: "joining", entering: false, soldOut: false, onward: "" };
const LOOK_EVERY_MS = 30000;
const NEAR = 100; // who is further back learns by the event's state: the whole map is too much for everybody
const SHAPES = {
  calm: "M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16zm-1 5h2V5H9zm0 8h2V9H9z",
  alarm: "M10 1.5 19 18H1zM9 7v5h2V7zm0 6.5v2h2v-2z",
  halt: "M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM7 6h2v8H7zm4 0h2v8h-2z",
};
let announced = { position: 0, atMs: 0, turn: false, shown: "" };

function noticeKey() {
  const { place } = model;
  if (!keeps && place) return "storage";
  if (model.trouble === "lost") return place ? "lost" : "unsure";
  if (model.trouble) return model.trouble;
  if (shop.token) return shop.map && shop.map.remaining === 0 && !mine().length && !bought().length ? "soldout" : "";
  if (!place || !["waiting", "admitted"].includes(place.state)) return "";
  if (model.soldOut) return "soldout";
  if (place.state === "waiting" && ["paused", "closed"].includes(place.event_state)) return place.event_state;
  return place.state === "waiting" && place.estimate_s === null ? "still" : "";
}

function showNotice() {
  const key = noticeKey();
  byId("notice").hidden = !key;
  if (!key || byId("notice").dataset.key === `${key} ${language}`) return;
  byId("notice").dataset.key = `${key} ${language}`;
  const kind = ["lost", "unsure", "inside", "storage"].includes(key) ? "alarm" : ["paused", "closed", "still"].includes(key) ? "halt" : "calm";
  byId("notice").dataset.kind = kind;
  byId("notice-mark").setAttribute("d", SHAPES[kind]);
  const [title, text] = words.notice[key];
  say(byId("notice-title"), title);
  say(byId("notice-text"), text);
  say(byId("heard"), `${title} ${text}`);
}

function showLine() {
  const { position, waiting, estimate_s: estimate } = model.place;
  const began = Math.max(Number(kept().began) || 0, position);
  const done = began ? Math.round((100 * (began - position)) / began) : 0;
  say(byId("position"), words.count(position));
  byId("position").dataset.long = String(words.count(position).length > 6);
  say(byId("before"), words.count(position - 1));
  say(byId("behind"), words.count(Math.max(0, waiting - position)));
  const text = model.trouble ? "" : estimateWords(estimate);
  byId("estimate-box").hidden = !text;
  say(byId("estimate"), text);
  byId("way-done").style.setProperty("width", `${Math.max(2, done)}%`);
  byId("way").setAttribute("aria-valuenow", String(done));
  say(byId("way-from"), words.from(words.count(began)));
  if (position !== announced.position && (position <= 3 || Date.now() - announced.atMs > 20000)) {
    announced = { ...announced, position, atMs: Date.now() };
    say(byId("heard"), words.heard(words.count(position), text));
  }
}

function showMessage(key) {
  const told = { joining: [words.joiningTitle, words.joiningText], entering: [words.entering, words.joiningText] }[key] || words.message[key] || words.message.failed;
  const seats = key === "ended" && bought().length ? bought() : [];
  const [title, text] = seats.length ? words.message.endedBought : told;
  say(byId("message-title"), title);
  say(byId("message-text"), text);
  byId("message-seats").hidden = !seats.length;
  listSeats(byId("message-seats"), seats);
  byId("again").hidden = !(["left", "expired", "abandoned", "aged", "ended", "unknown", "failed", "noevent"].includes(key));
  say(byId("again"), ["failed", "noevent"].includes(key) ? words.retry : words.again);
}

function viewNow() {
  if (shop.token) return model.onward ? "onward" : "shop";
  const state = model.place && model.place.state;
  if (state === "waiting" && !model.entering) return "line";
  if (state === "admitted" && !model.entering) return "turn";
  return "message";
}

function show() {
  const view = viewNow();
  for (const id of ["line", "turn", "message", "onward", "shop"]) byId(id).hidden = id !== view;
  document.body.dataset.view = view;
  if (view === "line") showLine();
  if (view === "turn") showTurn();
  if (view === "message") showMessage(model.message);
  byId("leave").hidden = !["line", "turn", "shop"].includes(view);
  say(byId("leave"), view === "shop" ? words.leaveInside : words.leave);
  showNotice();
  showTimes();
  if (view !== announced.shown) {
    // whoever was on a button that is gone is led to what came instead; nobody else is moved
    const title = { turn: "turn-title", message: "message-title", onward: "onward-title", shop: "shop-title" }[view];
    const active = document.activeElement;
    if (announced.shown && title && (active === document.body || active.offsetParent === null)) byId(title).focus({ preventScroll: true });
    announced.shown = view;
  }
}

function showTurn() {
  if (announced.turn) return;
  announced.turn = true;
  say(byId("alarm"), words.turnHeard(clock((model.enterByMs - Date.now()) / 1000)));
}

function showTimes() {
  const now = Date.now();
  const view = viewNow();
  const left = clock((model.enterByMs - now) / 1000);
  say(byId("within"), left);
  for (const one of document.querySelectorAll(".session")) say(one, clock((shop.endsMs - now) / 1000));
  const until = Math.min(...Object.values(held()).map((one) => one.untilMs), Infinity);
  say(byId("hold-left"), until === Infinity ? "" : clock((until - now) / 1000));
  byId("hold-left").toggleAttribute("data-soon", until - now < 20000);
  const titles = { turn: () => `${words.titleTurn(left)} – ${EVENT}`, line: () => `${words.count(model.place.position)} · ${EVENT}` };
  const title = (titles[view] || (() => words.pageTitle(EVENT)))();
  if (document.title !== title) document.title = title;
}

/* A ticket that is at its end: kept, so that nobody joins anew by reloading the page. */
function over(state) {
  unfollow();
  shop.token = "";
  model.place = null;
  model.trouble = "";
  model.entering = false;
  model.message = state;
  keep({ ticket: "", key: "", over: state, held: {} });
  show();
}

function take(place) {
  model.trouble = "";
  if (shop.token) return;
  model.place = place;
  if (typeof place.remaining === "number") model.soldOut = place.remaining === 0;
  if (place.state === "waiting" && place.position > (Number(kept().began) || 0)) keep({ began: place.position });
  if (place.state !== "admitted") announced.turn = false;
  if (place.state === "admitted") {
    model.enterByMs = Date.now() + 1000 * place.enter_within_s;
    if (kept().auto) enter(true);
  } else if (place.state === "inside") enter(false);
  else if (["serving", "done"].includes(place.state)) model.message = place.state;
  else if (place.state !== "waiting") {
    over(place.state);
    return;
  }
  show();
}

async function fail(error) {
  const { ticket } = kept();
  if (error.code === "TICKET_GONE") {
    const { state } = await call("GET", "queue/status", { token: ticket }).catch(() => ({}));
    if (kept().ticket === ticket) over(Object.hasOwn(words.message, state || "") ? state : "unknown");
  }
  else if (["NO_TICKET", "NO_EVENT", "UNAUTHORISED"].includes(error.code)) over(error.code === "NO_EVENT" ? "noevent" : "unknown");
  else {
    model.trouble = error.code === "TOO_MANY_REQUESTS" ? "busy" : "lost";
    show();
  }
}

/* Join, for as long as it takes: before the sale opens too. */
async function start() {
  for (let failures = 0; ;) {
    if (kept().over) {
      over(kept().over);
      return;
    }
    try {
      const { ticket } = await joined();
      model.trouble = "";
      follow(ticket, take, fail);
      return;
    } catch (error) {
      failures += 1;
      const waits = { EVENT_NOT_OPEN: ["notopen", 4], QUEUE_FULL: ["full", 15] }[error.code];
      const state = error.items[0] === "closed" ? "closedJoin" : "notopen";
      model.trouble = error.passing ? (error.code === "TOO_MANY_REQUESTS" ? "busy" : "lost") : "";
      if (waits) model.message = waits[0] === "notopen" ? state : waits[0];
      else if (!error.passing && error.code !== "IDEMPOTENCY_CONFLICT") {
        model.message = error.code === "NO_EVENT" || error.code === "INVALID" ? "noevent" : "failed";
        show();
        return;
      }
      show();
      const ms = waits ? 1000 * Math.max(waits[1] * (0.6 + 0.8 * Math.random()), error.retryAfterS) : backoff(failures, error);
      await Promise.race([pause(ms), new Promise((resume) => { wake = resume; })]);
    }
  }
}

/* Go in. Asked for again it is the same entry, so it is asked until there is an answer. */
async function enter(pressed) {
  if (model.entering || shop.token) return;
  const { ticket } = kept();
  model.entering = true;
  model.message = "entering";
  show();
  for (let failures = 0; model.entering && kept().ticket === ticket;) {
    try {
      const entered = await call("POST", "queue/enter", { token: ticket });
      goInside(entered, pressed);
      break;
    } catch (error) {
      failures += 1;
      if (!error.passing) {
        model.entering = false;
        if (["NOT_ADMITTED", "EVENT_NOT_OPEN"].includes(error.code)) show(); // the line tells how it stands
        else fail(error);
        break;
      }
      model.trouble = error.code === "TOO_MANY_REQUESTS" ? "busy" : "lost";
      show();
      await pause(backoff(failures, error, 5));
    }
  }
}

function goInside(entered, pressed) {
  unfollow();
  model.entering = false;
  model.trouble = "";
  shop.token = entered.token;
  shop.endsMs = Date.now() + 1000 * entered.expires_in_s;
  model.onward = onwardTo(entered.token);
  if (model.onward) {
    byId("onward-link").href = model.onward;
    show();
    if (pressed) location.assign(model.onward);
    return;
  }
  show();
  watchSeats(entered.token);
}

/* Where `?next=` leads, with the token behind the #, which no server is sent and no log has. Only to this site or to one
   that the operator allowed: else whoever makes a link could collect tokens. */
function onwardTo(token) {
  const next = new URLSearchParams(location.search).get("next");
  if (!next) return "";
  const allowed = [location.origin, ...JSON.parse(byId("next-origins").textContent)];
  let url = null;
  try {
    url = new URL(next, location.href);
  } catch {
    // no address at all
  }
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || !allowed.includes(url.origin)) {
    problem(words.foreign);
    return "";
  }
  url.hash = `token=${token}`;
  return url.href;
}

async function leave() {
  const view = viewNow();
  const text = view === "line" ? words.leaveText(words.count(model.place.position)) : view === "turn" ? words.leaveTurnText : words.leaveInsideText;
  if (!await confirmed(view === "shop" ? words.leaveInsideTitle : words.leaveTitle, text, words.leaveYes, words.leaveNo)) return;
  const { ticket } = kept();
  byId("leave").disabled = true;
  for (let failures = 0; kept().ticket === ticket;) {
    try {
      await call("POST", "queue/leave", { token: ticket });
      over(view === "shop" && bought().length ? "ended" : "left");
    } catch (error) {
      failures += 1;
      if (!error.passing) {
        over("left");
        break;
      }
      model.trouble = "lost";
      show();
      await pause(backoff(failures, error, 5));
    }
  }
  byId("leave").disabled = false;
}

/* Whether anything is left to wait for: asked by those near the front, now and then. */
async function lookForSeats() {
  for (;;) {
    const { place } = model;
    const near = place && !shop.token && ["waiting", "admitted"].includes(place.state) && place.position <= NEAR;
    if (near && !document.hidden && typeof place.remaining !== "number") {
      try {
        const found = await call("GET", `seats?event_id=${encodeURIComponent(EVENT)}`);
        model.soldOut = found.total > 0 && found.remaining === 0;
        show();
      } catch {
        // the line itself tells when nobody answers
      }
    }
    await pause(near ? LOOK_EVERY_MS * (0.7 + 0.6 * Math.random()) : 1000);
  }
}

byId("enter").addEventListener("click", () => enter(true));
byId("leave").addEventListener("click", leave);
byId("again").addEventListener("click", () => {
  if (kept().over) forget();
  model.message = "joining";
  show();
  start();
});
for (const id of ["auto", "auto-turn"]) {
  byId(id).addEventListener("change", () => {
    const auto = byId(id).checked;
    keep({ auto });
    byId("auto").checked = byId("auto-turn").checked = auto;
    if (auto && viewNow() === "turn") enter(true);
  });
}
byId("language").addEventListener("click", () => {
  const here = new URL(location.href);
  speak(language === "ko" ? "en" : "ko");
  here.searchParams.set("lang", language);
  history.replaceState(null, "", here);
  drawnSeats = "";
  if (shop.map) drawMap(Object.keys(shop.map.seats));
  if (shop.token) showShop();
  show();
});
window.addEventListener("storage", (event) => {
  if (event.key !== KEPT) return;
  const now = kept();
  if (now.over && (session || shop.token)) over(now.over);
  else if (now.ticket && !shop.token && (!session || session.ticket !== now.ticket)) start();
  else if (shop.token) showShop();
});
window.addEventListener("offline", () => {
  model.trouble = shop.token ? "inside" : "lost";
  show();
});
setInterval(() => {
  const now = Date.now();
  if (shop.token) {
    endHolds(now);
    if (now > shop.endsMs) over("ended");
  }
  if (["turn", "shop", "onward"].includes(viewNow())) showTimes();
}, 500);

speak(language);
byId("event").textContent = EVENT;
byId("auto").checked = byId("auto-turn").checked = Boolean(kept().auto);
show();
start();
lookForSeats();
