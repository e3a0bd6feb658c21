// The form of model and decoding → options of a request.

import { byId, make } from "./dom.js";

const NUMBERS = ["fps", "max_frames", "frames", "beam", "consensus", "temperature", "min_confidence"];
const DRAWN = 3; // sentences to draw unless told otherwise

const form = byId("options-form");
const field = name => form.elements.namedItem(name);

/** A form that knows what the models have for each field. `models` as of GET /v1/models. */
export function fill(models) {
  const known = new Map(models.map(model => [model.name, model]));
  field("model").replaceChildren(...models.map(({ name }) => make("option", { value: name }, name)));
  const show = () => {
    const { sampling, decoding, confidence } = known.get(field("model").value);
    const own = { ...sampling, ...decoding };
    for (const name of NUMBERS) field(name).placeholder = own[name] ?? "off";
    field("min_confidence").closest("p").hidden = !confidence;
    field("frames").closest("p").hidden = !sampling.frames; // a model looks either at a rate or at a fixed number
    for (const name of ["fps", "max_frames"]) field(name).closest("p").hidden = Boolean(sampling.frames);
    const draws = field("temperature").value !== "" || decoding.temperature !== null;
    field("beam").disabled = draws;
    const beam = Number(field("beam").value || own.beam);
    field("alternatives").max = draws ? 16 : beam;
    field("alternatives").placeholder = draws ? DRAWN : beam;
    byId("options-said").textContent = summary();
  };
  form.addEventListener("input", show);
  form.addEventListener("reset", () => queueMicrotask(show));
  form.addEventListener("submit", event => event.preventDefault());
  show();
}

const isSaid = ({ type, value, checked }) => (type === "checkbox" ? checked : value !== "");
const given = () => [...form.elements].filter(field => field.name && isSaid(field) && !field.disabled && isSeen(field.name));
const isSeen = name => !field(name).closest("p").hidden;

function summary() {
  const changed = given().filter(({ id }) => id !== "model" || field("model").selectedIndex > 0);
  const said = changed.map(({ id, type, value }) => {
    const label = form.querySelector(`label[for=${id}]`).textContent.toLowerCase();
    return type === "checkbox" ? label : `${label} ${value}`;
  });
  return said.join(", ") || "as the model has it";
}

/** Options that were chosen, by name; null where one is out of range, which the browser then says. */
export function chosen() {
  if (!form.checkValidity()) {
    byId("options").open = true;
    form.reportValidity();
    return null;
  }
  const options = Object.fromEntries(given().map(({ name, value }) => [name, value]));
  const { placeholder } = field("alternatives");
  if (placeholder) options.alternatives ??= placeholder;
  return options;
}
