// Steering: asks first, says what it does, and reports what came of it.

import { el } from "./dom.js";
import { act, may } from "./session.js";

/** Return the header of a column of buttons, and of a line its cell; nothing for those who may not. */
export const column = (cell) => (may.can_act ? [cell] : []);

/** Return a button that does something after a question; null for those who may not. */
export function button(label, key, { title, text, word, fields = [], asked }) {
  if (!may.can_act) return null;
  return el("button", { type: "button", "data-key": key, onclick: () => ask({ title, text, word, fields, asked }) }, label);
}

function ask({ title, text, word, fields, asked }) {
  const problem = el("p", { role: "alert", class: "problem" });
  const inputs = fields.map(([name, label, attributes]) =>
    el("p", {}, el("label", { for: `ask-${name}` }, label), " ", el("input", { id: `ask-${name}`, name, ...attributes })));
  const form = el("form", { onsubmit: submit },
    el("h2", { id: "ask-title" }, title), el("p", {}, text), ...inputs, problem,
    el("p", { class: "buttons" },
      el("button", { type: "submit", class: "danger" }, title),
      el("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
  const dialog = el("dialog", { "aria-labelledby": "ask-title", onclose: () => dialog.remove() }, form);
  document.body.append(dialog);
  dialog.showModal();

  async function submit(event) {
    event.preventDefault();
    try {
      await act(word, asked(new FormData(form)));
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
    }
  }
}
