// What each page needs, found by its data attributes. Every page also works without any of this.
import { listen as listenToButtons } from "./acts.js";
import { attach as attachForm } from "./create.js";
import { follow } from "./live.js";
import { attach as attachLog } from "./log.js";
import { listen as listenToMenus } from "./menus.js";
import { watch as watchStart } from "./start.js";
import { keep as keepTimes } from "./times.js";
import { animate } from "./waterfall.js";

document.documentElement.classList.add("has-scripts");
keepTimes();
listenToButtons();
listenToMenus();
animate();
document.querySelectorAll("[data-live]").forEach(follow);
document.querySelectorAll("[data-log]").forEach(attachLog);
document.querySelectorAll("[data-start]").forEach(watchStart);
document.querySelectorAll("form[data-new]").forEach(attachForm);
