// A text field with suggestions, by the combobox pattern of the ARIA Authoring Practices: free text stays allowed.
import { make } from "./dom.js";

const PAUSE = 180;
let count = 0;

/**
 * Offer suggestions for `input`.
 *
 * `find(text, signal)` gives a promise of `[{value, label, note}]`; `chosen(value)` is called after a choice.
 */
export function combobox(input, find, chosen = () => {}) {
  count += 1;
  const list = make("ul", { class: "combo-list", role: "listbox", id: `combo-${count}`, hidden: true });
  list.setAttribute("aria-label", `${input.labels[0]?.firstChild.textContent.trim() ?? ""} suggestions`);
  input.after(list);
  for (const [name, value] of Object.entries({
    role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id,
  })) input.setAttribute(name, value);

  let options = [];
  let active = -1;
  let timer = 0;
  let asking = null;

  function close() {
    asking?.abort();
    clearTimeout(timer);
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function point(index) {
    active = index;
    [...list.children].forEach((item, number) => item.setAttribute("aria-selected", String(number === index)));
    const item = list.children[index];
    if (!item) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", item.id);
    item.scrollIntoView({ block: "nearest" });
  }

  function take(index) {
    input.value = options[index].value;
    close();
    chosen(input.value);
  }

  function show(found) {
    // An answer may come while somebody is about to take what they point at.
    const pointed = options[active]?.value;
    options = found;
    list.replaceChildren(
      ...found.map(({ label, note }, number) => {
        const item = make("li", { role: "option", id: `${list.id}-${number}`, "aria-selected": "false" }, label);
        if (note) item.append(make("small", {}, note));
        item.addEventListener("pointerdown", (event) => event.preventDefault());
        item.addEventListener("click", () => take(number));
        return item;
      }),
    );
    list.hidden = found.length === 0;
    input.setAttribute("aria-expanded", String(found.length > 0));
    point(found.findIndex(({ value }) => value === pointed));
  }

  async function ask() {
    asking?.abort();
    asking = new AbortController();
    const { signal } = asking;
    try {
      const found = await find(input.value.trim(), signal);
      if (!signal.aborted && document.activeElement === input) show(found);
    } catch {
      if (!signal.aborted) close();
    }
  }

  function askSoon() {
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE);
  }

  input.addEventListener("input", () => {
    // Who types on means the text again.
    point(-1);
    askSoon();
  });
  input.addEventListener("blur", close);
  input.addEventListener("click", () => list.hidden && askSoon());
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const open = !list.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) return ask();
      const step = event.key === "ArrowDown" ? 1 : -1;
      return point((active + step + options.length + (active < 0 && step < 0 ? 1 : 0)) % options.length);
    }
    if (event.key === "Enter" && open && active >= 0) {
      event.preventDefault();
      return take(active);
    }
    if (event.key === "Escape" && open) {
      event.preventDefault();
      close();
    }
  });
  return { close };
}
