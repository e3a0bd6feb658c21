// The scenes of a long video, each a line with its time.

import { byId, clock, make, roving } from "./dom.js";
import { spoken } from "./words.js";

const lines = byId("scenes"), reach = roving(lines);

/** One line per scene, of which the first is chosen, or nothing; `choose(place)` is called when another one is. */
export function list(scenes, choose) {
  byId("by-scene").hidden = !scenes;
  if (!scenes) return;
  byId("scene-count").textContent = scenes.length === 1 ? "One scene" : `${scenes.length} scenes`;
  const buttons = scenes.map(scene =>
    make("button", { type: "button" }, make("span", { className: "at" }, clock(scene.segment[0])), " ", make("span", {}, spoken(scene))));
  const mark = chosen => buttons.forEach((button, place) => button.setAttribute("aria-current", String(place === chosen)));
  buttons.forEach((button, place) => button.addEventListener("click", () => {
    mark(place);
    choose(place);
  }));
  lines.replaceChildren(...buttons);
  mark(0);
  reach();
}
