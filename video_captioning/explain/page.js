"use strict";
const all = selector => [...document.querySelectorAll(selector)], one = selector => document.querySelector(selector);
const data = JSON.parse(one("#data").textContent);
const times = data.caption.frames, still = data.caption.video.duration === null;
const words = all(".word"), frames = all(".frame"), strip = one(".strip"), slide = one("#slide"), play = one("#play");
let video = one("video"), current = 0, chosen = null, timer = 0;

const percent = share => (100 * share).toFixed(share < .1 ? 1 : 0) + "%";
const mean = rows => rows[0].map((_, place) => rows.reduce((sum, row) => sum + row[place], 0) / rows.length);
const nearest = time => times.reduce((best, at, frame) => Math.abs(at - time) < Math.abs(times[best] - time) ? frame : best, 0);

function lit(weights) { // from 0 for what the average frame has, to 1 for the word's strongest frame
  const average = 1 / weights.length, most = Math.max(...weights) - average;
  return most > 1e-4 ? Math.max(0, weights[current] - average) / most : 0;
}

function drawBars() {
  const weights = chosen === null ? data.importance : data.words[chosen].weights, most = Math.max(...weights);
  const hidden = data.occlusion?.of === "frames" ? chosen === null ? data.occlusion : data.occlusion.words[chosen] : null;
  const deepest = hidden && Math.max(...hidden.fall.map(Math.abs), 1e-9);
  frames.forEach((frame, place) => {
    const [bar, other] = frame.querySelectorAll("i");
    bar.style.setProperty("--high", weights[place] / most);
    frame.querySelector(".weight").textContent = percent(weights[place]);
    if (!hidden) return;
    other.style.setProperty("--high", Math.max(0, hidden.fall[place]) / deepest);
    frame.querySelector(".fall").textContent = (hidden.fall[place] < 0 ? "−" : "+") + Math.abs(hidden.fall[place]).toFixed(2);
  });
}

function drawGrid(grid) {
  const rows = chosen === null ? data.words : [data.words[chosen]];
  const falls = chosen === null ? data.occlusion?.fall : data.occlusion?.words[chosen].fall;
  const values = grid.dataset.of === "fall" ? falls : mean(rows.map(word => word.patches[current].flat()));
  const most = Math.max(...values, 1e-9);
  grid.querySelectorAll("i").forEach((cell, place) => {
    cell.style.opacity = .75 * (1 - Math.max(0, values[place] / most) ** .6);
  });
  grid.previousElementSibling.src = frames[current].querySelector("img").src;
  const token = grid.closest("figure").querySelector(".token");
  if (token) token.textContent = percent(mean(rows.map(word => word.class_token))[current] / mean(rows.map(word => word.weights))[current]);
}

function show(frame) {
  current = frame;
  frames.forEach((button, place) => button.setAttribute("aria-current", place === frame));
  words.forEach((button, place) => button.style.setProperty("--lit", lit(data.words[place].weights)));
  slide.src = frames[frame].querySelector("img").src;
  const item = frames[frame].parentElement;
  strip.scrollTo({ left: item.offsetLeft - strip.offsetLeft - (strip.clientWidth - item.clientWidth) / 2 });
  all(".grid").forEach(drawGrid);
}

function seek(frame) {
  if (video) video.currentTime = times[frame];
  show(frame);
}

function choose(word) {
  chosen = word;
  words.forEach((button, place) => button.setAttribute("aria-pressed", place === word));
  drawBars();
  if (word === null) {
    one("#about").textContent = one("#about").dataset.hint;
    return show(current);
  }
  const { text, weights, logprob } = data.words[word], peak = weights.indexOf(Math.max(...weights));
  const moment = still ? "" : `, strongest at ${times[peak].toFixed(1)} s with ${percent(weights[peak])}`;
  one("#about").textContent = `“${text}”: log-probability ${logprob.toFixed(2)}${moment}`;
  seek(peak);
}

function slides() { // where the clip does not play
  video?.remove();
  video = null;
  one("#slides").hidden = false;
}

function step() {
  if (current + 1 === times.length) return pause();
  timer = setTimeout(() => { show(current + 1); step(); }, 1000 * (times[current + 1] - times[current]));
}

function pause() {
  clearTimeout(timer);
  timer = 0;
  play.textContent = "Play";
}

function follow() {
  if (!video) return;
  const frame = nearest(video.currentTime);
  if (frame !== current) show(frame);
  if (!video.paused) requestAnimationFrame(follow);
}

words.forEach((button, place) => button.addEventListener("click", () => choose(chosen === place ? null : place)));
frames.forEach((button, place) => button.addEventListener("click", () => { if (timer) pause(); seek(place); }));
play?.addEventListener("click", () => {
  if (timer) return pause();
  if (current + 1 === times.length) show(0);
  play.textContent = "Pause";
  step();
});
video?.addEventListener("play", follow);
video?.addEventListener("seeked", follow);
video?.addEventListener("error", () => { one("#note").textContent = "This browser does not play the clip; these are the frames that the model saw."; slides(); });
if (video?.error) slides();
document.addEventListener("keydown", event => {
  if (event.key === "Escape") return choose(null);
  const row = [words, frames].find(buttons => buttons.includes(document.activeElement));
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!row || !way) return;
  event.preventDefault();
  row[(row.indexOf(document.activeElement) + way + row.length) % row.length].focus();
});
drawBars();
show(0);
