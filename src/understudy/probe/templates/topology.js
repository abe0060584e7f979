const MOST_EVENTS = 200;
const WATCH_S = 3600;
let away = false;

function tell(at, text, ill) {
  const list = byId("events");
  const item = document.createElement("li");
  put(item, "time", clock(at));
  put(item, "span", text, ill && "ill");
  list.prepend(item);
  while (list.children.length > MOST_EVENTS) list.lastChild.remove();
}

function showTopology(line) {
  const nodes = line.shards.flatMap((one) => [one.primary, ...one.replicas]).filter(Boolean);
  const ill = nodes.filter((one) => !one.healthy).length;
  const proxy = nodes.some((one) => one.role === "proxy");
  say("topology-note", proxy
    ? "One endpoint: what stands behind it is not visible to a client."
    : `${line.shards.length} ${line.shards.length === 1 ? "shard" : "shards"}, ${nodes.length} ${nodes.length === 1 ? "server" : "servers"}${ill ? `, ${ill} not healthy` : ""}${line.uncovered ? `, ${line.uncovered} slots served by nobody` : ""}.`);
  showSlots(line.shards);
  byId("shards").replaceChildren();
  for (const shard of line.shards) showShard(shard);
}

function showShard(shard) {
  const box = put(byId("shards"), "article", undefined, "shard");
  const head = put(box, "header", proxyOf(shard) ? "Endpoint" : `Shard ${shard.shard}`);
  put(head, "span", shard.slot_count ? `${shard.slot_count.toLocaleString()} slots` : "");
  const list = put(box, "ul");
  for (const node of [shard.primary, ...shard.replicas].filter(Boolean)) {
    const item = put(list, "li");
    put(item, "span", `${node.address}`);
    put(item, "span", `${node.role} ${node.healthy ? "✓" : "✗ failed"}`, node.healthy ? "well" : "ill");
  }
  if (shard.slot_count) put(box, "p", `Slots ${shard.slots.slice(0, 6).join(", ")}${shard.slots.length > 6 ? ", …" : ""}`, "note");
}

const proxyOf = (shard) => shard.primary && shard.primary.role === "proxy";

function showSlots(shards) {
  const place = byId("slots");
  place.replaceChildren();
  const owned = shards.filter((one) => one.slot_count);
  if (!owned.length) return;
  const label = owned.map((one) => `shard ${one.shard}: ${one.slots.join(", ")}`).join("; ");
  const svg = draw(place, "svg", { class: "slot-bar", role: "img", "aria-label": `Slots: ${label}`, viewBox: "0 0 16384 10", preserveAspectRatio: "none" });
  for (const shard of owned) {
    if (!shard.primary || !shard.primary.healthy) continue;
    for (const range of shard.slots) {
      const [first, last = first] = range.split("-").map(Number);
      draw(svg, "rect", { class: `shade-${shard.shard % 3}`, x: first, y: 0, width: last - first + 1, height: 10 });
    }
  }
}

function takeLine(line) {
  if (line.type === "unreachable") {
    if (!away) tell(line.at, `Nobody answers: ${line.why}`, true);
    say("topology-note", `Nobody answers: ${line.why}`);
    away = true;
  } else if (line.type === "topology") {
    if (away) tell(line.at, "The topology can be read again.");
    away = false;
    showTopology(line);
    for (const one of line.changes) tell(line.at, one.text, ["failed", "uncovered", "left"].includes(one.kind));
  }
}

async function watchTopology() {
  tell(Date.now(), "This page began to watch.");
  for (;;) {
    try {
      await lines(`/redis/monitor?duration=${WATCH_S}&interval=1`, takeLine);
    } catch (problem) {
      if (problem instanceof Refused) return;
      say("topology-note", problem.message);
    }
    await pause(2000);
  }
}
