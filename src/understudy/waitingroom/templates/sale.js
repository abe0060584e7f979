/* One sale as a card: made once, then only its texts change, so that whoever is typing in it is not disturbed. */
const SETTINGS = [
  ["burst", "Burst", "admissions saved up at most; 0: one second's", 0, 1],
  ["max_inside", "Most inside", "called and inside at once; 0: no limit", 0, 1],
  ["max_waiting", "Longest line", "people who wait; 0: no limit", 1000000, 1],
  ["entry_ttl_s", "Time to enter, s", "from the call on", 60, "any"],
  ["session_ttl_s", "Time inside, s", "from entering on", 600, "any"],
  ["hold_ttl_s", "Time of a hold, s", "then its seats are free again", 120, "any"],
  ["abandon_after_s", "Silence, s", "then a place is given up; 0: never", 120, "any"],
  ["dedupe_ttl_s", "Repetitions, s", "how long a request is recognised", 300, "any"],
  ["tickets_per_user", "Tickets a user", "", 1, 1],
  ["seats_per_ticket", "Seats a ticket", "", 4, 1],
];
const STATES = { creating: "being made", created: "not open yet", open: "open", paused: "paused", closed: "closed" };
const FIGURES = [["waiting", "Waiting"], ["admitted", "Called"], ["inside", "Inside"], ["held", "Held"], ["sold", "Sold"], ["remaining", "Left"]];
const ACTIONS = [
  ["open", "Open", ["created", "closed"], ""], ["pause", "Pause", ["open"], "plain"], ["resume", "Resume", ["paused"], ""],
  ["close", "Close", ["open", "paused"], "plain"], ["delete", "Delete", ["closed"], "danger"],
];

function settingFields(parent) {
  const inputs = {};
  for (const [name, title, note, usual, step] of SETTINGS) {
    const label = put(parent, "label", title);
    const input = put(label, "input");
    Object.assign(input, { type: "number", min: "0", step: String(step), value: String(usual), required: true });
    if (note) put(label, "small", note);
    inputs[name] = input;
  }
  return inputs;
}

const numbersOf = (inputs) => Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, Number(input.value)]));

class Sale {
  constructor(parent, id, act) {
    this.id = id;
    this.act = act;
    this.waiting = [];
    this.calls = [];
    this.before = null;
    this.box = put(parent, "article", undefined, "sale");
    this.box.setAttribute("aria-label", `Sale ${id}`);
    this.head();
    this.numbers();
    this.controls();
    this.settings();
  }

  head() {
    const head = put(this.box, "header");
    const title = put(put(head, "div"), "h3", this.id);
    this.badge = put(title, "span", "", "badge");
    const address = new URL(`${ROOT}wait/${encodeURIComponent(this.id)}`, location.origin).href;
    const line = put(title.parentElement, "p", undefined, "address");
    const link = put(line, "a", address);
    Object.assign(link, { href: address, target: "_blank", rel: "noreferrer noopener" });
    const copy = put(line, "button", "Copy", "plain");
    copy.type = "button";
    copy.setAttribute("aria-label", `Copy the address of ${this.id}`);
    copy.addEventListener("click", () => this.copy(copy, link));
    this.actions = put(head, "div", undefined, "buttons");
    for (const [action, text, , style] of ACTIONS) {
      const button = put(this.actions, "button", text, style);
      Object.assign(button, { type: "button", hidden: true });
      button.dataset.action = action;
      button.addEventListener("click", () => this.act(this, action));
    }
  }

  async copy(button, link) {
    try {
      await navigator.clipboard.writeText(link.href);
      say(button, "Copied");
    } catch { // not allowed, or not over https: then it is marked, ready to be copied
      getSelection().selectAllChildren(link);
      say(button, "Press Ctrl+C");
    }
    await pause(2000);
    say(button, "Copy");
  }

  numbers() {
    const list = put(this.box, "dl", undefined, "figures");
    this.figures = {};
    for (const [name, title] of FIGURES) {
      const one = put(list, "div");
      put(one, "dt", title);
      this.figures[name] = put(one, "dd", "–");
      this.figures[name].dataset.count = name;
    }
    this.soldOf = draw(put(this.box, "div", undefined, "sold-of"), "svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none", role: "img" });
    const charts = put(this.box, "div", undefined, "charts");
    this.waitingChart = makeChart(charts, "Waiting", "");
    this.callsChart = makeChart(charts, "Admissions a second", "rate");
  }

  controls() {
    const row = put(this.box, "div", undefined, "controls");
    const form = put(row, "form", undefined, "rate");
    const label = put(form, "label", "Rate, admissions a second");
    this.rate = put(label, "input");
    Object.assign(this.rate, { type: "number", min: "0", max: "100000", step: "any", required: true });
    this.rate.dataset.setting = "rate_per_s";
    for (const [text, factor, name] of [["½", 0.5, "Halve the rate"], ["×2", 2, "Double the rate"]]) {
      const button = put(form, "button", text, "plain", "step");
      button.type = "button";
      button.setAttribute("aria-label", name);
      button.addEventListener("click", () => this.setRate(Number((Number(this.rate.value) * factor).toPrecision(3)) || 1));
    }
    put(form, "button", "Set").type = "submit";
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.setRate(Number(this.rate.value));
    });
    this.problem = put(this.box, "p", "", "problem");
    this.problem.setAttribute("role", "alert");
    this.problem.hidden = true;
  }

  setRate(rate) {
    this.rate.value = String(rate);
    this.act(this, "configure", { rate_per_s: rate });
  }

  settings() {
    const details = put(this.box, "details");
    put(details, "summary", "Settings");
    const form = put(details, "form");
    this.inputs = settingFields(put(form, "div", undefined, "fields", "settings"));
    const buttons = put(form, "div", undefined, "buttons");
    put(buttons, "button", "Save").type = "submit";
    this.saved = put(buttons, "span", "", "note");
    this.saved.setAttribute("role", "status");
    this.details = details;
    details.addEventListener("toggle", () => this.fillSettings());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.act(this, "configure", numbersOf(this.inputs), () => say(this.saved, "Saved; in effect now."));
    });
  }

  fillSettings() {
    say(this.saved, "");
    for (const [name, input] of Object.entries(this.inputs)) input.value = String(this.last.settings[name]);
  }

  tell(text) {
    this.problem.hidden = !text;
    say(this.problem, text);
  }

  show(event, nowMs) {
    const { counts, settings, state } = event;
    this.last = event;
    say(this.badge, STATES[state] || state);
    this.badge.dataset.state = state;
    for (const [name] of FIGURES) say(this.figures[name], Number(counts[name]).toLocaleString("en"));
    for (const button of this.actions.children) {
      button.hidden = !ACTIONS.find(([action]) => action === button.dataset.action)[2].includes(state);
    }
    if (document.activeElement !== this.rate) this.rate.value = String(settings.rate_per_s);
    this.sample(counts, Date.parse(event.now) || nowMs, nowMs);
    this.showSold(counts);
  }

  /* What was called since the answer before, by the server's clock. */
  sample(counts, serverMs, nowMs) {
    const called = Number(counts.called ?? counts.entered);
    this.waiting.push([nowMs, Number(counts.waiting)]);
    this.before ||= [[serverMs, called]];
    this.before.push([serverMs, called]);
    while (this.before.length > 2 && serverMs - this.before[1][0] >= 2500) this.before.shift(); // over some seconds: calls come in bursts
    const [[sinceMs, since]] = this.before;
    const rate = serverMs > sinceMs ? Math.max(0, (1000 * (called - since)) / (serverMs - sinceMs)) : 0;
    this.calls.push([nowMs, rate]);
    for (const samples of [this.waiting, this.calls]) while (nowMs - samples[0][0] > 1000 * SPAN_S + 2000) samples.shift();
    this.waitingChart(this.waiting, nowMs, Number(counts.waiting).toLocaleString("en"), 0);
    this.callsChart(this.calls, nowMs, `${shortNumber(rate)}/s`, Number(this.last.settings.rate_per_s));
  }

  showSold(counts) {
    const all = Number(counts.seats_total) || 1;
    const sold = (100 * Number(counts.sold)) / all;
    this.soldOf.replaceChildren();
    draw(this.soldOf, "rect", { class: "track", width: 100, height: 1 });
    draw(this.soldOf, "rect", { class: "sold", width: sold, height: 1 });
    draw(this.soldOf, "rect", { class: "held", x: sold, width: (100 * Number(counts.held)) / all, height: 1 });
    this.soldOf.setAttribute("aria-label", `${counts.sold} of ${counts.seats_total} seats sold, ${counts.held} held`);
  }
}
