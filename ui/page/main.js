// The page: reads what the server offers, draws the form, and wires what is not the canvas, a run or a result.

import { get } from "./api.js";
import { $, attempt, blank, board, changed, desk, go, openPhoto, say, setMode, tellSlider, upload } from "./desk.js";
import { Form } from "./form.js";
import { frame } from "./frame.js";
import { copyPicture, readHistory, wireResults } from "./results.js";
import { cancelFirst, listen, started } from "./runs.js";
import { drawTools, setTool, SHORTCUTS, typing } from "./tools.js";

let limit = 0;
let finds = false; // by text

function drawPlaces() {
  const places = board();
  const list = $("places");
  const now = places?.now.places ?? [];
  $("places-title").textContent = now.length > 1 ? "Places" : "Place";
  for (const row of [...list.children]) if (!now.some(({ id }) => row.dataset.of === `${desk.mode} ${id}` && row.board === places)) row.remove();
  now.forEach((place, k) => {
    let row = [...list.children].find((one) => one.dataset.of === `${desk.mode} ${place.id}`);
    row ??= list.appendChild(placeRow(places, place));
    row.querySelector("[type=radio]").checked = place.id === places.now.active;
    row.querySelector("[type=radio]").ariaLabel = `Place ${k + 1}`;
    row.querySelector("[type=text]").ariaLabel = `Words of place ${k + 1}`;
    row.querySelector("button").ariaLabel = `Remove place ${k + 1}`;
    row.querySelector("span").textContent = `Place ${k + 1}`;
    row.querySelector("button").hidden = now.length === 1;
    row.hidden = now.length === 1 && desk.mode === "remove";
  });
}

function placeRow(places, place) {
  const row = document.createElement("li");
  row.dataset.of = `${desk.mode} ${place.id}`;
  row.board = places;
  row.style.setProperty("--of", place.colour);
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "place" });
  radio.addEventListener("change", () => places.choose(place.id));
  const words = Object.assign(document.createElement("input"), {
    type: "text", value: places.words.get(place.id) ?? "",
    placeholder: desk.mode === "edit" ? "Its words (optional)" : "Its words in the prompt",
    hidden: desk.mode === "remove",
  });
  const name = Object.assign(document.createElement("span"), { hidden: !words.hidden });
  words.addEventListener("input", () => places.words.set(place.id, words.value));
  words.addEventListener("focus", () => { if (places.now.active !== place.id) places.choose(place.id); });
  const away = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
  away.addEventListener("click", () => places.remove(place.id));
  row.append(radio, words, name, away);
  return row;
}

function drawState() {
  const places = board();
  $("undo").disabled = !places?.past.length;
  $("redo").disabled = !places?.future.length;
  for (const tool of document.querySelectorAll("input[name=tool]")) tool.disabled = desk.mode === "extend";
  for (const name of ["clear", "invert", "show-mask", "add-place"]) $(name).disabled = !places;
  $("zoom-100").textContent = desk.view.width ? `${Math.round(desk.view.scale * 100)} %` : "100 %";
  drawPlaces();
}

function modeChanged() {
  for (const mode of Object.keys(desk.forms)) $(`go-${mode}`).hidden = desk.mode !== mode;
  $("masks").hidden = desk.mode === "extend";
  document.querySelector(".sliders").hidden = !(desk.mode in desk.sliders);
  $("find").hidden = !finds || !(desk.mode in desk.sliders);
  setTool(desk.tool);
}

async function run() {
  const button = $(`go-${desk.mode}`);
  if (button.disabled) return;
  button.disabled = true;
  started(await go());
  button.disabled = false;
}

function wire() {
  $("open").addEventListener("click", () => $("file").click());
  $("open-empty").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", async () => {
    if ($("file").files.length) await upload($("file").files[0], limit);
    $("file").value = "";
  });
  for (const radio of document.querySelectorAll("input[name=mode]")) {
    radio.addEventListener("change", () => setMode(radio.value));
  }
  $("add-place").addEventListener("click", () => board().add());
  for (const name of ["grow", "feather"]) {
    $(name).addEventListener("input", () => {
      tellSlider(name);
      desk.view.redraw();
    });
  }
  $("brush-size").addEventListener("input", () => desk.view.redraw());
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("form").addEventListener("input", () => {
    if (desk.mode !== "extend" || !desk.photo || desk.result) return;
    desk.view.show(desk.photo.width, desk.photo.height, frame());
  });
  $("form").addEventListener("change", (event) => {
    if (event.target.name !== "size") return;
    blank();
    setMode("generate");
  });
  for (const button of document.querySelectorAll(".go button")) button.addEventListener("click", run);
  $("help").addEventListener("click", () => $("help-box").showModal());
  for (const [keys, what] of SHORTCUTS) {
    $("keys").append(
      Object.assign(document.createElement("dt"), { textContent: keys }),
      Object.assign(document.createElement("dd"), { textContent: what }),
    );
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
    } else if (event.key === "Escape" && !event.target.closest("dialog")) {
      if (typing(event)) event.target.blur();
      else cancelFirst();
    }
  });
  wireFiles();
}

function wireFiles() {
  const main = document.querySelector("main");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    main.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) main.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    main.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) upload(file, limit);
    else say("That was no file; drop a photo.", true);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file || (typing(event) && event.clipboardData.types.includes("text/plain"))) return;
    event.preventDefault();
    upload(file, limit);
  });
  document.addEventListener("copy", (event) => {
    const typed = event.target.closest?.("input, textarea") || String(getSelection());
    if (typed || !(desk.result || desk.photo)) return;
    event.preventDefault();
    copyPicture();
  });
}

async function begin() {
  drawTools();
  wire();
  wireResults(started);
  desk.listeners.add(drawState);
  let mode = desk.mode;
  desk.listeners.add(() => { if (mode !== desk.mode) { mode = desk.mode; modeChanged(); } });
  const state = await get("state");
  limit = state.largest_upload;
  for (const [action, fields] of Object.entries(state.forms)) {
    desk.forms[action] = new Form(action, fields, $("fields"), $("more-fields"), (file) => upload(file, limit, true));
  }
  setMode("edit");
  const kept = sessionStorage.getItem("photo");
  let photo = state.photo;
  if (kept) photo = await get(`photos/${kept}/about`).catch(() => state.photo);
  if (photo) await attempt(() => openPhoto(photo));
  changed();
  desk.drawn = () => {
    document.documentElement.dataset.ready = "yes";
    desk.drawn = null;
  };
  desk.view.redraw();
  await attempt(readHistory);
  listen();
  const choices = await get("choices");
  for (const form of Object.values(desk.forms)) {
    form.offer("method", choices.methods);
    form.offer("model", choices.models);
  }
  finds = choices.text;
  modeChanged();
}

attempt(begin);
