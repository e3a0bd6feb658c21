// The words of a caption over the moments that were looked at.

import { byId, clock, make, percent, roving } from "./dom.js";
import { inside } from "./pictures.js";

const words = byId("words"), strip = byId("strip"), about = byId("about");
const reachWord = roving(words), reachMoment = roving(strip);
let shown = null; // the timeline on the page

/** Where the strongest of the weights is. */
const peak = weights => weights.indexOf(Math.max(...weights));

/** The average of the words' weights at each moment; an even share where there is no word. */
const mean = (rows, times) => times.map((_, at) => rows.length
  ? rows.reduce((sum, row) => sum + row[at], 0) / rows.length
  : 1 / times.length);

/** From 0 for an even share or less to 1 at the strongest moment; 0 everywhere where all shares are the same. */
function light(weights, moment) {
  const even = 1 / weights.length, most = Math.max(...weights) - even;
  return most > 1e-4 ? Math.max(0, weights[moment] - even) / most : 0;
}

/** [text before, the word as the sentence has it] for each word, and the text after the last. */
export function spell(text, spoken) {
  const lower = text.toLowerCase(), parts = [];
  let at = 0;
  for (const word of spoken) {
    const found = lower.indexOf(word.toLowerCase(), at);
    if (found < 0) return { parts: spoken.map((each, place) => [place ? " " : "", each]), rest: "" };
    parts.push([text.slice(at, found), text.slice(found, found + word.length)]);
    at = found + word.length;
  }
  return { parts, rest: text.slice(at) };
}

export class Timeline {
  chosen = null; // a word, counted from 0
  video = null; // the player
  #current = null; // a moment, counted from 0

  /** A caption's words and moments on the page. */
  constructor(caption) {
    shown = this;
    this.times = caption.frames;
    this.weights = caption.words.map(word => word.weights);
    this.still = caption.video.duration === null;
    this.#drawWords(caption);
    this.#drawMoments();
    this.#drawBars();
  }

  get canvases() { return this.moments.map(moment => moment.querySelector("canvas")); }

  /** Show a word's moments, or with null all words', and go to its strongest. */
  choose(word) {
    if (word === this.chosen) return;
    this.chosen = word;
    this.words.forEach((button, place) => button.setAttribute("aria-pressed", String(place === word)));
    this.#drawBars();
    if (word !== null) this.seek(peak(this.weights[word]));
  }

  seek(moment) {
    if (this.video) this.video.currentTime = inside(this.times[moment], this.video);
    this.#show(moment);
  }

  #drawWords({ text, words: spoken }) {
    const { parts, rest } = spell(text, spoken.map(word => word.text));
    this.words = parts.map(([, word]) => make("button", { type: "button" }, word));
    const pieces = parts.flatMap(([before], place) => [before, this.words[place]]);
    words.replaceChildren(...pieces, rest);
    this.words.forEach(button => button.setAttribute("aria-pressed", "false"));
    reachWord();
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
    const weights = this.chosen === null ? mean(this.weights, this.times) : this.weights[this.chosen], at = peak(weights);
    const top = Math.max(...weights), even = 1 / weights.length;
    const who = this.chosen === null ? "All words" : `“${this.words[this.chosen].textContent}”`;
    about.textContent = this.still || this.times.length === 1
      ? `${who}: one picture, so all attention is on it`
      : `${who}: strongest at ${clock(this.times[at])} with ${percent(weights[at])}`;
    strip.style.setProperty("--even", even / top);
    this.moments.forEach((moment, place) => {
      moment.style.setProperty("--high", weights[place] / top);
      moment.classList.toggle("strongest", place === at);
      moment.setAttribute("aria-label", `${this.still ? "The picture" : clock(this.times[place])}: ${percent(weights[place])} of the attention`);
    });
  }

  #show(moment) {
    if (moment === this.#current) return;
    this.#current = moment;
    this.moments.forEach((button, place) => button.setAttribute("aria-current", String(place === moment)));
    this.words.forEach((button, place) => {
      const lit = light(this.weights[place], moment);
      button.style.setProperty("--lit", lit);
      button.classList.toggle("lit", lit > 0.5);
    });
    const { offsetLeft, offsetWidth } = this.moments[moment];
    strip.scrollTo({ left: offsetLeft - (strip.clientWidth - offsetWidth) / 2 });
  }

  /** From now on the player goes where the words point, and the words light up where it is. */
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

const among = (row, event) => [...row.querySelectorAll("button")].indexOf(event.target.closest("button"));

let before = null; // the word that was chosen when a finger or mouse came down, which moves the focus and so chooses
words.addEventListener("pointerdown", () => { before = shown.chosen; });
words.addEventListener("focusin", event => shown.choose(among(words, event)));
words.addEventListener("click", event => { // a second time shows all words again
  const word = among(words, event), byKey = event.detail === 0;
  if (word >= 0) shown.choose((byKey ? shown.chosen : before) === word ? null : word);
});
strip.addEventListener("click", event => {
  const moment = among(strip, event);
  if (moment >= 0) shown.seek(moment);
});
document.addEventListener("keydown", event => { if (event.key === "Escape") shown?.choose(null); });
