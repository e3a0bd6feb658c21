// The list of clips, shown when there are several.

import { byId, measure } from "./dom.js";

export class Queue {
  clips = [];
  selected = null;

  /** `select(clip or null)` is called when another clip is to be seen. */
  constructor(select) {
    this.select = select;
  }

  add(clip) {
    const row = byId("row").content.cloneNode(true).firstElementChild;
    row.querySelector(".name").textContent = clip.name;
    row.querySelector("progress").setAttribute("aria-label", `Progress of ${clip.name}`);
    row.querySelector(".drop-clip").setAttribute("aria-label", `Remove ${clip.name}`);
    row.querySelector(".pick").addEventListener("click", () => this.show(clip));
    row.querySelector(".drop-clip").addEventListener("click", () => this.#remove(clip));
    clip.row = row;
    clip.addEventListener("change", () => draw(clip));
    draw(clip);
    this.clips.push(clip);
    byId("clips").append(row);
    byId("queue").hidden = this.clips.length < 2;
  }

  show(clip) {
    this.selected = clip;
    for (const each of this.clips) each.row.querySelector(".pick").setAttribute("aria-current", String(each === clip));
    this.select(clip);
  }

  #remove(clip) {
    const place = this.clips.indexOf(clip);
    if (!clip.finished) clip.cancel();
    clip.row.remove();
    this.clips.splice(place, 1);
    byId("queue").hidden = this.clips.length < 2;
    const neighbour = this.clips[Math.min(place, this.clips.length - 1)];
    if (this.selected === clip) this.show(neighbour);
    (this.clips.length < 2 ? byId("main") : neighbour.row.querySelector(".drop-clip")).focus();
  }
}

function draw(clip) {
  const { row, state, line } = clip;
  row.dataset.state = state;
  row.querySelector(".line").textContent = line;
  measure(row.querySelector("progress"), clip);
}
