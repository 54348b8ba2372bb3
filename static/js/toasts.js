// Short notes at the bottom of the page.
import { make } from "./dom.js";

const STAYS = 10_000;
const MOST = 3;

/**
 * Say `text`; with an action, offer a button. Errors stay until they are closed.
 *
 * What is said anew `about` the same takes the place of what was said before.
 */
export function toast(text, { action = "", act = null, error = false, about = text } = {}) {
  const shelf = document.getElementById("toasts");
  const element = make("div", { class: error ? "toast is-bad" : "toast" }, make("p", {}, text));
  const dismiss = () => element.remove();
  if (act) {
    const button = make("button", { class: "small", type: "button" }, action);
    button.addEventListener("click", () => {
      dismiss();
      act();
    });
    element.append(button);
  }
  const close = make("button", { class: "small close", type: "button", "aria-label": "Close" }, "×");
  close.addEventListener("click", dismiss);
  element.append(close);
  element.dataset.about = about;
  for (const known of [...shelf.children]) if (known.dataset.about === about) known.remove();
  if (shelf.children.length >= MOST) shelf.querySelector(".toast:not(.is-bad)")?.remove();
  shelf.append(element);
  if (error) return;
  let timer = 0;
  const wait = () => {
    timer = setTimeout(dismiss, STAYS);
  };
  // Whoever is about to use it has all the time they need.
  element.addEventListener("pointerenter", () => clearTimeout(timer));
  element.addEventListener("focusin", () => clearTimeout(timer));
  element.addEventListener("pointerleave", wait);
  element.addEventListener("focusout", wait);
  wait();
}
