// Menus made of <details>: one open at a time, closed by Escape, by a click elsewhere and by a choice.

/** Listen on the whole page, so that rows which come later are served too. */
export function listen() {
  const opened = () => [...document.querySelectorAll("details.menu[open]")];
  document.addEventListener("click", (event) => {
    for (const menu of opened()) {
      const outside = !menu.contains(event.target);
      if (outside || event.target.closest(".menu-list a, .menu-list button")) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of opened()) {
      menu.open = false;
      if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
    }
  });
}
