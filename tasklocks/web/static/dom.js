// Makes elements. Text is always text: what comes from a backend can never become markup.

/** Return an element with these attributes and children; `on…` are listeners, null and false leave out. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/** Return a table with a caption and headers; `numbers` says which columns are aligned to the right. */
export function table(caption, headers, rows, numbers = []) {
  const head = headers.map((text, at) => el("th", { scope: "col", class: numbers.includes(at) && "number" }, text));
  const body = rows.map((cells) =>
    el("tr", {}, ...cells.map((cell, at) => el("td", { class: numbers.includes(at) && "number" }, cell))));
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body)));
}

/** Set the text of an element, if it is another one: what stays is not announced again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Put new content in the place of the old one; where the keyboard was, it stays. */
export function replace(parent, ...children) {
  const key = parent.contains(document.activeElement) && document.activeElement.dataset.key;
  parent.replaceChildren(...children.filter(Boolean));
  if (key) parent.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}
