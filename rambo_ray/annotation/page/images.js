// The images: loaded before they are shown, and shown as large as helps.

import { reason } from "./server.js";

const AT_ONCE = 3; // loaded at the same time: a browser has six connections, and an answer needs a free one
const SMALL = 128, CRISP_SIDE = 448, CRISP_SCALE = 24, SMOOTH_SCALE = 4; // pixels; how far small images are blown up

const frame = document.getElementById("frame");

// state: waiting, loading, ready or failed; element: the loaded picture; reason: why it failed.
export const image = ({ position, id, caption }) => ({ position, id, caption, state: "waiting", element: null, reason: "" });

// Load those of `images` that wait, the first first; `done` hears of each that is ready or has failed.
export function load(images, done) {
  let active = images.filter((one) => one.state === "loading").length;
  for (const one of images) {
    if (active >= AT_ONCE) return;
    if (one.state !== "waiting") continue;
    active += 1;
    one.state = "loading";
    fetched(one).then(() => done(one));
  }
}

async function fetched(one) {
  const path = `image/${one.position}`, element = new Image();
  element.src = path;
  try {
    await element.decode();
    one.element = element;
    one.state = "ready";
  } catch {
    const why = await reason(path);
    one.reason = why ?? "";
    one.state = why === null ? "waiting" : "failed";
  }
}

// Give a loaded element the size at which it is best seen: small images crisp and larger, large ones as they fit.
export function fit(element) {
  if (!element) return;
  const style = getComputedStyle(frame);
  const [width, height] = [element.naturalWidth || 1, element.naturalHeight || 1];
  const most = Math.min(
    (frame.clientWidth - 2 * parseFloat(style.paddingLeft)) / width,
    (frame.clientHeight - 2 * parseFloat(style.paddingTop)) / height,
  );
  const side = Math.max(width, height), crisp = side <= SMALL;
  let scale = crisp ? Math.min(most, CRISP_SIDE / side, CRISP_SCALE) : Math.min(most, SMOOTH_SCALE);
  if (crisp && scale >= 2) scale = Math.floor(scale); // every pixel as large as the others
  if (frame.classList.contains("zoomed")) scale = Math.max(1, 2 * most);
  element.classList.toggle("crisp", crisp);
  element.classList.toggle("larger", most < 1);
  element.style.width = `${Math.max(1, width * scale)}px`;
  element.style.height = `${Math.max(1, height * scale)}px`;
}

// The image in its own size, or as it fits again.
export function zoom(element) {
  if (!element || (!frame.classList.contains("zoomed") && !element.classList.contains("larger"))) return;
  frame.classList.toggle("zoomed");
  fit(element);
}
