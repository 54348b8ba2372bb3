// Making an element like another one without replacing it, so that focus, open menus and scroll positions stay.

// What the reader has changed, and the server knows nothing of.
const KEPT = { DETAILS: ["open"], RECT: [], INPUT: ["value"] };

/** Make `old` like `fresh`, an element of the same kind. */
export function morph(old, fresh) {
  if (old.isEqualNode(fresh) || old.hasAttribute("data-keep")) return;
  if (old.tagName === "TIME" && old.getAttribute("datetime") === fresh.getAttribute("datetime")) return;
  copyAttributes(old, fresh);
  copyChildren(old, fresh);
}

function copyAttributes(old, fresh) {
  const kept = KEPT[old.tagName] ?? [];
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
  const named = new Map([...old.children].filter(nameOf).map((child) => [nameOf(child), child]));
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const known = named.get(nameOf(wanted));
    if (known && known !== place && known.nodeName === wanted.nodeName) {
      old.insertBefore(known, place);
      morph(known, wanted);
    } else if (place && alike(place, wanted)) {
      const here = place;
      place = place.nextSibling;
      copyNode(here, wanted);
    } else {
      old.insertBefore(document.importNode(wanted, true), place);
    }
  }
  while (place) {
    const after = place.nextSibling;
    place.remove();
    place = after;
  }
}

function copyNode(old, fresh) {
  if (old.nodeType === Node.ELEMENT_NODE) morph(old, fresh);
  else if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
}
