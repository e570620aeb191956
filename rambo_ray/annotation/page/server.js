// What the page says to its server: one request at a time, each repeated until the server has replied.

const RETRY_MS = 1000, PATIENCE_MS = 10000;

const GONE = "Start rambo label again with the same folder: this page goes on by itself.";
const box = document.getElementById("trouble");
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
let line = Promise.resolve(); // the requests, one behind the other

// Says what is wrong until it is right again; nothing where `text` is empty.
export function trouble(text) {
  if (text && box.textContent !== text) box.textContent = text; // a screen reader says it once
  box.hidden = !text;
}

function reach(path, body) {
  const json = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return fetch(path, { ...(body === undefined ? {} : json), signal: AbortSignal.timeout(PATIENCE_MS) });
}

// What the server replies, however long it takes to come back; what it refuses is thrown.
// unsaved: what the person did is lost if the page is closed now.
export async function persist(path, body = () => undefined, unsaved = false) {
  for (;;) {
    let response = null, content = null;
    try {
      response = await reach(path, body());
      content = await response.json().catch(() => null);
    } catch {
      response = null; // gone, or too slow
    }
    if (response?.ok && content !== null) {
      trouble("");
      return content;
    }
    if (response?.status === 400) throw new Error(content?.error ?? "The server does not understand this page. Load it again.");
    const still = unsaved ? "This answer is not saved yet." : "Everything answered so far is saved.";
    if (response?.status === 403 || response?.status === 421) {
      trouble(`The server has another address now. ${still} Open the address that rambo label prints.`);
    } else if (content?.error) {
      trouble(`${content.error}. ${still} Trying again.`);
    } else {
      trouble(`The server is gone. ${still} ${GONE}`);
    }
    await wait(RETRY_MS);
  }
}

// The same, after all requests before it; `body` is made when its turn comes.
export function inTurn(path, body, unsaved) {
  const reply = line.then(() => persist(path, body, unsaved));
  line = reply.catch(() => {});
  return reply;
}

// Why an image cannot be shown; null where the server is gone, which is said and waited for.
export async function reason(path) {
  const response = await reach(path).catch(() => null);
  if (response !== null && response.status < 500) {
    return response.ok ? "this browser does not know its format" : (await response.text()).slice(0, 300);
  }
  trouble(`The server is gone. Everything answered so far is saved. ${GONE}`);
  await wait(RETRY_MS);
  return null;
}
