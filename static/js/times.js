// Times in the reader's own words and zone.
import { onFresh } from "./dom.js";

const STEPS = [[60, "second", 1], [3600, "minute", 60], [86400, "hour", 3600], [2592000, "day", 86400]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });

/** How long ago, or how long from now, in words. */
export function words(moment, now = new Date()) {
  const seconds = (moment - now) / 1000;
  const size = Math.abs(seconds);
  if (size < 20) return seconds > 0 ? "in a moment" : "just now";
  const [, unit, length] = STEPS.find(([limit]) => size < limit) ?? [];
  return unit ? relative.format(Math.trunc(seconds / length), unit) : day.format(moment);
}

function say(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const text = words(moment);
    if (element.textContent !== text) element.textContent = text;
    if (!element.dataset.local) {
      element.title = exact.format(moment);
      element.dataset.local = "yes";
    }
  }
}

/** Keep all times of the page right. */
export function keep() {
  say(document);
  setInterval(() => say(document), 20_000);
  onFresh(say);
}
