// What lies on the desk: the photo or the blank picture, its places, and the result that is looked at.

import { ask, bitmap, cutOut, get, post } from "./api.js";
import { frame, margins } from "./frame.js";
import { keyOf, Places } from "./places.js";
import { pyramid, View } from "./view.js";

export const $ = (id) => document.getElementById(id);

const BLANK = 1024; // the longer side on which a layout is drawn
const AUTO = { grow: -33, feather: -1 }; // where a slider stands that leaves the choice to inlay

export const desk = {
  view: new View($("canvas")),
  mode: null, // the action that the form is of
  photo: null, // { photo, name, width, height, levels }
  boards: { photo: null, blank: null },
  forms: {},
  sliders: { edit: { grow: 0, feather: AUTO.feather }, remove: { ...AUTO } },
  result: null, // { entry, number, levels, before: { levels, area } }
  preview: null,
  split: 0,
  original: false, // a key is held to see what was there before
  masked: true,
  tool: "point",
  brush: null, // where the brush is
  cross: null,
  drag: null, // a box that is being drawn
  sent: new WeakMap(), // the id of a mask by the acts that made it
  listeners: new Set(),
};

export function board() {
  if (desk.mode === "extend") return null;
  return desk.mode === "generate" ? desk.boards.blank : desk.boards.photo;
}
export const slider = (name) => Number($(name).value);

/** What a slider says, null where inlay is to choose. */
export const chosen = (name) => (slider(name) === AUTO[name] ? null : slider(name));

/** The photo that the mode is about. */
export const subject = () => (desk.mode === "generate" ? null : desk.photo);

/** Something changed that can be seen. */
export function changed() {
  desk.view.redraw();
  for (const listener of desk.listeners) listener();
}

/** Tell the person something; errors stay until they are closed or the next thing is said. */
export function say(text, wrong = false, about = "") {
  const line = document.createElement("p");
  const words = Object.assign(document.createElement("span"), { textContent: text });
  const close = Object.assign(document.createElement("button"), { type: "button", textContent: "×", ariaLabel: "Close" });
  close.addEventListener("click", () => line.remove());
  line.classList.toggle("wrong", wrong);
  line.append(words, close);
  line.dataset.about = about;
  $("said").replaceChildren(line);
  if (!wrong) setTimeout(() => line.remove(), 5000);
}

/** What was said about something is over. */
export function hush(about = "") {
  for (const line of [...$("said").children]) if (!about || line.dataset.about === about) line.remove();
}

/** Do something that may be refused, and say so if it is. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    say(error.message, true);
    return null;
  }
}

export function busy(text) {
  $("busy").hidden = !text;
  $("busy").textContent = text ?? "";
}

desk.view.scene = () => {
  const { result, photo, view, drawn, preview } = desk;
  if (result) return { picture: result.levels, before: result.before, split: desk.original ? 1 : desk.split, drawn };
  if (desk.mode === "extend" && photo) return { picture: photo.levels, frame: frame(), preview, drawn };
  const places = board();
  const picture = subject()?.levels;
  if (!places) return { drawn };
  const [grow, feather] = desk.mode in desk.sliders ? [chosen("grow"), chosen("feather")] : [0, 0];
  const visible = desk.masked && !desk.original;
  const { active } = places;
  return {
    picture,
    preview,
    masks: visible ? places.now.places.filter((place) => place.acts.length || (places.painting && place === active)).map((place) => ({
      ...places.shape(place, grow, feather), colour: place.colour, active: place === active,
    })) : [],
    points: visible && !preview ? [{ ...places.pointed(), colour: active.colour }] : [],
    box: desk.drag,
    colour: active.colour,
    brush: desk.brush && { ...desk.brush, radius: brushRadius() },
    cross: document.activeElement === view.canvas ? desk.cross : null,
    drawn,
  };
};

/** Half the brush's width in pixels of the photo: it is as wide on the screen at every zoom. */
export const brushRadius = () => (slider("brush-size") / 2) * (devicePixelRatio / desk.view.scale);

/** Show the photo, or the blank picture, with its places. */
export function lookAtPlaces() {
  if (desk.result) {
    desk.result = null;
    desk.split = 0;
    $("split").value = 0;
  }
  const { width = 0, height = 0 } = (desk.mode === "generate" ? desk.boards.blank : desk.photo) ?? {};
  if (desk.mode === "extend" && desk.photo) desk.view.show(width, height, frame());
  else desk.view.show(width, height);
  $("empty").hidden = desk.mode === "generate" || Boolean(desk.photo);
  changed();
}

export function setMode(mode) {
  if (desk.mode !== mode) {
    if (desk.mode in desk.sliders) desk.sliders[desk.mode] = { grow: slider("grow"), feather: slider("feather") };
    desk.mode = mode;
    hush();
    if (mode === "generate") blank();
    if (mode in desk.sliders) {
      $("grow").min = mode === "remove" ? AUTO.grow : AUTO.grow + 1;
      for (const [name, value] of Object.entries(desk.sliders[mode])) setSlider(name, value);
    }
  }
  document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
  for (const [action, form] of Object.entries(desk.forms)) form.shown = action === mode;
  lookAtPlaces();
}

/** A blank picture in the shape that the form asks for; one of the same shape is kept. */
export function blank() {
  const asked = /^(\d+)x(\d+)$/i.exec(desk.forms.generate?.get("size").trim() ?? "");
  const [width, height] = asked ? [Number(asked[1]), Number(asked[2])] : [1, 1];
  const scale = BLANK / Math.max(width, height, 1);
  const size = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const now = desk.boards.blank;
  if (now?.width === size[0] && now.height === size[1]) return;
  desk.boards.blank = new Places(...size, changed);
}

let sends = 0;
let newest = 0; // of the sends whose photo was opened: an earlier one that takes longer comes too late

/** Send a picture's bytes, and hear what it is called; it is opened unless it is only to be shown to a model. */
export function upload(file, limit, shown = false) {
  return attempt(async () => {
    if (file.size > limit) throw new Error(`${file.name} is too large: at most ${limit >> 20} MB are taken.`);
    busy(`Opening ${file.name}`);
    try {
      const name = encodeURIComponent(file.name || "pasted.png");
      const path = `photos?name=${name}${shown ? "&shown" : ""}`;
      const mine = ++sends;
      const told = await (await ask(path, { method: "POST", body: file })).json();
      if (shown) return told;
      await openPhoto(told, () => mine > newest);
      newest = Math.max(newest, mine);
      return told;
    } finally {
      busy(null);
    }
  });
}

/** Show a photo that the server has, unless it is not `current` any more; one that is open already stays as it is. */
export async function openPhoto(told, current = () => true) {
  if (desk.photo?.photo !== told.photo) {
    const levels = await pyramid(await bitmap(`photos/${told.photo}`));
    if (!current()) return told;
    desk.photo = { ...told, levels };
    desk.boards.photo = new Places(told.width, told.height, changed);
    $("photo-name").textContent = `${told.name.replace(/-[0-9a-f]{16}(?=\.|$)/, "")} · ${told.width} × ${told.height}`;
    sessionStorage.setItem("photo", told.photo);
  }
  hush();
  setMode(!desk.mode || desk.mode === "generate" ? "edit" : desk.mode);
  return told;
}

const searches = new WeakMap(); // by places, while the segmenter is asked

/** Have the segmenter find what is pointed at; clicks that come while it works are answered together. */
export function find(places = board(), photo = desk.photo.photo) {
  if (!searches.has(places)) searches.set(places, search(places, photo).finally(() => searches.delete(places)));
  return searches.get(places);
}

async function search(places, photo) {
  for (;;) {
    const act = places.now.places.map((place) => places.pointed(place)).find((one) => places.askable(one) && !places.bases.has(keyOf(one)));
    if (!act) break;
    busy("Looking");
    try {
      const body = JSON.stringify({ points: act.points, box: act.box, text: act.text });
      places.found(act, await cutOut(`photos/${photo}/mask`, { method: "POST", body }));
      hush("search");
    } catch (error) {
      places.found(act, null);
      say(error.message, true, "search");
    }
  }
  busy(null);
}

/** What the active place points at changes; it may bring back what was erased under the newest point. */
export function point(change, at = null) {
  const places = board();
  const before = places.pointed();
  const act = { kind: "points", points: before.points, box: before.box, text: "", ...change };
  act.over = Boolean(at) && before.points.length > 0 && !places.covers(places.active, ...at);
  places.act(act);
  if (!places.bases.get(keyOf(act))) places.bases.delete(keyOf(act)); // what failed is asked once more
  find();
}

/** The places as the server takes them: each mask sent once, and named. */
export async function sentPlaces() {
  const places = board();
  const sent = [];
  for (const place of places?.now.places ?? []) {
    const words = desk.mode === "remove" ? "" : places.words.get(place.id) ?? "";
    let mask = desk.sent.get(place.acts);
    if (mask === undefined) {
      const packed = place.acts.length ? await places.packed(place) : null;
      const query = `width=${places.maskWidth}&height=${places.maskHeight}`;
      mask = packed && (await (await ask(`masks?${query}`, { method: "POST", body: packed })).json()).mask;
      desk.sent.set(place.acts, mask);
    }
    if (mask) sent.push({ mask, words });
    else if (words.trim()) throw new Error(`Nothing is pointed at for “${words}”; click on it, or paint over it.`);
  }
  return sent;
}

/** Ask for an edit or a picture as the form and the canvas say. Returns the run. */
export function go() {
  return attempt(async () => {
    const { mode } = desk;
    await searches.get(board() ?? desk);
    if (!desk.forms[mode].valid()) return null;
    const fields = desk.forms[mode].filled();
    if (mode in desk.sliders) Object.assign(fields, { mask_grow: chosen("grow"), feather: chosen("feather") });
    const places = board();
    const wish = {
      action: mode,
      fields,
      photo: subject()?.photo,
      places: await sentPlaces(),
      ending: desk.forms[mode].ending.value,
      size: places && [places.maskWidth, places.maskHeight],
    };
    hush();
    return post("runs", wish);
  });
}

/** Bring back what a result was made from: photo, masks, words and settings. */
export async function restore(entry, current) {
  const masks = await Promise.all(entry.places.map(({ mask }) => cutOut(`masks/${mask}`)));
  if (entry.photo) await openPhoto(await get(`photos/${entry.photo}/about`), current);
  if (!current()) return;
  desk.forms[entry.action].fill(entry.fields);
  desk.forms[entry.action].ending.value = /\.\w+$/.exec(entry.pictures[0].name)[0];
  setMode(entry.action);
  if (entry.action in desk.sliders) {
    setSlider("grow", entry.fields.mask_grow ?? (entry.action === "remove" ? AUTO.grow : 0));
    setSlider("feather", entry.fields.feather ?? AUTO.feather);
  }
  if (entry.action === "generate") blank();
  const places = board();
  if (!places) return;
  const state = { places: [], active: null };
  masks.forEach((base, k) => {
    const acts = [{ kind: "image", ...base }];
    const place = { ...places.fresh(state.places), acts };
    desk.sent.set(acts, entry.places[k].mask);
    state.places.push(place);
    places.words.set(place.id, entry.places[k].words);
  });
  if (!state.places.length) state.places.push(places.fresh([]));
  state.active = state.places[0].id;
  places.become(state);
}

function setSlider(name, value) {
  $(name).value = value;
  $(name).dispatchEvent(new Event("input"));
}

/** Say beside a slider what it says. */
export function tellSlider(name) {
  const value = chosen(name);
  $(name).nextElementSibling.textContent = value ?? "auto";
  $(name).ariaValueText = value === null ? "automatic" : `${value} pixels`;
}

/** Look at a picture of a result, if it is still `current` when it has come; what was there before lies under it. */
export async function lookAt(entry, number, current) {
  const levels = await pyramid(await bitmap(`results/${entry.result}/${number}`));
  if (!current()) return;
  desk.result = { entry, number, levels, before: beneath(entry) };
  desk.preview = null;
  $("empty").hidden = true;
  const { width, height } = entry.pictures[number];
  if (entry.action === "generate" && desk.mode === "generate") desk.view.show(board().width, board().height);
  else desk.view.show(width, height);
  changed();
}

/** The photo that a result was made from, if it lies on the desk, and where in the result it stands. */
function beneath(entry) {
  const { photo } = desk;
  if (!entry.photo || entry.photo !== photo?.photo) return null;
  const [left, top] = margins(photo, (side) => entry.fields[side]);
  return { levels: photo.levels, area: [left, top, photo.width, photo.height] };
}
