// Bars of steps that are under way grow; the arithmetic is that of workspaces/portal/waterfall.py.
import { drawn, onFresh } from "./dom.js";

const SHORTEST = 4;
const MOST_TICKS = 5;
const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];

/** A length of time for people. */
export function lasted(seconds) {
  if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

function tickLabel(seconds) {
  if (seconds < 60) return `${seconds} s`;
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function drawAxis(axis, length) {
  const every = STEPS.find((step) => length / step <= MOST_TICKS) ?? length / MOST_TICKS;
  const marks = [];
  for (let at = 0; at <= length; at += every) {
    const x = `${((100 * at) / length).toFixed(2)}%`;
    marks.push(drawn("line", { x1: x, x2: x, y1: 16, y2: "100%" }), drawn("text", { x, y: 11 }, tickLabel(at)));
  }
  axis.replaceChildren(...marks);
}

function grow(plot, elapsed) {
  const bars = [...plot.querySelectorAll("[data-bar]")];
  const length = Math.max(elapsed * 1.04, SHORTEST);
  drawAxis(plot.querySelector("[data-axis]"), length);
  for (const bar of bars) {
    if (bar.dataset.begin === "") continue;
    const begin = Number(bar.dataset.begin);
    const end = bar.dataset.end === "" ? elapsed : Number(bar.dataset.end);
    bar.setAttribute("x", `${((100 * begin) / length).toFixed(2)}%`);
    bar.setAttribute("width", `${Math.max((100 * (end - begin)) / length, 0.6).toFixed(2)}%`);
    if (bar.dataset.end === "") bar.closest("[data-step]").querySelector("[data-lasted]").textContent = lasted(end - begin);
  }
}

const taken = new WeakMap();

function note(root) {
  for (const plot of (root.parentElement ?? root).querySelectorAll("[data-waterfall]")) {
    taken.set(plot, performance.now() - 1000 * Number(plot.dataset.elapsed));
  }
}

const underWay = () =>
  [...document.querySelectorAll("[data-waterfall]")].filter((plot) => Number(plot.dataset.elapsed) > 0);

/** Let every plot of the page whose start is under way go on; while there is none, nothing runs. */
export function animate() {
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let last = 0;
  let asked = 0;
  function step(now) {
    const plots = underWay();
    asked = plots.length ? requestAnimationFrame(step) : 0;
    if (now - last <= (calm.matches ? 1000 : 60)) return;
    last = now;
    for (const plot of plots) grow(plot, (now - taken.get(plot)) / 1000);
  }
  function look(root) {
    note(root);
    if (!asked && underWay().length) asked = requestAnimationFrame(step);
  }
  look(document);
  onFresh(look);
}
