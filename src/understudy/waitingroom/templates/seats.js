/* The seat map: rows of buttons, one of which is in the tab order; arrow keys move on. */
const MARKS = { mine: "★", taken: "–", sold: "×", bought: "✓", chosen: "✓" };
const STATE_NAMES = { available: "AVAILABLE", chosen: "CHOSEN", mine: "MINE", taken: "TAKEN", sold: "SOLD", bought: "BOUGHT" };
const MANY_ROWS = 6;
const byNumber = new Intl.Collator("en", { numeric: true }).compare;
const cells = new Map(); // seat -> its button
let drawnSeats = "";
let places = []; // rows: { name, seats }

const partsOf = (name) => name.match(/^(.*?)[-_.: ]?(\d+)$/) || [name, "", name];

function rowsOf(names) {
  const rows = new Map();
  for (const name of [...names].sort(byNumber)) {
    const row = partsOf(name)[1];
    if (!rows.has(row)) rows.set(row, []);
    rows.get(row).push(name);
  }
  return [...rows].map(([name, seats]) => ({ name, seats }));
}

/* Made anew only when there are other seats; what a seat is changes in place. */
function drawMap(names) {
  const wanted = names.join("\n");
  if (wanted === drawnSeats) return;
  drawnSeats = wanted;
  places = rowsOf(names);
  cells.clear();
  byId("map").replaceChildren();
  byId("jump").replaceChildren();
  byId("map").classList.toggle("large", names.length > 600);
  const perLine = Math.max(1, Math.floor(Math.min(innerWidth - 32, 944) / 48));
  const titled = places.length > 1 || (places[0] && places[0].name !== "");
  for (const [index, row] of places.entries()) {
    const group = put(byId("map"), "div", undefined, "row");
    group.setAttribute("role", "group");
    group.id = `row-${index}`;
    if (titled) {
      put(group, "h3", words.rowName(row.name), "row-name").id = `row-name-${index}`;
      group.setAttribute("aria-labelledby", `row-name-${index}`);
      put(byId("jump"), "option", row.name).value = String(index);
    }
    const line = put(group, "div", undefined, "seats");
    // what is not on the screen is not laid out: how high it will be is told instead
    group.style.setProperty("contain-intrinsic-size", `auto ${2 + 3.05 * Math.ceil(row.seats.length / perLine)}rem`);
    for (const name of row.seats) {
      const cell = put(line, "button", undefined, "seat");
      cell.type = "button";
      cell.tabIndex = -1;
      cell.dataset.seat = name;
      cell.dataset.number = partsOf(name)[2];
      cells.set(name, cell);
    }
  }
  byId("jump-box").hidden = places.length < MANY_ROWS;
  const first = byId("map").querySelector(".seat");
  if (first) first.tabIndex = 0;
}

function paint(stateOf) {
  for (const [name, cell] of cells) {
    const state = stateOf(name);
    const key = `${state} ${language}`;
    if (cell.dataset.painted === key) continue;
    cell.dataset.painted = key;
    cell.dataset.state = state;
    cell.textContent = state === "available" ? cell.dataset.number : MARKS[state];
    cell.setAttribute("aria-label", words.seat(name, words[STATE_NAMES[state]]));
    cell.setAttribute("aria-pressed", String(["chosen", "mine", "bought"].includes(state)));
    cell.setAttribute("aria-disabled", String(!["available", "chosen"].includes(state)));
  }
}

function focusSeat(cell) {
  if (!cell) return;
  for (const one of byId("map").querySelectorAll('.seat[tabindex="0"]')) one.tabIndex = -1;
  cell.tabIndex = 0;
  cell.focus();
}

/* The seat nearest in the line above or below, as they stand on the screen; past the first and last one, in the row beside. */
function beside(cell, down) {
  const sign = down ? 1 : -1;
  const here = cell.getBoundingClientRect();
  const rows = [...byId("map").children];
  const row = cell.closest(".row");
  const seatsOf = (one) => (one ? [...one.querySelectorAll(".seat")].map((seat) => [seat, seat.getBoundingClientRect()]) : []);
  let there = seatsOf(row).filter(([, box]) => sign * (box.top - here.top) > here.height / 2);
  if (!there.length) there = seatsOf(rows[rows.indexOf(row) + sign]);
  const cost = ([, box]) => sign * box.top * 1000 + Math.abs(box.left - here.left);
  return there.length ? there.reduce((best, one) => (cost(one) < cost(best) ? one : best))[0] : null;
}

byId("map").addEventListener("keydown", (event) => {
  const cell = event.target.closest(".seat");
  if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
  const all = [...cells.values()];
  const at = all.indexOf(cell);
  const line = [...cell.parentElement.children];
  const to = {
    ArrowRight: () => all[at + 1], ArrowLeft: () => all[at - 1], ArrowDown: () => beside(cell, true),
    ArrowUp: () => beside(cell, false), Home: () => line[0], End: () => line[line.length - 1],
  }[event.key];
  if (!to) return;
  event.preventDefault();
  focusSeat(to());
});

byId("jump").addEventListener("change", () => {
  const row = byId(`row-${byId("jump").value}`);
  row.scrollIntoView({ block: "start" });
  focusSeat(row.querySelector(".seat"));
});

/* So many free seats side by side, anywhere: were it always the best ones, everybody would be offered the same. */
function adjacent(count, isFree) {
  const runs = [];
  for (const row of places) {
    let run = [];
    for (const name of row.seats) {
      const follows = run.length === 0 || Number(partsOf(name)[2]) === Number(partsOf(run[run.length - 1])[2]) + 1;
      if (!isFree(name)) run = [];
      else run = follows ? [...run, name].slice(-count) : [name];
      if (run.length === count) runs.push(run);
    }
  }
  return runs.length ? runs[Math.floor(Math.random() * runs.length)] : [];
}
