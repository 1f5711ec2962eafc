// Everything on these pages works without this script. It adds: counts that the page does not wait for, what is new as it comes, copying,
// and the keyboard.

const root = document.body.dataset.root;
const said = document.querySelector("#said");
const say = (text) => { said.textContent = text; };
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Parts of the page that are asked for beside it.
for (const part of all("[data-part]")) {
  fetch(part.dataset.part, { headers: { accept: "text/html" } })
    .then((answer) => (answer.ok ? answer.text() : Promise.reject(answer.status)))
    .then((html) => { part.innerHTML = html; })
    .catch(() => {});
}

// Copying.
for (const button of all("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const link = button.dataset.copyLink;
    const text = link === undefined ? button.dataset.copy : new URL(link || location.href, location.href).href;
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      // Without TLS a browser has no clipboard: selected, it can be copied by hand.
      const field = document.createElement("input");
      field.value = text;
      field.setAttribute("aria-label", "To copy");
      button.after(field);
      field.select();
      field.addEventListener("blur", () => field.remove());
      say("Press Ctrl+C to copy");
    }
  });
}

// What is new. It is only counted until somebody asks for it, so that nothing moves under a pointer.
const follow = document.querySelector("button.tail");
const fresh = document.querySelector("#new");
const list = () => document.querySelector("ol.entries");
// Further ones are not kept: of so many the page is read again.
const WAITING = 20;
let stream = null;
let position = null;
let waiting = [];
let isMore = false;

const ids = (within = document) => all("[data-id]", within).map((entry) => entry.dataset.id);
function parsed(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  return holder.content;
}

function show() {
  const known = new Set(ids());
  for (const { html } of waiting) {
    const content = parsed(html);
    for (const entry of all("[data-id]", content)) {
      if (known.has(entry.dataset.id)) entry.remove();
      known.add(entry.dataset.id);
    }
    for (const group of all("li.group", content)) if (!group.querySelector("[data-id]")) group.remove();
    const into = list();
    if (into) into.prepend(...content.querySelector("ol").children);
    else document.querySelector(".empty")?.replaceWith(content);
  }
  waiting = [];
  isMore = false;
  fresh.hidden = true;
}

function arrived(html, isMany, isOlder = false) {
  const known = new Set([...ids(), ...waiting.flatMap((one) => one.ids)]);
  const found = ids(parsed(html)).filter((id) => !known.has(id));
  if (found.length === 0 && !isMany) return;
  waiting[isOlder ? "unshift" : "push"]({ html, ids: found });
  isMore ||= isMany || waiting.length > WAITING;
  waiting = waiting.slice(-WAITING);
  const count = waiting.reduce((sum, one) => sum + one.ids.length, 0);
  const button = fresh.querySelector("button");
  button.textContent = count === 0
    ? "There may be new entries: reload the page to see them"
    : `${count}${isMore ? "+" : ""} new ${count === 1 && !isMore ? "entry" : "entries"}`;
  fresh.hidden = false;
  say(button.textContent);
}

// What came between the page and the stream stands on the page as it is now.
async function catchUp() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const entries = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("ol.entries");
  if (!entries) return;
  const known = new Set(ids());
  arrived(entries.outerHTML, known.size > 0 && !ids(entries).some((id) => known.has(id)), true);
}

function stop() {
  stream?.close();
  stream = null;
  follow.setAttribute("aria-pressed", "false");
  follow.textContent = "Follow";
}

function start() {
  const from = new URL(follow.dataset.tail, location.href);
  if (position) from.searchParams.set("position", position);
  stream = new EventSource(from);
  stream.addEventListener("begin", () => {
    if (position === null) catchUp().catch(() => {});
    document.body.dataset.following = "yes";
  });
  for (const kind of ["begin", "at", "entries", "many"]) stream.addEventListener(kind, (event) => { position = event.lastEventId; });
  stream.addEventListener("entries", (event) => arrived(event.data, false));
  stream.addEventListener("many", (event) => arrived(event.data, true));
  stream.addEventListener("error", () => {
    if (stream?.readyState === EventSource.CLOSED) { stop(); say("Following has ended: reload the page to go on"); }
  });
  follow.setAttribute("aria-pressed", "true");
  follow.textContent = "Stop following";
}

if (follow) {
  follow.hidden = false;
  follow.addEventListener("click", () => (stream ? stop() : start()));
  fresh.querySelector("button").addEventListener("click", show);
  // A browser has few connections for all tabs of a host.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && stream) { stop(); follow.dataset.paused = "yes"; }
    else if (!document.hidden && follow.dataset.paused) { delete follow.dataset.paused; start(); }
  });
}

// The keyboard. Nothing needs it, and it can be switched off.
const OFF = "threadline-keys-off";
const stored = (read) => { try { return read(); } catch { return null; } };
const keysOn = () => stored(() => localStorage.getItem(OFF)) === null;
for (const box of all("[data-keys]")) {
  box.checked = keysOn();
  box.addEventListener("change", () => stored(() => (box.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "1"))));
}

const entries = () => all("article.entry");
const at = () => entries().indexOf(document.activeElement?.closest("article.entry"));
function go(step) {
  const list = entries();
  const next = list[Math.min(Math.max(at() + step, 0), list.length - 1)];
  next?.focus();
}
const press = (selector, within = document) => within?.querySelector(selector)?.click();
const current = () => document.activeElement?.closest("article.entry");
const KEYS = {
  "/": () => document.querySelector("#search")?.focus(),
  "?": () => { location.href = `${root}help`; },
  j: () => go(1),
  k: () => go(-1),
  o: () => {
    const entry = current();
    (entry?.querySelector("a.open") ?? entry?.querySelector("a.name, a.id") ?? entry?.closest(".group")?.querySelector("a.open"))?.click();
  },
  Enter: () => { if (document.activeElement === current()) KEYS.o(); },
  x: () => { const details = current()?.querySelector("details"); if (details) details.open = !details.open; },
  "[": () => press(".pager [rel=next]"),
  "]": () => press(".pager [rel=prev]"),
  t: () => follow?.click(),
  c: () => press("button[data-copy-link]"),
  g: () => { isGoing = true; },
};

// `g` and the first letter of a page; where several begin with it, the first one, and from there the next.
let isGoing = false;
function leave(letter) {
  const pages = all(".top nav a").filter((page) => page.textContent.toLowerCase().startsWith(letter));
  pages[(pages.findIndex((page) => page.hasAttribute("aria-current")) + 1) % pages.length]?.click();
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !keysOn()) return;
  if (event.target.closest("input, select, textarea, [contenteditable]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key.length > 1 && event.key !== "Enter") return;
  if (isGoing) {
    isGoing = false;
    event.preventDefault();
    leave(event.key.toLowerCase());
    return;
  }
  const does = KEYS[event.key];
  if (!does || (event.key === "Enter" && event.target.closest("a, button, summary"))) return;
  if (event.key !== "Enter") event.preventDefault();
  does();
});
document.body.dataset.ready = "yes";
