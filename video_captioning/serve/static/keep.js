// A caption to take away.

/** Captions as SubRip, but for empty ones: each over its segment, or the whole clip; a picture is given five seconds. */
export function srt(captions) {
  return captions.filter(({ text }) => text).map(({ text, segment, video }, place) => {
    const [start, end] = video.duration === null ? [0, 5] : segment ?? [0, video.duration];
    return `${place + 1}\n${stamp(start)} --> ${stamp(end)}\n${text}\n`;
  }).join("\n");
}

function stamp(seconds) {
  const all = Math.round(1000 * seconds), two = number => String(Math.floor(number)).padStart(2, "0");
  return `${two(all / 3600000)}:${two((all / 60000) % 60)}:${two((all / 1000) % 60)},${String(all % 1000).padStart(3, "0")}`;
}

/** Offer text as a file named after the clip. */
export function save(text, type, clip, ending) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${clip.replace(/\.[^.]+$/, "")}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
