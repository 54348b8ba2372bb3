// The start page leads on to the editor as soon as it is there.
import { onFresh } from "./dom.js";

const MOST_TRIES = 3;
const WITHIN = 10_000;

/** Counts how often this page has led on lately: where a workspace sends people back, it does so at a calm pace. */
function mayLeadOn(address) {
  const key = `slipway:led-on:${address}`;
  const now = Date.now();
  const lately = JSON.parse(sessionStorage.getItem(key) ?? "[]").filter((moment) => now - moment < WITHIN);
  if (lately.length >= MOST_TRIES) return false;
  sessionStorage.setItem(key, JSON.stringify([...lately, now]));
  return true;
}

/** Watch the panel inside of `root`. */
export function watch(root) {
  let gone = false;
  let later;
  function look() {
    const panel = root.querySelector("#start_panel");
    clearTimeout(later);
    if (gone || panel?.dataset.state !== "running") return;
    gone = mayLeadOn(panel.dataset.landing);
    if (gone) location.replace(panel.dataset.landing);
    else later = setTimeout(look, WITHIN);
  }
  function showLog() {
    const failed = root.querySelector("#start_panel")?.dataset.state === "failed";
    if (failed) root.querySelector(".log-box").open = true;
  }
  onFresh(() => {
    look();
    showLog();
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) gone = false;
  });
  look();
}
