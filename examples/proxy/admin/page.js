"use strict";

const KINDS = ["fresh", "stale-while-revalidate", "stale-if-error", "collapsed", "validated", "fetched", "passed", "unanswered"];
const SAVED = KINDS.slice(0, 5);
const PAUSE = 5000;
const [HEIGHT, LEFT, BOTTOM] = [144, 40, 16];

const at = (id) => document.getElementById(id);
const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);

// ===== numbers for people =====

function short(number) {
  if (number >= 1e9) return (number / 1e9).toFixed(1) + " G";
  if (number >= 1e6) return (number / 1e6).toFixed(1) + " M";
  if (number >= 1e4) return (number / 1e3).toFixed(1) + " k";
  return number % 1 ? number.toFixed(number < 10 ? 2 : 1) : String(number);
}

function octets(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1024 && unit < units.length - 1; unit += 1) number /= 1024;
  return number.toFixed(unit && number < 100 ? 1 : 0) + " " + units[unit];
}

const share = (part, whole) => (whole ? Math.round((1000 * part) / whole) / 10 + " %" : "–");

// ===== what happened between two samples =====

function spans({ samples, interval_seconds }) {
  return samples.slice(1).map((now, index) => {
    const before = samples[index];
    const since = (name) => Math.max(0, now[name] - before[name]);
    const kinds = KINDS.map((kind) => Math.max(0, now.requests[kind] - before.requests[kind]));
    const [all, saved] = [sum(kinds), sum(kinds.slice(0, SAVED.length))];
    const asked = since("origin_requests");
    return {
      ratio: all ? saved / all : null,
      kinds: kinds.map((count) => count / interval_seconds),
      latency: asked ? since("origin_microseconds") / asked / 1000 : null,
      origin: since("origin_errors") / interval_seconds,
      store: since("store_trouble") / interval_seconds,
      all,
      saved,
    };
  });
}

// ===== drawing =====

function draw(parent, name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}

function axes(svg, top, label, ago) {
  const width = widthOf(svg);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  svg.replaceChildren();
  for (const part of [0, 0.5, 1]) {
    const y = place(part);
    draw(svg, "line", { class: "grid", x1: LEFT, x2: width, y1: y, y2: y });
    draw(svg, "text", { x: LEFT - 4, y: y + 3, "text-anchor": "end" }).textContent = label(part * top);
  }
  draw(svg, "text", { x: width, y: HEIGHT, "text-anchor": "end" }).textContent = "now";
  draw(svg, "text", { x: LEFT, y: HEIGHT }).textContent = ago;
}

const place = (part) => 6 + (1 - part) * (HEIGHT - BOTTOM - 6);
const widthOf = (svg) => svg.clientWidth || 600;
const across = (svg, index, count) => LEFT + ((widthOf(svg) - LEFT) * (index + 1)) / count;

/** A round number that is not less. */
function roof(most) {
  if (!(most > 0)) return 1;
  const step = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((times) => times * step).find((round) => round >= most);
}

/** Where there is no value the curve has a gap. */
function curve(svg, values, top, kind) {
  let path = "";
  let goesOn = false;
  values.forEach((value, index) => {
    if (value === null) return void (goesOn = false);
    path += `${goesOn ? "L" : "M"}${across(svg, index, values.length).toFixed(1)},${place(value / top).toFixed(1)}`;
    goesOn = true;
    // One alone would be no line.
    const isAlone = (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null;
    if (isAlone) draw(svg, "circle", { class: kind, cx: across(svg, index, values.length), cy: place(value / top), r: 2 });
  });
  draw(svg, "path", { class: `curve ${kind}`, d: path, "stroke-linecap": "round" });
}

function stack(svg, columns, top) {
  const below = columns.map(() => 0);
  KINDS.forEach((kind, which) => {
    const lower = [...below];
    columns.forEach((column, index) => (below[index] += column[which]));
    if (below.every((value, index) => value === lower[index])) return;
    const point = (value, index) => `${across(svg, index, columns.length).toFixed(1)},${place(value / top).toFixed(1)}`;
    const there = below.map(point);
    const back = lower.map(point).reverse();
    draw(svg, "polygon", { class: kind, points: [...there, ...back].join(" ") });
  });
}

function plots(past, seconds) {
  const span = past.length * seconds;
  const ago = span < 120 ? `${span} s ago` : `${Math.round(span / 60)} min ago`;
  axes(at("ratio"), 1, (value) => Math.round(100 * value) + " %", ago);
  curve(at("ratio"), past.map((span) => span.ratio), 1, "fresh");
  const requests = roof(Math.max(0, ...past.map((span) => sum(span.kinds))));
  axes(at("kinds"), requests, short, ago);
  stack(at("kinds"), past.map((span) => span.kinds), requests);
  const slowest = roof(Math.max(0, ...past.map((span) => span.latency ?? 0)));
  axes(at("latency"), slowest, short, ago);
  curve(at("latency"), past.map((span) => span.latency), slowest, "fetched");
  const trouble = roof(Math.max(0, ...past.flatMap((span) => [span.origin, span.store])));
  axes(at("trouble"), trouble, short, ago);
  curve(at("trouble"), past.map((span) => span.origin), trouble, "unanswered");
  curve(at("trouble"), past.map((span) => span.store), trouble, "fetched");
}

// ===== text: whatever comes from requests is text and nothing else =====

function tile(name, value, kind) {
  const [box, number, label] = ["div", "b", "span"].map((element) => document.createElement(element));
  [number.textContent, label.textContent, number.className] = [value, name, kind ?? ""];
  box.append(number, label);
  return box;
}

function rows(id, lines) {
  const body = at(id).querySelector("tbody");
  body.replaceChildren(
    ...lines.map((cells) => {
      const row = document.createElement("tr");
      row.append(...cells.map((cell) => Object.assign(document.createElement("td"), { textContent: cell })));
      return row;
    }),
  );
}

function tiles(told, past) {
  const counts = KINDS.map((kind) => told.requests[kind]);
  const [all, saved] = [sum(counts), sum(SAVED.map((kind) => told.requests[kind]))];
  const lately = past.slice(-12);
  const { origin, stats } = told;
  const away = stats.store_unavailable > 0;
  at("tiles").replaceChildren(
    tile("hit ratio, last minute", share(sum(lately.map((span) => span.saved)), sum(lately.map((span) => span.all)))),
    tile("hit ratio since the start", share(saved, all)),
    tile("requests", short(all)),
    tile("saved from the origin", octets(told.saved_bytes)),
    tile("origin answers in, on average", origin.requests ? short(origin.microseconds / origin.requests / 1000) + " ms" : "–"),
    tile("errors of the origin", short(origin.errors), origin.errors ? "bad" : ""),
    tile("answered from memory", short(stats.near_hits)),
    tile("memory in front of Redis", octets(stats.near_bytes)),
    ...told.origins.map(({ url, up }) => tile(url, up ? "well" : "out of service", up ? "good" : "bad")),
    tile("store", away ? "away" : "well", away ? "bad" : "good"),
  );
}

function show(told) {
  const past = spans(told.history);
  at("where").textContent = told.kept_in;
  tiles(told, past);
  plots(past, told.history.interval_seconds);
  rows("top", told.top.map((row) => [row.target, short(row.requests), share(Math.min(row.from_cache, row.requests), row.requests)]));
  rows("details", Object.entries(told.details).sort((one, other) => other[1] - one[1]).map(([name, count]) => [name, short(count)]));
  rows("numbers", Object.entries(told.stats));
}

async function refresh() {
  const state = at("state");
  try {
    const answer = await fetch("/stats", { cache: "no-store", signal: AbortSignal.timeout(2 * PAUSE) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
    [state.textContent, state.className] = ["live", "good"];
  } catch (error) {
    [state.textContent, state.className] = [`the proxy does not answer: ${error.message}`, "bad"];
  }
  setTimeout(refresh, PAUSE);
}

at("legend").append(
  ...KINDS.map((kind) => {
    const entry = document.createElement("li");
    const mark = document.createElement("i");
    mark.className = kind;
    entry.append(mark, kind);
    return entry;
  }),
);
refresh();
