// The words and tags of a caption over the moments that were looked at.

import { choicesOf, peak } from "./choices.js";
import { byId, clock, make, roving } from "./dom.js";
import { inside } from "./pictures.js";

const words = byId("words"), tags = byId("tags"), strip = byId("strip");
const reachWord = roving(words), reachTag = roving(tags), reachMoment = roving(strip);
let shown = null; // the timeline on the page

export class Timeline {
  chosen = null; // a word or tag, or null for all words together
  video = null; // the player
  #pointed = null; // a word or tag that the mouse is on
  #current = null; // a moment, counted from 0

  /** A caption's words, tags and moments on the page. */
  constructor(caption) {
    shown = this;
    this.times = caption.frames;
    this.still = caption.video.duration === null;
    Object.assign(this, choicesOf(caption));
    this.choices.forEach(({ button }) => button.setAttribute("aria-pressed", "false"));
    reachWord();
    reachTag();
    this.#drawMoments();
    this.#drawBars();
  }

  get canvases() { return this.moments.map(moment => moment.querySelector("canvas")); }

  /** The word or tag that an event is on; null where it is on none. */
  at(event) {
    return this.choices.find(({ button }) => button === event.target.closest("button")) ?? null;
  }

  /** Show the moments of a word or tag, or with null of all words, and go to the strongest. */
  choose(choice) {
    if (choice === this.chosen && !this.#pointed) return;
    this.chosen = choice;
    this.#pointed = null;
    this.choices.forEach(each => each.button.setAttribute("aria-pressed", String(each === choice)));
    this.#drawBars();
    if (choice) this.seek(peak(choice.shares));
  }

  /** Show the moments of a word or tag while the mouse is on it, and then again what was chosen. */
  point(choice) {
    if (choice === this.#pointed) return;
    this.#pointed = choice;
    this.#drawBars();
  }

  seek(moment) {
    if (this.video) this.video.currentTime = inside(this.times[moment], this.video);
    this.#show(moment);
  }

  #drawMoments() {
    this.moments = this.times.map(time => {
      const bar = make("span", { className: "bar" }, make("i"));
      return make("button", { type: "button" }, bar, make("canvas"), make("span", { className: "at" }, this.still ? "picture" : clock(time)));
    });
    this.moments.forEach(moment => moment.querySelector("canvas").setAttribute("aria-hidden", "true"));
    strip.replaceChildren(...this.moments);
    reachMoment();
  }

  #drawBars() {
    const { shares, about, legend, said, kind } = this.#pointed ?? this.chosen ?? this.all;
    const top = Math.max(...shares) || 1;
    byId("about").textContent = about;
    byId("legend").textContent = legend;
    strip.dataset.kind = kind;
    strip.style.setProperty("--even", 1 / shares.length / top);
    this.moments.forEach((moment, place) => {
      moment.style.setProperty("--high", shares[place] / top);
      moment.classList.toggle("strongest", shares[place] === top);
      moment.setAttribute("aria-label", `${this.still ? "The picture" : clock(this.times[place])}: ${said(shares[place])}`);
    });
  }

  #show(moment) {
    if (moment === this.#current) return;
    this.#current = moment;
    this.moments.forEach((button, place) => button.setAttribute("aria-current", String(place === moment)));
    this.choices.forEach(({ button, lit }) => {
      const strength = lit(moment);
      button.style.setProperty("--lit", strength);
      button.classList.toggle("lit", strength > 0.5);
    });
    const { offsetLeft, offsetWidth } = this.moments[moment];
    strip.scrollTo({ left: offsetLeft - (strip.clientWidth - offsetWidth) / 2 });
  }

  /** From now on the player goes where the words and tags point, and these light up where it is. */
  follow(video) {
    this.video = video;
    const nearest = time => this.times.reduce(
      (best, at, place) => (Math.abs(at - time) < Math.abs(this.times[best] - time) ? place : best), 0);
    const look = () => {
      if (shown !== this) return;
      this.#show(nearest(video.currentTime));
      if (!video.paused && !video.ended) requestAnimationFrame(look);
    };
    for (const event of ["play", "seeked"]) video.addEventListener(event, look);
    if (this.#current !== null) this.seek(this.#current);
  }
}

for (const row of [words, tags]) {
  let before = null; // what was chosen when a finger or mouse came down, which moves the focus and so chooses
  row.addEventListener("pointerdown", () => { before = shown.chosen; });
  row.addEventListener("focusin", event => shown.choose(shown.at(event)));
  row.addEventListener("click", event => { // a second time shows all words again
    const choice = shown.at(event), byKey = event.detail === 0;
    if (choice) shown.choose((byKey ? shown.chosen : before) === choice ? null : choice);
  });
  row.addEventListener("pointerover", event => { if (event.pointerType === "mouse") shown.point(shown.at(event)); });
  row.addEventListener("pointerleave", () => shown.point(null));
}
strip.addEventListener("click", event => {
  const moment = shown.moments.indexOf(event.target.closest("button"));
  if (moment >= 0) shown.seek(moment);
});
document.addEventListener("keydown", event => { if (event.key === "Escape") shown?.choose(null); });
