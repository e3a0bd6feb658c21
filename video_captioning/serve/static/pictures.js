// The local file as the browser sees it: a player or a picture, and thumbnails of moments.

import { make } from "./dom.js";

const WIDTH = 192; // pixels of a thumbnail: twice as wide as it is shown, for dense screens

/** What shows the file: {video} or {image}, or {} where the browser knows neither. Free its `url` after use. */
export async function open(file) {
  const url = URL.createObjectURL(file);
  if (file.type.startsWith("image/")) {
    const image = make("img", { src: url, alt: `The picture ${file.name}` });
    return await image.decode().then(() => true, () => false) ? { url, image } : { url };
  }
  const video = make("video", { src: url, controls: true, playsInline: true, preload: "auto" });
  video.setAttribute("aria-label", `The clip ${file.name}`);
  const playable = await ready(video, "loadedmetadata") && video.videoWidth > 0;
  if (playable) return { url, video };
  video.removeAttribute("src");
  return { url };
}

/** Draw the moments at `times` (seconds) on the canvases, one after the other, from a player of its own. */
export async function drawMoments({ url, image }, times, canvases, signal) {
  if (image) return canvases.forEach(canvas => paint(canvas, image, image.naturalWidth, image.naturalHeight));
  const video = make("video", { src: url, muted: true, playsInline: true, preload: "auto" });
  if (!await ready(video, "loadedmetadata")) return;
  for (let place = 0; place < times.length && !signal.aborted; place++) {
    const reached = ready(video, "seeked");
    video.currentTime = inside(times[place], video);
    if (!await reached) break;
    paint(canvases[place], video, video.videoWidth, video.videoHeight);
  }
  video.removeAttribute("src");
  video.load();
}

/** A little after a frame's time, for at its very time rounding may give the frame before. */
export const inside = (time, video) => Math.min(time + 0.005, video.duration || Infinity);

function paint(canvas, source, width, height) {
  canvas.width = WIDTH;
  canvas.height = Math.max(1, Math.round((WIDTH * height) / width));
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  canvas.dataset.drawn = "true";
}

/** Whether the event comes, rather than an error. */
function ready(video, event) {
  return new Promise(resolve => {
    video.addEventListener(event, () => resolve(true), { once: true });
    video.addEventListener("error", () => resolve(false), { once: true });
  });
}
