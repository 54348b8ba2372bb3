// Buttons that ask something of a workspace, through the API instead of a form.
import { csrfToken } from "./dom.js";
import { toast } from "./toasts.js";

/** Send one request to the API; gives the answer's JSON, or throws an Error with the problem's code and text. */
async function call(method, address) {
  let answer;
  try {
    answer = await fetch(address, {
      method,
      headers: { Accept: "application/json", "X-CSRFToken": csrfToken() },
    });
  } catch {
    throw new Error("Slipway cannot be reached. Check your connection, then try again.");
  }
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  if (answer.status === 401) location.reload();
  const text = [body.detail ?? "This did not work.", body.next_step ?? "Try again."].filter(Boolean).join(" ");
  throw Object.assign(new Error(text), { code: body.code });
}

/** Take it back from the trash, or from its way there. */
async function restore(address, name) {
  await call("POST", address);
  toast(`${name} is back, with all its files.`);
}

const ACCEPTED = { start: "Starting", stop: "Stopping", restart: "Restarting" };
const complain = (problem) => toast(problem.message, { error: true });

async function act(button) {
  const { act: verb, api, method, name } = button.dataset;
  button.setAttribute("aria-busy", "true");
  try {
    if (verb === "restore") await restore(api, name);
    else await call(method, api);
    if (verb in ACCEPTED) toast(`${ACCEPTED[verb]} ${name}.`, { about: api.slice(0, -verb.length) });
    if (verb === "delete") {
      toast(`${name} moved to the trash.`, {
        action: "Undo",
        act: () => restore(`${api}/restore`, name).catch(complain),
      });
    }
    if (verb === "restore") button.closest(".row-trash")?.remove();
  } catch (problem) {
    complain(problem);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** Take over every button with `data-api`. */
export function listen() {
  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!button?.dataset.api) return;
    event.preventDefault();
    if (button.getAttribute("aria-busy") !== "true") act(button);
  });
}
