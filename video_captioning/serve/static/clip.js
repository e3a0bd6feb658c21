// A file on its way to a caption. Fires "change" whenever there is something new to show.

import { caption } from "./api.js";
import { asSentence } from "./dom.js";
import { spoken } from "./words.js";

const AT_ONCE = 3; // enough to keep the service busy, and far below what it grants one client

const waiting = [];
let running = 0;

function next() {
  while (running < AT_ONCE && waiting.length) {
    running++;
    waiting.shift()().finally(() => { running--; next(); });
  }
}

export class Clip extends EventTarget {
  /** "waiting" | "uploading" | "reading" | "busy" | "done" | "failed" */
  state = "waiting";
  share = 0;
  answer = null; // of the service: a caption, or { results } with one a scene
  problem = null;
  line = "Waiting";
  #stop = new AbortController();

  constructor(file) {
    super();
    this.file = file;
    this.name = file.name;
  }

  /** What went wrong, without the name of the file, which stands beside it. */
  get complaint() {
    const { message } = this.problem, named = `${this.name}: `;
    return asSentence(message.startsWith(named) ? message.slice(named.length) : message);
  }

  get finished() { return this.state === "done" || this.state === "failed"; }

  /** Ask for the caption when it is this clip's turn. */
  start(options) {
    this.#stop.abort();
    const stop = this.#stop = new AbortController();
    this.answer = this.problem = null;
    this.#show({ state: "waiting" });
    waiting.push(() => stop.signal.aborted ? Promise.resolve() : this.#ask(options, stop.signal));
    next();
  }

  cancel() {
    this.#stop.abort();
    this.problem = { message: "you cancelled it", hint: "" };
    this.#show({ state: "failed" });
  }

  async #ask(options, signal) {
    const tell = news => { if (!signal.aborted) this.#show(news); };
    try {
      this.answer = await caption(this.file, options, tell, signal);
      tell({ state: "done" });
    } catch (problem) {
      if (signal.aborted) return;
      this.problem = problem;
      tell({ state: "failed" });
    }
  }

  #show(news) {
    this.state = news.state;
    this.share = news.share ?? 0;
    this.line = {
      waiting: () => "Waiting for its turn",
      uploading: () => `Uploading, ${Math.round(100 * this.share)}%`,
      reading: () => "Reading…",
      busy: () => `${asSentence(news.problem.message)} Trying again in ${news.wait} s (${news.attempt} of ${news.of})`,
      done: () => said(this.answer),
      failed: () => `No caption. ${this.complaint}`,
    }[news.state]();
    this.dispatchEvent(new Event("change"));
  }
}

function said(answer) {
  const { results: scenes } = answer;
  return scenes ? `${scenes.length} ${scenes.length === 1 ? "scene" : "scenes"}. ${spoken(scenes[0])}` : spoken(answer);
}
