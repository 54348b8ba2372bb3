// Building elements. Text only ever becomes text: what users named cannot become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with properties (class, attributes) and children, which are elements or text. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  return fill(element, attributes, children);
}

/** The same for SVG. */
export function drawn(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The elements of a text of HTML that our own server rendered. Nothing in it runs. */
export function parse(html) {
  return new DOMParser().parseFromString(html, "text/html");
}

/** The token that proves to the server that a change comes from this page. */
export function csrfToken() {
  return document.querySelector("input[name=csrfmiddlewaretoken]")?.value ?? "";
}

/** Tell whoever cares that parts of the page are new. */
export function announceFresh(root) {
  document.dispatchEvent(new CustomEvent("slipway:fresh", { detail: root }));
}

/** Calls `react` with each part of the page that is new from now on. */
export function onFresh(react) {
  document.addEventListener("slipway:fresh", (event) => react(event.detail));
}
