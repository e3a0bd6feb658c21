// The page: files in, captions out. One module a part, put together here.

import { models, useKey } from "./api.js";
import { Clip } from "./clip.js";
import { asSentence, byId } from "./dom.js";
import { chosen, fill } from "./options.js";
import { Queue } from "./queue.js";
import { Stage } from "./stage.js";

const SAID = new Set(["reading", "busy", "done", "failed"]); // states that are worth a word to who cannot see them

const again = clip => {
  const options = chosen();
  if (options) clip.start(options);
};
const stage = new Stage(again);
const queue = new Queue(clip => stage.show(clip));

function take(files) {
  const options = chosen();
  if (!options || !files.length) return;
  document.body.classList.add("begun");
  const clips = [...files].map(file => new Clip(file));
  for (const clip of clips) {
    queue.add(clip);
    announce(clip);
    clip.start(options);
  }
  queue.show(clips[0]);
}

function announce(clip) {
  let last = null;
  clip.addEventListener("change", () => {
    if (clip.state !== last && SAID.has(clip.state)) byId("said").textContent = `${clip.name}: ${clip.line}`;
    if (clip.state === "failed" && clip.problem.status === 401) byId("key-wanted").hidden = false;
    last = clip.state;
  });
}

async function begin() {
  try {
    fill(await models());
    byId("key-wanted").hidden = true;
  } catch (problem) {
    if (problem.status === 401) byId("key-wanted").hidden = false;
    else byId("options-said").textContent = asSentence(problem.message);
  }
}

byId("files").addEventListener("change", event => {
  take([...event.target.files]);
  event.target.value = ""; // so that the same file can be chosen again
});
byId("key-form").addEventListener("submit", async event => {
  event.preventDefault();
  useKey(byId("key").value);
  await begin();
  const refused = !byId("key-wanted").hidden;
  byId("key-said").textContent = refused ? "The service does not know this key." : "";
  if (!refused) queue.clips.filter(clip => clip.problem?.status === 401).forEach(again);
});

let inside = 0; // elements that a dragged file is over, nested in each other
const isFile = event => event.dataTransfer?.types.includes("Files");
const mark = step => { inside = Math.max(0, inside + step); document.body.classList.toggle("dragged", inside > 0); };
document.addEventListener("dragenter", event => { if (isFile(event)) mark(1); });
document.addEventListener("dragleave", event => { if (isFile(event)) mark(-1); });
document.addEventListener("dragover", event => { if (isFile(event)) event.preventDefault(); });
document.addEventListener("drop", event => {
  if (!isFile(event)) return;
  event.preventDefault();
  mark(-inside);
  take([...event.dataTransfer.files]);
});
begin();
