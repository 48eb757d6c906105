// The list of limits: a page of it, searched and sorted by the server; here lines are kept, and changed in place.

import { el, replace, say } from "./dom.js";
import { ago, count } from "./format.js";
import { strip, windowOf } from "./strip.js";

const PAGE = 50;
const HEADERS = ["Limit", "Held", "Waiters", "Longest hold", "Usual hold", "Last minutes"];
const ORDERS = { trouble: "trouble first", hold: "longest hold first", held: "most held first", name: "by name" };

/** Show the list in `main`; return what to do with what is heard. */
export function open(main, parameters, now) {
  const again = main.querySelector("#list");
  const frame = again ? main.frame : made(main);
  const lines = new Map();
  let order = [];
  frame.search.value = document.activeElement === frame.search ? frame.search.value : parameters.q ?? "";
  frame.order.value = parameters.order ?? "trouble";
  frame.idle.checked = parameters.idle === "1";
  return { heard: { list: heard }, tick };

  function heard({ order: wanted, rows, found, total }) {
    for (const [name, row] of Object.entries(rows)) {
      const line = lines.get(name) ?? newLine(name, now());
      line.take(row, now());
      lines.set(name, line);
    }
    for (const name of lines.keys()) if (!wanted.includes(name)) lines.delete(name);
    if (order.join("\n") !== wanted.join("\n") || frame.body.children.length !== wanted.length) {
      replace(frame.body, ...wanted.map((name) => lines.get(name).row));
    }
    order = wanted;
    const page = Number(parameters.page ?? 0);
    const all = `${count(found, "limit")}${found < total ? ` (${total} in all)` : ""}`;
    const none = total ? "Nothing has this name" : "No limit is in use";
    say(frame.found, found ? `${page * PAGE + Math.min(1, wanted.length)}–${page * PAGE + wanted.length} of ${all}` : none);
    frame.previous.disabled = page === 0;
    frame.next.disabled = (page + 1) * PAGE >= found;
    tick();
  }

  function tick() {
    const firsts = [...lines.values()].map((line) => line.first()).filter(Boolean);
    const seconds = windowOf(Math.min(...firsts), now());
    for (const line of lines.values()) line.tick(now(), seconds);
  }
}

function made(main) {
  const hint = "name, pattern with *, or task id";
  const search = el("input", { type: "search", id: "search", placeholder: hint, autocomplete: "off", spellcheck: "false" });
  const options = Object.entries(ORDERS).map(([value, text]) => el("option", { value }, text));
  const order = el("select", { id: "order" }, ...options);
  const idle = el("input", { type: "checkbox", id: "idle" });
  const found = el("span", { id: "found" });
  const previous = el("button", { type: "button", onclick: () => go(-1) }, "Previous");
  const next = el("button", { type: "button", onclick: () => go(1) }, "Next");
  const body = el("tbody");
  let later = 0;
  search.addEventListener("input", () => {
    clearTimeout(later);
    later = setTimeout(() => go(null), 150);
  });
  order.addEventListener("change", () => go(null));
  idle.addEventListener("change", () => go(null));
  const heads = HEADERS.map((text, at) => el("th", { scope: "col", class: at > 0 && at < 5 && "number" }, text));
  replace(main, el("section", { id: "list" },
    el("form", { class: "bar", role: "search", "aria-label": "Limits", onsubmit: (event) => event.preventDefault() },
      el("label", { for: "search" }, "Find"), search, el("label", { for: "order" }, "Order"), order,
      el("label", {}, idle, " also unused ones"), previous, found, next),
    el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Limits" },
      el("table", {}, el("caption", { class: "quiet" }, "Limits"), el("thead", {}, el("tr", {}, ...heads)), body))));
  return (main.frame = { search, order, idle, found, previous, next, body });

  function go(step) {
    const before = new URLSearchParams(location.hash.split("?")[1] ?? "");
    const page = step === null ? 0 : Math.max(0, Number(before.get("page") ?? 0) + step);
    const sorted = order.value === "trouble" ? "" : order.value;
    const wanted = { q: search.value.trim(), order: sorted, idle: idle.checked ? "1" : "", page: page || "" };
    const said = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== ""));
    location.hash = `#/${said.size ? `?${said}` : ""}`;
  }
}

function newLine(name, began) {
  const bar = el("span", { class: "fill" });
  const numbers = el("span", { class: "held-of" });
  const badge = el("span", { class: "badge" });
  const number = () => el("td", { class: "number" });
  const cells = { waiters: number(), longest: number(), usual: number(), past: el("td") };
  const link = el("a", { href: `#/limit/${encodeURIComponent(name)}`, "data-key": `limit ${name}` }, name);
  const row = el("tr", { "data-name": name },
    el("th", { scope: "row" }, link, " ", badge),
    el("td", { class: "number" }, el("span", { class: "utilisation", "aria-hidden": "true" }, bar), numbers),
    cells.waiters, cells.longest, cells.usual, cells.past);
  let last = null;
  let samples = [];
  return { row, take, tick, first: () => samples[0]?.[0] };

  function take(changed, at) {
    samples = changed.strip ?? samples;
    last = changed;
    const sample = [at ?? began, changed.capacity, changed.held, changed.waiters];
    const before = samples.at(-1);
    if (!before || before.slice(1).join() !== sample.slice(1).join()) samples.push(sample);
    if (samples.length > 400) samples.splice(0, 100);
  }

  function tick(at, seconds) {
    const over = last.held > last.capacity;
    const idle = last.waiters > 0 && last.held < last.capacity;
    say(numbers, `${last.held}/${last.capacity}`);
    // Not as an attribute: the page's own rules forbid styles in markup.
    bar.style.width = `${100 * Math.min(1, last.capacity ? last.held / last.capacity : 0)}%`;
    bar.classList.toggle("full", last.held >= last.capacity);
    bar.classList.toggle("beyond", over);
    say(badge, over ? "overlap" : idle ? "idle permit" : "");
    badge.className = over ? "badge beyond" : idle ? "badge idle" : "badge";
    say(cells.waiters, String(last.waiters));
    say(cells.longest, last.since === null ? "–" : ago(at - last.since));
    say(cells.usual, ago(last.usual));
    row.classList.toggle("awaited", last.waiters > 0);
    cells.past.replaceChildren(strip(samples, at, seconds));
  }
}
