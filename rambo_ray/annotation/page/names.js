// Who labels: asked once, and kept in the browser.

const $ = (id) => document.getElementById(id);

// The name that somebody gives; where it cannot be dismissed, nobody goes on without one.
export function named(suggested, dismissible) {
  $("naming_name").value = suggested;
  $("naming").returnValue = "";
  $("naming").showModal();
  $("naming_name").select();
  return new Promise((done) => {
    $("naming_form").onsubmit = (event) => {
      const name = $("naming_name").value.trim();
      if (name === "") event.preventDefault();
      else done(name);
    };
    $("naming").onclose = () => {
      if ($("naming").returnValue === "given") return;
      if (dismissible) done(suggested);
      else $("naming").showModal();
    };
  });
}

// Where a browser keeps nothing, the name is asked again next time.
const NAME = "rambo label: annotator";
export function keptName() {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null;
  }
}
export function keepName(name) {
  try {
    localStorage.setItem(NAME, name);
  } catch { /* see above */ }
}
