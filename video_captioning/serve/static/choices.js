// What can be looked at over the moments of a clip: each word, all words together, each tag.
//
// A choice is { kind, shares, about, legend, said, lit, button }: "attended", "seen" or "looked at"; its share of each
// moment, shown as bars; a heading; what the bars mean; a share in words; how far it lights up at a moment, from 0 to 1;
// and the button that chooses it.

import { clock, percent } from "./dom.js";
import { drawTags } from "./tags.js";
import { drawWords, whole } from "./words.js";

const ATTENTION = "Bars show how the model's attention was shared among the moments it looked at. The dotted line is an even share.";
const SEEN = "Bars stand at the moments at which the model saw it.";

/** Where the strongest of the shares is. */
export const peak = shares => shares.indexOf(Math.max(...shares));

/** Draw a caption's words and tags. Returns a choice for each, and what is shown while none is chosen. */
export function choicesOf(caption) {
  const still = caption.video.duration === null;
  const words = drawWords(caption).map((button, place) => {
    const { weights } = caption.words[place];
    return { ...attended(`“${button.textContent}”`, weights, caption.frames, still), button };
  });
  const tags = drawTags(caption).map((button, place) => ({ ...seen(caption.tags[place], caption.frames, still), button }));
  const all = words.length ? attended("All words", mean(words), caption.frames, still) : lookedAt(caption.frames);
  return { choices: [...words, ...tags], all };
}

/** The average of the words' shares at each moment. */
const mean = words => words[0].shares.map((_, at) => words.reduce((sum, word) => sum + word.shares[at], 0) / words.length);

function attended(name, shares, times, still) {
  const strongest = `strongest at ${clock(times[peak(shares)])} with ${percent(Math.max(...shares))}`;
  return {
    kind: "attended",
    shares,
    about: `${name}: ${still || times.length === 1 ? "one picture, so all attention is on it" : strongest}`,
    legend: ATTENTION,
    said: share => `${percent(share)} of the attention`,
    lit: moment => light(shares, moment),
  };
}

function seen({ name, score, times: seenAt }, times, still) {
  const shares = times.map(time => Number(seenAt.includes(time))), first = clock(seenAt[0]);
  const several = `seen at ${seenAt.length} of ${times.length} moments, first at ${first}`;
  const where = still ? "seen in the picture" : seenAt.length === 1 ? `seen at ${first}` : several;
  return {
    kind: "seen",
    shares,
    about: `“${name}”, ${whole(score)}: ${where}`,
    legend: SEEN,
    said: share => (share ? "seen" : "not seen"),
    lit: moment => shares[moment],
  };
}

/** For a caption without words. */
const lookedAt = times => ({
  kind: "looked at", shares: times.map(() => 0), about: "The moments that the model looked at", legend: "", said: () => "looked at",
});

/** From 0 for an even share or less to 1 at the strongest moment; 0 everywhere where all shares are the same. */
function light(shares, moment) {
  const even = 1 / shares.length, most = Math.max(...shares) - even;
  return most > 1e-4 ? Math.max(0, shares[moment] - even) / most : 0;
}
