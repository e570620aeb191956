// The page on which people label. An answer is sent, and the next image is shown when the server says that the answer
// is on its disk; that image has been loaded before. Answering twice changes nothing.

import { build, empty, meant, rest, settle } from "./classes.js";
import { fit, image, load, zoom } from "./images.js";
import { keepName, keptName, named } from "./names.js";
import { inTurn, persist, trouble } from "./server.js";

const AHEAD = 12; // images held: the one that is shown and those loaded before they are
const BEAT_MS = 20000, WAITING_BEAT_MS = 4000; // between two questions how things are
const AWAY_MS = 300000; // who does nothing for so long has left, and what the page holds comes free for others

const $ = (id) => document.getElementById(id);
const page = Array.from(crypto.getRandomValues(new Uint8Array(12)), (n) => n.toString(16).padStart(2, "0")).join("");

let asked = null; // what the server says of the request
let annotator = "";
let queue = []; // images to come
let current = null; // the image that is shown
let past = []; // images answered, the latest last
let standing = null; // how far the work is
let busy = true; // while an answer is under way, or nobody has a name
let beat = 0;
let active = Date.now(); // when somebody last did something

const positions = (images) => images.map((one) => one.position);
const held = () => [...(current ? [current] : []), ...queue];

// Ask the server for something; it also hears what this page holds and gives what it lacks.
function post(path, content, unsaved) {
  const holds = () => (path === "answer" ? queue : held()); // what is answered is no longer held
  const body = () => ({ annotator, page, held: positions(holds()), want: Math.max(0, AHEAD - holds().length), ...content });
  return inTurn(path, body, unsaved);
}

function arrive(reply) {
  queue = queue.filter((one) => !reply.lost.includes(one.position));
  const here = new Set(positions(held()));
  queue.push(...reply.images.filter(({ position }) => !here.has(position)).map(image));
  standing = reply.standing;
}

function prepare() {
  load(held().slice(0, AHEAD), (one) => {
    if (one === current) show();
    prepare();
  });
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
    $("name").textContent = current.caption;
    if (current.state === "ready") {
      current.element.alt = "The image to label";
      $("frame").replaceChildren(current.element);
      fit(current.element);
    } else {
      const text = document.createElement("p");
      text.textContent = current.state === "failed" ? `This image cannot be shown: ${current.reason}` : "Loading …";
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
  $("left").textContent = left_s === null || current === null ? "" : `${words(left_s)} left`;
  const last = past.at(-1);
  $("undo").disabled = !last;
  $("undo_text").textContent = !last ? "Undo" : last.text ? `Undo: ${last.text}` : "Undo the last";
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
  if (!whole && skipped) texts.push(`You skipped ${skipped}, which may stay without an answer.`);
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

// One thing at a time; what the server refuses is said.
async function alone(work) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    trouble(error.message);
  } finally {
    busy = false;
  }
}

function onward() {
  if (current === null && queue.length) current = queue.shift();
  show();
  prepare();
  empty();
}

function answer(said, button, text) {
  if (current === null || (current.state !== "ready" && current.state !== "failed")) return; // nobody has seen it
  alone(async () => {
    const began = performance.now(), one = current;
    notice("");
    button.classList.add("pressed");
    const slow = setTimeout(() => document.body.classList.add("saving"), 150);
    try {
      const reply = await post("answer", { position: one.position, id: one.id, ...said }, true);
      current = null;
      past = past.filter((other) => other.position !== one.position);
      if (reply.saved) past.push({ ...one, said: what(button), text });
      else notice(reply.by === annotator
        ? "You have answered this image before, on another page; that answer stays."
        : `${reply.by} has this image meanwhile; that answer counts, not this one.`);
      if (past.length > AHEAD) past.at(-AHEAD - 1).element = null; // loaded again where somebody goes back so far
      arrive(reply);
      onward();
    } finally {
      clearTimeout(slow);
      document.body.classList.remove("saving");
      button.classList.remove("pressed");
    }
    $("live").textContent = `${text}. ${standing.done} of ${standing.total} answered.`;
    requestAnimationFrame(() => performance.measure("answer", { start: began, end: performance.now() }));
  });
}

function undo() {
  const last = past.at(-1);
  if (last === undefined) return;
  alone(async () => {
    notice("");
    const reply = await post("undo", { position: last.position, id: last.id }, true);
    past.pop();
    if (reply.saved) {
      queue = [...(current ? [current] : []), ...queue].filter((one) => one.position !== last.position);
      current = { ...last, state: last.element ? "ready" : "waiting" };
      $("live").textContent = "Taken back.";
    } else {
      notice(`${reply.by} has this image meanwhile, so it stays as it is.`);
    }
    arrive(reply);
    onward();
  });
}

function showAgain() {
  alone(async () => {
    arrive(await post("more", { again: true, want: standing.total }));
    onward();
    rest();
  });
}

// Ask how things are, so that the server keeps our images for us, and for images that others have put back.
async function hear() {
  clearTimeout(beat);
  if (!busy && Date.now() - active < AWAY_MS) {
    try {
      const reply = await post("more", {});
      if (!busy && current !== null && reply.lost.includes(current.position)) {
        notice("While you were away the image that was here went to somebody else.");
        current = null;
      }
      arrive(reply);
      if (!busy && current === null) onward();
      else numbers();
    } catch (error) {
      trouble(error.message);
    }
  }
  clearTimeout(beat);
  beat = setTimeout(hear, current === null ? WAITING_BEAT_MS : BEAT_MS);
}

function awake() {
  const away = Date.now() - active > AWAY_MS;
  active = Date.now();
  if (away) hear();
}

function pressed(event) {
  if (event.repeat || event.isComposing || event.altKey || document.querySelector("dialog[open]")) return; // a key held down is one answer
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key !== "z") return;
  const undone = () => $("undo").click();
  const commands = {
    "-": () => $("none").click(), "+": () => zoom(current?.element), ArrowRight: () => $("skip").click(),
    ArrowLeft: undone, Backspace: undone,
  };
  const work = control ? ($("filter").value === "" ? undone : null) : meant(event, commands);
  if (work) {
    event.preventDefault();
    work();
  }
}

// ---- beginning ----

async function introduce(name) {
  let reply = null;
  busy = true;
  queue = [];
  current = null;
  while (reply === null) {
    annotator = name;
    try {
      reply = await post("more", {});
    } catch (error) { // no name that the server takes
      trouble(error.message);
      name = await named(name, false);
    }
  }
  keepName(name);
  $("who").textContent = name;
  $("who").hidden = false;
  past = reply.history.map(image);
  arrive(reply);
  busy = false;
  onward();
  rest();
}

async function main() {
  asked = await persist("request");
  document.title = `Label ${asked.title}`;
  $("title").textContent = asked.title;
  build(asked.classes, asked.keys, (name, button) => answer({ label: name }, button, name));
  const pressing = (id, work) => $(id).addEventListener("click", (event) => { work(); settle(event); });
  pressing("none", () => answer({ rejected: true }, $("none"), "none of these"));
  pressing("skip", () => answer({ skipped: true }, $("skip"), "skip"));
  pressing("undo", undo);
  $("again").onclick = showAgain;
  $("who").onclick = async () => {
    const name = busy ? annotator : await named(annotator, annotator !== "");
    if (name !== annotator) introduce(name);
  };
  $("frame").onclick = () => zoom(current?.element);
  new ResizeObserver(() => fit(current?.element)).observe($("frame"));
  $("copy").hidden = !navigator.clipboard; // browsers offer it on this machine only
  $("copy").onclick = async () => {
    await navigator.clipboard.writeText(asked.next_command);
    $("copy").textContent = "Copied";
  };
  document.addEventListener("keydown", pressed);
  for (const sign of ["keydown", "pointerdown", "pointermove"]) document.addEventListener(sign, awake, { capture: true });
  const goodbye = () => new Blob([JSON.stringify({ annotator, page })], { type: "application/json" });
  addEventListener("pagehide", () => navigator.sendBeacon("release", goodbye()));
  addEventListener("pageshow", (event) => event.persisted && hear());
  await introduce(keptName() || (await named(asked.annotator, false)));
  beat = setTimeout(hear, BEAT_MS);
}

main();
