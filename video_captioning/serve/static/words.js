// The sentence: a button for each word, and how sure the model is.

import { byId, make } from "./dom.js";

const DOUBTFUL = 50; // percent; a word below is more likely wrong than right
const SURE = [[0.85, "Very sure"], [0.6, "Fairly sure"], [0.35, "Not very sure"], [0, "Hardly sure"]];

const rounded = confidence => Math.round(100 * confidence);

/** A confidence as a whole percentage. */
export const whole = confidence => `${rounded(confidence)}%`;

/** The sentence of a caption, or what stands in its place. */
export function spoken({ text, confidence }) {
  if (text) return text;
  return confidence === null ? "The model has no word for it." : "Not sure enough to say a sentence.";
}

/** Draw the sentence. Returns a button for each word. */
export function drawWords(caption) {
  const { text, words } = caption;
  const { parts, rest } = spell(text, words.map(word => word.text));
  const buttons = parts.map(([, word], place) => button(word, words[place].confidence));
  byId("words").replaceChildren(...parts.flatMap(([before], place) => [before, buttons[place]]), rest);
  byId("words").hidden = !text;
  byId("nothing").hidden = Boolean(text);
  byId("nothing").textContent = spoken(caption);
  drawSure(caption);
  return buttons;
}

const isDoubtful = confidence => confidence !== null && rounded(confidence) < DOUBTFUL;

function button(word, confidence) {
  const made = make("button", { type: "button" }, word);
  if (confidence !== null) made.title = `${whole(confidence)} sure`;
  if (!isDoubtful(confidence)) return made;
  made.className = "doubtful";
  made.setAttribute("aria-label", `${word}, only ${made.title}`);
  return made;
}

function drawSure({ text, confidence, words }) {
  const line = byId("sure");
  line.hidden = confidence === null;
  if (line.hidden) return;
  if (!text) return line.replaceChildren(`It was only ${whole(confidence)} sure of the likeliest one.`);
  const [, degree] = SURE.find(([least]) => confidence >= least);
  const doubtful = words.filter(word => isDoubtful(word.confidence));
  const named = doubtful.map(word => `${word.text} ${whole(word.confidence)}`).join(", ");
  const dotted = doubtful.length === 1 ? "the dotted word" : "the dotted words";
  line.replaceChildren(make("strong", {}, `${degree}, ${whole(confidence)}`), named && ` · less sure of ${dotted}: ${named}`);
}

/** [text before, the word as the sentence has it] for each word, and the text after the last. */
function spell(text, words) {
  const lower = text.toLowerCase(), parts = [];
  let at = 0;
  for (const word of words) {
    const found = lower.indexOf(word.toLowerCase(), at);
    if (found < 0) return { parts: words.map((each, place) => [place ? " " : "", each]), rest: "" };
    parts.push([text.slice(at, found), text.slice(found, found + word.length)]);
    at = found + word.length;
  }
  return { parts, rest: text.slice(at) };
}
