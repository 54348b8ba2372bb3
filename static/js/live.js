// A part of a page that follows what happens: by a stream, and by looking now and then where there is none.
import { announceFresh, parse } from "./dom.js";
import { morph } from "./morph.js";

const SLOW = 10_000;
const STREAM_AGAIN = 30_000;
// Every stream ends after some minutes, and the browser opens the next one within a second or two: nobody need know.
const PATIENCE = 3000;

/** Keep the parts inside of `root` up to date. */
export function follow(root) {
  let source = null;
  let seen = root.dataset.seen ?? "";
  let polling = 0;
  let again = 0;
  let lost = 0;

  function open() {
    close();
    const address = new URL(root.dataset.live, location.href);
    address.searchParams.set("seen", seen);
    source = new EventSource(address);
    source.onopen = stopPolling;
    source.onerror = () => {
      // While it is connecting the browser tries again by itself; closed means that the server said no.
      lost ||= setTimeout(startPolling, PATIENCE);
      if (source?.readyState === EventSource.CLOSED) again = setTimeout(open, STREAM_AGAIN);
    };
    source.addEventListener("part", (event) => {
      if (event.lastEventId) seen = event.lastEventId;
      put(JSON.parse(event.data));
    });
  }

  function close() {
    clearTimeout(again);
    source?.close();
    source = null;
  }

  function startPolling() {
    if (polling) return;
    note("Live updates are interrupted. Looking again every few seconds.");
    polling = setInterval(look, SLOW);
    look();
  }

  function stopPolling() {
    clearTimeout(lost);
    clearInterval(polling);
    lost = polling = 0;
    note("");
  }

  async function look() {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected || answer.status === 404) return location.reload();
      if (!answer.ok) return;
      const page = parse(await answer.text());
      const fresh = page.querySelector("[data-live]");
      if (!fresh) return;
      for (const part of fresh.querySelectorAll("[data-part]")) {
        const old = document.getElementById(part.id);
        if (old) morph(old, part);
      }
      seen = fresh.dataset.seen ?? "";
      announceFresh(root);
    } catch {
      // Not reachable just now: the next look comes soon.
    }
  }

  function put({ id, html }) {
    const old = document.getElementById(id);
    const fresh = parse(html).getElementById(id);
    if (!old || !fresh) return;
    morph(old, fresh);
    announceFresh(old);
  }

  // A hidden tab needs no stream: a browser has only six connections to one host, for all tabs together.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") return open();
    close();
    stopPolling();
    if (root.hasAttribute("data-start")) polling = setInterval(look, SLOW / 2);
  });
  addEventListener("pageshow", (event) => event.persisted && open());
  addEventListener("pagehide", close);
  open();
}

function note(text) {
  const line = document.getElementById("live-note");
  if (!line) return;
  line.textContent = text;
  line.hidden = !text;
}
