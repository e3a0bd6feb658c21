// What the other modules share: elements, and numbers as people read them.

export const byId = id => document.getElementById(id);

/** A new element; `parts` are elements and text. */
export function make(name, properties = {}, ...parts) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...parts);
  return element;
}

export const percent = share => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
export const score = value => value.toFixed(2).replace("-", "−");

/** Seconds as 4.2 s or 1:04.2. */
export function clock(seconds) {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(1).padStart(4, "0")}`;
}

/** "no picture" → "No picture." */
export function asSentence(text) {
  const trimmed = text.trim();
  if (!trimmed) return "";
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? "" : ".");
}

/** A progress bar as far as the clip is: by bytes while uploading, moving while the length is not known. */
export function measure(progress, clip) {
  progress.hidden = clip.finished;
  if (clip.state === "uploading" || clip.state === "waiting") progress.value = clip.share;
  else progress.removeAttribute("value");
}

/** Arrow keys, Home and End move among a row or column of buttons, of which Tab reaches one. */
export function roving(row) {
  const reach = chosen => row.querySelectorAll("button").forEach(button => { button.tabIndex = button === chosen ? 0 : -1; });
  row.addEventListener("focusin", event => reach(event.target.closest("button")));
  row.addEventListener("keydown", event => {
    const buttons = [...row.querySelectorAll("button")], at = buttons.indexOf(document.activeElement);
    const [back, on] = row.ariaOrientation === "vertical" ? ["ArrowUp", "ArrowDown"] : ["ArrowLeft", "ArrowRight"];
    const places = { [back]: at - 1, [on]: at + 1, Home: 0, End: buttons.length - 1 };
    if (at < 0 || !(event.key in places)) return;
    event.preventDefault();
    buttons.at(places[event.key] % buttons.length).focus();
  });
  return () => reach(row.querySelector("button"));
}
