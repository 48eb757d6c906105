// The last minutes of one limit with everybody in it: a lane for each permit, and below, those who wait.

import { el, svg } from "./dom.js";
import { when } from "./format.js";
import { inWords, isIdle, isOver, look, stretches, strip, windowOf } from "./strip.js";

const WIDTH = 1000;
const LANE = 20;
const WAIT = 12;
const MOST = 24; // lanes of each kind; with more nobody would see anything

/** Return the picture of what was seen until `now`, backend's clock. */
export function timeline({ samples, holds, waits }, now) {
  const seconds = windowOf(samples[0]?.[0], now);
  const from = now - seconds;
  const x = (moment) => (WIDTH * (Math.min(Math.max(moment, from), now) - from)) / seconds;
  const parts = stretches(samples, from, now);
  const capacity = Math.max(1, ...parts.map(([, , sample]) => sample[1]));
  if (capacity > MOST) {
    const area = strip(samples, now, seconds);
    area.setAttribute("class", "timeline area");
    return el("figure", {}, area, legend(false));
  }
  const held = laned(holds.filter(lasting));
  const waiting = laned(waits.filter(lasting).map(([label, , since, until]) => [label, 1, since, until]));
  const lanes = Math.min(MOST, Math.max(capacity, held.lanes));
  const queue = Math.min(MOST, waiting.lanes);
  const below = lanes * LANE + 6;
  const height = below + queue * WAIT + 18;
  const picture = svg("svg", {
    class: "timeline", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": inWords(parts),
  },
  ...parts.flatMap((part) => marks(part, x, lanes)),
  ...lines(Math.min(capacity, MOST)),
  ...axis(from, now, seconds, height),
  ...held.bars.flatMap((bar) => holdBars(bar, x, lanes, parts)),
  ...waiting.bars.filter(({ lane }) => lane < queue).map((bar) => waitBar(bar, x, below)));
  return el("figure", {}, picture, legend(held.lanes > MOST || waiting.lanes > MOST));

  function lasting([, , since, until]) {
    return (until ?? now) >= from && since <= now;
  }
}

/** Give each span the first lane that is free when it begins: a permit each, so that an overlap needs a lane too many. */
function laned(spans) {
  const ends = [];
  const bars = [];
  for (const [label, permits, since, until] of [...spans].sort((one, other) => one[2] - other[2])) {
    for (let left = Math.min(permits, MOST); left > 0; left -= 1) {
      let lane = ends.findIndex((end) => end <= since);
      if (lane < 0) lane = ends.length;
      ends[lane] = until ?? Infinity;
      bars.push({ lane, label, since, until });
    }
  }
  return { bars, lanes: ends.length };
}

function marks([begin, end, sample], x, lanes) {
  const place = { x: x(begin), width: Math.max(1.5, x(end) - x(begin)) };
  const [, capacity, held, waiting] = sample;
  const ground = svg("rect", { class: "ground", ...place, y: 0, height: Math.min(capacity, lanes) * LANE });
  if (!isIdle(sample)) return [ground];
  // Behind all lanes: what is held covers its own.
  return [ground, svg("rect", { ...look("idle"), ...place, y: 0, height: Math.min(capacity, lanes) * LANE },
    svg("title", {}, `${capacity - held} of ${capacity} permits idle while ${waiting} waited`))];
}

/** Draw a hold, and in a warning colour the parts of it during which more was held than there was. */
function holdBars({ lane, label, since, until }, x, lanes, parts) {
  if (lane >= lanes) return [];
  const place = (begin, end) => ({ x: x(begin), width: Math.max(1.5, x(end) - x(begin)), y: lane * LANE + 2, height: LANE - 4 });
  const end = until ?? Infinity;
  const title = () => svg("title", {}, `${label}, since ${when(since)}${until ? `, until about ${when(until)}` : ""}`);
  const over = joined(parts.filter(([begin, over, sample]) => isOver(sample) && lane >= sample[1] && begin < end && over > since))
    .map(([begin, over]) => svg("rect", { class: "over", ...place(Math.max(begin, since), Math.min(over, end)) }, title()));
  const room = x(end) - x(since);
  const words = svg("text", { x: x(since) + 5, y: lane * LANE + 14, class: "label" }, room > 130 && shortened(label, room));
  const cover = svg("rect", { class: "cover", ...place(since, end), y: lane * LANE, height: LANE });
  return [cover, svg("rect", { class: "held", rx: 2, ...place(since, end) }, title()), ...over, words];
}

/** Make one stretch of those that touch. */
function joined(stretches) {
  const found = [];
  for (const [begin, end] of stretches) {
    if (found.length && found.at(-1)[1] >= begin) found.at(-1)[1] = end;
    else found.push([begin, end]);
  }
  return found;
}

function waitBar({ lane, label, since, until }, x, below) {
  const width = Math.max(1.5, x(until ?? Infinity) - x(since));
  return svg("rect", { class: "waiting", x: x(since), width, y: below + lane * WAIT + 2, height: WAIT - 5, rx: 2 },
    svg("title", {}, `${label} has waited since ${when(since)}${until ? `, until about ${when(until)}` : ""}`));
}

function lines(lanes) {
  return Array.from({ length: lanes - 1 }, (_, lane) =>
    svg("line", { class: "lane", x1: 0, x2: WIDTH, y1: (lane + 1) * LANE, y2: (lane + 1) * LANE }));
}

function axis(from, now, seconds, height) {
  const step = seconds > 150 ? 60 : 15;
  const first = Math.ceil(from / step) * step;
  const moments = Array.from({ length: Math.floor((now - first) / step) + 1 }, (_, at) => first + step * at);
  return moments.flatMap((moment) => {
    const at = (WIDTH * (moment - from)) / seconds;
    return [
      svg("line", { class: "minute", x1: at, x2: at, y1: 0, y2: height - 14 }),
      svg("text", { class: "axis", x: Math.min(at, WIDTH - 60), y: height - 3 }, when(moment)),
    ];
  });
}

function legend(cut) {
  const mark = (kind) => svg("svg", { class: "mark", width: 18, height: 12, "aria-hidden": "true" },
    svg("rect", { ...look(kind), width: 18, height: 12 }));
  return el("figcaption", {},
    el("span", {}, mark("held"), "held"), el("span", {}, mark("waiting"), "waits"),
    el("span", {}, mark("over"), "more held than there is"), el("span", {}, mark("idle"), "idle while somebody waits"),
    cut && el("span", {}, "not all are drawn"));
}

function shortened(label, width) {
  const most = Math.floor(width / 7) - 1;
  return label.length > most ? `${label.slice(0, most - 1)}…` : label;
}
