// The last minutes of one limit in a strip: how much is held, how many wait, and the two that matter at a glance:
// an overlap (more held than there is), and an idle permit while somebody waits.

import { svg } from "./dom.js";

/** Seconds that a timeline shows at the most, and at the least: it grows while one watches. */
export const SHOWN = 300;
const LEAST = 60;

const WIDTH = 200;
const HEIGHT = 22;

/** Return how many seconds a timeline shows at `now` whose first sample is that old. */
export const windowOf = (first, now) => Math.min(SHOWN, Math.max(LEAST, now - (first ?? now)));

/** Return stretches [from, until, sample] of what was seen between two moments. */
export function stretches(samples, from, until) {
  return samples
    .map((sample, at) => [Math.max(sample[0], from), Math.min(samples[at + 1]?.[0] ?? until, until), sample])
    .filter(([begin, end, [, capacity]]) => end > begin && capacity >= 0);
}

/** Whether more permits are held than there are. */
export const isOver = ([, capacity, held]) => held > capacity;

/** Whether somebody waits although permits are free. */
export const isIdle = ([, capacity, held, waiting]) => waiting > 0 && held < capacity;

/** Return the strip of a limit: so many seconds until `now`, backend's clock. */
export function strip(samples, now, seconds) {
  const from = now - seconds;
  const x = (span) => (WIDTH * span) / seconds;
  const parts = stretches(samples, from, now);
  const bars = parts.flatMap(([begin, end, sample]) => {
    const [, capacity, held, waiting] = sample;
    const place = { x: x(begin - from), width: Math.max(0.7, x(end - begin)) };
    const share = capacity ? Math.min(1, held / capacity) : 0;
    return [
      bar("ground", place, 0, 16),
      isIdle(sample) && bar("idle", place, 0, 16),
      held > 0 && bar(isOver(sample) ? "over" : "held", place, 16 - 16 * share, 16 * share),
      waiting > 0 && bar("waiting", place, 18, 4),
    ].filter(Boolean);
  });
  return svg("svg", {
    class: "strip", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img",
    preserveAspectRatio: "none", "aria-label": inWords(parts),
  }, ...bars);
}

/** Return the attributes that make a mark look like its kind. */
export const look = (kind) => (kind === "idle" ? { class: kind, fill: "url(#hatch)" } : { class: kind });

/** Say what a timeline shows to those who do not see it. */
export function inWords(parts) {
  const over = parts.filter(([, , sample]) => isOver(sample)).length;
  const idle = parts.filter(([, , sample]) => isIdle(sample)).length;
  const words = [over && "more held than there is", idle && "a permit idle while somebody waited"].filter(Boolean);
  return `Last minutes: ${words.join("; ") || "nothing unusual"}`;
}

function bar(kind, place, y, height) {
  return svg("rect", { ...look(kind), ...place, y, height });
}
