// The clip that is looked at: on its way, refused, or with its caption.

import { asSentence, byId, clock, make, measure, percent, score } from "./dom.js";
import { save, srt } from "./keep.js";
import { drawMoments, inside, open } from "./pictures.js";
import { list } from "./scenes.js";
import { Timeline } from "./timeline.js";
import { spoken, whole } from "./words.js";

const UNKNOWN = "This browser cannot play this kind of file, so there are no pictures here. The service read it without trouble: its moments and their weights are below.";
const SURE = "The percentage says how sure the model is that the sentence is right.";
const SCORE = "The score is the mean log-probability of a word piece: nearer 0 is surer.";
const ANIMATION = "This browser shows the animation but cannot jump in it; its moments and their weights are below.";

export class Stage {
  #clip = null;
  #drawn = null; // the answer on the page
  #caption = null; // of it, the one that is looked at
  #stop = new AbortController(); // of what is done for the answer
  #leave = new AbortController(); // and for the caption

  /** `again(clip)` asks for another caption of a clip. */
  constructor(again) {
    byId("cancel").addEventListener("click", () => this.#clip.cancel());
    for (const id of ["retry", "again"]) byId(id).addEventListener("click", () => again(this.#clip));
    byId("copy").addEventListener("click", () => copy(this.#caption.text));
    byId("save-json").addEventListener("click", () => save(JSON.stringify(this.#drawn, null, 2), "application/json", this.#clip.name, "json"));
    byId("save-srt").addEventListener("click", () => save(srt(captionsOf(this.#drawn)), "application/x-subrip", this.#clip.name, "srt"));
    this.render = this.render.bind(this);
  }

  /** Look at a clip, or with undefined at none. */
  show(clip) {
    this.#clip?.removeEventListener("change", this.render);
    this.#clip = clip;
    byId("stage").hidden = !clip;
    if (!clip) return this.#draw(null);
    clip.addEventListener("change", this.render);
    this.render();
  }

  render() {
    const clip = this.#clip, { state, problem } = clip;
    byId("clip-name").textContent = clip.name;
    byId("under-way").hidden = clip.finished;
    byId("state").textContent = clip.line;
    measure(byId("progress"), clip);
    byId("failure").hidden = state !== "failed";
    if (problem) {
      byId("problem").textContent = clip.complaint;
      byId("way-out").textContent = asSentence(problem.hint);
      byId("trace").textContent = problem.id ? `Request ${problem.id} · ${problem.code}` : "";
    }
    byId("result").hidden = byId("again").hidden = state !== "done";
    this.#draw(clip.answer);
  }

  #draw(answer) {
    if (answer === this.#drawn) return;
    this.#drawn = answer;
    this.#stop.abort();
    this.#leave.abort();
    byId("screen").replaceChildren();
    if (!answer) return;
    const { signal } = this.#stop = new AbortController();
    const opening = open(this.#clip.file);
    signal.addEventListener("abort", async () => URL.revokeObjectURL((await opening).url));
    const captions = captionsOf(answer);
    byId("save-srt").disabled = !captions.some(({ text }) => text);
    list(answer.results, place => this.#look(captions[place], opening));
    this.#look(captions[0], opening);
  }

  async #look(caption, opening) {
    this.#caption = caption;
    this.#leave.abort();
    const { signal } = this.#leave = new AbortController();
    byId("sentence").textContent = `Caption: ${spoken(caption)}`;
    byId("copy").disabled = !caption.text;
    drawSentences(caption);
    drawFacts(caption);
    drawTable(caption);
    byId("cannot-play").hidden = true;
    const timeline = new Timeline(caption); // words and bars at once; pictures when the browser has opened the file
    const opened = await opening;
    if (!signal.aborted) await watch(caption, opened, timeline, signal);
  }
}

const captionsOf = answer => answer.results ?? [answer];

async function watch({ frames, segment }, opened, timeline, signal) {
  const { video, image } = opened, moments = Boolean(video || (image && frames.length === 1));
  const silent = byId("cannot-play"), screen = byId("screen"), shown = video ?? image; // words in the place of pictures
  silent.textContent = image ? ANIMATION : UNKNOWN;
  silent.hidden = moments;
  byId("strip").classList.toggle("bare", !moments);
  screen.hidden = !shown;
  if (shown?.parentElement !== screen) screen.replaceChildren(shown ?? "");
  if (video && segment) video.currentTime = inside(segment[0], video);
  if (video) timeline.follow(video);
  if (moments) await drawMoments(opened, frames, timeline.canvases, signal);
}

function drawSentences(caption) {
  const all = [caption, ...caption.alternatives], sure = caption.confidence !== null;
  const said = each => (sure ? whole(each.confidence) : score(each.score));
  byId("sentences").replaceChildren(...all.map(each => make("li", {},
    make("span", {}, each.text), " ", make("span", { className: "score" }, said(each)))));
  byId("by-sentence").hidden = !caption.text;
  byId("score-help").textContent = sure ? SURE : SCORE;
}

function drawFacts({ video, model, frames, segment, timings, warnings }) {
  const rate = video.fps ? `, ${Number(video.fps.toFixed(2))} frames a second` : "";
  const facts = {
    Picture: `${video.width} × ${video.height}, ${video.codec}${rate}`,
    Length: video.duration === null ? "a still picture" : clock(video.duration),
    ...(segment && { Scene: segment.map(clock).join(" to ") }),
    "Looked at": `${frames.length} ${frames.length === 1 ? "frame" : "frames"}`,
    Model: `${model.name} ${model.version}`,
    Took: `${(timings.decode + timings.encode + timings.generate).toFixed(2)} s of work`,
  };
  byId("facts").replaceChildren(...Object.entries(facts).flatMap(([name, said]) => [make("dt", {}, name), make("dd", {}, said)]));
  byId("warnings").replaceChildren(...warnings.map(warning => make("li", {}, asSentence(warning))));
  byId("warnings").hidden = !warnings.length;
}

function drawTable({ words, frames }) {
  byId("by-word").hidden = !words.length;
  const top = Math.max(...words.flatMap(word => word.weights));
  const head = make("tr", {}, make("th", { scope: "col" }, "Word"), ...frames.map(time => make("th", { scope: "col" }, clock(time))));
  const rows = words.map(word => make("tr", {}, make("th", { scope: "row" }, word.text), ...word.weights.map(weight => {
    const cell = make("td", {}, percent(weight));
    cell.style.setProperty("--high", weight / top);
    return cell;
  })));
  byId("table").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

async function copy(text) {
  const button = byId("copy");
  const done = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  byId("said").textContent = done ? "Copied" : "The browser does not let this page copy";
  button.textContent = done ? "Copied" : "Not allowed";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}
