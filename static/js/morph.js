// Making an element like another one without replacing it, so that focus, open menus and scroll positions stay.

// What the reader has changed, and the server knows nothing of.
const KEPT = { DETAILS: ["open"], INPUT: ["value"] };

/** Make `old` like `fresh`, an element of the same kind. Whoever stands on what goes away is led to its part of the page. */
export function morph(old, fresh) {
  const focused = document.activeElement;
  const parts = [];
  for (let part = focused?.closest("[id]"); part; part = part.parentElement?.closest("[id]")) parts.push(part);
  become(old, fresh);
  if (document.activeElement === focused || document.activeElement !== document.body) return;
  const place = focused?.isConnected ? focused : parts.find((part) => part.isConnected);
  if (place !== focused) place?.setAttribute("tabindex", "-1");
  place?.focus({ preventScroll: true });
}

function become(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.tagName === "TIME" && old.getAttribute("datetime") === fresh.getAttribute("datetime")) return;
  copyAttributes(old, fresh);
  copyChildren(old, fresh);
}

function copyAttributes(old, fresh) {
  const kept = [...(KEPT[old.tagName] ?? []), "tabindex"];
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !kept.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (!kept.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function nameOf(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return "";
  return node.id || node.dataset?.step || node.dataset?.act || "";
}

function alike(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && nameOf(old) === nameOf(fresh);
}

function copyChildren(old, fresh) {
  const stays = new Set([...fresh.children].map(nameOf).filter(Boolean));
  const named = new Map([...old.children].filter(nameOf).map((child) => [nameOf(child), child]));
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const known = named.get(nameOf(wanted));
    if (known && known.nodeName === wanted.nodeName) {
      // What is moved loses the focus: what stood before it goes first, and often nothing is left to move.
      while (place && place !== known && !stays.has(nameOf(place))) place = drop(place);
      if (place === known) place = place.nextSibling;
      else old.insertBefore(known, place);
      named.delete(nameOf(wanted));
      become(known, wanted);
    } else if (place && alike(place, wanted)) {
      const here = place;
      place = place.nextSibling;
      copyNode(here, wanted);
    } else {
      old.insertBefore(document.importNode(wanted, true), place);
    }
  }
  while (place) place = drop(place);
}

function drop(node) {
  const after = node.nextSibling;
  node.remove();
  return after;
}

function copyNode(old, fresh) {
  if (old.nodeType === Node.ELEMENT_NODE) become(old, fresh);
  else if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
}
