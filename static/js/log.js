// The log of a workspace's latest run: the last lines, by source, looked at again while something is under way.
import { make } from "./dom.js";

const MOST = 2000;
const EVERY = 2000;
// Colours and cursor moves of terminals (ECMA-48, section 5.4), and what else is not text.
const CONTROL = /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[\u0000-\u0008\u000b-\u001f\u007f]/g;

const clean = (text) => text.replace(CONTROL, "");

function lineOf({ time, source, level, text }) {
  const line = make("div", { class: `log-line log-${level}`, title: time ? new Date(time).toLocaleString() : null });
  line.append(make("span", {}, source), make("span", {}, clean(text)));
  line.dataset.source = source;
  return line;
}

/** Show the log inside of `box`. */
export function attach(box) {
  const lines = box.querySelector("[data-log-lines]");
  const choice = box.querySelector("[data-log-source]");
  const note = box.querySelector("[data-log-note]");
  const trouble = box.querySelector("[data-log-trouble]");
  let shown = [];

  function addSources(entries) {
    const known = new Set([...choice.options].map((option) => option.value));
    for (const { source } of entries) {
      if (!known.has(source)) choice.append(make("option", { value: source }, source));
      known.add(source);
    }
  }

  function filter() {
    for (const line of lines.children) line.hidden = choice.value !== "" && line.dataset.source !== choice.value;
  }

  function show(all) {
    const entries = all.slice(-MOST);
    const follows = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
    const last = shown.length ? JSON.stringify(shown.at(-1)) : null;
    const known = last ? entries.findLastIndex((entry) => JSON.stringify(entry) === last) : -1;
    if (known < 0) lines.replaceChildren();
    lines.append(...entries.slice(known + 1).map(lineOf));
    while (lines.children.length > MOST) lines.firstChild.remove();
    shown = entries;
    addSources(entries);
    filter();
    note.textContent = entries.length ? `${entries.length === MOST ? "Last " : ""}${entries.length} lines` : "Nothing was written yet.";
    if (follows) lines.scrollTop = lines.scrollHeight;
  }

  async function look() {
    try {
      const answer = await fetch(box.dataset.log, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(String(answer.status));
      show((await answer.json()).lines);
      trouble.textContent = "";
    } catch {
      note.textContent = "";
      trouble.textContent ||= "The log cannot be read just now.";
    }
  }

  function underWay() {
    const state = document.querySelector("#detail_head, #start_panel")?.dataset.state;
    if (state === "running") return document.querySelector(".step-running") !== null;
    return ["pending", "starting", "stopping"].includes(state);
  }

  const visible = () => document.visibilityState === "visible" && box.checkVisibility();
  let quiet = 0;
  choice.addEventListener("change", filter);
  box.querySelector("[data-log-refresh]").addEventListener("click", look);
  box.closest("details")?.addEventListener("toggle", look);
  setInterval(() => {
    // One more look after the end: the last lines come together with it.
    quiet = underWay() ? 0 : quiet + 1;
    if (quiet < 3 && visible()) look();
  }, EVERY);
  if (visible()) look();
}
