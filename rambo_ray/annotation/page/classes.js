// The classes as buttons, by their keys, or found by typing where they are many.

const $ = (id) => document.getElementById(id);
const list = $("classes"), filter = $("filter");
const byKey = new Map();
const hovers = () => matchMedia("(hover: hover)").matches; // no keyboard pops up where one types

let names = [];
let typed = false; // whether classes are found by typing
let found = []; // buttons that match what was typed, the best first
let first = 0; // the one that Enter takes

// Make the buttons; `chosen(name, button)` hears of a press. keys: one for each class, null where they are many.
export function build(classes, keys, chosen) {
  names = classes;
  typed = keys === null;
  classes.forEach((name, i) => {
    const button = document.createElement("button"), text = document.createElement("span");
    button.type = "button";
    button.id = `class_${i}`;
    button.dataset.label = text.textContent = name;
    button.append(text);
    if (!typed) {
      const key = document.createElement("kbd");
      key.textContent = keys[i];
      key.setAttribute("aria-hidden", "true"); // said by aria-keyshortcuts
      button.setAttribute("aria-keyshortcuts", keys[i]);
      button.append(key);
      byKey.set(keys[i], button);
    }
    button.addEventListener("click", (event) => {
      chosen(name, button);
      settle(event);
    });
    list.append(button);
  });
  list.classList.toggle("many", typed);
  filter.hidden = !typed;
  filter.addEventListener("input", match);
  addEventListener("resize", columns);
  columns();
  if (typed) match();
}

// As many columns as the names need, and the rows equally long.
function columns() {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const longest = Math.max(...names.map((name) => Math.min(name.length, 16)));
  const keyed = !typed && !matchMedia("(hover: none) and (pointer: coarse)").matches;
  const width = Math.max((keyed ? 3.6 : 1.6) + 0.55 * longest, 3.4) * rem;
  const most = Math.max(1, Math.floor(Math.min(innerWidth - 2 * rem, 68 * rem) / width));
  list.style.setProperty("--columns", typed ? most : Math.ceil(names.length / Math.ceil(names.length / most)));
}

// Where the focus goes after a click; who steps through the buttons by keyboard stays where they are.
export function settle(event) {
  if (event.detail !== 0) rest();
}

export function rest() {
  (typed && hovers() ? filter : $("stage")).focus({ preventScroll: true });
}

// Best first: the name itself, its beginning, the beginning of a word, anywhere.
function match() {
  const text = filter.value.trim().toLowerCase();
  const ranked = [...list.children].map((button) => {
    const name = button.dataset.label.toLowerCase(), at = name.indexOf(text);
    const rank = at < 0 ? 9 : name === text ? 0 : at === 0 ? 1 : /[^\p{L}\p{N}]/u.test(name[at - 1]) ? 2 : 3;
    return { rank, number: Number(button.id.slice(6)), button };
  });
  ranked.sort((a, b) => a.rank - b.rank || a.number - b.number);
  for (const { rank, button } of ranked) button.hidden = rank === 9;
  found = ranked.filter(({ rank }) => rank < 9).map(({ button }) => button);
  list.append(...ranked.map(({ button }) => button));
  $("nothing").hidden = found.length > 0;
  point(0);
}

function point(at) {
  first = Math.max(0, Math.min(at, found.length - 1));
  const pointed = filter.value.trim() === "" ? undefined : found[first];
  for (const button of list.children) button.classList.toggle("first", button === pointed);
  if (pointed) {
    pointed.scrollIntoView({ block: "nearest" });
    $("live").textContent = `Enter takes ${pointed.dataset.label}`;
  } else {
    list.scrollTop = 0;
  }
}

// Forget what was typed.
export function empty() {
  if (!typed || filter.value === "") return;
  filter.value = "";
  match();
}

// What a key does: the work to do, or null where it is the browser's. commands: the keys of all else, by `event.key`.
export function meant(event, commands) {
  if (typed && filter.value !== "" && document.activeElement === filter) {
    return { Enter: () => found[first]?.click(), ArrowDown: () => point(first + 1), ArrowUp: () => point(first - 1), Escape: empty }[event.key] ?? null;
  }
  const digit = /^Digit\d$/.test(event.code) && !event.shiftKey ? event.code.slice(5) : null; // where Shift makes digits
  const button = byKey.get(event.key) ?? byKey.get(event.key.toLowerCase()) ?? byKey.get(digit);
  if (button) return () => button.click();
  if (commands[event.key]) return commands[event.key];
  if (typed && event.key.length === 1 && event.key !== " ") filter.focus({ preventScroll: true }); // the letter goes there
  return null;
}
