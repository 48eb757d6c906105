// One limit: its last minutes, each holder, each waiter and why it waits.

import { button, column } from "./actions.js";
import { el, replace, table } from "./dom.js";
import { ago, count, when } from "./format.js";
import { timeline } from "./timeline.js";

const HOLDERS = ["Task", "Id", "Worker", "Pid", "Permits", "Since", "Held for", "Lease left", "Fencing token"];
const WAITERS = ["Place", "Task", "Id", "Worker", "Permits", "Since", "Waits for", "Expected in", "Why"];

/** Show a limit in `main`; return what to do with what is heard. */
export function open(main, { name }, now) {
  const head = el("div");
  const picture = el("div");
  const tables = el("div");
  let limit;
  let past = { samples: [], holds: [], waits: [] };
  replace(main, el("section", { id: "limit" },
    el("p", {}, el("a", { href: "#/" }, "All limits")), el("h2", {}, name), head, picture, tables));
  return { heard: { limit: (said) => { limit = said; tick(); }, timeline: (said) => { past = said; } }, tick };

  function tick() {
    if (limit === undefined) return;
    if (limit === null) {
      replace(head, el("p", {}, "Nothing is known of a limit of this name: it was never used, or not for an hour."));
      return;
    }
    replace(head, summary(limit));
    replace(picture, timeline(past, now()));
    replace(tables, holders(limit, now()), waiters(limit, now()));
  }
}

function summary(limit) {
  const usual = limit.usual === null ? "" : `, usually held for ${ago(limit.usual)}`;
  const resized = limit.resized === null ? "" : `; an operator said ${count(limit.resized, "permit")}`;
  return el("p", { class: "buttons" },
    el("span", { id: "summary" }, `${limit.kind}: ${limit.held} of ${count(limit.capacity, "permit")} held${usual}${resized}`),
    limit.held > limit.capacity && el("span", { class: "badge beyond" }, "overlap"),
    button("Resize", "resize", {
      title: "Resize", word: "resize",
      text: `How many permits has ${limit.name} from now on? Empty: as many as the code says. ` +
        "It counts in some seconds, and if the code says Resizable.",
      fields: [["permits", "Permits", { type: "number", min: 1, step: 1 }]],
      asked: (form) => ({ name: limit.name, permits: form.get("permits") ? Number(form.get("permits")) : null }),
    }));
}

function holders(limit, now) {
  if (!limit.holders.length) return el("p", {}, "Nobody holds it.");
  const rows = limit.holders.map((each) => [
    each.task || "–", each.id || each.owner, each.worker || "–", each.pid || "–", String(each.permits), when(each.since),
    ago(now - each.since), ago(each.ends - now), each.token, ...column(release(limit, each))]);
  return table(`Holders${more(limit.holders, limit.holding)}`, [...HOLDERS, ...column("Steer")], rows, [4, 6, 7, 8]);
}

function waiters(limit, now) {
  if (!limit.waiters.length) return el("p", {}, "Nobody waits.");
  const rows = limit.waiters.map((each) => [
    String(each.place), each.task || "–", each.id || each.ticket, each.worker || "–", String(each.permits), when(each.since),
    ago(now - each.since), expected(each), el("span", { class: "why" }, each.why)]);
  return table(`Waiters${more(limit.waiters, limit.waiting)}`, WAITERS, rows, [0, 4, 6, 7]);
}

function expected(each) {
  const soon = each.expected === null ? "–" : each.expected < 1 ? "any moment" : ago(each.expected);
  return `${soon}, ${each.listening ? "is told" : "comes back"}`;
}

function more(shown, all) {
  return shown.length < all ? ` (the first ${shown.length} of ${all})` : "";
}

function release(limit, each) {
  return button("Release", `release ${each.owner}`, {
    title: "Release", word: "release",
    text: `Take ${limit.name} away from ${each.task || each.owner} (${each.id || each.owner}) ` +
      `on ${each.worker || "somewhere"}? If it is alive, it learns it at its next renewal; ` +
      "until then it may go on, beside whoever comes next.",
    asked: () => ({ name: limit.name, owner: each.owner }),
  });
}
