// What was seen, as chips.

import { byId, make } from "./dom.js";
import { whole } from "./words.js";

/** Draw the tags, best first. Returns a button for each. */
export function drawTags({ tags, frames }) {
  const buttons = (tags ?? []).map(tag => chip(tag, frames.length));
  byId("tags").replaceChildren(...buttons);
  byId("tags").hidden = !buttons.length;
  return buttons;
}

function chip({ name, score, times }, moments) {
  const meter = make("span", { className: "meter" }, make("i"));
  const made = make("button", { type: "button", title: `${whole(score)} sure` }, name, meter);
  made.style.setProperty("--score", score);
  made.setAttribute("aria-label", `${name}, ${made.title}, seen in ${times.length} of ${moments}`);
  return made;
}
