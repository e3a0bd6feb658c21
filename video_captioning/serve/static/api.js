// The service over HTTP.

const PATIENCE = 10; // times that a busy service is asked again

let key = "";
export const useKey = given => { key = given; };
const authorization = () => (key ? { Authorization: `Bearer ${key}` } : {});

/** What went wrong, in words. */
export class Problem extends Error {
  constructor(status, { code, message, hint = "", request_id: id = "" }, wait = null) {
    super(message);
    Object.assign(this, { status, code, hint, id, wait });
  }
}

const unreachable = () => new Problem(0, {
  code: "unreachable",
  message: "the service cannot be reached",
  hint: "see that it is running and that you are connected, then try again",
});

const brokenOff = () => new Problem(0, {
  code: "broken_off",
  message: "the connection broke off before the answer came",
  hint: "see that the service is running and that the file is not larger than it takes, then try again",
});

const unreadable = () => new Problem(0, {
  code: "unreadable",
  message: "the browser cannot read this file",
  hint: "choose files rather than folders, and files that are still where they were",
});

function refused(status, text, wait) {
  let said;
  try { said = JSON.parse(text).error; } catch { /* a proxy's page */ }
  return new Problem(status, said ?? {
    code: "unexpected",
    message: `the service answered with status ${status}`,
    hint: "try again in a while",
  }, wait);
}

export async function models() {
  let answer;
  try {
    answer = await fetch("v1/models", { headers: authorization() });
  } catch {
    throw unreachable();
  }
  if (!answer.ok) throw refused(answer.status, await answer.text());
  return (await answer.json()).models;
}

/** The caption of a file. A busy service (429, 503) is asked again after the time that it names.
 *
 * `tell` hears {state: "uploading", share} | {state: "reading"} | {state: "busy", problem, wait, attempt, of}.
 * Rejects with a Problem, or with an AbortError when `signal` aborts.
 */
export async function caption(file, options, tell, signal) {
  await file.slice(0, 1).arrayBuffer().catch(() => { throw unreadable(); });
  for (let attempt = 1; ; attempt++) {
    try {
      return await send(file, options, tell, signal);
    } catch (problem) {
      const busy = problem.status === 429 || problem.status === 503;
      if (!busy || attempt > PATIENCE) throw problem;
      for (let wait = problem.wait ?? 2; wait > 0; wait--) {
        tell({ state: "busy", problem, wait, attempt, of: PATIENCE });
        await second(signal);
      }
    }
  }
}

function send(file, options, tell, signal) { // XMLHttpRequest, for fetch does not say how much is sent
  const form = new FormData();
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  form.append("file", file, file.name);
  const request = new XMLHttpRequest();
  let moved = false;
  request.open("POST", "v1/captions");
  for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
  request.upload.onprogress = event => {
    moved ||= event.loaded > 0;
    tell({ state: "uploading", share: event.total ? event.loaded / event.total : 0 });
  };
  request.upload.onload = () => tell({ state: "reading" });
  return new Promise((resolve, reject) => {
    request.onload = () => {
      if (request.status === 200) return resolve(JSON.parse(request.responseText));
      const wait = Math.ceil(Number(request.getResponseHeader("Retry-After")));
      reject(refused(request.status, request.responseText, wait || null));
    };
    request.onerror = () => reject(moved ? brokenOff() : unreachable());
    request.onabort = () => reject(cancelled());
    signal.addEventListener("abort", () => request.abort(), { once: true });
    tell({ state: "uploading", share: 0 });
    request.send(form);
  });
}

const cancelled = () => new DOMException("cancelled", "AbortError");

function second(signal) {
  return new Promise((resolve, reject) => {
    const stop = () => { clearTimeout(timer); reject(cancelled()); };
    const timer = setTimeout(() => { signal.removeEventListener("abort", stop); resolve(); }, 1000);
    signal.addEventListener("abort", stop, { once: true });
  });
}
