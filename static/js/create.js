// The form for a new workspace: suggestions, branches, and what is known of the repository.
import { combobox } from "./combobox.js";
import { drawn, make } from "./dom.js";

const PAUSE = 450;
const MOST_SHARES = 5;
const UNITS = ["kB", "MB", "GB", "TB"];

async function ask(address, parameters, signal) {
  const url = new URL(address, location.href);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  const answer = await fetch(url, { headers: { Accept: "application/json" }, signal });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.detail), { problem: body });
  return body;
}

function size(kilobytes) {
  let amount = kilobytes;
  let unit = 0;
  while (amount >= 1000 && unit < UNITS.length - 1) [amount, unit] = [amount / 1000, unit + 1];
  return `${amount >= 10 || unit === 0 ? Math.round(amount) : amount.toFixed(1)} ${UNITS[unit]}`;
}

function languageBar(languages) {
  const counted = Object.entries(languages).filter(([, bytes]) => bytes > 0).sort((a, b) => b[1] - a[1]);
  if (!counted.length) return null;
  const total = counted.reduce((sum, [, bytes]) => sum + bytes, 0);
  const rest = counted.slice(MOST_SHARES).reduce((sum, [, bytes]) => sum + bytes, 0);
  const parts = [...counted.slice(0, MOST_SHARES), ...(rest ? [["Other", rest]] : [])];
  const bar = drawn("svg", { class: "language-bar", "aria-hidden": "true" });
  const names = make("ul");
  let before = 0;
  parts.forEach(([name, bytes], rank) => {
    const share = (100 * bytes) / total;
    bar.append(drawn("rect", { class: `lang-${rank}`, x: `${before}%`, width: `${share}%`, height: 8 }));
    names.append(make("li", {}, make("i", { class: `swatch lang-${rank}` }), `${name} `, make("span", { class: "soft" }, `${share.toFixed(1)} %`)));
    before += share;
  });
  return make("div", { class: "languages" }, bar, names);
}

function factsOf(found) {
  const visibility = { public: "Public", private: "Private", internal: "Internal" }[found.visibility];
  const bits = [visibility, found.size_kb ? size(found.size_kb) : "", found.default_branch ? `default branch ${found.default_branch}` : ""];
  return [
    make("strong", {}, found.full_name),
    found.moved_from ? make("p", { class: "soft" }, `It was renamed: ${found.moved_from} is an older name.`) : null,
    found.description ? make("p", {}, found.description.slice(0, 300)) : null,
    make("p", { class: "soft first-big" }, bits.filter(Boolean).join(" · ")),
    languageBar(found.languages),
  ].filter(Boolean);
}

/** Help with filling in `form`. */
export function attach(form) {
  const { repo, branch } = form.elements;
  const facts = form.querySelector("#repo-facts");
  const branches = facts.dataset.branches;
  let looked = "";
  let asking = null;
  let timer = 0;

  function forget() {
    facts.hidden = true;
    branch.placeholder = "Default branch";
  }

  async function look() {
    const text = repo.value.trim();
    if (text === looked) return;
    looked = text;
    asking?.abort();
    if (!text) return forget();
    asking = new AbortController();
    const { signal } = asking;
    try {
      const found = await ask(branches, { repo: text }, signal);
      facts.classList.remove("is-bad");
      facts.replaceChildren(...factsOf(found));
      branch.placeholder = found.branch ?? found.default_branch ?? "Default branch";
      repo.removeAttribute("aria-invalid");
    } catch (error) {
      if (signal.aborted) return;
      if (!error.problem) return forget();
      facts.classList.add("is-bad");
      facts.replaceChildren(make("p", {}, [error.problem.detail, error.problem.next_step].filter(Boolean).join(" ")));
      branch.placeholder = "Default branch";
    }
    facts.hidden = false;
    form.querySelector("#repo-error")?.remove();
  }

  function lookSoon() {
    clearTimeout(timer);
    // Half a name asks for nothing: only what could be whole is looked up while typing.
    if (/[^/\s]\/[^/\s]/.test(repo.value)) timer = setTimeout(look, PAUSE);
    else if (repo.value.trim() !== looked) forget();
  }

  combobox(
    repo,
    async (text, signal) => {
      const found = await ask(repo.dataset.suggestions, { query: text }, signal);
      return found.repositories
        .filter((hit) => hit.repo !== text)
        .map((hit) => ({ value: hit.repo, label: hit.full_name, note: [hit.private ? "Private" : "", hit.description].filter(Boolean).join(" · ") }));
    },
    look,
  );
  combobox(branch, async (text, signal) => {
    if (!repo.value.trim()) return [];
    const found = await ask(branches, { repo: repo.value.trim(), query: text }, signal);
    return found.branches.filter((name) => name !== text).map((name) => ({ value: name, label: name, note: name === found.default_branch ? "Default branch" : "" }));
  });
  repo.addEventListener("input", lookSoon);
  repo.addEventListener("change", look);
  form.addEventListener("submit", () => {
    const button = form.querySelector("button.primary");
    button.setAttribute("aria-busy", "true");
    setTimeout(() => button.removeAttribute("aria-busy"), 15_000);
  });
  if (repo.value.trim()) look();
}
