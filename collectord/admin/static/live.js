// Asks for the page again while somebody looks at it, and changes what differs in it. What the server sent is the page;
// nothing is made here, so the page says the same without this script.
"use strict";

const EVERY_MS = 1000 * document.currentScript.dataset.every;
const PATIENCE_MS = 10000;
const SHARE = 20; // A page that takes long is asked for less often: the pause is so many times as long.
const link = document.getElementById("link");
let timer = null;

function say(text, name) {
  if (link.textContent !== text) {
    link.textContent = text;
    link.className = name;
  }
}

function keyOf(node) {
  return node?.dataset?.key;
}

// Nodes that differ in their texts and attributes only.
function areAlike(node, wanted) {
  return node?.nodeName === wanted.nodeName && keyOf(node) === undefined;
}

// Changes only what differs, since a screen reader reads each change of the state aloud.
function change(node, wanted) {
  if (wanted.nodeType !== Node.ELEMENT_NODE) {
    if (node.nodeValue !== wanted.nodeValue) {
      node.nodeValue = wanted.nodeValue;
    }
    return;
  }
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) !== value) {
      node.setAttribute(name, value);
    }
  }
  for (const { name } of [...node.attributes]) {
    if (!wanted.hasAttribute(name)) {
      node.removeAttribute(name);
    }
  }
  changeWithin(node, wanted);
}

// A row is known by its key. It stays the same element, so that it keeps the focus and stays under the pointer.
function changeWithin(parent, wanted) {
  const keys = new Set([...wanted.children].map(keyOf));
  for (const child of [...parent.children]) {
    if (keyOf(child) !== undefined && !keys.has(keyOf(child))) {
      child.remove();
    }
  }
  const there = new Map([...parent.children].map((child) => [keyOf(child), child]));
  let at = parent.firstChild;
  for (const each of [...wanted.childNodes]) {
    const found = keyOf(each) === undefined ? areAlike(at, each) && at : there.get(keyOf(each));
    if (!found) {
      parent.insertBefore(document.importNode(each, true), at);
      continue;
    }
    if (found === at) {
      at = at.nextSibling;
    } else {
      parent.insertBefore(found, at);
    }
    change(found, each);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

async function update() {
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.status === 404) {
      say(", no longer known", "bad");
      return;
    }
    if (!answer.ok) {
      throw new Error(answer.statusText);
    }
    const wanted = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = wanted.title;
    for (const part of ["main", "header time", "footer"]) {
      change(document.querySelector(part), wanted.querySelector(part));
    }
    say("live", "link");
  } catch {
    say(", not connected", "bad");
  }
}

async function updateWhileVisible() {
  clearTimeout(timer);
  if (!document.hidden) {
    const began = performance.now();
    await update();
    clearTimeout(timer);
    timer = setTimeout(updateWhileVisible, Math.max(EVERY_MS, SHARE * (performance.now() - began)));
  }
}

document.addEventListener("visibilitychange", updateWhileVisible);
timer = setTimeout(updateWhileVisible, EVERY_MS);
