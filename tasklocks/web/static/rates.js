// Rate limits: how far ahead their starts are reserved, what a window has counted, and pauses.

import { button, column } from "./actions.js";
import { el, replace, svg, table } from "./dom.js";
import { ago } from "./format.js";
import { SHOWN, windowOf } from "./strip.js";

const HEADERS = [
  "Rate limit", "Counts by", "Reserved ahead", "Counted in its window", "Paused for", "Reserved ahead, last minutes"];
// Of the rate limits that were shown since the page was opened.
const pasts = new Map();
const COUNTS = { gcra: "even pace", sliding: "sliding window", fixed: "calendar quota", "": "nothing yet" };

/** Show rate limits in `main`; return what to do with what is heard. */
export function open(main, parameters, now) {
  const tables = el("div");
  let rates = null;
  replace(main, el("section", { id: "rates" }, el("h2", {}, "Rate limits"),
    el("p", {}, "Reserved ahead: for how long starts are booked already. More demand than the rate allows makes it grow."), tables));
  return { heard: { rates: heard }, tick };

  function heard(said) {
    rates = said;
    tick();
  }

  function note(each) {
    const past = pasts.get(each.name) ?? [];
    past.push([now(), left(each.booked_until)]);
    pasts.set(each.name, past.filter(([at]) => at > now() - SHOWN));
  }

  function left(until) {
    return Math.max(0, until - now());
  }

  function tick() {
    if (rates === null) return;
    rates.forEach(note);
    const rows = rates.map((each) => [
      each.name, COUNTS[each.algorithm] ?? each.algorithm, ago(left(each.booked_until)),
      each.used === null ? "–" : String(each.used), left(each.paused_until) ? ago(left(each.paused_until)) : "–",
      spark(pasts.get(each.name) ?? [], now()), ...column(steer(each, left(each.paused_until) > 0))]);
    replace(tables, rates.length ? table("Rate limits", [...HEADERS, ...column("Steer")], rows, [2, 3, 4]) : el("p", {}, "No rate limit was used lately."));
  }
}

function steer(each, paused) {
  return el("span", { class: "buttons" },
    button("Pause", `pause ${each.name}`, {
      title: "Pause", word: "pause", text: `Let nothing start under ${each.name} for so long? What is reserved moves by as much.`,
      fields: [["seconds", "Seconds", { type: "number", min: 1, required: true, value: 60 }]],
      asked: (form) => ({ name: each.name, seconds: Number(form.get("seconds")) }),
    }),
    paused && button("Resume", `resume ${each.name}`, {
      title: "Resume", word: "resume", text: `End the pause of ${each.name} now?`, asked: () => ({ name: each.name }),
    }));
}

function spark(past, now) {
  const most = Math.max(1, ...past.map(([, booked]) => booked));
  const seconds = windowOf(past[0]?.[0], now);
  const points = past.map(([at, booked]) => `${200 - (200 * (now - at)) / seconds},${22 - (20 * booked) / most}`);
  return svg("svg", {
    class: "strip", viewBox: "0 0 200 22", width: 200, height: 22, role: "img", "aria-label": `at most ${ago(most)}`,
  },
    svg("rect", { class: "ground", width: 200, height: 22 }), svg("polyline", { class: "spark", points: points.join(" ") }));
}
