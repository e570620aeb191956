"use strict";
// The page on which people label. An answer is sent, and the next image is shown when the server says that the answer
// is on its disk; that image has been loaded before. One request is under way at a time, and each is repeated until
// the server has replied: answering twice changes nothing.

const AHEAD = 12; // images held: the one that is shown and those loaded before they are
const AT_ONCE = 3; // loaded at the same time: a browser has six connections, and an answer needs a free one
const BEAT_MS = 20000, WAITING_BEAT_MS = 4000, RETRY_MS = 1000, PATIENCE_MS = 10000;
const SMALL = 128, CRISP_SIDE = 448, CRISP_SCALE = 24, SMOOTH_SCALE = 4; // pixels; how far small images are blown up

const $ = (id) => document.getElementById(id);
const page = Array.from(crypto.getRandomValues(new Uint8Array(12)), (n) => n.toString(16).padStart(2, "0")).join("");

let asked = null; // what the server says of the request
let annotator = "";
let queue = []; // images to come
let current = null; // the image that is shown
let past = []; // images answered, the latest last
let standing = null;
let busy = true; // while an answer is under way, or nobody has a name
let line = Promise.resolve(); // the requests, one behind the other
let beat = 0;

// ---- the server ----

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

function trouble(text) {
  if (text && $("trouble").textContent !== text) $("trouble").textContent = text; // said once by a screen reader
  $("trouble").hidden = !text;
}

async function reach(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE_MS) });
}

// What the server replies, however long it takes to come back. An error it explains is thrown.
async function persist(path, body, unsaved) {
  for (;;) {
    let response = null, content = null;
    try {
      response = await reach(path, typeof body === "function" ? body() : body);
      content = await response.json().catch(() => null);
    } catch { /* gone; said below */ }
    if (response !== null && response.ok && content !== null) {
      trouble("");
      return content;
    }
    if (response !== null && response.status === 403) {
      trouble("The server was started anew under another address. Open the address that rambo label prints.");
    } else if (response !== null && response.status === 400) {
      throw new Error(content?.error ?? "The server does not understand this page. Load it again.");
    } else if (content?.error) {
      trouble(`${content.error}. ${unsaved ? "This answer is not saved yet; " : ""}trying again.`);
    } else {
      trouble(`The server is gone. ${unsaved ? "This answer is not saved yet. " : "Everything answered so far is saved. "}` +
        "Start rambo label again with the same folder: this page goes on by itself.");
    }
    await wait(RETRY_MS);
  }
}

function post(path, more, unsaved) {
  const body = () => ({
    annotator, page, held: held(path !== "answer"), want: Math.max(0, AHEAD - queue.length - (path === "more" && current ? 1 : 0)), ...more,
  });
  const reply = line.then(() => persist(path, body, unsaved));
  line = reply.catch(() => {});
  return reply;
}

const held = (withCurrent) => [...(withCurrent && current ? [current] : []), ...queue].map((image) => image.position);

// ---- images ----

function arrive(reply) {
  const lost = new Set(reply.lost);
  queue = queue.filter((image) => !lost.has(image.position));
  const here = new Set(held(true));
  for (const { position, id } of reply.images) if (!here.has(position)) queue.push({ position, id, element: null, state: "waiting" });
  standing = reply.standing;
  load();
}

function load() {
  const near = [...(current ? [current] : []), ...queue.slice(0, AHEAD)];
  let active = near.filter((image) => image.state === "loading").length;
  for (const image of near) {
    if (active >= AT_ONCE) return;
    if (image.state !== "waiting") continue;
    active += 1;
    fetchImage(image);
  }
}

async function fetchImage(image) {
  image.state = "loading";
  const element = new Image();
  element.alt = "The image to label";
  element.src = `image/${image.position}`;
  try {
    await element.decode();
    image.element = element;
    image.state = "ready";
  } catch {
    // Why? The server says; where it says nothing it is gone, and the image is tried again.
    const response = await reach(`image/${image.position}`).catch(() => null);
    if (response === null || response.status >= 500) {
      trouble("The server is gone. Everything answered so far is saved. Start rambo label again with the same folder: this page goes on by itself.");
      await wait(RETRY_MS);
      image.state = "waiting";
    } else {
      image.reason = response.ok ? "this browser cannot show its format" : (await response.text()).slice(0, 300);
      image.state = "failed";
    }
  }
  if (image === current) show();
  load();
}

function fit() {
  const element = current?.element;
  if (!element) return;
  const frame = $("frame"), style = getComputedStyle(frame);
  const room = [frame.clientWidth - parseFloat(style.paddingLeft) * 2, frame.clientHeight - parseFloat(style.paddingTop) * 2];
  const [width, height] = [element.naturalWidth || 1, element.naturalHeight || 1];
  const most = Math.min(room[0] / width, room[1] / height);
  const crisp = Math.max(width, height) <= SMALL;
  let scale = Math.min(most, SMOOTH_SCALE);
  if (crisp) scale = Math.min(most, CRISP_SIDE / Math.max(width, height), CRISP_SCALE);
  if (crisp && scale >= 2) scale = Math.floor(scale);
  if (frame.classList.contains("zoomed")) scale = Math.max(1, 2 * most);
  element.classList.toggle("crisp", crisp);
  element.classList.toggle("larger", most < 1);
  element.style.width = `${width * scale}px`;
  element.style.height = `${height * scale}px`;
}

function zoom() {
  if (!$("frame").classList.contains("zoomed") && !current?.element?.classList.contains("larger")) return;
  $("frame").classList.toggle("zoomed");
  fit();
}

// ---- what is seen ----

function show() {
  $("frame").classList.remove("zoomed");
  $("stage").hidden = current === null;
  $("end").hidden = current !== null;
  $("dock").hidden = current === null && past.length === 0;
  $("dock").classList.toggle("ended", current === null); // the last answer can still be taken back
  if (current === null) {
    ended();
  } else {
    $("name").textContent = current.id;
    if (current.state === "ready") {
      $("frame").replaceChildren(current.element);
      fit();
    } else {
      const text = document.createElement("p");
      text.textContent = current.state === "failed" ? `This image cannot be shown: ${current.reason}. You may skip it.` : "Loading …";
      $("frame").replaceChildren(text);
    }
  }
  for (const button of document.querySelectorAll("#classes button, #none, #skip")) {
    button.classList.toggle("said", current?.said !== undefined && current.said === what(button));
  }
  numbers();
}

const what = (button) => button.dataset.label !== undefined ? `class ${button.dataset.label}` : button.id;

function words(seconds) {
  if (seconds < 60) return "less than a minute";
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function numbers() {
  if (standing === null) return;
  const { total, done, own, skipped, per_hour, left_s } = standing;
  $("bar").max = total;
  $("bar").value = done;
  $("bar").setAttribute("aria-valuetext", `${done} of ${total} answered`);
  $("count").textContent = `${done} of ${total} answered`;
  const mine = asked.share === "split" && own !== done ? `${own} by you` : "";
  $("skips").textContent = [mine, skipped ? `${skipped} skipped` : ""].filter(Boolean).join(" · ");
  $("pace").textContent = per_hour === null ? "" : `${Math.round(per_hour)} an hour`;
  $("left").textContent = left_s === null || done === total ? "" : `${words(left_s)} left`;
  const last = past.at(-1);
  $("undo").disabled = !last;
  $("undo_text").textContent = !last ? "Undo" : last.text ? `Undo ${last.text}` : "Undo the last";
  if (last?.element && last.element !== $("thumb").firstChild) {
    const small = last.element;
    small.style.width = small.style.height = "";
    small.alt = "";
    $("thumb").replaceChildren(small);
  } else if (!last?.element) {
    $("thumb").replaceChildren();
  }
}

function ended() {
  const { total, done, skipped, elsewhere, annotators } = standing;
  const whole = done === total, open = total - done;
  $("end_title").textContent = whole
    ? (asked.share === "split" ? `All ${total} images are answered` : `You have answered all ${total} images`)
    : `${done} of ${total} images are answered`;
  const texts = [];
  if (whole) texts.push("Every answer is on the disk; this page may be closed.");
  if (!whole && elsewhere) texts.push(`${elsewhere} ${elsewhere === 1 ? "is" : "are"} open on another page. Where they stay without answer, they come here by themselves.`);
  if (!whole && skipped) texts.push(`You skipped ${skipped}. They may stay without an answer.`);
  if (!whole && !elsewhere && !skipped) texts.push(`The other ${open} were passed over, or answered on another page under your name.`);
  $("end_text").textContent = texts.join(" ");
  $("again").hidden = !skipped;
  $("again").textContent = skipped === 1 ? "Show the skipped image again" : `Show the ${skipped} skipped images again`;
  $("people").hidden = Object.keys(annotators).length < 2;
  $("people").tBodies[0].replaceChildren(...Object.entries(annotators).map(([name, count]) => {
    const row = document.createElement("tr"), head = document.createElement("th"), cell = document.createElement("td");
    head.scope = "row";
    head.textContent = name || "(no name)";
    cell.textContent = count;
    row.append(head, cell);
    return row;
  }));
  $("next").hidden = elsewhere > 0;
  $("command").textContent = asked.next_command;
  $("end").focus({ preventScroll: true });
}

let noticed = 0;
function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
  clearTimeout(noticed);
  if (text) noticed = setTimeout(() => notice(""), 6000);
}

// ---- what people do ----

function onward() {
  if (current === null && queue.length) current = queue.shift();
  show();
  load();
}

async function answer(said, button, text) {
  if (busy || current === null || (current.state !== "ready" && current.state !== "failed")) return;
  const began = performance.now(), image = current;
  busy = true;
  notice("");
  button.classList.add("pressed");
  const slow = setTimeout(() => document.body.classList.add("saving"), 150);
  try {
    const reply = await post("answer", { position: image.position, id: image.id, ...said }, true);
    current = null;
    past = past.filter((other) => other.position !== image.position);
    if (reply.saved) past.push({ ...image, said: what(button), text });
    else notice(reply.by === annotator ? "You have answered this image before, on another page; that answer stays." : `${reply.by} has this image meanwhile; that answer counts, not this one.`);
    if (past.length > AHEAD) past.at(-AHEAD - 1).element = null; // loaded again where somebody goes back so far
    arrive(reply);
    onward();
    $("live").textContent = `${text}. ${standing.done} of ${standing.total} answered.`;
    requestAnimationFrame(() => performance.measure("answer", { start: began, end: performance.now() }));
  } catch (error) {
    trouble(error.message);
  } finally {
    clearTimeout(slow);
    document.body.classList.remove("saving");
    button.classList.remove("pressed");
    busy = false;
  }
  empty();
}

async function undo() {
  const last = past.at(-1);
  if (busy || last === undefined) return;
  busy = true;
  notice("");
  try {
    const reply = await post("undo", { position: last.position, id: last.id }, true);
    past.pop();
    if (reply.saved) {
      if (current !== null) queue.unshift(current);
      queue = queue.filter((image) => image.position !== last.position);
      current = { ...last, state: last.element ? "ready" : "waiting" };
      if (current.element) current.element.alt = "The image to label";
      $("live").textContent = "Taken back.";
    } else {
      notice(`${reply.by} has this image meanwhile, so it stays as it is.`);
    }
    arrive(reply);
    onward();
  } catch (error) {
    trouble(error.message);
  } finally {
    busy = false;
  }
  empty();
}

async function showAgain() {
  if (busy) return;
  busy = true;
  try {
    arrive(await post("more", { again: true, want: standing.total }));
    onward();
    $("stage").focus({ preventScroll: true });
  } catch (error) {
    trouble(error.message);
  } finally {
    busy = false;
  }
}

// Ask how things are, so that the server keeps our images for us, and for images that others have put back.
async function hear() {
  clearTimeout(beat);
  if (!busy) {
    try {
      const reply = await post("more", {});
      if (current !== null && reply.lost.includes(current.position) && !busy) {
        notice("This image went to somebody else while this page was away.");
        current = null;
      }
      arrive(reply);
      if (!busy) current === null ? onward() : numbers();
    } catch (error) {
      trouble(error.message);
    }
  }
  clearTimeout(beat);
  beat = setTimeout(hear, current === null ? WAITING_BEAT_MS : BEAT_MS);
}

// ---- classes, buttons and keys ----

let byKey = new Map();
let shown = []; // buttons of the classes that match what was typed, the best first
let first = 0;

function classes() {
  const list = $("classes"), typed = asked.keys === null;
  asked.classes.forEach((name, i) => {
    const button = document.createElement("button"), text = document.createElement("span");
    button.type = "button";
    button.id = `class_${i}`;
    button.dataset.label = name;
    text.textContent = name;
    button.append(text);
    if (!typed) {
      const key = document.createElement("kbd");
      key.textContent = asked.keys[i];
      button.setAttribute("aria-keyshortcuts", asked.keys[i]);
      button.append(key);
      byKey.set(asked.keys[i], button);
    }
    button.addEventListener("click", (event) => { answer({ label: name }, button, name); settle(event); });
    list.append(button);
    shown.push(button);
  });
  list.classList.toggle("many", typed);
  $("filter").hidden = !typed;
  columns();
  if (typed) match();
}

// As many columns as the names need, and the rows equally long.
function columns() {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const longest = Math.max(...asked.classes.map((name) => Math.min(name.length, 16)));
  const coarse = matchMedia("(hover: none) and (pointer: coarse)").matches;
  const width = ((coarse || asked.keys === null ? 1.6 : 3.6) + 0.55 * longest) * rem;
  const most = Math.max(1, Math.floor(Math.min(innerWidth - 2 * rem, 68 * rem) / Math.max(width, 3.4 * rem)));
  const rows = Math.ceil(asked.classes.length / most);
  $("classes").style.setProperty("--columns", asked.keys === null ? most : Math.ceil(asked.classes.length / rows));
}

// Back to the image after a click; who steps through the buttons by keyboard stays where they are.
function settle(event) {
  if (event.detail !== 0) (asked.keys === null && matchMedia("(hover: hover)").matches ? $("filter") : $("stage")).focus({ preventScroll: true });
}

function match() {
  const typed = $("filter").value.trim().toLowerCase();
  const ranked = [...$("classes").children].map((button) => {
    const name = button.dataset.label.toLowerCase(), at = name.indexOf(typed);
    const rank = at < 0 ? 9 : name === typed ? 0 : at === 0 ? 1 : /[^\p{L}\p{N}]/u.test(name[at - 1]) ? 2 : 3;
    return [rank, Number(button.id.slice(6)), button];
  }).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  for (const [rank, , button] of ranked) button.hidden = rank === 9;
  shown = ranked.filter(([rank]) => rank < 9).map(([, , button]) => button);
  $("classes").append(...ranked.map(([, , button]) => button));
  $("nothing").hidden = shown.length > 0;
  point(0);
}

function point(at) {
  first = Math.max(0, Math.min(at, shown.length - 1));
  const some = $("filter").value.trim() !== "";
  for (const button of $("classes").children) button.classList.toggle("first", some && button === shown[first]);
  if (some && shown[first]) {
    shown[first].scrollIntoView({ block: "nearest" });
    $("filter").setAttribute("aria-activedescendant", shown[first].id);
  } else {
    $("filter").removeAttribute("aria-activedescendant");
    $("classes").scrollTop = 0;
  }
}

function empty() {
  if (asked.keys !== null) return;
  $("filter").value = "";
  match();
  if (matchMedia("(hover: hover)").matches && current !== null) $("filter").focus({ preventScroll: true });
}

function pressed(event) {
  if (event.repeat || event.isComposing || event.altKey || $("naming").open) return; // a key held down is one answer
  if (event.ctrlKey || event.metaKey) {
    if (event.key === "z" && !$("filter").value) { event.preventDefault(); undo(); }
    return;
  }
  const typing = asked?.keys === null && $("filter").value !== "";
  const digit = /^Digit\d$/.test(event.code) && !event.shiftKey ? event.code.slice(5) : null; // where Shift makes digits
  const button = byKey.get(event.key) ?? byKey.get(event.key.toLowerCase()) ?? byKey.get(digit);
  const act =
    button ? () => button.click()
    : typing && event.key === "Enter" ? () => shown[first]?.click()
    : typing && event.key === "ArrowDown" ? () => point(first + 1)
    : typing && event.key === "ArrowUp" ? () => point(first - 1)
    : typing && event.key === "Escape" ? empty
    : typing ? null
    : event.key === "-" ? () => $("none").click()
    : event.key === "ArrowRight" ? () => $("skip").click()
    : event.key === "ArrowLeft" || event.key === "Backspace" ? () => $("undo").click()
    : event.key === "+" ? zoom
    : null;
  if (act) {
    event.preventDefault();
    act();
  } else if (asked?.keys === null && event.key.length === 1 && event.key !== " " && current !== null) {
    $("filter").focus({ preventScroll: true }); // the letter goes on into the field
  }
}

// ---- beginning ----

function named(suggested) {
  $("naming_name").value = suggested;
  $("naming").showModal();
  $("naming_name").select();
  return new Promise((done) => {
    $("naming_form").onsubmit = (event) => {
      const name = $("naming_name").value.trim();
      if (name === "") { event.preventDefault(); return; }
      done(name);
    };
    $("naming").oncancel = (event) => {
      if (annotator === "") event.preventDefault(); // nobody answers without a name
      else done(annotator);
    };
  });
}

// What may be kept in a browser that keeps nothing: only for as long as the page is open.
const kept = { get: () => { try { return localStorage.getItem("rambo label: annotator"); } catch { return null; } },
  set: (name) => { try { localStorage.setItem("rambo label: annotator", name); } catch { /* asked again next time */ } } };

async function introduce(name) {
  busy = true;
  annotator = name;
  kept.set(name);
  $("who").textContent = name;
  $("who").hidden = false;
  try {
    const reply = await post("more", {});
    past = reply.history.map(({ position, id }) => ({ position, id, element: null, state: "waiting" }));
    if (current !== null && past.some((image) => image.position === current.position)) current = null;
    arrive(reply);
    onward();
    busy = false;
    $("stage").focus({ preventScroll: true });
    empty();
  } catch (error) {
    kept.set("");
    trouble(error.message);
    introduce(await named(name));
  }
}

async function main() {
  asked = await persist("request");
  document.title = `Label ${asked.title}`;
  $("title").textContent = asked.title;
  classes();
  $("none").onclick = (event) => { answer({ rejected: true }, $("none"), "none of these"); settle(event); };
  $("skip").onclick = (event) => { answer({ skipped: true }, $("skip"), "skip"); settle(event); };
  $("undo").onclick = (event) => { undo(); settle(event); };
  $("again").onclick = showAgain;
  $("who").onclick = async () => {
    if (busy) return;
    const name = await named(annotator);
    if (name !== annotator) { queue = []; current = null; introduce(name); }
  };
  $("frame").onclick = zoom;
  $("filter").oninput = match;
  $("copy").hidden = !navigator.clipboard;
  $("copy").onclick = async () => { await navigator.clipboard.writeText(asked.next_command); $("copy").textContent = "Copied"; };
  document.addEventListener("keydown", pressed);
  addEventListener("resize", () => { columns(); fit(); });
  addEventListener("pagehide", () => navigator.sendBeacon("release", new Blob([JSON.stringify({ annotator, page })], { type: "application/json" })));
  addEventListener("pageshow", (event) => { if (event.persisted) hear(); });
  await introduce(kept.get() || (await named(asked.annotator)));
  beat = setTimeout(hear, BEAT_MS);
}

main();
