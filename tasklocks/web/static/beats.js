// Beats: who leads each schedule, and its last ticks.

import { el, replace, table } from "./dom.js";
import { ago, count, when } from "./format.js";

const HEADERS = ["Entry", "Due", "Claimed", "Late by", "State"];

/** Show beats in `main`; return what to do with what is heard. */
export function open(main, parameters, now) {
  const parts = el("div");
  let beats = null;
  replace(main, el("section", { id: "beats" }, el("h2", {}, "Beats"), parts));
  return { heard: { beats: (said) => { beats = said; tick(); } }, tick };

  function tick() {
    if (beats === null) return;
    const none = el("p", {}, "No beat with tasklocks.beat:LeaderScheduler has written here.");
    replace(parts, ...(beats.length ? beats.map((beat) => shown(beat, now())) : [none]));
  }
}

function shown({ schedule, leader, entries, ticks }, now) {
  const leads = leader
    ? `Process ${leader.pid} on ${leader.host} has led for ${ago(now - leader.since)}, fencing token ${leader.token}.`
    : "Nobody leads now.";
  const rows = ticks.map(({ entry, at, due, sent }) => [
    entry, when(due), `${when(at)}, ${ago(now - at)} ago`, ago(at - due), sent ? "sent" : "about to be sent, or in doubt"]);
  return el("section", {}, el("h3", {}, schedule),
    el("p", { class: !leader && "problem" }, leads, ` ${count(entries, "entry", "entries")}.`),
    ticks.length ? table("Last ticks", HEADERS, rows, [3]) : el("p", {}, "Nothing has been due yet."));
}
