// The clip that is looked at: on its way, refused, or with its caption.

import { asSentence, byId, clock, make, measure, percent, score } from "./dom.js";
import { save, srt } from "./keep.js";
import { drawMoments, open } from "./pictures.js";
import { Timeline } from "./timeline.js";

const UNKNOWN = "This browser cannot play this kind of file, so there are no pictures here. The service read it without trouble: its moments and their weights are below.";
const ANIMATION = "This browser shows the animation but cannot jump in it; its moments and their weights are below.";

export class Stage {
  #clip = null;
  #drawn = null; // the caption on the page
  #stop = new AbortController(); // of what is done for it

  /** `again(clip)` asks for another caption of a clip. */
  constructor(again) {
    byId("cancel").addEventListener("click", () => this.#clip.cancel());
    for (const id of ["retry", "again"]) byId(id).addEventListener("click", () => again(this.#clip));
    byId("copy").addEventListener("click", () => copy(this.#drawn.text));
    byId("save-json").addEventListener("click", () => save(JSON.stringify(this.#drawn, null, 2), "application/json", this.#clip.name, "json"));
    byId("save-srt").addEventListener("click", () => save(srt(this.#drawn), "application/x-subrip", this.#clip.name, "srt"));
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
    this.#draw(clip.caption);
  }

  #draw(caption) {
    if (caption === this.#drawn) return;
    this.#drawn = caption;
    this.#stop.abort();
    this.#stop = new AbortController();
    byId("screen").replaceChildren();
    if (!caption) return;
    byId("sentence").textContent = `Caption: ${caption.text}`;
    drawSentences(caption);
    drawFacts(caption);
    drawTable(caption);
    this.#watch(caption, this.#stop.signal);
  }

  async #watch(caption, signal) {
    const { file } = this.#clip, silent = byId("cannot-play"); // words in the place of pictures
    silent.hidden = true;
    const timeline = new Timeline(caption); // words and bars at once; pictures when the browser has opened the file
    const opened = await open(file);
    signal.addEventListener("abort", () => URL.revokeObjectURL(opened.url));
    if (signal.aborted) return URL.revokeObjectURL(opened.url);
    const { video, image } = opened, moments = Boolean(video || (image && caption.frames.length === 1));
    silent.textContent = image ? ANIMATION : UNKNOWN;
    silent.hidden = moments;
    byId("strip").classList.toggle("bare", !moments);
    byId("screen").hidden = !(video || image);
    byId("screen").replaceChildren(video ?? image ?? "");
    if (video) timeline.follow(video);
    if (moments) await drawMoments(opened, caption.frames, timeline.canvases, signal);
  }
}

function drawSentences({ text, score: best, alternatives }) {
  const all = [{ text, score: best }, ...alternatives];
  byId("sentences").replaceChildren(...all.map(each => make("li", {},
    make("span", {}, each.text), " ", make("span", { className: "score", title: "mean log-probability" }, score(each.score)))));
}

function drawFacts({ video, model, frames, timings, warnings }) {
  const rate = video.fps ? `, ${Number(video.fps.toFixed(2))} frames a second` : "";
  const facts = {
    Picture: `${video.width} × ${video.height}, ${video.codec}${rate}`,
    Length: video.duration === null ? "a still picture" : clock(video.duration),
    "Looked at": `${frames.length} ${frames.length === 1 ? "frame" : "frames"}`,
    Model: `${model.name} ${model.version}`,
    Took: `${(timings.decode + timings.encode + timings.generate).toFixed(2)} s of work`,
  };
  byId("facts").replaceChildren(...Object.entries(facts).flatMap(([name, said]) => [make("dt", {}, name), make("dd", {}, said)]));
  byId("warnings").replaceChildren(...warnings.map(warning => make("li", {}, asSentence(warning))));
  byId("warnings").hidden = !warnings.length;
}

function drawTable({ words, frames }) {
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
