"use strict";
// Sorting, finding and copying what the page holds already. It asks nobody for anything, and writes no markup.
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  // -- copying -----------------------------------------------------------------------------------
  const byHand = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  const copy = async (text, button) => {
    const before = button.textContent;
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      done = byHand(text);
    }
    button.textContent = done ? "Copied" : "Copying is not allowed here";
    setTimeout(() => { button.textContent = before; }, 1600);
  };
  for (const button of all("button[data-copies]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(document.getElementById(button.dataset.copies).textContent, button));
  }

  // -- the table of picked images ----------------------------------------------------------------
  const table = document.getElementById("picked-rows");
  if (table) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const heads = all("th", table.tHead);
    const words = new Intl.Collator(undefined, { numeric: true });
    const value = (row, column) => row.cells[column].textContent;
    const sort = (head) => {
      const column = head.cellIndex;
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numbers = head.dataset.kind === "number";
      rows.sort((a, b) => {
        const [one, other] = [value(a, column), value(b, column)];
        const missing = (one === "–") - (other === "–");  // no number comes last, up or down
        if (missing) return missing;
        const order = numbers ? Number(one) - Number(other) : words.compare(one, other);
        return (down ? -order : order) || Number(value(a, 0)) - Number(value(b, 0));
      });
      body.append(...rows);
    };
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(head));
      head.append(button);
    }
    const find = document.getElementById("find"), found = document.getElementById("found");
    const filter = () => {
      const wanted = find.value.trim().toLowerCase();
      let count = 0;
      for (const row of rows) {
        row.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
        count += !row.hidden;
      }
      found.textContent = wanted === "" ? "" : `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    };
    find.addEventListener("input", filter);
    const copier = document.getElementById("copy-rows");
    copier.addEventListener("click", () => {
      const lines = [heads, ...rows.filter((row) => !row.hidden).map((row) => Array.from(row.cells))];
      const cell = (it) => it.textContent.replace(/[\t\r\n]+/g, " ");
      copy(lines.map((cells) => cells.map(cell).join("\t")).join("\n") + "\n", copier);
    });
    document.getElementById("row-tools").hidden = false;
  }

  // -- the map: what one points at -----------------------------------------------------------------
  const map = document.getElementById("pool-map");
  const card = document.getElementById("map-card");
  if (map && card) {
    const pictures = all(".gallery li");
    const show = (dot) => {
      const picture = pictures[Number(dot.dataset.order)]?.querySelector("img");
      card.replaceChildren();
      if (picture) {
        const shown = picture.cloneNode();
        shown.loading = "eager";
        card.append(shown);
      }
      const name = document.createElement("span");
      name.textContent = dot.querySelector("title").textContent;
      card.append(name);
      const box = map.getBoundingClientRect(), at = dot.getBoundingClientRect();
      card.hidden = false;
      const left = Math.min(Math.max(0, at.left - box.left + 10), box.width - card.offsetWidth);
      const above = at.top - box.top - card.offsetHeight - 8;
      card.style.left = `${left}px`;
      card.style.top = `${above < 0 ? at.bottom - box.top + 8 : above}px`;
    };
    map.addEventListener("pointerover", (event) => {
      const dot = event.target.closest("circle[data-order]");
      if (dot) show(dot); else card.hidden = true;
    });
    map.addEventListener("pointerleave", () => { card.hidden = true; });
  }
})();
