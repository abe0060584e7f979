/* Two small charts of the last two minutes. The numbers stand above them as text; the charts only show them. */
const SPAN_S = 120;
const WIDE = 600;
const HIGH = 100;

const shortNumber = (value) => (value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString("en") : value.toFixed(1));

/* A round upper edge with room above the highest value. */
function edge(values) {
  const most = Math.max(1, ...values) * 1.1;
  const power = 10 ** Math.floor(Math.log10(most));
  return power * [1, 2, 3, 5, 10].find((one) => one * power >= most);
}

/* `samples` are [ms, value] with the oldest first; `limit` is drawn across, dashed. */
function drawLine(svg, samples, nowMs, limit) {
  const known = samples.filter(([at]) => nowMs - at <= 1000 * SPAN_S);
  const top = edge([...known.map(([, value]) => value), limit || 0]);
  const x = (at) => (WIDE - (WIDE * (nowMs - at)) / 1000 / SPAN_S).toFixed(1);
  const y = (value) => (HIGH - (HIGH * value) / top).toFixed(1);
  svg.replaceChildren();
  if (known.length) {
    const path = known.map(([at, value], index) => `${index && at - known[index - 1][0] < 5000 ? "L" : "M"}${x(at)} ${y(value)}`).join("");
    if (!path.slice(1).includes("M")) {
      draw(svg, "path", { class: "area", d: `${path}V${HIGH}H${x(known[0][0])}Z` });
    }
    draw(svg, "path", { class: "line", d: `${path}h.1` });
  }
  if (limit) draw(svg, "path", { class: "limit", d: `M0 ${y(limit)}H${WIDE}` });
  return top;
}

function makeChart(parent, title, limitText) {
  const figure = put(parent, "figure");
  const caption = put(figure, "figcaption");
  const name = put(caption, "span", title);
  let limitNow = null;
  if (limitText) {
    put(name, "span", undefined, "key").setAttribute("aria-hidden", "true");
    limitNow = put(name, "span", limitText);
  }
  const now = put(caption, "strong");
  const svg = draw(figure, "svg", { class: "lines", role: "img", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none" });
  const axis = put(figure, "p", undefined, "axis");
  put(axis, "span", "2 minutes ago");
  const top = put(axis, "span");
  put(axis, "span", "now");
  return (samples, nowMs, text, limit) => {
    const highest = shortNumber(drawLine(svg, samples, nowMs, limit));
    say(now, text);
    say(top, `top: ${highest}`);
    if (limitNow) say(limitNow, `${limitText} ${shortNumber(limit)}`);
    svg.setAttribute("aria-label", `${title}: now ${text}${limitText ? `, ${limitText} ${shortNumber(limit)}` : ""}`);
  };
}
