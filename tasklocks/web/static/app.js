// The frame: which part is shown, what the backend's clock says, and what is said about the whole.

import * as beats from "./beats.js";
import * as detail from "./detail.js";
import { el, replace, say } from "./dom.js";
import { count } from "./format.js";
import * as list from "./list.js";
import { holdStill, watch } from "./live.js";
import * as rates from "./rates.js";
import { begin, login, may } from "./session.js";

const PARTS = { limits: list, limit: detail, rates, beats };
const main = document.getElementById("main");
let clock = { at: null, heard: 0 };
let shown = null;
const still = document.getElementById("still");
let announced = { text: "", when: -Infinity };
let news = "";

/** Return the backend's clock, as far as the last look tells. */
const now = () => (clock.at === null ? null : clock.at + (performance.now() - clock.heard) / 1000);

function route() {
  // The address that `tasklocks web` prints, opened in a page that was here already.
  if (location.hash.startsWith("#token=")) return location.reload();
  const [path, query = ""] = location.hash.slice(2).split("?");
  const [view, name] = path.startsWith("limit/") ? ["limit", decodeURIComponent(path.slice(6))] : [path || "limits", ""];
  open(view in PARTS ? view : "limits", { name, ...Object.fromEntries(new URLSearchParams(query)) });
}

function open(view, parameters) {
  for (const link of document.querySelectorAll("nav a")) {
    link.toggleAttribute("aria-current", link.dataset.view === view);
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
  }
  const before = shown;
  shown = PARTS[view].open(main, parameters, now);
  if (before && before.view !== view) main.focus({ preventScroll: true });
  shown.view = view;
  watch({ view, ...parameters }, { look, totals, backend, ...shown.heard });
}

function look({ at, error }) {
  if (at !== null) clock = { at, heard: performance.now() };
  document.getElementById("dot").className = error ? "bad" : "good";
  say(document.getElementById("told"), error || "live");
}

function backend(name) {
  say(document.getElementById("backend"), name);
}

function totals({ used, awaited, waiting, over }) {
  const line = awaited ? `${count(awaited, "limit")} with ${count(waiting, "waiter")}` : "nobody waits";
  const parts = [`${count(used, "limit")} in use`, line];
  if (over) parts.push(`${count(over, "limit")} with more held than there is`);
  say(document.getElementById("totals"), parts.join(", "));
  news = `${awaited ? count(awaited, "limit") : "No limit"} with waiters${over ? `, ${over} with an overlap` : ""}`;
  announce();
}

/** Tell those who listen instead of looking, not more often than they can hear it. */
function announce() {
  const text = news;
  if (text === announced.text || performance.now() < announced.when + 10000) return;
  announced = { text, when: performance.now() };
  say(document.getElementById("announced"), text);
}

function tick() {
  announce();
  const busy = !getSelection().isCollapsed && main.contains(getSelection().anchorNode);
  // Who is just copying an id wants to go on doing so.
  if (now() !== null && !busy && still.getAttribute("aria-pressed") === "false") shown?.tick?.();
}

async function why(event) {
  event.preventDefault();
  const task = document.getElementById("task").value.trim();
  const answer = document.getElementById("answer");
  if (!task) return replace(answer);
  const said = await (await fetch(`api/why?${new URLSearchParams({ task })}`)).json();
  const found = (said.sentences ?? []).map(({ limit, sentence }) =>
    el("p", {}, sentence, " ", el("a", { href: `#/limit/${encodeURIComponent(limit)}` }, "Show the limit")));
  const none = said.error ?? `The task ${task} neither holds nor waits for a lock here.`;
  replace(answer, ...(found.length ? found : [el("p", {}, none)]));
}

function askToken() {
  const problem = el("p", { role: "alert", class: "problem" });
  const token = el("input", { id: "token", type: "password", autocomplete: "off" });
  replace(main, el("form", { class: "login", onsubmit: enter },
    el("h2", {}, "Who are you?"),
    el("p", {}, "Open the address that ", el("code", {}, "tasklocks web"), " printed, or give the token in it."),
    el("p", {}, el("label", { for: "token" }, "Token"), " ", token, " ", el("button", {}, "Log in")), problem));

  async function enter(event) {
    event.preventDefault();
    problem.textContent = await login(token.value.trim());
    if (may.readable) start();
  }
}

function start() {
  document.documentElement.classList.toggle("acting", may.can_act);
  addEventListener("hashchange", route);
  route();
  setInterval(tick, 1000);
}

still.addEventListener("click", () => {
  const wanted = still.getAttribute("aria-pressed") === "false";
  still.setAttribute("aria-pressed", wanted);
  say(document.getElementById("told"), wanted ? "held still" : "live");
  holdStill(wanted);
});
document.getElementById("why").addEventListener("submit", why);
document.getElementById("skip").addEventListener("click", (event) => {
  // The part behind the # is ours.
  event.preventDefault();
  main.focus();
});
await begin();
if (may.readable) start();
else askToken();
